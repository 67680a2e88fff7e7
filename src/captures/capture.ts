/**
 * One `namespace/name`: observes, asks the plan, and carries out one step, until it is settled. The queue calls what changes
 * something, one at a time for a key.
 */
import { messageOf } from "../base/errors.ts";
import { Interrupt } from "../base/interrupt.ts";
import { type Log, withFields } from "../log.ts";
import { type Pod, podKey } from "../pods/pod.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";
import type { CaptureRequest } from "../spec/request.ts";
import { type Asker, Place } from "../limits/admissions.ts";
import { Backoff } from "../base/backoff.ts";
import { applies, bytesAskedFor } from "./claim.ts";
import { PodFilter } from "../tcpdump/filter_checks.ts";
import { Folder } from "./folder.ts";
import { observe } from "./observation.ts";
import { type Observed, plan, type Step } from "../plan/plan.ts";
import { Report } from "./report.ts";
import { RequestTracker } from "./request_tracker.ts";
import type { Run } from "../tcpdump/run.ts";
import { type Ended, Runs } from "./runs.ts";
import type { Shared } from "./shared.ts";
import { rearm, settle } from "./steps.ts";
import { failed, filesDeleted } from "../plan/told.ts";
import { checkRequest } from "../tcpdump/verdict.ts";

/** The plan never needs more steps to come to rest; more would be a defect, and must not spin. */
const MAX_STEPS = 20;

export class Capture implements Asker {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  /** Each line says which capture it is about. */
  readonly log: Log;
  readonly place: Place;
  readonly folder: Folder;
  readonly runs: Runs;
  readonly shared: Shared;
  readonly #filter: PodFilter;
  readonly backoff: Backoff;
  readonly #interrupt = new Interrupt();
  /** What the pod of this name asks for; undefined: none was seen, or it is gone. */
  #tracker: RequestTracker | undefined;
  #report: Report;
  #isGone = false;

  /** @throws RangeError for names that Kubernetes does not allow. */
  constructor(shared: Shared, namespace: string, name: string, firstSeen: number) {
    const { directory, settings, filters, timing } = shared;
    this.shared = shared;
    this.namespace = namespace;
    this.name = name;
    this.key = podKey({ namespace, name });
    this.place = new Place(firstSeen);
    const log = this.log = withFields(shared.log, () => ({ pod: this.key, uid: this.uid }));
    this.folder = new Folder({ directory, namespace, name, node: settings.nodeName, log });
    this.#filter = new PodFilter(filters, namespace);
    const enqueue = () => shared.enqueue(this.key);
    this.backoff = new Backoff(enqueue, { firstMs: timing.retry.first, mostMs: timing.retry.most });
    this.runs = new Runs({
      ...{ ...shared, namespace, name, log, folder: this.folder, interrupt: this.#interrupt, onEnd: enqueue },
      tell: (run, event) => {
        const { pod } = this;
        if (pod?.uid === run.uid) this.report.tellOfRun(pod, run.requestHash, event);
      },
    });
    this.#report = new Report({ log, record: shared.record });
  }

  /** Takes over what a former controller left here. */
  async adopt(): Promise<void> {
    this.runs.restartedBy("the controller was restarted");
    await this.folder.adopt();
    const { manifest } = this.folder;
    const isRestored = manifest !== undefined && this.report.restore(manifest);
    this.place.ranBefore = !isRestored || manifest.state === "paused";
  }

  /** Takes over a new pod object, or a change of it. */
  podUpdated(pod: Pod): void {
    const isOther = this.uid !== pod.uid;
    if (isOther) {
      this.#report = new Report({ log: this.log, record: this.shared.record });
      this.runs.recount();
    }
    let asksAnew = true;
    if (this.tracker?.uid === pod.uid) asksAnew = this.tracker.update(pod);
    else this.#tracker = new RequestTracker(pod, { ...this.shared, filter: this.#filter });
    this.#isGone = false;
    if (!isOther && !asksAnew) return;
    this.backoff.clear();
    this.#interrupt.fire();
  }

  /** Notes that the pod object is proven to be gone. @param uid undefined where nobody knows whose the folder is. */
  podDeleted(uid: string | undefined): void {
    if (uid !== this.uid) return;
    this.#tracker = undefined;
    this.#filter.drop();
    this.#isGone = true;
    this.#interrupt.fire();
  }

  get applies(): boolean {
    return applies(this);
  }

  get claim(): number {
    return bytesAskedFor(this);
  }

  get tracker(): RequestTracker | undefined {
    return this.#tracker;
  }

  get running(): Run | undefined {
    return this.runs.running;
  }

  get report(): Report {
    return this.#report;
  }

  /** It is proven that there is no pod. */
  get isGone(): boolean {
    return this.#isGone;
  }

  get pod(): Pod | undefined {
    return this.#tracker?.pod;
  }

  /** The UID of the pod, or where none is known, of the one whose folder it is, as far as that is known. */
  get uid(): string | undefined {
    return this.pod?.uid ?? this.folder.manifest?.uid;
  }

  get sandbox(): Sandbox | undefined {
    return this.pod && this.shared.sandboxes.of(this.pod);
  }

  /** Nothing is there and nothing is asked: it can be forgotten. */
  get isNothing(): boolean {
    return !this.runs.running && !this.folder.exists && (this.tracker?.asked.kind ?? "nothing") === "nothing";
  }

  /** Observes, asks the plan and carries out its step, until the capture is settled. */
  async reconcile(): Promise<void> {
    for (let steps = 0; steps < MAX_STEPS;) {
      const step = plan(this.#observe());
      if (step.do !== "start") this.runs.giveTurnBack();
      // An edit interrupts what waits for the request before it: then all begins again, however many edits there are.
      steps = await this.#carryOut(step) === "interrupted" ? 0 : steps + 1;
      if (step.do === "settle") return;
    }
    throw new Error(`Cannot settle ${this.key} in ${MAX_STEPS} steps`);
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
        const exit = runs.running?.flush(step.why, this.shared.timing.block);
        return exit && await this.#interrupt.race(exit) === undefined ? "interrupted" : undefined;
      }
      case "retire":
        return await this.#retire(step.podGone);
      case "rearm":
        return rearm(this);
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
        return await settle(this, step.desired);
    }
  }

