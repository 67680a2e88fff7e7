/**
 * All captures of the node: takes what is new of pods and sandboxes, keeps the captures by their keys, and owns the queue.
 *
 * News of pods and sandboxes only enqueues keys; what is done for a key follows from what is observed then (plan.ts).
 */
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { KeptPod } from "../pods/absence.ts";
import { type Pod, podKey } from "../pods/pod.ts";
import type { PodStatus } from "../pods/status.ts";
import type { SandboxOwner } from "../sandboxes/sandbox.ts";
import type { Settings } from "../settings.ts";
import { ClockSteps } from "../base/clock_steps.ts";
import { KeyedQueue } from "../base/keyed_queue.ts";
import { mapConcurrent } from "../base/map_concurrent.ts";
import { Ticker } from "../base/ticker.ts";
import { Admissions } from "../limits/admissions.ts";
import { Capture } from "./capture.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import { NotCapturingReport } from "../store/not_capturing.ts";
import { DiskFloor } from "../limits/disk.ts";
import { FilterChecks } from "../tcpdump/filter_checks.ts";
import type { CaptureState } from "../spec/state.ts";
import { needsRuntime, tick } from "./every_second.ts";
import { PodLooks } from "./pod_looks.ts";
import { PodSandboxes, type SandboxSource } from "../sandboxes/pod_sandboxes.ts";
import { Retention } from "../limits/retention.ts";
import type { Recorder } from "../pods/events.ts";
import { settledWithin } from "../base/timeout.ts";
import { CAPTURE_TIMING, type CaptureTiming } from "../timing.ts";

/** Time that each capture's work has to end when the controller stops (a flush takes 1.1 s, 6.1 s if tcpdump hangs). */
const STOP_MS = 10_000;
/** Time after that to flush each tcpdump that still runs; both together do not use up the pod's grace period of 30 s. */
const STOP_FLUSH_MS = 8000;
/** Folders that are taken over at a time: one file of each is read whole, if its last run has no end. */
const ADOPTED_AT_ONCE = 8;
export interface CapturesOptions {
  readonly settings: Settings;
  readonly directory: CaptureDir;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly record: Recorder;
  readonly sandboxes: SandboxSource;
  /** Asks the API for the pod's status; undefined: there is no such pod. */
  readonly statusOf: (pod: Pod, signal: AbortSignal) => Promise<PodStatus | undefined>;
  /** Times that only tests set. @default CAPTURE_TIMING */
  readonly timing?: CaptureTiming;
  /** Whether tcpdump writes each packet at once, because it cannot be flushed here. @default false */
  readonly writesThrough?: boolean;
  readonly signal: AbortSignal;
  /** Called once when the directory is no longer the one that is held: all further work would be wrong. */
  readonly onDirectoryLost: () => void;
  /** @default the real file system's */
  readonly disk?: DiskFloor;
}

export class Captures {
  readonly #options: CapturesOptions;
  readonly #timing: CaptureTiming;
  readonly #sandboxes: PodSandboxes;
  readonly #filters: FilterChecks;
  readonly #looks: PodLooks;
  readonly #captures = new Map<string, Capture>();
  readonly #queue: KeyedQueue;
  readonly #disk: DiskFloor;
  readonly #retention: Retention;
  readonly #admissions: Admissions;
  readonly #ticker: Ticker;
  readonly #report: NotCapturingReport;
  readonly #clock = new ClockSteps();
  #seen = 0;
  #ticks = 0;
  /** Set once the first list of pods is complete. */
  #podsSynced = false;
  /** Set once the runtime has answered after that. */
  #isSynced = false;
  #isStopping = false;

