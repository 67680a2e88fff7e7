/**
 * All captures of the node: who hears of pods and sandboxes, who shares the limits, and what is done every second.
 *
 * Pods and sandboxes only put keys on the queue; what is done for a key follows from what is then there (plan.ts).
 */
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { KeptPod } from "../pods/absence.ts";
import { requestHash } from "../spec/annotations.ts";
import type { PodEvent } from "../pods/events.ts";
import type { Pod } from "../pods/pod.ts";
import { podKey } from "../pods/pod.ts";
import type { PodStatus } from "../pods/status.ts";
import type { Sandbox, SandboxOwner } from "../sandboxes/sandbox.ts";
import type { Settings } from "../settings.ts";
import { Semaphore } from "../base/semaphore.ts";
import { Admissions } from "./admissions.ts";
import { Capture, type CaptureContext } from "./capture.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import { ClockSteps } from "./clock_steps.ts";
import { DiskFloor } from "./disk.ts";
import { FilterChecks } from "./filter_checks.ts";
import type { CaptureState } from "../spec/state.ts";
import { KeyedQueue } from "./queue.ts";
import { Retention } from "./retention.ts";
import { NotCapturingReport } from "./not_capturing_report.ts";
import { Ticker } from "./ticker.ts";
import { settledWithin } from "../base/timeout.ts";
import { CAPTURE_TIMING, type CaptureTiming } from "./timing.ts";

/** At the end each capture's work has so long to come to an end (a flush takes 1.1 s, 6.1 s if tcpdump hangs). */
const STOP_MS = 10_000;
/** After that whoever still runs is flushed beside it; with this the pod's grace period of 30 s is not used up. */
const STOP_FLUSH_MS = 8000;
/** So many folders are taken over at a time: of each a file is read whole, if it ended in the middle of a run. */
const ADOPTED_AT_ONCE = 8;
/** So many pods without a sandbox are looked at in the API at a time. */
const LOOKS_AT_ONCE = 4;
/** Every so many ticks tcpdump is asked for its counters, and they are written: at most 5 s old when read. */
const COUNTER_TICKS = 3;

export interface CapturesOptions {
  readonly settings: Settings;
  readonly directory: CaptureDir;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly record: (pod: Pod, event: PodEvent, request: string, isAnswer: boolean) => void;
  readonly sandboxes: {
    get(owner: SandboxOwner): Sandbox | undefined;
    refresh(): Promise<void>;
    setUrgent(on: boolean): void;
  };
  /** Asks the API for the pod's status; undefined: there is no such pod. */
  readonly statusOf: (pod: Pod, signal: AbortSignal) => Promise<PodStatus | undefined>;
  /** For tests. @default CAPTURE_TIMING */
  readonly timing?: CaptureTiming;
  readonly signal: AbortSignal;
  /** Called once when the directory is no longer the one that is held: nothing can be right any more. */
  readonly onDirectoryLost: () => void;
  /** @default the real file system's */
  readonly disk?: DiskFloor;
}

export class Captures {
  readonly #options: CapturesOptions;
  readonly #context: CaptureContext;
  readonly #captures = new Map<string, Capture>();
  readonly #queue: KeyedQueue;
  readonly #disk: DiskFloor;
  readonly #retention: Retention;
  readonly #looks = new Semaphore(LOOKS_AT_ONCE);
  #seen = 0;
  #synced = false;
  #settled = false;
  #stopping = false;
  #ticks = 0;
  readonly #clock = new ClockSteps();
  readonly #admissions: Admissions;
  readonly #ticker: Ticker;
  readonly #report: NotCapturingReport;

