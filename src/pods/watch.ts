/**
 * Follows the metadata of this node's pods, for ever: list, watch, and whatever it takes to come back (docs/adr/0041).
 * What is known stays known while the API server cannot be reached. Each way to end is in watch_end.ts.
 */
import { backoffMs } from "../base/backoff.ts";
import { pause } from "../base/timeout.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import { AbsenceChecks, type KeptPod } from "./absence.ts";
import type { ApiClient } from "./api.ts";
import { type ObjectMeta, podOf, PodStore } from "./pod_store.ts";
import { listMetadata } from "./list.ts";
import { type Pod, podKey } from "./pod.ts";
import { endOf, WatchEnd } from "./watch_end.ts";
import { WatchPosition } from "./watch_position.ts";
import { followWatch, type WatchEvent } from "./watch_stream.ts";

const INITIAL_EVENTS_END = "k8s.io/initial-events-end";

/** Times that a watch waits, in milliseconds. */
export interface WatchTiming {
  /** Until the answer's headers, or a list's whole body, are there. */
  readonly answer: number;
  /** The same for one pod. */
  readonly answerOfOne: number;
  /**
   * Milliseconds without a byte after which the connection is broken: a working one brings a bookmark a minute
   * (apiserver cacher.go). One may be left out when nothing has changed (measured: 60.2 s, and once 119.6 s, on a
   * server where nothing happens).
   */
  readonly idle: number;
  /** The same while the objects of a streaming list are still coming: nothing is waited for then. */
  readonly initialIdle: number;
  /** Time between two looks at a quiet stream; keeps `lastTurn` well below the 60 s of /healthz. */
  readonly tick: number;
  /** Time after which the next attempt lists again, so that what was missed is put right. */
  readonly relist: number;
  /** A watch is asked to end after `relist` and up to so much more, so that the nodes do not all come back at once. */
  readonly relistJitter: number;
  /** Back-off: first step and longest. */
  readonly backoff: number;
  readonly backoffMost: number;
  /** An attempt that has lasted so long was a success: the back-off begins again. */
  readonly healthy: number;
}

export const WATCH_TIMING: WatchTiming = {
  answer: 30_000,
  answerOfOne: 10_000,
  idle: 125_000,
  initialIdle: 30_000,
  tick: 5_000,
  relist: 300_000,
  relistJitter: 300_000,
  backoff: 500,
  backoffMost: 30_000,
  healthy: 10_000,
};

export interface PodWatchOptions {
  readonly api: ApiClient;
  readonly nodeName: string;
  readonly annotationKey: string;
  /** Handles a pod that is new, or changed in what a capture depends on. */
  onPod(pod: Pod): void;
  /** Returns the pods of which something is kept: of these a list that lacks one proves nothing. */
  kept(): Iterable<KeptPod>;
  /** Handles the end of a pod object, proved where something is kept: once for each pod of `onPod`, or that is kept. */
  onGone(pod: KeptPod): void;
  /**
   * Handles the end of the first list: what exists is in `pods`, but for kept pods that it lacks, which are got one
   * by one.
   */
  onSynced(): void;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Times, for tests. @default WATCH_TIMING */
  readonly timing?: Partial<WatchTiming> | undefined;
  readonly random?: () => number;
}

export class PodWatch {
  readonly #options: PodWatchOptions;
  readonly #timing: WatchTiming;
  readonly #random: () => number;
  readonly #store: PodStore;
  readonly #absence: AbsenceChecks;
  readonly #position: WatchPosition;
  /** performance.now() at which this attempt was begun. */
  #begun = 0;
  #synced = false;
  #lastTurn = performance.now();

