/**
 * Position at which the next attempt to watch begins: with a list, or after a resourceVersion; and the kind of list.
 */
import type { WatchEnd } from "./watch_end.ts";

export class WatchPosition {
  readonly #selector: string;
  #resourceVersion: string | undefined;
  /** performance.now() at which the last complete list was begun; undefined: a list comes before anything else. */
  #listedAt: number | undefined;
  /** Whether lists are plain GETs: this server has no streaming list, or it has just failed. */
  #plain: "no" | "once" | "always" = "no";

  constructor(nodeName: string) {
    this.#selector = `fieldSelector=${encodeURIComponent(`spec.nodeName=${nodeName}`)}`;
  }

  /** Whether a list comes before the changes. */
  get isListing(): boolean {
    return this.#listedAt === undefined;
  }

  /** Whether that list is a plain GET. */
  get isListPlain(): boolean {
    return this.isListing && this.#plain !== "no";
  }

  /** The path of a plain list. */
  get listPath(): string {
    const version = this.#resourceVersion;
    return `/api/v1/pods?${this.#selector}` +
      (version === undefined ? "" : `&resourceVersionMatch=NotOlderThan&resourceVersion=${version}`);
  }

  /**
   * Returns the path of a watch, with a list before it while one is to come.
   *
   * With a resourceVersion a list is at least as new as what we know, and comes from the server's cache. The first one has
   * none: it must be the newest there is, because files of pods that it lacks are deleted.
   */
  watchPath(seconds: number): string {
    return `/api/v1/pods?watch=1&${this.#selector}&allowWatchBookmarks=true&timeoutSeconds=${seconds}` +
      (this.isListing ? "&sendInitialEvents=true&resourceVersionMatch=NotOlderThan" : "") +
      (this.#resourceVersion === undefined ? "" : `&resourceVersion=${this.#resourceVersion}`);
  }

  /** Begins an attempt: with a list, if the last one is older than this. */
  begin(now: number, relistMs: number): void {
    if (this.#listedAt !== undefined && now - this.#listedAt >= relistMs) this.#listedAt = undefined;
  }

  /** Records that all has come up to this version. While a list's objects come, theirs are in no order. */
  passed(resourceVersion: string): void {
    if (!this.isListing) this.#resourceVersion = resourceVersion;
  }

  /** Records a complete list, whose attempt was begun then. */
  listed(resourceVersion: string, begunAt: number): void {
    this.#resourceVersion = resourceVersion;
    this.#listedAt = begunAt;
    if (this.#plain === "once") this.#plain = "no";
  }

  /** Changes what the next attempt does; returns whether that should come at once, because it is another one. */
  learn({ reason }: WatchEnd): boolean {
    const { isListing } = this;
    // The same line may come again, or our resourceVersion makes no sense to the server (etcd restored from a backup).
    if (reason === "expired" || reason === "bad_line" || reason === "refused") {
      this.#listedAt = this.#resourceVersion = undefined;
    }
    if (reason === "no_streaming_list") {
      this.#plain = "always";
      return true;
    }
    if (isListing && LIST_FAILURES.includes(reason) && this.#plain === "no") this.#plain = "once";
    return false;
  }
}

/** Ends of a streaming list after which a plain one may succeed. */
const LIST_FAILURES: readonly WatchEnd["reason"][] = ["idle", "timeout", "bad_line", "refused", "server_error"];