  constructor(options: CapturesOptions) {
    this.#options = options;
    const { settings, directory, metrics, log, signal, sandboxes } = options;
    const timing = this.#timing = options.timing ?? CAPTURE_TIMING;
    this.#disk = options.disk ?? new DiskFloor(directory.path, settings.limits.minFreePercent);
    this.#sandboxes = new PodSandboxes(sandboxes);
    this.#filters = new FilterChecks({ tcpdump: settings.tcpdump, signal });
    this.#queue = new KeyedQueue((key) => this.#reconcile(key), (key, error, retryInMs) => {
      metrics.failures.inc({ reason: "internal" });
      log.error("reconcile failed", { pod: key, error, retryInMs: Math.round(retryInMs) });
    });
    const enqueue = (key: string) => this.#queue.add(key);
    const onLess = () => this.#admissions.changed();
    this.#retention = new Retention({ directory, seconds: settings.retentionSeconds, log, onLess });
    this.#admissions = new Admissions({
      limits: settings.limits,
      askers: () => this.#captures.values().map(({ observer }) => observer),
      retained: () => this.#retention.kept,
      enqueue,
      onPass: () => this.#publish(),
    });
    this.#looks = new PodLooks({
      ...{ nodeName: settings.nodeName, enqueue, isStopping: () => this.#isStopping },
      refreshSandboxes: () => sandboxes.refresh(),
      statusOf: (pod) => options.statusOf(pod, signal),
    });
    this.#ticker = new Ticker({
      everyMs: timing.tick,
      onError: (whose, what, error) => {
        if (!this.#isStopping) (whose instanceof Capture ? whose.subject.log : log).warn(`${what} failed`, { error });
      },
    });
    const rows = () => [...this.#captures.values()].flatMap(({ observer: { row } }) => row ?? []);
    this.#report = new NotCapturingReport(directory.path, rows, (error) => log.warn("report not written", { error }));
  }

  /** Takes over what a former controller left in the directory, except for folders that cannot be adopted. */
  async adopt(): Promise<void> {
    const { directory, log } = this.#options;
    await this.#disk.look().catch((error) => log.warn("disk check failed", { error }));
    await directory.tidy();
    const captures = (await directory.folders()).map(({ namespace, pod }) => this.#captureOf(namespace, pod));
    await mapConcurrent(captures, ADOPTED_AT_ONCE, async (capture) => {
      await capture.adopt().catch((error) => capture.subject.log.error("cannot adopt folder", { error }));
    });
    // In the order in which they once began, as far as it is known; not in the directory's.
    const began = ({ folder }: Capture) => folder.manifest?.runs[0]?.startedAt ?? "";
    captures.sort((a, b) => began(a) < began(b) ? -1 : began(a) > began(b) ? 1 : 0);
    for (const [i, capture] of captures.entries()) capture.observer.place.firstSeen = i;
    await this.#retention.adopt().catch((error) => log.error("cannot adopt retained files", { error }));
  }

  /** Takes over a pod object that is new or has changed. */
  podUpdated(pod: Pod): void {
    const key = podKey(pod);
    const wanted = pod.annotations[this.#options.settings.annotationKey] !== undefined;
    if (!wanted && !this.#captures.has(key)) return;
    try {
      this.#captureOf(pod.namespace, pod.name).podUpdated(pod);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#options.log.error("pod ignored", { error, uid: pod.uid });
      return;
    }
    if (wanted && this.#sandboxes.of(pod) === undefined) {
      // It is not known yet, or the pod is on the node's network, for which no netns file appears: ask at once.
      void this.#sandboxes.refresh().then(() => this.#queue.add(key));
    }
    this.#changed(key);
  }

  /** Yields the pods that have a capture or a folder. */
  *kept(): Generator<KeptPod> {
    for (const { subject: { namespace, name }, observer: { uid } } of this.#captures.values()) {
      yield { namespace, name, uid };
    }
  }

  /** Takes over the proof that a pod object is gone: a DELETED event, or the API server's answer to a question about it. */
  podDeleted(pod: KeptPod): void {
    this.#captures.get(podKey(pod))?.podDeleted(pod.uid);
    this.#changed(podKey(pod));
  }

  /** Takes over that the first list is complete. */
  podsSynced(): void {
    this.#podsSynced = true;
    this.#admissions.changed();
    void this.#sync();
  }

  /** Waits for the runtime's answer too; then the places of captures that do not come back are free. */
  async #sync(): Promise<void> {
    // If it does not answer, the next tick tries again.
    if (!await this.#sandboxes.refresh()) return;
    this.#isSynced = true;
    this.#admissions.changed();
  }

  /** Takes over that another sandbox, or none, is the owner's. */
  sandboxChanged(owner: SandboxOwner): void {
    this.#changed(podKey(owner));
  }

  /** Makes the tcpdump of a pod write what it has buffered. @throws if there is none, or it does not in time. */
  async flushBuffer(namespace: string, name: string): Promise<void> {
    const running = this.#captures.get(podKey({ namespace, name }))?.runs.running;
    if (!running) throw new Error(`Cannot flush ${namespace}/${name}: no tcpdump captures it now`);
    await running.flushBuffer();
  }

  /** Writes the present counters and sizes of all captures, as far as their tcpdumps answer. */
  async countNow(): Promise<void> {
    await Promise.allSettled([...this.#captures.values()].map(({ runs }) => runs.countNow(true)));
  }

  /** performance.now() when the loop last turned. */
  get lastTurn(): number {
    return this.#ticker.lastTick;
  }

  /** Does the periodic work, every second, until `signal` is aborted. */
  run(signal: AbortSignal): Promise<void> {
    return this.#ticker.run(() => this.#tick(), signal);
  }

  /** Stops all captures with their last packets; their files stay. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    for (const key of this.#captures.keys()) this.#queue.add(key);
    const idle = await this.#queue.idle(STOP_MS);
    this.#queue.close();
    if (!idle) this.#options.log.warn("some captures are still being reconciled: flushing their tcpdumps now");
    // Work may hang (a disk, a lock that a stopped reader holds) or have failed: the packets are saved all the same.
    const left = [...this.#captures.values()].filter((capture) => capture.runs.running);
    await settledWithin(STOP_FLUSH_MS, Promise.allSettled(left.map((capture) => capture.end())));
    for (const capture of this.#captures.values()) capture.close();
    this.#admissions.close();
    await settledWithin(STOP_FLUSH_MS, this.#report.written);
  }

  #captureOf(namespace: string, name: string): Capture {
    const key = podKey({ namespace, name });
    const known = this.#captures.get(key);
    if (known) return known;
    const { settings, directory, metrics, log, record, writesThrough = false } = this.#options;
    const capture = new Capture({
      ...{ namespace, name, firstSeen: this.#seen++, settings, timing: this.#timing, directory, metrics, log, record },
      ...{ writesThrough, filters: this.#filters, sandboxes: this.#sandboxes },
      ...{ admissions: this.#admissions, retention: this.#retention },
      node: () => ({ isSynced: this.#isSynced, isStopping: this.#isStopping, paused: this.#disk.paused }),
      enqueue: () => this.#queue.add(key),
    });
    this.#captures.set(key, capture);
    return capture;
  }

  #changed(key: string): void {
    this.#admissions.forget();
    if (this.#captures.has(key)) this.#queue.add(key);
  }

  async #reconcile(key: string): Promise<void> {
    const capture = this.#captures.get(key);
    if (!capture) return;
    await capture.reconcile();
    if (capture.observer.isNothing) {
      capture.close();
      this.#captures.delete(key);
      this.#admissions.changed();
    }
    if (needsRuntime(capture)) this.#options.sandboxes.setUrgent(true);
  }

  /** Publishes how many captures are in which state, and what `list` shows of those without a folder. */
  #publish(): void {
    const states: Partial<Record<CaptureState, number>> = {};
    let active = 0;
    for (const { runs, subject: { report: { desired: { state } } } } of this.#captures.values()) {
      if (runs.running) active++;
      if (state !== "none") states[state] = (states[state] ?? 0) + 1;
    }
    if (this.#retention.count > 0) states.retained = this.#retention.count;
    this.#options.metrics.setRequests(states);
    this.#options.metrics.active.set(active);
    if (!this.#isStopping) this.#report.write();
  }

  /** Begins the work of one second. Nothing waits for it: a disk may hang. */
  #tick(): void {
    this.#ticker.begin(this, "disk check", () => this.#lookAtDisk());
    this.#ticker.begin(this, "retention", () => this.#retention.tick());
    if (this.#podsSynced && !this.#isSynced) this.#ticker.begin(this, "sandbox look-up", () => this.#sync());
    const n = this.#ticks++, seconds = this.#clock.look();
    const clockStep = seconds === undefined ? undefined : { at: new Date().toISOString(), seconds };
    if (clockStep) {
      this.#options.log.warn("the clock was set", { seconds: Math.round(clockStep.seconds * 1000) / 1000 });
    }
    let urgent = false;
    for (const capture of this.#captures.values()) {
      urgent ||= needsRuntime(capture);
      const begin = (what: string, work: () => Promise<void>) => this.#ticker.begin(capture, what, work);
      tick(capture, this.#looks, { n, clockStep, begin });
    }
    this.#options.sandboxes.setUrgent(urgent);
    if (this.#report.isOld && !this.#isStopping) this.#report.write();
  }

  async #lookAtDisk(): Promise<void> {
    const { directory, metrics, log } = this.#options;
    if (!await directory.isIntact()) {
      // At the end it is given up.
      return this.#isStopping ? undefined : this.#options.onDirectoryLost();
    }
    const turned = await this.#disk.look();
    if (this.#disk.freeBytes !== undefined) metrics.diskFree.set(this.#disk.freeBytes);
    if (!turned) return;
    log.warn(this.#disk.paused === undefined ? "captures resume" : "captures pause", { reason: this.#disk.paused });
    for (const key of this.#captures.keys()) this.#queue.add(key);
  }
}