  constructor(options: PodWatchOptions) {
    this.#options = options;
    this.#timing = { ...WATCH_TIMING, ...options.timing };
    this.#random = options.random ?? Math.random;
    this.#position = new WatchPosition(options.nodeName);
    this.#store = new PodStore({
      onPod: (pod) => this.#notify("onPod", () => options.onPod(pod)),
      onGone: (pod) => this.#notify("onGone", () => options.onGone(pod)),
    });
    this.#absence = new AbsenceChecks({
      api: options.api,
      onGone: (pod) => this.#gone(pod),
      onThere: (meta) => this.#there(meta),
      log: options.log,
      timeoutMs: this.#timing.answerOfOne,
      backoff: (failures) => this.#backoff(failures),
    });
  }

  /** All pods of the node, by UID. */
  get pods(): ReadonlyMap<string, Pod> {
    return this.#store.byUid;
  }

  /** Whether the first list is complete. */
  get synced(): boolean {
    return this.#synced;
  }

  /** performance.now() of the last sign that the attempt loop turns; failing attempts are signs too. */
  get lastTurn(): number {
    return this.#lastTurn;
  }

  /** Runs until `signal` is aborted; never throws. */
  async run(signal: AbortSignal): Promise<void> {
    await this.#run(signal);
    await this.#absence.idle();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { log, metrics, api } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      this.#begun = this.#lastTurn = performance.now();
      const end = await this.#attempt(signal).catch(endOf);
      if (signal.aborted) return;
      metrics.watchRestarts.inc({ reason: end.reason });
      if (performance.now() - this.#begun >= this.#timing.healthy) failures = 0;
      if (end.reason === "idle" || end.reason === "timeout") api.renew();
      const again = this.#position.learn(end);
      const calm = again || (failures === 0 && (end.reason === "closed" || end.reason === "expired"));
      failures++;
      const waitMs = calm ? 0 : Math.max(this.#backoff(failures), end.retryAfterMs ?? 0);
      const say = end.reason === "closed" ? log.debug : again ? log.info : log.warn;
      say("pod watch ended", {
        reason: end.reason,
        error: end.message || undefined,
        credentials: api.problem || undefined,
        retry_seconds: Math.round(waitMs / 100) / 10,
      });
      await this.#wait(waitMs, signal);
    }
  }

  /** Makes one list, if it is time for one, and one watch. Returns or throws how it ended. */
  async #attempt(signal: AbortSignal): Promise<WatchEnd> {
    const { relist, relistJitter } = this.#timing;
    this.#position.begin(performance.now(), relist);
    if (this.#position.isListPlain) await this.#list(signal);
    const listed = new Set<string>();
    return await followWatch({
      api: this.#options.api,
      path: this.#position.watchPath(Math.ceil((relist + this.#random() * relistJitter) / 1000)),
      signal,
      timing: this.#timing,
      listing: () => this.#position.isListing,
      onBytes: () => this.#options.metrics.watchActive(),
      onTurn: () => this.#lastTurn = performance.now(),
      onEvent: (event) => this.#take(event, listed, signal),
    });
  }

  #take({ type, object }: WatchEvent, listed: Set<string>, signal: AbortSignal): void {
    const meta = object?.metadata;
    if (type === "BOOKMARK" && meta?.resourceVersion) {
      if (!this.#position.isListing) this.#position.passed(meta.resourceVersion);
      else if (meta.annotations?.[INITIAL_EVENTS_END] === "true") {
        this.#listComplete(listed, meta.resourceVersion, signal);
      }
      return;
    }
    const pod = podOf(meta, this.#options.annotationKey);
    if (pod === undefined) fail(`neither a pod nor a bookmark: type ${JSON.stringify(type)}`);
    if (type === "DELETED") {
      listed.delete(pod.uid);
      if (this.#store.remove(pod.uid)) this.#absence.settle(podKey(pod));
    } else {
      listed.add(pod.uid);
      this.#store.put(pod);
      this.#absence.settle(podKey(pod));
    }
    this.#position.passed(pod.resourceVersion);
  }

  async #list(signal: AbortSignal): Promise<void> {
    const call = { signal, timeoutMs: this.#timing.answer };
    const list = await listMetadata(this.#options.api, this.#position.listPath, call);
    this.#options.metrics.watchActive();
    const pods = list.items.map((meta) =>
      podOf(meta, this.#options.annotationKey) ?? fail("the list is not one of pods")
    );
    for (const pod of pods) {
      this.#store.put(pod);
      this.#absence.settle(podKey(pod));
    }
    this.#listComplete(new Set(pods.map(({ uid }) => uid)), list.resourceVersion, signal);
  }

  #listComplete(listed: ReadonlySet<string>, resourceVersion: string, signal: AbortSignal): void {
    const kept = new Map([...this.#options.kept()].map((pod) => [podKey(pod), pod]));
    this.#store.keepOnly(listed, (pod) => kept.has(podKey(pod)));
    for (const [key, pod] of kept) {
      const uid = this.#store.uidOf(key) ?? pod.uid;
      // Where the list has another pod of the name, that is proof enough.
      if (uid === undefined || !listed.has(uid)) this.#absence.doubt({ ...pod, uid }, signal);
    }
    this.#position.listed(resourceVersion, this.#begun);
    if (this.#synced) return;
    this.#synced = true;
    this.#options.log.info("pods listed", { pods: this.#store.byUid.size });
    this.#notify("onSynced", () => this.#options.onSynced());
  }

  /** Removes a pod that a list lacked, once it is proven to be gone. */
  #gone(pod: KeptPod): void {
    if (pod.uid === undefined || !this.#store.remove(pod.uid)) this.#notify("onGone", () => this.#options.onGone(pod));
  }

  /**
   * Handles a pod that exists though a list lacked it: that is worth as much as an event. If it is another node's now
   * (a renamed node, a copied disk), it stays until that pod ends or its annotation is removed: a UID never moves,
   * and its files are of this UID.
   */
  #there(meta: ObjectMeta): void {
    const pod = podOf(meta, this.#options.annotationKey);
    if (pod === undefined) return;
    this.#options.log.warn("a list lacked a pod that exists; nothing of it is deleted", {
      pod: podKey(pod),
      uid: pod.uid,
    });
    this.#store.put(pod);
  }

  /** Calls a listener, whose error must end neither the watch nor the calls for other pods. */
  #notify(what: string, call: () => void): void {
    try {
      call();
    } catch (error) {
      this.#options.log.error("a listener of the pod watch failed", { listener: what, error });
    }
  }

  #backoff(failures: number): number {
    const { backoff, backoffMost } = this.#timing;
    return backoffMs(failures, { firstMs: backoff, mostMs: backoffMost }, this.#random);
  }

  async #wait(ms: number, signal: AbortSignal): Promise<void> {
    const until = performance.now() + ms;
    for (let left = ms; left > 0 && !signal.aborted; left = until - performance.now()) {
      this.#lastTurn = performance.now();
      await pause(Math.min(left, this.#timing.tick), signal).catch(() => {}); // aborted
    }
  }
}

function fail(message: string): never {
  throw new WatchEnd("bad_line", message);
}
