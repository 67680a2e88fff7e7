/** A run in progress: a tcpdump with its clock and its health. */
import { dirname } from "@std/path";
import { settlesWithin } from "../base/timeout.ts";
import { RunHealth } from "./health.ts";
import type { CaptureRequest } from "../spec/request.ts";
import { type Exit, hasDeletedFile, isStopped, Tcpdump, type TcpdumpOptions } from "./tcpdump.ts";
import { CHECK_TIMEOUT_MS } from "./tcpdump_queries.ts";

/** A stopped tcpdump is seen by its process state once it has not answered for this long. */
const STOPPED_AFTER_MS = 2000;
/** One that does not answer although it is not stopped may wait for a slow disk; after this long it is given up. */
const HUNG_AFTER_MS = 60_000;
/** A tcpdump that has not begun to listen by then never will: it takes some 10 ms. */
const LISTEN_TIMEOUT_MS = 30_000;
/** With a filter it compiles it before, which takes the time of the check at most. */
const LISTEN_TIMEOUT_WITH_FILTER_MS = CHECK_TIMEOUT_MS;
/** tcpdump answers within some milliseconds; a reader waits for all of them no longer than 1 s. */
const COUNT_MS = 700;
/** setTimeout takes no more than this (2^31 − 1 ms); a longer wait is taken in steps. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface RunningOptions {
  readonly uid: string;
  readonly fingerprint: string;
  readonly requestHash: string;
  readonly sandboxId: string;
  /** Seconds of capturing that are left of the request's duration. */
  readonly remainingSeconds: number | undefined;
  readonly tcpdump: TcpdumpOptions;
  readonly onListening: (running: Running) => void;
  /** It has ended, or its time is up: look again. */
  readonly onEnd: () => void;
}

export class Running {
  readonly uid: string;
  readonly fingerprint: string;
  /** Of the request that it serves now; another one may be served by the same process. */
  requestHash: string;
  readonly sandboxId: string;
  readonly request: CaptureRequest;
  readonly netnsPath: string | undefined;
  readonly pid: number;
  /** Resolves once it listens, or has ended before. */
  readonly begun: Promise<void>;
  /** Set once it has ended by whatever cause. */
  exit: Exit | undefined;
  /** Why we ended it although it was to go on. */
  givenUp: string | undefined;
  linkType: string | undefined;
  readonly health = new RunHealth();

  readonly #tcpdump: Tcpdump;
  readonly #folder: string;
  readonly #startedAt = performance.now();
  readonly #onEnd: () => void;
  #remainingSeconds: number | undefined;
  #listeningSince: number | undefined;
  #endedAt: number | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: RunningOptions) {
    this.uid = options.uid;
    this.fingerprint = options.fingerprint;
    this.requestHash = options.requestHash;
    this.sandboxId = options.sandboxId;
    this.request = options.tcpdump.request;
    this.netnsPath = options.tcpdump.netnsPath;
    this.#folder = dirname(options.tcpdump.file);
    this.#tcpdump = new Tcpdump(options.tcpdump);
    this.pid = this.#tcpdump.pid;
    this.#onEnd = options.onEnd;
    this.#remainingSeconds = options.remainingSeconds;
    this.begun = this.#tcpdump.listening.then((linkType) => {
      this.linkType = linkType;
      this.#listeningSince = performance.now();
      this.endAfter(this.#remainingSeconds);
      options.onListening(this);
    }, () => {});
    void this.#tcpdump.exited.then((exit) => {
      this.exit = exit;
      this.#endedAt = performance.now();
      clearTimeout(this.#timer);
      options.onEnd();
    });
  }

  get counters() {
    return this.#tcpdump.counters;
  }

  /** Seconds of capturing, by the monotonic clock. */
  get seconds(): number {
    return this.#listeningSince === undefined
      ? 0
      : ((this.#endedAt ?? performance.now()) - this.#listeningSince) / 1000;
  }

  /** Milliseconds since it was started. */
  get livedMs(): number {
    return (this.#endedAt ?? performance.now()) - this.#startedAt;
  }

  get isListening(): boolean {
    return this.#tcpdump.isListening && this.exit === undefined;
  }

  flushBuffer(): Promise<void> {
    return this.#tcpdump.flushBuffer();
  }

  /** Asks for counters of now. @returns whether they are there; it does not wait for a tcpdump that hangs. */
  countNow(): Promise<boolean> {
    return settlesWithin(COUNT_MS, this.#tcpdump.countNow());
  }

  kill(): Promise<Exit> {
    return this.#tcpdump.kill();
  }

  flush(blockMs?: number): Promise<Exit> {
    return this.#tcpdump.flush(blockMs);
  }

  /** Ends it at once, for another to take its place. */
  giveUp(why: string): void {
    this.givenUp = why;
    void this.kill();
  }

  /** Whether what it writes goes to a file that somebody has deleted. */
  writesToDeletedFile(): Promise<boolean> {
    return hasDeletedFile(this.pid, this.#folder);
  }

  /** Why this process will never do its work again, if so. */
  async hopeless(): Promise<string | undefined> {
    if (this.exit) return undefined;
    if (this.#listeningSince === undefined) {
      const patience = this.request.filter === undefined ? LISTEN_TIMEOUT_MS : LISTEN_TIMEOUT_WITH_FILTER_MS;
      return this.livedMs > patience || (this.livedMs > STOPPED_AFTER_MS && await isStopped(this.pid))
        ? "tcpdump did not begin to listen"
        : undefined;
    }
    const since = this.#tcpdump.unansweredSince;
    const silentMs = since === undefined ? 0 : performance.now() - since;
    if (silentMs > HUNG_AFTER_MS) return `tcpdump has not answered for ${Math.round(silentMs / 1000)} s`;
    if (silentMs > STOPPED_AFTER_MS && !this.#tcpdump.isFlushing && await isStopped(this.pid)) {
      return "tcpdump was stopped by a signal";
    }
    return undefined;
  }

  /** Says that its time is up after so many seconds of capturing from now; undefined: never. */
  endAfter(seconds: number | undefined): void {
    clearTimeout(this.#timer);
    this.#remainingSeconds = seconds;
    if (seconds === undefined || this.exit || this.#listeningSince === undefined) return;
    const until = performance.now() + seconds * 1000;
    const wait = () => {
      const left = until - performance.now();
      if (left <= 0) this.#onEnd();
      else this.#timer = setTimeout(wait, Math.min(left + 1, LONGEST_TIMER_MS));
    };
    wait();
  }
}
