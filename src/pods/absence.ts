/**
 * Proof that a pod which a list lacked has gone. A list is one answer of many parts (a selector, a cache, a proxy),
 * and files that are deleted never come back. So the pod is got by its name, until the API server has answered.
 */
import { pause } from "../base/timeout.ts";
import type { Log } from "../log.ts";
import type { ApiClient } from "./api.ts";
import { getMetadata } from "./get.ts";
import type { ObjectMeta } from "./pod_store.ts";
import { podKey } from "./pod.ts";
import { endOf, type WatchEnd } from "./watch_end.ts";

/** Pods that are got at once. */
const AT_ONCE = 8;

/** A pod of which something is kept, and which is perhaps gone. */
export interface KeptPod {
  readonly namespace: string;
  readonly name: string;
  /** UID; undefined where it is not known: the pod of that name is meant. */
  readonly uid: string | undefined;
}

export interface AbsenceOptions {
  readonly api: ApiClient;
  /** Handles a pod that does not exist any more, or has another UID. */
  onGone(pod: KeptPod): void;
  /** Handles a pod that exists. */
  onThere(meta: ObjectMeta): void;
  readonly log: Log;
  /** Milliseconds that an answer may take. */
  readonly timeoutMs: number;
  /** Milliseconds to wait after so many failures in a row. */
  backoff(failures: number): number;
}

export class AbsenceChecks {
  readonly #options: AbsenceOptions;
  /** Pods by namespace/name, in the order in which they are got. */
  readonly #doubts = new Map<string, KeptPod>();
  #working: Promise<void> | undefined;
  /** The failure that was logged last. */
  #logged: string | undefined;

  constructor(options: AbsenceOptions) {
    this.#options = options;
  }

  /** Asks for the pod until there is an answer, or until `settle` or `signal` ends that. */
  doubt(pod: KeptPod, signal: AbortSignal): void {
    this.#doubts.set(podKey(pod), pod);
    // A list that lacks one lacks others: the first round is to have them all.
    this.#working ??= Promise.resolve().then(() => this.#work(signal));
  }

  /** Drops the question: an event has answered it meanwhile. */
  settle(key: string): void {
    this.#doubts.delete(key);
  }

  /** Resolves when nobody is asked for any more; soon after the signal is aborted. */
  async idle(): Promise<void> {
    await this.#working;
  }

  async #work(signal: AbortSignal): Promise<void> {
    for (let failures = 0; this.#doubts.size > 0 && !signal.aborted;) {
      // Whatever is wrong is most often wrong for all: after a failure one of them tries it out.
      const batch = [...this.#doubts.values()].slice(0, failures === 0 ? AT_ONCE : 1);
      const waits = await Promise.all(batch.map((pod) => this.#ask(pod, signal)));
      const failed = waits.filter((ms) => ms !== undefined);
      failures = failed.length === 0 ? 0 : failures + 1;
      if (failures === 0) continue;
      const ms = Math.max(this.#options.backoff(failures), ...failed);
      await pause(ms, signal).catch(() => {}); // aborted
    }
    this.#logged = undefined;
    this.#working = undefined;
  }

  /** @returns after a failure, how many milliseconds the server wants to be left alone at least; undefined after an answer. */
  async #ask(pod: KeptPod, signal: AbortSignal): Promise<number | undefined> {
    const key = podKey(pod);
    const { api, timeoutMs } = this.#options;
    try {
      const meta = await getMetadata(api, pod, { signal, timeoutMs });
      // What an event has brought meanwhile is newer.
      if (this.#doubts.get(key) !== pod) return undefined;
      this.#doubts.delete(key);
      if (meta === undefined || (pod.uid !== undefined && meta.uid !== pod.uid)) this.#options.onGone(pod);
      else this.#options.onThere(meta);
      return undefined;
    } catch (error) {
      const end = endOf(error);
      if (!signal.aborted) this.#failed(pod, end);
      // The next round begins with another one: none is held up by one that always fails.
      if (this.#doubts.get(key) === pod && this.#doubts.delete(key)) this.#doubts.set(key, pod);
      return end.retryAfterMs ?? 0;
    }
  }

  #failed(pod: KeptPod, end: WatchEnd): void {
    const { log } = this.#options;
    const say = end.reason === this.#logged ? log.debug : log.warn;
    this.#logged = end.reason;
    const message =
      "Cannot confirm that a pod is gone: a list lacks it, and a GET of it fails; its files stay until one succeeds";
    say(message, {
      pod: podKey(pod),
      uid: pod.uid,
      missing: this.#doubts.size,
      reason: end.reason,
      error: end.message,
      ...(end.reason === "forbidden" ? { needs: "verb get on pods, in the controller's ClusterRole" } : {}),
    });
  }
}
