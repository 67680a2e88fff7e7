/**
 * What is said of one pod's capture: the log line and the Event for what is new, each once. Of one pod UID: where another pod has
 * the name, another report takes its place, which has said nothing yet.
 */
import type { PodEvent, Recorder } from "../pods/events.ts";
import type { Pod } from "../pods/pod.ts";
import { requestHash } from "../spec/annotations.ts";
import type { Log } from "../log.ts";
import type { Manifest } from "../store/manifest.ts";
import type { Desired } from "../plan/plan.ts";
import { eventFor } from "../plan/told.ts";

export interface ReportOptions {
  readonly log: Log;
  readonly record: Recorder;
}

/** What is new where a capture is settled. */
export interface News {
  readonly before: Desired;
  /** Nothing was said of the request yet. */
  readonly isAnswer: boolean;
  /** A former controller has said the same in other words, as another version does. */
  readonly isReworded: boolean;
}

/** States that are restored after a restart of the controller; the others are found out again. */
const RESTORED = ["held", "completed", "rejected", "waiting", "paused", "finished"] as const;

export class Report {
  readonly #options: ReportOptions;
  #desired: Desired = { state: "none", reason: "" };
  #since = new Date();
  #isHere = false;
  /** It has been found since it was settled last that the pod is this node's. */
  #isFound = false;
  /** An Event that waits until it is known that the pod is this node's. */
  #untold: { readonly event: PodEvent; readonly request: string } | undefined;
  /** The hash for which something was said last. */
  #answered = "";
  /** The hash for which it was said that the pod has no sandbox: that is no answer yet, and holds back none. */
  #pendingToldFor = "";
  /** The hash with which it was settled last. */
  #settledFor = "";
  /** What was said is a former controller's: it has not been settled since. */
  #isRestored = false;

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  /** Restores what a former controller has said. A restart is no news. @returns whether the state is one that is restored. */
  restore({ state, reason, since, annotations }: Manifest): boolean {
    const hash = requestHash(annotations);
    const restored = RESTORED.find((one) => one === state);
    if (restored) {
      this.#desired = { state: restored, reason };
      this.#since = new Date(since);
      this.#answered = this.#settledFor = hash;
      this.#isRestored = true;
    }
    if (state === "pending") this.#pendingToldFor = hash;
    return restored !== undefined;
  }

  /** Where the capture is settled. */
  get desired(): Desired {
    return this.#desired;
  }

  /** Since when it is. */
  get since(): Date {
    return this.#since;
  }

  /** The pod is proven to be this node's: by a READY sandbox here, or by the API's word of its node. */
  get isHere(): boolean {
    return this.#isHere;
  }

  /** Notes that the pod is this node's. */
  found(): void {
    if (!this.#isHere) this.#isHere = this.#isFound = true;
  }

  /** Notes that a removed annotation's capture is gone as far as it can go: whatever comes is new. */
  forgetState(): void {
    this.#desired = { state: "none", reason: "" };
  }

  /**
   * Notes where the capture is settled.
   *
   * @param pod undefined where it is proven to be gone, or was not seen yet.
   * @param isKnown whether one of both is known; else all that was noted stays.
   * @returns what is new, if anything is; and whether the list is to show something else in any case.
   */
  settle(
    desired: Desired,
    request: string,
    isKnown: boolean,
    pod: Pod | undefined,
  ): { readonly news: News | undefined; readonly isFound: boolean } {
    const isFound = this.#isFound;
    this.#isFound = false;
    const isPending = desired.state === "pending";
    const isAnswer = this.#answered !== request && !(isPending && (!this.#isHere || this.#pendingToldFor === request));
    const isOther = this.#settledFor !== request;
    const isReworded = this.#isRestored && desired.state === this.#desired.state && !isOther;
    if (isKnown) [this.#settledFor, this.#isRestored] = [request, false];
    if (this.#untold) this.tell(pod, this.#untold.request, this.#untold.event);
    const before = this.#desired;
    const isSame = desired.state === before.state && desired.reason === before.reason && !isOther &&
      !(isFound && isPending && isAnswer);
    if (!isKnown || isSame) return { news: undefined, isFound };
    // A pod that waits does so since it began, whatever is found out about it.
    const isSince = isPending || isReworded || desired.reason === before.reason;
    if (desired.state !== before.state || !isSince) this.#since = new Date();
    this.#desired = desired;
    return { news: { before, isAnswer, isReworded }, isFound };
  }

  /** Says what is new. @param podIsGoing the pod is being deleted, or the controller stops. @returns whether an Event says it. */
  say({ before, isAnswer, isReworded }: News, request: string, pod: Pod | undefined, podIsGoing: boolean): boolean {
    const { state, reason } = this.#desired;
    const { log } = this.#options;
    const fields = { state, ...(reason ? { reason } : {}) };
    if (state === "rejected") log.warn("capture rejected", fields);
    else if (state !== "none") log.info(`capture ${state}`, fields);
    // Other reasons for the same state are numbers that have changed: no news, but for what is wrong with a request.
    const isNews = state !== before.state || (state === "rejected" && !isReworded) || isAnswer;
    const event = isNews ? eventFor(this.#desired, before.state, { podIsGoing, isAnswer }) : undefined;
    this.#untold = undefined;
    if (event) this.tell(pod, request, event);
    return event !== undefined || !isAnswer;
  }

  /** Records an Event, once the pod is known to be on this node: a server that ignores the field selector shows others' pods too. */
  tell(pod: Pod | undefined, request: string, event: PodEvent): void {
    this.#untold = this.#isHere ? undefined : { event, request };
    if (!pod || !this.#isHere) return;
    this.#options.record(pod, event, request, this.#answered !== request);
    if (event.reason === "CapturePending") this.#pendingToldFor = request;
    else this.#answered = request;
  }

  /** Records an Event about a run, which answers no request. */
  tellOfRun(pod: Pod, request: string, event: PodEvent): void {
    this.#options.record(pod, event, request, false);
  }
}
