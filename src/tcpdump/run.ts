/** A run of tcpdump, from its start until its end has been accounted for. */
import { dirname } from "@std/path";
import { LONGEST_TIMER_MS, settledWithin } from "../base/timeout.ts";
import { RunHealth } from "./health.ts";
import type { Observed } from "../plan/plan.ts";
import type { CaptureRequest } from "../spec/request.ts";
import type { Exit } from "./exit.ts";
import { hasDeletedFile, isStopped, Tcpdump, type TcpdumpOptions } from "./tcpdump.ts";
import { CHECK_TIMEOUT_MS } from "./tcpdump_queries.ts";
import type { CaptureTiming } from "../timing.ts";

/** A stopped tcpdump is seen by its process state once it has not answered for this long. */
const STOPPED_AFTER_MS = 2000;
/** One that does not answer although it is not stopped may wait for a slow disk; after this long it is given up. */
const HUNG_AFTER_MS = 60_000;
/** A tcpdump that has not begun to listen by then never will: it takes some 10 ms. */
const LISTEN_TIMEOUT_MS = 30_000;
/** With a filter it compiles it before, which takes the time of the check at most. */
const LISTEN_TIMEOUT_WITH_FILTER_MS = CHECK_TIMEOUT_MS;
/** tcpdump answers within some milliseconds; a reader waits for all of them no longer than 1 s. */
const COUNT_MS = 700;
/** Time that a flush has which no reader waits for. */
const FLUSH_MS = 200;
/** As many from one count to the next fill tcpdump's buffer of 4 KiB over and over: no flush is worth its time. */
const MANY_PACKETS = 1000;

/** The end that was asked for. By `kill` the files go too, by `flush` they stay; by `health` another run is to take its place. */
export interface Stop {
  readonly by: "kill" | "flush" | "health";
  readonly why: string;
}

/** The phase of the process. `since`: performance.now() when it began to listen; undefined: it had not yet. */
export type Phase =
  | { readonly is: "starting" }
  | { readonly is: "listening"; readonly since: number }
  | { readonly is: "stopping"; readonly since: number | undefined; readonly stop: Stop }
  | { readonly is: "exited"; readonly seconds: number; readonly exit: Exit; readonly stop: Stop | undefined };

export interface RunOptions {
  readonly uid: string;
  readonly fingerprint: string;
  readonly requestHash: string;
  readonly sandboxId: string;
  /** Seconds of capturing that are left of the request's duration. */
  readonly remainingSeconds: number | undefined;
  readonly tcpdump: TcpdumpOptions;
  readonly timing: Pick<CaptureTiming, "health">;
  readonly onListening: (run: Run, linkType: string) => void;
  /** Called when it has exited, or its time is up. */
  readonly onEnd: () => void;
}

/** One tcpdump: a process with its clock, its counters and its health record. */
export class Run {
  readonly uid: string;
  readonly fingerprint: string;
  /** The hash of the request that it serves now; another one may be served by the same process. */
  requestHash: string;
  readonly sandboxId: string;
  readonly request: CaptureRequest;
  readonly netnsPath: string | undefined;
  readonly pid: number;
  /** Resolves once it listens, or has exited before. */
  readonly begun: Promise<void>;
  readonly health: RunHealth;

