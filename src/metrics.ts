/** The metrics of /metrics, all named `packet_capture_*`. */
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { lostPercent } from "./spec/lost.ts";
import type { CaptureState } from "./spec/state.ts";
import { VERSION } from "./version.ts";

/** Every state that a request can be in: all have a sample, so that a missing one is not mistaken for a zero. */
const STATES: Readonly<Record<CaptureState, 0>> = {
  capturing: 0,
  pending: 0,
  finished: 0,
  waiting: 0,
  paused: 0,
  failing: 0,
  held: 0,
  completed: 0,
  rejected: 0,
  retained: 0,
};

/** Seconds. A bare `nsenter … tcpdump` takes some 10 ms, a start within the promise 150 ms, one with a retry seconds. */
const START_BUCKETS = [0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** One capture's numbers, summed over its runs. */
export interface CaptureNumbers {
  /** Packets written. */
  readonly captured: number;
  /** Packets that the kernel saw and that passed the filter. */
  readonly received: number;
  /** Packets that the kernel dropped because tcpdump was too slow. */
  readonly dropped: number;
  /** Bytes of its files. */
  readonly ringBytes: number;
}

/** The samples of one capture. */
interface CaptureSamples extends CaptureNumbers {
  readonly lost: number;
}

interface PodName {
  readonly namespace: string;
  readonly name: string;
}

type CaptureLabel = "namespace" | "pod";

/** One object per process, handed to those who have something to count. */
export class Metrics {
  readonly #registry = new Registry();
  #watchActivity = performance.now();

  /** Captures with a running tcpdump. */
  readonly active = this.#gauge("active", "Captures with a running tcpdump.");
  /** tcpdump processes started. */
  readonly starts = this.#counter("starts_total", "tcpdump processes started.");
  /** Captures that could not start or ended by themselves. */
  readonly failures = this.#counter("failures_total", "Captures that could not start or ended by themselves.", [
    "reason",
  ]);
  /** Times the watch on pods was begun again. */
  readonly watchRestarts = this.#counter("watch_restarts_total", "Times the watch on pods was started again.", [
    "reason",
  ]);
  /** Free bytes of the file system that captureDir is on. */
  readonly diskFree = this.#gauge("disk_free_bytes", "Free bytes of the file system with the capture files.");
  /** Seconds from the arrival of an annotation until tcpdump listens. */
  readonly startDuration = new Histogram({
    name: "packet_capture_start_duration_seconds",
    help: "Seconds from the arrival of an annotation until tcpdump listens.",
    buckets: START_BUCKETS,
    registers: [this.#registry],
  });

  readonly #requests = this.#gauge("requests", "Requested captures, by state.", ["state"]);
  /** Numbers by namespace/name. */
  readonly #captures = new Map<string, CaptureSamples & { readonly labels: Record<CaptureLabel, string> }>();

  constructor() {
    this.setRequests({});
    this.#ofCaptures(Counter, "packets_total", "Packets written by a capture.", "captured");
    this.#ofCaptures(
      Counter,
      "packets_dropped_total",
      "Packets that the kernel dropped because tcpdump was too slow.",
      "dropped",
    );
    this.#ofCaptures(Gauge, "packets_lost_percent", "Share of a capture's packets that the kernel dropped.", "lost");
    this.#ofCaptures(Gauge, "ring_bytes", "Bytes of a capture's files.", "ringBytes");
    const buildInfo = this.#gauge("build_info", "Always 1; the versions that run here.", ["version", "deno"]);
    buildInfo.set({ version: VERSION, deno: Deno.version.deno }, 1);
    const age = () => (performance.now() - this.#watchActivity) / 1000;
    new Gauge({
      name: "packet_capture_last_watch_activity_seconds",
      help: "Seconds since the API server last sent anything on the watch.",
      registers: [this.#registry],
      collect() {
        this.set(age());
      },
    });
  }

  /** Sets how many captures are in each state; a state that is not named has none. */
  setRequests(counts: Readonly<Partial<Record<CaptureState, number>>>): void {
    for (const [state, count] of Object.entries({ ...STATES, ...counts })) this.#requests.set({ state }, count);
  }

  /** Sets the numbers of a capture as they are now. */
  setCapture(pod: PodName, numbers: CaptureNumbers): void {
    const labels = { namespace: pod.namespace, pod: pod.name };
    this.#captures.set(keyOf(pod), { ...numbers, lost: lostPercent(numbers), labels });
  }

  /** Ends the series of a capture that is no more. */
  removeCapture(pod: PodName): void {
    this.#captures.delete(keyOf(pod));
  }

  /** Notes that something has just come on the watch. */
  watchActive(): void {
    this.#watchActivity = performance.now();
  }

  /** The content type of text(). */
  get contentType(): string {
    return this.#registry.contentType;
  }

  /** Returns all metrics in the text format of Prometheus. */
  text(): Promise<string> {
    return this.#registry.metrics();
  }

  /** Makes a metric of which each capture that there is has a series, with the number it has when it is asked for. */
  #ofCaptures(
    Metric: typeof Counter<CaptureLabel> | typeof Gauge<CaptureLabel>,
    name: string,
    help: string,
    number: keyof CaptureSamples,
  ): void {
    const captures = this.#captures;
    new Metric({
      name: `packet_capture_${name}`,
      help,
      labelNames: ["namespace", "pod"],
      registers: [this.#registry],
      collect() {
        this.reset();
        for (const { labels, [number]: value } of captures.values()) this.inc(labels, value);
      },
    });
  }

  #gauge<L extends string = never>(name: string, help: string, labelNames: L[] = []): Gauge<L> {
    return new Gauge({ name: `packet_capture_${name}`, help, labelNames, registers: [this.#registry] });
  }

  #counter<L extends string = never>(name: string, help: string, labelNames: L[] = []): Counter<L> {
    return new Counter({ name: `packet_capture_${name}`, help, labelNames, registers: [this.#registry] });
  }
}

/** Returns a key that no two pods share: neither a namespace nor a name has a slash. */
function keyOf({ namespace, name }: PodName): string {
  return `${namespace}/${name}`;
}
