/**
 * Reports on one pod's capture: writes the log line and the Event for what is new, each once. It is of one pod UID: another pod
 * that takes the name gets another report, which has reported nothing yet.
 */
import type { PodEvent, Recorder } from "../pods/events.ts";
import type { Pod } from "../pods/pod.ts";
import { requestHash } from "../spec/annotations.ts";
import type { Log } from "../log.ts";
import type { Manifest } from "../store/manifest.ts";
import type { Desired } from "../plan/plan.ts";
import { eventFor } from "../plan/event_notes.ts";

export interface ReportOptions {
  readonly log: Log;
  readonly record: Recorder;
}

/** News of a capture that is settled. */
export interface News {
  readonly before: Desired;
  /** Set if nothing was reported of the request yet. */
  readonly isAnswer: boolean;
  /** Set if a former controller, perhaps of another version, has reported the same in other words. */
  readonly isReworded: boolean;
}

/** States that are restored after a restart of the controller; the others are found out again. */
const RESTORED = ["held", "completed", "rejected", "waiting", "paused", "finished"] as const;

export class Report {
  readonly #options: ReportOptions;
  #desired: Desired = { state: "none", reason: "" };
  #since = new Date();
  #isHere = false;
  /** Set when the pod is found to be this node's, until the capture is settled. */
  #isFound = false;
  /** An Event that waits until it is known that the pod is this node's. */
  #untold: { readonly event: PodEvent; readonly request: string } | undefined;
  /** The hash of the request that was answered last. */
  #answered = "";
  /** The hash of the request that was reported as pending last: that is no answer yet, and replaces none. */
  #pendingToldFor = "";
  /** The hash with which it was settled last. */
  #settledFor = "";
  /** Set while all that was reported is a former controller's. */
  #isRestored = false;

  constructor(options: ReportOptions) {
    this.#options = options;
  }

  /** Restores what a former controller has reported, because a restart is no news. @returns whether the state is one that is restored. */
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

  /** The state in which the capture is settled. */
  get desired(): Desired {
    return this.#desired;
  }

  /** The time at which it came into that state. */
  get since(): Date {
    return this.#since;
  }

  /** Set when the pod is proven to be this node's: by a READY sandbox here, or by its node's name in the API. */
  get isHere(): boolean {
    return this.#isHere;
  }

  /** Notes that the pod is this node's. */
  found(): void {
    if (!this.#isHere) this.#isHere = this.#isFound = true;
  }

  /** Forgets the state, because a removed annotation's capture is gone as far as it can go: all that follows is new. */
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
    // A pending capture keeps its time, whatever is found out about the pod.
    const isSince = isPending || isReworded || desired.reason === before.reason;
    if (desired.state !== before.state || !isSince) this.#since = new Date();
    this.#desired = desired;
    return { news: { before, isAnswer, isReworded }, isFound };
  }

  /** Reports news. @param podIsGoing the pod is being deleted, or the controller stops. @returns whether the request is answered. */
  say({ before, isAnswer, isReworded }: News, request: string, pod: Pod | undefined, podIsGoing: boolean): boolean {
    const { state, reason } = this.#desired;
    const { log } = this.#options;
    const fields = { state, ...(reason ? { reason } : {}) };
    if (state === "rejected") log.warn("capture rejected", fields);
    else if (state !== "none") log.info(`capture ${state}`, fields);
    // Another reason for the same state only has other numbers, which is no news, except for a rejection.
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
