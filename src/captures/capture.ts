/**
 * One `namespace/name`: observes, asks the plan, and carries out one step, until it is settled. The queue calls what changes
 * something, one at a time for a key.
 */
import { Backoff } from "../base/backoff.ts";
import { messageOf } from "../base/errors.ts";
import { Interrupt } from "../base/interrupt.ts";
import { type Admissions, Place } from "../limits/admissions.ts";
import type { Retention } from "../limits/retention.ts";
import { type Log, withFields } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { type Desired, plan, type Step } from "../plan/plan.ts";
import { failed, filesDeleted, servedOn } from "../plan/event_notes.ts";
import type { Recorder } from "../pods/events.ts";
import { type Pod, podKey } from "../pods/pod.ts";
import type { PodSandboxes } from "../sandboxes/pod_sandboxes.ts";
import type { Settings } from "../settings.ts";
import type { CaptureRequest } from "../spec/request.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import { type FilterChecks, PodFilter } from "../tcpdump/filter_checks.ts";
import type { Run } from "../tcpdump/run.ts";
import { checkRequest } from "../tcpdump/verdict.ts";
import type { CaptureTiming } from "../timing.ts";
import { Folder } from "./folder.ts";
import { type NodeState, Observer } from "./observer.ts";
import { type Ended, Runs } from "./runs.ts";
import { Subject } from "./subject.ts";

/** The plan never needs more steps to settle; more would be a defect, and must not spin. */
const MAX_STEPS = 20;

export interface CaptureOptions {
  readonly namespace: string;
  readonly name: string;
  /** Order of first sight among all captures. */
  readonly firstSeen: number;
  readonly settings: Settings;
  /** Whether tcpdump writes each packet at once, because it cannot be flushed here. */
  readonly writesThrough: boolean;
  readonly timing: CaptureTiming;
  readonly directory: CaptureDir;
  readonly filters: FilterChecks;
  readonly sandboxes: PodSandboxes;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly record: Recorder;
  readonly admissions: Admissions;
  readonly retention: Retention;
  readonly node: () => NodeState;
  /** Enqueues this capture. */
  readonly enqueue: () => void;
}

export class Capture {
  readonly subject: Subject;
  readonly folder: Folder;
  readonly runs: Runs;
  readonly observer: Observer;
  readonly #options: CaptureOptions;
  readonly #place: Place;
  readonly #filter: PodFilter;
  readonly #backoff: Backoff;
  readonly #interrupt = new Interrupt();

