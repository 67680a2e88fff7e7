/**
 * Tracks the request of one pod, and what is found out about it. It is of one pod UID: another pod that takes the name gets another
 * tracker.
 */
import { type ParsedAnnotations, readAnnotations, requestHash } from "../spec/annotations.ts";
import { type CaptureRequest, fingerprint } from "../spec/request.ts";
import type { Pod } from "../pods/pod.ts";
import type { Settings } from "../settings.ts";
import type { PodFilter } from "../tcpdump/filter_checks.ts";
import type { Observed } from "../plan/plan.ts";
import { PodLook } from "./pod_look.ts";
import { namespaceProblem } from "../plan/scope.ts";
import type { CaptureTiming } from "../timing.ts";
import type { Verdict } from "../tcpdump/verdict.ts";

export interface RequestTrackerOptions {
  readonly settings: Pick<Settings, "annotationKey" | "limits" | "namespaces">;
  readonly filter: PodFilter;
  readonly timing: Pick<CaptureTiming, "look">;
}

export class RequestTracker {
  readonly uid: string;
  /** The looks at the pod in the API. */
  readonly look: PodLook;
  readonly #options: RequestTrackerOptions;
  #pod: Pod;
  #asked: ParsedAnnotations = { kind: "nothing" };
  /** The request and its fingerprint, if `asked` is valid. */
  #request: CaptureRequest | undefined;
  #fingerprint = "";
  #hash = "";
  /** performance.now() when the present request was first seen; undefined once it has been carried out. */
  #askedAt: number | undefined = performance.now();
  #isRemoved = false;
  #isEdited = false;
  #verdict: Verdict & { readonly fingerprint: string } | undefined;
  /** performance.now() when the pod was first observed without a sandbox. */
  #lacksSandboxSince: number | undefined;

  constructor(pod: Pod, options: RequestTrackerOptions) {
    this.uid = pod.uid;
    this.#options = options;
    this.#pod = pod;
    this.look = new PodLook(options.timing.look);
    this.#read(pod);
  }

  /** The pod object as the API has it. */
  get pod(): Pod {
    return this.#pod;
  }

  get asked(): ParsedAnnotations {
    return this.#asked;
  }

  get request(): CaptureRequest | undefined {
    return this.#request;
  }

  /** The fingerprint of the request; empty without one. */
  get fingerprint(): string {
    return this.#fingerprint;
  }

  /** The hash of the pod's annotations, by which an answer names its request. */
  get hash(): string {
    return this.#hash;
  }

  /** Set when the annotation is removed, until {@linkcode rearm}. The old capture is torn down first, even if the annotation is back. */
  get isRemoved(): boolean {
    return this.#isRemoved;
  }

  /** Set when the request is edited, until {@linkcode rearm}: it does not count as completed. */
  get isEdited(): boolean {
    return this.#isEdited;
  }

  /** Takes over a later state of the pod. @returns whether it asks for something else. */
  update(pod: Pod): boolean {
    const fingerprint = this.#fingerprint;
    this.#pod = pod;
    if (!this.#read(pod)) return false;
    if (this.#asked.kind === "nothing") this.#isRemoved = true;
    if (this.#fingerprint !== fingerprint) this.#isEdited = true;
    this.#askedAt = performance.now();
    this.look.soon();
    return true;
  }

  rearm(): void {
    this.#isRemoved = this.#isEdited = false;
  }

  /** Notes that the request is carried out. @returns for how many seconds it was asked for; undefined: it had been carried out before. */
  started(): number | undefined {
    const at = this.#askedAt;
    this.#askedAt = undefined;
    return at === undefined ? undefined : (performance.now() - at) / 1000;
  }

  /** Notes whether the pod has a sandbox now. */
  observeSandbox(has: boolean): void {
    if (has) {
      this.#lacksSandboxSince = undefined;
      this.look.clear();
    } else {
      this.#lacksSandboxSince ??= performance.now();
      this.look.lacksSandbox();
    }
  }

  /** Milliseconds for which the pod has had no sandbox, as far as it was observed. */
  get lacksSandboxMs(): number {
    const since = this.#lacksSandboxSince;
    return since === undefined ? 0 : performance.now() - since;
  }

  /** Takes over tcpdump's verdict on the present request. */
  judge(verdict: Verdict): void {
    this.#verdict = { ...verdict, fingerprint: this.#fingerprint };
  }

  /** Returns whether tcpdump's verdict is known, in this sandbox, if there is one, or not needed. */
  isChecked(sandboxId: string | undefined): boolean {
    const verdict = this.#verdict;
    if (verdict === undefined) return this.#request?.filter === undefined;
    return verdict.fingerprint === this.#fingerprint &&
      (verdict.sandboxId === undefined || sandboxId === undefined || verdict.sandboxId === sandboxId);
  }

  /** Returns the pod and its request as the plan sees them. */
  observed(
    sandboxId: string | undefined,
  ): Pick<Observed, "pod" | "checked" | "refused" | "awaits" | "hasFinished" | "removed"> {
    const checked = this.isChecked(sandboxId);
    // A verdict on another request does not count.
    const refused = this.#request && checked ? this.#verdict?.problem : undefined;
    const { found } = this.look;
    return {
      pod: { uid: this.uid, asked: this.#asked, isMirror: this.#pod.staticUid !== undefined },
      checked,
      removed: this.#isRemoved,
      ...(refused === undefined ? {} : { refused }),
      ...(found ? { awaits: found.why, hasFinished: found.hasFinished } : {}),
    };
  }

  /** Reads what the pod asks for; a request in a namespace whose pods are not captured is refused. @returns whether it is new. */
  #read({ namespace, annotations }: Pod): boolean {
    const { settings: { annotationKey, limits, namespaces }, filter } = this.#options;
    const read = readAnnotations(annotations, annotationKey, limits);
    const problem = read.kind === "nothing" ? undefined : namespaceProblem(namespace, namespaces);
    const asked: ParsedAnnotations = problem === undefined ? read : { kind: "invalid", problem };
    this.#hash = requestHash(annotations);
    if (JSON.stringify(asked) === JSON.stringify(this.#asked)) return false;
    this.#asked = asked;
    this.#request = asked.kind === "valid" ? asked.request : undefined;
    this.#fingerprint = this.#request ? fingerprint(this.#request) : "";
    this.#lacksSandboxSince = undefined;
    // The check begins at once, so that the verdict is there before the sandbox is.
    if (this.#request) void filter.problemOf(this.#request).catch(() => {});
    else filter.drop();
    return true;
  }
}