  #observe(): Observed {
    const hasSandbox = this.sandbox !== undefined;
    this.tracker?.observeSandbox(hasSandbox);
    if (hasSandbox) this.report.found();
    return observe(this, this.shared.admissions.ask(this));
  }

  /** Asks for tcpdump's verdict on a request, before anything starts. */
  async #check(request: CaptureRequest): Promise<"interrupted" | undefined> {
    const { sandbox, tracker } = this;
    if (!sandbox || !tracker) return;
    const { fingerprint, hash } = tracker;
    const placed = { request, sandboxId: sandbox.id, netnsPath: sandbox.netnsPath };
    const verdict = await this.#interrupt.race(
      checkRequest(placed, this.#filter, this.shared.settings).catch((error) => ({ failure: messageOf(error) })),
    );
    if (this.shared.node.isStopping) return;
    if (!verdict || this.tracker !== tracker || tracker.fingerprint !== fingerprint) return "interrupted";
    if ("failure" in verdict) this.#failed(hash, "check", verdict.failure, 0);
    else tracker.judge(verdict);
  }

  async #start(request: CaptureRequest): Promise<void> {
    const { sandbox, tracker } = this;
    if (!sandbox || !tracker) return;
    this.#takePlace();
    const { pod, hash } = tracker;
    const onListening = (run: Run, linkType: string) => this.#listens(run, linkType);
    await this.runs.start({ pod, request, hash, sandbox, onListening }).catch((error) => {
      // A pod that has taken the name meanwhile has failed at nothing.
      if (this.pod?.uid === pod.uid) this.#failed(hash, "start", messageOf(error), 0);
    });
  }

  #listens(run: Run, linkType: string): void {
    const tracker = this.tracker;
    if (this.runs.running !== run || tracker?.uid !== run.uid) return;
    // Only what was asked for: a start after a pause or in another sandbox has no such beginning.
    const seconds = tracker.started();
    if (seconds !== undefined) this.shared.metrics.startDuration.observe(seconds);
    this.report.tell(tracker.pod, run.requestHash, this.runs.listens(run, linkType));
    this.shared.enqueue(this.key);
  }

  /** Accounts for the end of the process, and finds out why it came where nobody asked for it. */
  async #reap(): Promise<void> {
    const ended = await this.#account();
    if (!ended || ended.stop?.by === "flush") return;
    const present = () => ({ request: this.tracker?.request, sandbox: this.sandbox });
    const cause = await this.runs.causeOf(ended, this.#filter, present);
    const { run } = ended;
    // Another pod may have the name meanwhile: nothing failed of its capture.
    if (this.tracker?.uid !== run.uid) return;
    if (cause.is === "refused") this.tracker.judge(cause.verdict);
    if (cause.is === "failed") this.#failed(run.requestHash, cause.reason, cause.problem, run.seconds * 1000);
  }

  async #retire(podGone: boolean): Promise<void> {
    const { settings, retention } = this.shared;
    // Another request, or another pod, may take the place of this one meanwhile: neither is told of these files.
    const { namespace, report, place: { firstSeen }, tracker: { hash } = { hash: "" } } = this;
    const { uid, files, bytes, isRetained } = await this.folder.retire(podGone, settings.retentionSeconds);
    if (isRetained && uid !== undefined) retention.add(uid, { namespace, firstSeen, bytes });
    else if (!podGone && (uid !== undefined || files > 0) && this.report === report) {
      report.tell(this.pod, hash, filesDeleted(files, bytes));
    }
    this.place.ranBefore = false;
    this.runs.forget();
  }

  /** Notes a failure that may pass. @param livedMs for how long it had worked. */
  #failed(request: string, reason: string, problem: string, livedMs: number): void {
    const ms = this.backoff.failed(this.sandbox?.id, problem, livedMs);
    this.shared.metrics.failures.inc({ reason });
    this.log.warn("capture failed", { problem, retryInMs: Math.round(ms) });
    this.report.tell(this.pod, request, failed(problem));
  }

  /** Looks at the files: how much they take, and no more of them than N, whether it runs or not. */
  async measure(): Promise<void> {
    await this.folder.measure((this.tracker?.request ?? this.folder.manifest?.request)?.files);
    // What an earlier, larger request has left may be gone.
    if (this.place.isFor(this.tracker?.fingerprint ?? "")) this.#takePlace();
  }

  /** Ends what still runs, with its last packets: the controller stops, and the queue has no turn for it. */
  async end(): Promise<void> {
    await this.runs.running?.flush("the controller is stopping", this.shared.timing.block);
    await this.#account();
  }

  /** Accounts for the end of the process. @returns the run, if its files stay. */
  async #account(): Promise<Ended | undefined> {
    const ended = await this.runs.reap(this.pod?.uid, this.shared.node.paused !== undefined);
    if (!ended) return undefined;
    await this.measure();
    await this.folder.trySave();
    return ended;
  }

  close(): void {
    this.#filter.drop();
    this.runs.giveTurnBack();
    this.backoff.clear();
  }

  /** Takes its place as large as its claim is now. */
  #takePlace(): void {
    if (this.place.take(this.claim, this.tracker?.fingerprint ?? "")) this.shared.admissions.changed();
  }
}