  constructor(options: CapturesOptions) {
    this.#options = options;
    const { settings, directory, metrics, log, signal, sandboxes } = options;
    this.#disk = options.disk ?? new DiskFloor(directory.path, settings.limits.minFreePercent);
    const onLess = () => this.#admissions.changed();
    this.#retention = new Retention({ directory, seconds: settings.retentionSeconds, log, onLess });
    this.#admissions = new Admissions({
      limits: settings.limits,
      askers: () => this.#captures.values(),
      retained: () => this.#retention.kept,
      enqueue: (key) => this.#queue.add(key),
      onPass: () => this.#tell(),
    });
    this.#context = {
      settings,
      directory,
      metrics,
      log,
      record: options.record,
      sandboxOf: (pod) => this.#sandboxOf(pod),
      statusOf: (pod) =>
        this.#looks.take(async () => {
          // A runtime that does not answer says of no pod that it has no sandbox.
          await sandboxes.refresh();
          return await options.statusOf(pod, signal);
        }),
      timing: options.timing ?? CAPTURE_TIMING,
      lookForSandboxes: () => sandboxes.refresh().catch(() => {}),
      settled: () => this.#settled,
      stopping: () => this.#stopping,
      paused: () => this.#disk.paused,
      filters: new FilterChecks({ tcpdump: settings.tcpdump, signal }),
      admissions: this.#admissions,
      again: (key) => this.#queue.add(key),
      retained: (uid, files) => this.#retention.add(uid, files),
    };
    this.#ticker = new Ticker({ everyMs: this.#context.timing.tick, log, stopping: () => this.#stopping });
    this.#report = new NotCapturingReport(directory.path, log, () => [...this.#notCapturing()]);
    this.#queue = new KeyedQueue((key) => this.#reconcile(key), (key, error, retryInMs) => {
      metrics.failures.inc({ reason: "internal" });
      log.error("reconcile failed", { pod: key, error, retryInMs: Math.round(retryInMs) });
    });
  }

  /** Takes over what an earlier life of the controller left in the directory. A folder that resists is no reason not to start. */
  async adopt(): Promise<void> {
    const { directory, log } = this.#options;
    await this.#disk.look().catch((error) => log.warn("the disk not seen to", { error }));
    await directory.tidy();
    const captures = (await directory.folders()).map(({ namespace, pod }) => this.#captureOf(namespace, pod));
    const turns = new Semaphore(ADOPTED_AT_ONCE);
    await Promise.all(captures.map((capture) =>
      turns.take(() => capture.adopt()).catch((error) => {
        log.error("folder not seen to", { ...capture.fields(), error });
      })
    ));
    // In the order in which they once began, as far as it is known; not in the directory's.
    const began = ({ ledger }: Capture) => ledger?.manifest?.runs[0]?.startedAt ?? "";
    captures.sort((a, b) => began(a) < began(b) ? -1 : began(a) > began(b) ? 1 : 0);
    for (const [i, capture] of captures.entries()) capture.place.firstSeen = i;
    await this.#retention.adopt().catch((error) => log.error("retained files not seen to", { error }));
  }

  /** A pod object is new or has changed. */
  onPod(pod: Pod): void {
    const key = podKey(pod);
    const wanted = pod.annotations[this.#options.settings.annotationKey] !== undefined;
    if (!wanted && !this.#captures.has(key)) return;
    try {
      this.#captureOf(pod.namespace, pod.name).seen(pod);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      this.#options.log.error("pod ignored", { error, uid: pod.uid });
      return;
    }
    if (wanted && this.#sandboxOf(pod) === undefined) {
      // Not known yet, or on the node's network, which makes no netns file that would tell: ask at once.
      void this.#context.lookForSandboxes().then(() => this.#queue.add(key));
    }
    this.#changed(key);
  }

  /** The pods of which there is a capture, or a folder. */
  *kept(): Generator<KeptPod> {
    for (const { namespace, name, pod, ledger } of this.#captures.values()) {
      yield { namespace, name, uid: pod?.uid ?? ledger?.manifest?.uid };
    }
  }

  /** It is proven that the pod object is gone: a DELETED event, or the API server's answer to a question about it. */
  onGone(pod: KeptPod): void {
    this.#captures.get(podKey(pod))?.gone(pod.uid);
    this.#changed(podKey(pod));
  }

  /** The first list is complete. */
  onSynced(): void {
    this.#synced = true;
    this.#admissions.changed();
    void this.#settle();
  }

  /** Once the runtime, too, has said all that it knows, the places of captures that do not come back are free. */
  async #settle(): Promise<void> {
    try {
      await this.#options.sandboxes.refresh();
    } catch {
      return; // the next tick tries again
    }
    this.#settled = true;
    this.#admissions.changed();
  }

  /** Another sandbox, or none, is the owner's. */
  onSandbox(owner: SandboxOwner): void {
    this.#changed(podKey(owner));
  }

  /**
   * Returns the sandbox that the runtime's labels prove to be the pod's: by its own UID or, of a static pod's mirror object, by the UID
   * that it names. Namespace and name are the object's own in both cases, so that it can name no UID of another pod's.
   */
  #sandboxOf(pod: Pod): Sandbox | undefined {
    const { namespace, name, uid, staticUid } = pod;
    const { sandboxes } = this.#options;
    return sandboxes.get({ namespace, name, uid }) ??
      (staticUid === undefined ? undefined : sandboxes.get({ namespace, name, uid: staticUid }));
  }

  /** Has the tcpdump of a pod write what it has buffered. @throws if there is none, or it does not in time. */
  async flushBuffer(namespace: string, name: string): Promise<void> {
    const running = this.#captures.get(podKey({ namespace, name }))?.running;
    if (!running) throw new Error(`Cannot flush ${namespace}/${name}: no tcpdump captures it now`);
    await running.flushBuffer();
  }

  /** Has counters and sizes of now written for all captures, as far as their tcpdumps answer. */
  async countNow(): Promise<void> {
    await Promise.allSettled([...this.#captures.values()].map((capture) => capture.countNow()));
  }

  /** performance.now() when the loop last turned. */
  get lastTurn(): number {
    return this.#ticker.lastTurn;
  }

  /** Does, until `signal` is aborted, what has to be done every second. */
  run(signal: AbortSignal): Promise<void> {
    return this.#ticker.run(() => this.#tick(), signal);
  }

  /** Stops all captures with their last packets; their files stay. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const key of this.#captures.keys()) this.#queue.add(key);
    const idle = await this.#queue.idle(STOP_MS);
    this.#queue.close();
    if (!idle) this.#options.log.warn("some captures' work hangs: they are stopped beside it");
    // Its work may hang (a disk, a lock that a stopped reader holds), or have failed: its packets are not lost for that.
    const left = [...this.#captures.values()].filter((capture) => capture.running);
    await settledWithin(STOP_FLUSH_MS, Promise.allSettled(left.map((capture) => capture.end())));
    for (const capture of this.#captures.values()) capture.close();
    this.#admissions.close();
    await settledWithin(STOP_FLUSH_MS, this.#report.written);
  }

  #captureOf(namespace: string, name: string): Capture {
    const key = podKey({ namespace, name });
    const known = this.#captures.get(key);
    if (known) return known;
    const capture = new Capture(this.#context, namespace, name, this.#seen++);
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
    if (capture.isNothing) {
      capture.close();
      this.#captures.delete(key);
      this.#admissions.changed();
    }
    if (capture.needsRuntime) this.#options.sandboxes.setUrgent(true);
  }

  /** Reports how many captures are in which state, and what is asked for and has no folder. */
  #tell(): void {
    const states: Partial<Record<CaptureState, number>> = {};
    let active = 0;
    for (const { goal: { state }, running } of this.#captures.values()) {
      if (running) active++;
      if (state !== "none") states[state] = (states[state] ?? 0) + 1;
    }
    if (this.#retention.count > 0) states.retained = this.#retention.count;
    this.#options.metrics.setRequests(states);
    this.#options.metrics.active.set(active);
    if (!this.#stopping) this.#report.write();
  }

  /** Returns, for `list`, what is asked for and has no folder to say so. */
  *#notCapturing(): Generator<unknown> {
    for (const { ledger, bytes, pod, asked, isHere, goal, goalSince } of this.#captures.values()) {
      if ((ledger?.manifest ?? bytes > 0) || !pod || goal.state === "none") continue;
      // A server that ignores the field selector shows others' pods too; a mirror without its static pod is to be seen.
      if (!isHere && pod.staticUid === undefined) continue;
      const { namespace, name, uid } = pod;
      const request = requestHash(pod.annotations);
      const wanted = asked.kind === "valid" ? { wanted: asked.request } : {};
      yield { namespace, pod: name, uid, ...goal, since: goalSince.toISOString(), request, ...wanted };
    }
  }

  /** Begins what has to be done every second. Nothing is waited for: a disk may hang, and the others are looked after all the same. */
  #tick(): void {
    this.#ticker.begin(this, "the disk", () => this.#lookAtDisk());
    this.#ticker.begin(this, "retained files", () => this.#retention.tick());
    if (this.#synced && !this.#settled) this.#ticker.begin(this, "sandboxes", () => this.#settle());
    const phase = this.#ticks++ % COUNTER_TICKS;
    const step = this.#clock.look();
    if (step) this.#options.log.warn("the clock was set", { seconds: Math.round(step.seconds * 1000) / 1000 });
    let urgent = false;
    for (const capture of this.#captures.values()) {
      urgent ||= capture.needsRuntime;
      if (capture.needsLook && !this.#stopping) this.#begin(capture, "pod status", () => capture.look());
      if (!capture.running && !capture.files.hasSurplus) continue;
      this.#begin(capture, "files", async () => {
        if (phase === 0 || capture.files.hasSurplus || await capture.files.haveEarlier()) await capture.measure();
      });
      if (!capture.running) continue;
      if (step) capture.noteClockStep(step);
      this.#begin(capture, "health", () => capture.watch(phase === 0));
      if (phase === 1) this.#begin(capture, "counters", () => capture.countNow());
    }
    this.#options.sandboxes.setUrgent(urgent);
    if (this.#report.isOld && !this.#stopping) this.#report.write();
  }

  /** Begins work on a capture. */
  #begin(capture: Capture, what: string, work: () => Promise<void>): void {
    this.#ticker.begin(capture, what, work, { pod: capture.key });
  }

  async #lookAtDisk(): Promise<void> {
    const { directory, metrics, log } = this.#options;
    if (!await directory.isIntact()) {
      // At the end it is given up.
      if (!this.#stopping) this.#options.onDirectoryLost();
      return;
    }
    const turned = await this.#disk.look();
    if (this.#disk.freeBytes !== undefined) metrics.diskFree.set(this.#disk.freeBytes);
    if (!turned) return;
    log.warn(this.#disk.paused === undefined ? "captures resume" : "captures pause", { reason: this.#disk.paused });
    for (const key of this.#captures.keys()) this.#queue.add(key);
  }
}
