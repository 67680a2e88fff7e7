/**
 * The pod that has one `namespace/name` now: what it asks for, where it runs, and what was reported of its capture. Another pod that
 * takes the name gets a tracker and a report of its own.
 */
import type { Log } from "../log.ts";
import type { PodEvent, Recorder } from "../pods/events.ts";
import { type Pod, podKey } from "../pods/pod.ts";
import type { PodSandboxes } from "../sandboxes/pod_sandboxes.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";
import { Report } from "./report.ts";
import { RequestTracker, type RequestTrackerOptions } from "./request_tracker.ts";

export interface SubjectOptions extends RequestTrackerOptions {
  readonly namespace: string;
  readonly name: string;
  readonly log: Log;
  readonly record: Recorder;
  readonly sandboxes: Pick<PodSandboxes, "of">;
}

export class Subject {
  readonly namespace: string;
  readonly name: string;
  readonly key: string;
  readonly log: Log;
  readonly #options: SubjectOptions;
  #tracker: RequestTracker | undefined;
  #report: Report;
  #isGone = false;

  constructor(options: SubjectOptions) {
    this.#options = options;
    this.namespace = options.namespace;
    this.name = options.name;
    this.key = podKey(options);
    this.log = options.log;
    this.#report = new Report(options);
  }

  /** The request of the pod; undefined: no pod was seen, or it is gone. */
  get tracker(): RequestTracker | undefined {
    return this.#tracker;
  }

  get report(): Report {
    return this.#report;
  }

  /** Set when it is proven that there is no pod. */
  get isGone(): boolean {
    return this.#isGone;
  }

  get pod(): Pod | undefined {
    return this.#tracker?.pod;
  }

  get sandbox(): Sandbox | undefined {
    return this.pod && this.#options.sandboxes.of(this.pod);
  }

  /**
   * Takes over a new pod object, or a change of it.
   *
   * @param isOther whether all that was reported is about another pod.
   * @returns whether it asks for something else.
   */
  update(pod: Pod, isOther: boolean): boolean {
    if (isOther) this.#report = new Report(this.#options);
    this.#isGone = false;
    if (this.#tracker?.uid === pod.uid) return this.#tracker.update(pod);
    this.#tracker = new RequestTracker(pod, this.#options);
    return true;
  }

  /** Notes that the pod object is proven to be gone. */
  gone(): void {
    this.#tracker = undefined;
    this.#isGone = true;
    this.#options.filter.drop();
  }

  /** Notes whether the pod has a sandbox now. */
  observeSandbox(): void {
    const has = this.sandbox !== undefined;
    this.#tracker?.observeSandbox(has);
    if (has) this.#report.found();
  }

  /** Records an Event about a run, unless another pod has the name now. */
  tellOfRun({ uid, requestHash }: { readonly uid: string; readonly requestHash: string }, event: PodEvent): void {
    if (this.pod?.uid === uid) this.#report.tellOfRun(this.pod, requestHash, event);
  }

  /** The row that `list` shows of the request; undefined: nothing is asked, or the pod may be another node's. */
  get row(): unknown {
    const { desired, since, isHere } = this.#report;
    if (!this.#tracker || desired.state === "none") return undefined;
    const { pod, asked, hash: request } = this.#tracker;
    // A server that ignores the field selector shows others' pods too; a mirror without its static pod is to be seen.
    if (!isHere && pod.staticUid === undefined) return undefined;
    const { namespace, name, uid } = pod;
    const wanted = asked.kind === "valid" ? { wanted: asked.request } : {};
    return { namespace, pod: name, uid, ...desired, since: since.toISOString(), request, ...wanted };
  }
}