  /** @throws RangeError for names that Kubernetes does not allow. */
  constructor(options: CaptureOptions) {
    const { namespace, name, settings, timing, directory, filters, sandboxes, metrics, record, enqueue } = options;
    this.#options = options;
    const key = podKey(options);
    // Each line names its capture.
    const log = withFields(options.log, () => ({ pod: key, uid: this.observer.uid }));
    const place = this.#place = new Place(options.firstSeen);
    const filter = this.#filter = new PodFilter(filters, namespace);
    const folder = this.folder = new Folder({ directory, namespace, name, node: settings.nodeName, log });
    const subject = this.subject = new Subject({ namespace, name, log, record, sandboxes, settings, filter, timing });
    const backoff = this.#backoff = new Backoff(enqueue, { firstMs: timing.retry.first, mostMs: timing.retry.most });
    const runs = this.runs = new Runs({
      ...{ namespace, name, settings, metrics, timing, log, folder, filters, sandboxes },
      writesThrough: options.writesThrough,
      ...{ interrupt: this.#interrupt, onEnd: enqueue, tell: (run, event) => subject.tellOfRun(run, event) },
    });
    this.observer = new Observer({ place, subject, folder, runs, backoff, settings, node: options.node });
  }

  /** Takes over what a former controller left here. */
  async adopt(): Promise<void> {
    this.runs.restartedBy("the controller was restarted");
    await this.folder.adopt();
    const { manifest } = this.folder;
    const isRestored = manifest !== undefined && this.subject.report.restore(manifest);
    this.#place.ranBefore = !isRestored || manifest.state === "paused";
  }

  /** Takes over a new pod object, or a change of it. */
  podUpdated(pod: Pod): void {
    const isOther = this.observer.uid !== pod.uid;
    if (isOther) this.runs.recount();
    if (!this.subject.update(pod, isOther)) return;
    this.#backoff.clear();
    this.#interrupt.fire();
  }

  /** Notes that the pod object is proven to be gone. @param uid undefined where it is not known whose the folder is. */
  podDeleted(uid: string | undefined): void {
    if (uid !== this.observer.uid) return;
    this.subject.gone();
    this.#interrupt.fire();
  }

  /** Observes, asks the plan and carries out its step, until the capture is settled. */
  async reconcile(): Promise<void> {
    for (let steps = 0; steps < MAX_STEPS;) {
      this.subject.observeSandbox();
      const step = plan(this.observer.observe(this.#options.admissions.ask(this.observer)));
      if (step.do !== "start") this.runs.giveTurnBack();
      // An edit interrupts what waits for the request before it: then all begins again, however many edits there are.
      steps = await this.#carryOut(step) === "interrupted" ? 0 : steps + 1;
      if (step.do === "settle") return;
    }
    throw new Error(`Cannot settle ${this.observer.key} in ${MAX_STEPS} steps`);
  }

  async #carryOut(step: Step): Promise<"interrupted" | void> {
    const { runs, folder } = this;
    switch (step.do) {
      case "reap":
        return await this.#reap();
      case "kill":
        await runs.running?.kill(step.why);
        return;
      case "flush": {
        const exit = runs.running?.flush(step.why, this.#options.timing.block);
        return exit && await this.#interrupt.race(exit) === undefined ? "interrupted" : undefined;
      }
      case "retire":
        return await this.#retire(step.podGone);
      case "rearm":
        return this.#rearm();
      case "check":
        return await this.#check(step.request);
      case "complete":
        folder.complete(step.request);
        return await folder.trySave();
      case "start":
        // Much may have changed while it waited for its turn: the plan is asked again.
        if (step.request.filter !== undefined && !runs.hasTurn) return await runs.takeTurn();
        return await this.#start(step.request);
      case "settle":
        return await this.#settle(step.desired);
    }
  }

  /** Asks for tcpdump's verdict on a request, before anything starts. */
  async #check(request: CaptureRequest): Promise<"interrupted" | undefined> {
    const { sandbox, tracker } = this.subject;
    if (!sandbox || !tracker) return;
    const { fingerprint, hash } = tracker;
    const placed = { request, sandboxId: sandbox.id, netnsPath: sandbox.netnsPath };
    const verdict = await this.#interrupt.race(
      checkRequest(placed, this.#filter, this.#options.settings).catch((error) => ({ failure: messageOf(error) })),
    );
    if (this.#options.node().isStopping) return;
    if (!verdict || this.subject.tracker !== tracker || tracker.fingerprint !== fingerprint) return "interrupted";
    if ("failure" in verdict) this.#failed(hash, "check", verdict.failure, 0);
    else tracker.judge(verdict);
  }

  async #start(request: CaptureRequest): Promise<void> {
    const { sandbox, tracker } = this.subject;
    if (!sandbox || !tracker) return;
    this.#takePlace();
    const { pod, hash } = tracker;
    const onListening = (run: Run, linkType: string) => this.#listens(run, linkType);
    await this.runs.start({ pod, request, hash, sandbox, onListening }).catch((error) => {
      // A pod that has taken the name meanwhile has failed at nothing.
      if (this.subject.pod?.uid === pod.uid) this.#failed(hash, "start", messageOf(error), 0);
    });
  }

  #listens(run: Run, linkType: string): void {
    const { tracker, report } = this.subject;
    if (this.runs.running !== run || tracker?.uid !== run.uid) return;
    // Only what was asked for: a start after a pause or in another sandbox has no such beginning.
    const seconds = tracker.started();
    if (seconds !== undefined) this.#options.metrics.startDuration.observe(seconds);
    report.tell(tracker.pod, run.requestHash, this.runs.listens(run, linkType));
    this.#options.enqueue();
  }

  /** Accounts for the end of the process, and finds its cause if it ended by itself. */
  async #reap(): Promise<void> {
    const ended = await this.#account();
    if (!ended || ended.stop?.by === "flush") return;
    const { subject } = this;
    const present = () => ({ request: subject.tracker?.request, sandbox: subject.sandbox });
    const cause = await this.runs.causeOf(ended, this.#filter, present);
    const { run } = ended;
    // Another pod may have the name meanwhile: nothing failed of its capture.
    if (subject.tracker?.uid !== run.uid) return;
    if (cause.is === "refused") subject.tracker.judge(cause.verdict);
    if (cause.is === "failed") this.#failed(run.requestHash, cause.reason, cause.problem, run.seconds * 1000);
  }

  async #retire(podGone: boolean): Promise<void> {
    const { settings, retention, namespace } = this.#options;
    // Another request, or another pod, may take the place of this one meanwhile: neither is told of these files.
    const { report, tracker: { hash } = { hash: "" } } = this.subject;
    const { uid, files, bytes, isRetained } = await this.folder.retire(podGone, settings.retentionSeconds);
    if (isRetained && uid !== undefined) retention.add(uid, { namespace, firstSeen: this.#place.firstSeen, bytes });
    else if (!podGone && (uid !== undefined || files > 0) && this.subject.report === report) {
      report.tell(this.subject.pod, hash, filesDeleted(files, bytes));
    }
    this.#place.ranBefore = false;
    this.runs.forget();
  }

  /** Reports, once, where the capture is settled: in its manifest, in the log and as an Event. */
  async #settle(desired: Desired): Promise<void> {
    const { folder, subject: { tracker, report, pod, isGone }, runs: { running } } = this;
    const { admissions, node } = this.#options;
    const hash = tracker?.hash ?? "", request = tracker?.request;
    const hasLeft = this.#place.settle(desired, running !== undefined, this.observer.isKnown);
    await folder.repair();
    const { news, isFound } = report.settle(desired, hash, pod !== undefined || isGone, pod);
    if (!news) {
      if (hasLeft || isFound) admissions.changed();
      return;
    }
    if (pod && folder.isOf(pod.uid)) {
      folder.settle(pod, request, desired, report.since);
      await folder.trySave();
    }
    await this.measure();
    const isSaid = report.say(news, hash, pod, pod?.terminating === true || node().isStopping);
    // The tcpdump that runs serves the new request too, without a restart.
    if (!isSaid && desired.state === "capturing" && running && running.requestHash !== hash) {
      running.requestHash = hash;
      // Before it listens the Event would be too early; it is recorded then.
      if (running.phase.is === "listening" && request) report.tell(pod, hash, servedOn(request));
    }
    admissions.changed();
  }

  /** Counts for the present request from now, and forgets a removed annotation, whose capture is gone as far as it can go. */
  #rearm(): void {
    const { folder, subject: { tracker, report }, runs: { running } } = this;
    if (!tracker) return;
    if (tracker.isRemoved) report.forgetState();
    if (tracker.isEdited) folder.rearm();
    tracker.rearm();
    if (!tracker.request || !folder.isOf(tracker.uid)) return;
    // tcpdump itself does not count the duration.
    const left = folder.recount(tracker.request, running?.seconds ?? 0);
    if (left) running?.endAfter(left.seconds);
  }

