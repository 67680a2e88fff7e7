/**
 * What tcpdump says of filters. Each is compiled once, however many pods ask for it, and its verdict is remembered; checks and starts
 * with a filter take turns, since both compile it.
 */
import { abortable, pause } from "../base/timeout.ts";
import { FairSemaphore } from "../base/fair_semaphore.ts";
import { FILTERS_AT_ONCE, FILTERS_OF_NAMESPACE } from "./filter_limits.ts";
import type { CaptureRequest } from "../spec/request.ts";
import { checkFilter, LINK_TYPE_OF_ANY } from "./tcpdump_queries.ts";

/** So many verdicts are remembered, the newest. */
const REMEMBERED = 300;
/** The checks of one pod's edits begin no faster than this, in milliseconds; its first one and one after a pause begin at once. */
const PACE_MS = 250;

type Filtered = Pick<CaptureRequest, "filter" | "interface">;

/** A check that has not ended: it goes on while somebody waits for it. */
interface Pending {
  readonly found: Promise<string | undefined>;
  readonly abort: AbortController;
  askers: number;
}

export class FilterChecks {
  readonly #options: { readonly tcpdump: string; readonly unshare: string; readonly signal: AbortSignal };
  readonly #known = new Map<string, string | undefined>();
  readonly #pending = new Map<string, Pending>();
  readonly #turns = new FairSemaphore(FILTERS_AT_ONCE, FILTERS_OF_NAMESPACE);

  /** @param options.unshare the program. @default "unshare" */
  constructor(options: { tcpdump: string; signal: AbortSignal; unshare?: string }) {
    this.#options = { unshare: "unshare", ...options };
  }

  /** Whether the verdict on the request's filter is known: no process is needed for it. */
  knows(request: Filtered): boolean {
    return request.filter === undefined || this.#known.has(keyOf(request));
  }

  /**
   * Returns what is wrong with the request's filter, as the end of a sentence about it; undefined: nothing, or there is none.
   *
   * @param asker.signal what calls the question off. A check that nobody waits for is dropped, queued or running.
   * @param linkType of the interface. @default Ethernet, and that of `any`
   * @throws if that could not be found out. That is not remembered: the next who asks has it tried again.
   */
  async problemOf(
    request: Filtered,
    { namespace, signal }: { namespace: string; signal: AbortSignal },
    linkType = linkTypeOf(request),
  ): Promise<string | undefined> {
    const { filter } = request;
    if (filter === undefined) return undefined;
    const key = keyOf(request, linkType);
    if (this.#known.has(key)) return this.#known.get(key);
    signal.throwIfAborted();
    // By namespace: who asks for the same filter in another one must not wait in this one's queue.
    const id = `${namespace} ${key}`;
    let pending = this.#pending.get(id);
    if (!pending) {
      const abort = new AbortController();
      const found = this.#check(
        key,
        filter,
        linkType,
        namespace,
        AbortSignal.any([abort.signal, this.#options.signal]),
      );
      this.#pending.set(id, pending = { found, abort, askers: 0 });
    }
    pending.askers++;
    try {
      return await abortable(pending.found, signal);
    } finally {
      if (--pending.askers === 0) {
        if (this.#pending.get(id) === pending) this.#pending.delete(id);
        pending.abort.abort(new Error("nobody waits for it any more"));
      }
    }
  }

  /** Waits for a turn to start a capture with a filter. @returns what gives it back, once the filter is compiled. */
  async turnToStart(namespace: string, signal: AbortSignal): Promise<() => void> {
    return await this.#turns.take(namespace, signal);
  }

  async #check(
    key: string,
    filter: string,
    linkType: string,
    namespace: string,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const giveBack = await this.#turns.take(namespace, signal);
    try {
      if (this.#known.has(key)) return this.#known.get(key);
      const problem = await checkFilter({ ...this.#options, filter, linkType, signal });
      this.#known.set(key, problem);
      for (const oldest of this.#known.keys()) {
        if (this.#known.size <= REMEMBERED) break;
        this.#known.delete(oldest);
      }
      return problem;
    } finally {
      giveBack();
    }
  }
}

/** The check of one pod's filter: there is one at a time, an edit drops that of the text before it, and many edits wait. */
export class PodFilter {
  readonly #checks: FilterChecks;
  readonly #namespace: string;
  #present:
    | { readonly key: string; readonly abort: AbortController; readonly found: Promise<string | undefined> }
    | undefined;
  /** performance.now() when the last check began. */
  #begunAt = -Infinity;

  constructor(checks: FilterChecks, namespace: string) {
    this.#checks = checks;
    this.#namespace = namespace;
  }

  /** As `FilterChecks.problemOf`; rejects also when another request's filter is asked for meanwhile. */
  problemOf(request: Filtered): Promise<string | undefined> {
    const key = keyOf(request);
    if (this.#present?.key === key) return this.#present.found;
    this.drop();
    const abort = new AbortController();
    const present = { key, abort, found: this.#problemOf(request, abort.signal) };
    this.#present = present;
    present.found.catch(() => {
      if (this.#present === present) this.#present = undefined;
    });
    return present.found;
  }

  /** What is wrong with the filter that `problemOf` was last asked for, on an interface of this link type. */
  async problemOn(request: Filtered, linkType: string): Promise<string | undefined> {
    const signal = this.#present?.abort.signal ?? AbortSignal.abort(new Error("the filter has changed"));
    return await this.#checks.problemOf(request, { namespace: this.#namespace, signal }, linkType);
  }

  /** Drops the check that is queued or running. */
  drop(): void {
    this.#present?.abort.abort(new Error("the filter has changed"));
    this.#present = undefined;
  }

  async #problemOf(request: Filtered, signal: AbortSignal): Promise<string | undefined> {
    if (!this.#checks.knows(request)) {
      const wait = this.#begunAt + PACE_MS - performance.now();
      if (wait > 0) await pause(wait, signal);
      this.#begunAt = performance.now();
    }
    return await this.#checks.problemOf(request, { namespace: this.#namespace, signal });
  }
}

/** The link type for which a filter is compiled before the interface is there: what nearly every interface of a pod has. */
function linkTypeOf({ interface: name }: Filtered): string {
  return name === "any" ? LINK_TYPE_OF_ANY : "EN10MB";
}

function keyOf(request: Filtered, linkType = linkTypeOf(request)): string {
  return `${linkType} ${request.filter}`;
}