  readonly #tcpdump: Tcpdump;
  readonly #folder: string;
  readonly #startedAt = performance.now();
  readonly #onEnd: () => void;
  #phase: Phase = { is: "starting" };
  #remainingSeconds: number | undefined;
  #flushed: Promise<Exit> | undefined;
  /** Packets have been counted since the last flush. */
  #mayBuffer = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: RunOptions) {
    this.uid = options.uid;
    this.fingerprint = options.fingerprint;
    this.requestHash = options.requestHash;
    this.sandboxId = options.sandboxId;
    this.request = options.tcpdump.request;
    this.health = new RunHealth(options.timing.health);
    this.netnsPath = options.tcpdump.netnsPath;
    this.#folder = dirname(options.tcpdump.file);
    this.#tcpdump = new Tcpdump(options.tcpdump);
    this.pid = this.#tcpdump.pid;
    this.#onEnd = options.onEnd;
    this.#remainingSeconds = options.remainingSeconds;
    this.begun = this.#tcpdump.listening.then((linkType) => {
      const since = performance.now();
      if (this.#phase.is === "stopping") this.#phase = { ...this.#phase, since };
      if (this.#phase.is !== "starting") return;
      this.#phase = { is: "listening", since };
      this.endAfter(this.#remainingSeconds);
      options.onListening(this, linkType);
    }, () => {});
    void this.#tcpdump.exited.then((exit) => {
      const stop = this.#phase.is === "stopping" ? this.#phase.stop : undefined;
      this.#phase = { is: "exited", seconds: this.seconds, exit, stop };
      clearTimeout(this.#timer);
      options.onEnd();
    });
  }

  get phase(): Phase {
    return this.#phase;
  }

  /** The process as the plan sees it. */
  get observed(): NonNullable<Observed["process"]> {
    const { uid, fingerprint, sandboxId } = this;
    const phase = this.#phase;
    const flushing = phase.is === "stopping" && phase.stop.by === "flush" ? { flushing: phase.stop.why } : {};
    return { uid, fingerprint, sandboxId, exited: phase.is === "exited", ...flushing };
  }

  /** Its end, once it has exited by whatever cause. */
  get exit(): Exit | undefined {
    return this.#phase.is === "exited" ? this.#phase.exit : undefined;
  }

  get counters() {
    return this.#tcpdump.counters;
  }

  /** Seconds of capturing, by the monotonic clock. */
  get seconds(): number {
    const phase = this.#phase;
    if (phase.is === "exited") return phase.seconds;
    return phase.is === "starting" || phase.since === undefined ? 0 : (performance.now() - phase.since) / 1000;
  }

  flushBuffer(): Promise<void> {
    return this.#tcpdump.flushBuffer();
  }

  /**
   * Asks for counters of now. The file then holds what they count, but for 4 KiB at most where much comes.
   *
   * @param flushed whether it is to hold all.
   * @returns whether they are there; it does not wait for a tcpdump that hangs.
   */
  countNow(flushed: boolean): Promise<boolean> {
    return settledWithin(COUNT_MS, this.#count(flushed));
  }

  async #count(flushed: boolean): Promise<void> {
    const before = this.counters?.captured ?? 0;
    await this.#tcpdump.countNow(flushed);
    const more = (this.counters?.captured ?? 0) - before;
    this.#mayBuffer = !flushed && (this.#mayBuffer || more > 0);
    // Who copies the files of a slow capture finds whole packets in them, and the last ones too.
    if (!this.#mayBuffer || more >= MANY_PACKETS) return;
    const flushing = this.flushBuffer().then(() => this.#mayBuffer = false, () => {});
    // The counters are there: on a busy machine they do not wait for it.
    await settledWithin(FLUSH_MS, flushing);
  }

  /** Ends it at once: its files are to go too, or by `health`, another run is to take its place. */
  kill(why: string, by: "kill" | "health" = "kill"): Promise<Exit> {
    if (by === "kill" || this.#phase.is !== "stopping") this.#stop({ by, why });
    return this.#tcpdump.kill();
  }

  /** Stops it with its last packets, once, however often it is called. @param blockMs see {@linkcode CaptureTiming.block} */
  flush(why: string, blockMs?: number): Promise<Exit> {
    if (this.#phase.is !== "stopping" || this.#phase.stop.by === "health") this.#stop({ by: "flush", why });
    return this.#flushed ??= this.#tcpdump.flush(blockMs);
  }

  #stop(stop: Stop): void {
    const phase = this.#phase;
    if (phase.is === "exited") return;
    this.#phase = { is: "stopping", since: phase.is === "starting" ? undefined : phase.since, stop };
  }

  /** Returns whether what it writes goes to a file that somebody has deleted. */
  writesToDeletedFile(): Promise<boolean> {
    return hasDeletedFile(this.pid, this.#folder);
  }

  /** Returns why this process will never do its work again, if so. */
  async hopeless(): Promise<string | undefined> {
    const phase = this.#phase;
    if (phase.is === "exited") return undefined;
    if (phase.is === "starting" || phase.since === undefined) {
      const patience = this.request.filter === undefined ? LISTEN_TIMEOUT_MS : LISTEN_TIMEOUT_WITH_FILTER_MS;
      const livedMs = performance.now() - this.#startedAt;
      return livedMs > patience || (livedMs > STOPPED_AFTER_MS && await isStopped(this.pid))
        ? "tcpdump did not begin to listen"
        : undefined;
    }
    const since = this.#tcpdump.unansweredSince;
    const silentMs = since === undefined ? 0 : performance.now() - since;
    if (silentMs > HUNG_AFTER_MS) return `tcpdump has not answered for ${Math.round(silentMs / 1000)} s`;
    if (silentMs > STOPPED_AFTER_MS && !this.#tcpdump.isFlushing && await isStopped(this.pid)) {
      return "tcpdump was stopped by a signal";
    }
    return undefined;
  }

  /** Has its time be up after so many seconds of capturing from now; undefined: never. */
  endAfter(seconds: number | undefined): void {
    clearTimeout(this.#timer);
    this.#remainingSeconds = seconds;
    if (seconds === undefined || this.#phase.is !== "listening") return;
    const until = performance.now() + seconds * 1000;
    const wait = () => {
      const left = until - performance.now();
      if (left <= 0) this.#onEnd();
      else this.#timer = setTimeout(wait, Math.min(left + 1, LONGEST_TIMER_MS));
    };
    wait();
  }
}