  /** Notes a failure that may pass. @param workedMs for how long it had worked. */
  #failed(request: string, reason: string, problem: string, workedMs: number): void {
    const { sandbox, report, pod, log } = this.subject;
    const ms = this.#backoff.failed(sandbox?.id, problem, workedMs);
    this.#options.metrics.failures.inc({ reason });
    log.warn("capture failed", { problem, retryInMs: Math.round(ms) });
    report.tell(pod, request, failed(problem));
  }

  /** Measures the files, and trims them to N, whether tcpdump runs or not. */
  async measure(): Promise<void> {
    await this.folder.measure((this.subject.tracker?.request ?? this.folder.manifest?.request)?.files);
    // What an earlier, larger request has left may be gone.
    if (this.#place.isFor(this.subject.tracker?.fingerprint ?? "")) this.#takePlace();
  }

  /** Flushes the tcpdump that still runs, outside of the queue, because the controller stops. */
  async end(): Promise<void> {
    await this.runs.running?.flush("the controller is stopping", this.#options.timing.block);
    await this.#account();
  }

  /** Accounts for the end of the process. @returns the run, if its files stay. */
  async #account(): Promise<Ended | undefined> {
    const ended = await this.runs.reap(this.subject.pod?.uid, this.#options.node().paused !== undefined);
    if (!ended) return undefined;
    await this.measure();
    await this.folder.trySave();
    return ended;
  }

  close(): void {
    this.#filter.drop();
    this.runs.giveTurnBack();
    this.#backoff.clear();
  }

  /** Takes its place as large as its claim is now. */
  #takePlace(): void {
    const { observer, subject: { tracker } } = this;
    if (this.#place.take(observer.claim, tracker?.fingerprint ?? "")) this.#options.admissions.changed();
  }
}
