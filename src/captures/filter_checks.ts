/** What tcpdump says of filters: each is compiled once, however many pods ask for it, and few at a time. */
import type { CaptureRequest } from "./request.ts";
import { Turns } from "../turns.ts";
import { checkFilter } from "./tcpdump.ts";

/** A check is some 10 ms of CPU: with more at once each only takes longer, at last too long. */
const AT_ONCE = 4;
/** So many filters are remembered, the newest. */
const REMEMBERED = 300;

export class FilterChecks {
  readonly #options: { readonly tcpdump: string; readonly unshare: string; readonly signal: AbortSignal };
  readonly #found = new Map<string, Promise<string | undefined>>();
  readonly #turns = new Turns(AT_ONCE);

  /** @param options.unshare the program. @default "unshare" */
  constructor(options: { tcpdump: string; signal: AbortSignal; unshare?: string }) {
    this.#options = { unshare: "unshare", ...options };
  }

  /**
   * Why the request's filter does not compile, one sentence; undefined: it does, or there is none.
   *
   * @throws if that could not be found out. That is not remembered: the next who asks has it tried again.
   */
  problemOf({ filter, interface: name }: CaptureRequest): Promise<string | undefined> {
    if (filter === undefined) return Promise.resolve(undefined);
    const linkType = name === "any" ? "LINUX_SLL2" : "EN10MB";
    const key = `${linkType} ${filter}`;
    const known = this.#found.get(key);
    if (known) return known;
    const found = this.#turns.take(() => checkFilter({ ...this.#options, filter, linkType }));
    this.#found.set(key, found);
    found.catch(() => this.#found.delete(key));
    for (const oldest of this.#found.keys()) {
      if (this.#found.size <= REMEMBERED) break;
      this.#found.delete(oldest);
    }
    return found;
  }
}
