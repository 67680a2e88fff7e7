/** Looks at a running tcpdump every second: whether it is alive, hears anything, and keeps up. Decides nothing, and tells nobody. */
import type { Counters } from "./counters.ts";
import type { CaptureTiming } from "../timing.ts";

/** A packet that was received so long ago has been captured, or never will be: the kernel hands it over after 1 s. */
const BUFFERED_SECONDS = 2;

/** A finding about a run. */
export type Finding =
  /** The process will never do its work again. */
  | { readonly is: "hopeless"; readonly why: string }
  /** `more`: packets that were dropped since the last finding; the others are of the whole run. `isSteady`: for longer than a burst. */
  | {
    readonly is: "dropping";
    readonly more: number;
    readonly dropped: number;
    readonly received: number;
    readonly isSteady: boolean;
  }
  /** No packet came in the first `seconds`. */
  | { readonly is: "silent"; readonly seconds: number };

/** What the look needs of a run. */
export interface Patient {
  /** Seconds of capturing. */
  readonly seconds: number;
  /** The last counters that tcpdump told. */
  readonly counters: Counters | undefined;
  hopeless(): Promise<string | undefined>;
  writesToDeletedFile(): Promise<boolean>;
}

/** The health record of one run: when it was asked, and what has been found. */
export class RunHealth {
  readonly #timing: CaptureTiming["health"];
  /** Seconds of capturing when tcpdump was about to be asked for its counters, and what it had answered until then. */
  #asked: { seconds: number; counters: Counters | undefined } | undefined;
  #foundSilent = false;
  /** Packets received as of the last look, and the seconds of capturing at which they had become so many. */
  #received = { count: 0, seconds: 0 };
  /** Dropped packets as of the last finding, and performance.now() then. */
  #foundDropped = { dropped: 0, at: -Infinity };
  /** Dropped packets when tcpdump was last about to be asked, and whether they had become more since the time before. */
  #dropped = { count: 0, rose: false };
  /** They have become more two times in a row since the last finding. */
  #isSteady = false;

  constructor(timing: CaptureTiming["health"]) {
    this.#timing = timing;
  }

  /**
   * Looks at the run. It may have ended when the findings are there.
   *
   * @param ask whether tcpdump is about to be asked for its counters.
   */
  async look(run: Patient, ask: boolean): Promise<Finding[]> {
    const why = await run.hopeless() ??
      (ask && await run.writesToDeletedFile() ? "the file it wrote to was deleted" : undefined);
    if (why !== undefined) return [{ is: "hopeless", why }];
    const { counters } = run;
    if (ask) {
      if (counters !== this.#asked?.counters) this.#asked = undefined;
      this.#asked ??= { seconds: run.seconds, counters };
    }
    if (!counters) return [];
    if (counters.received !== this.#received.count) {
      this.#received = { count: counters.received, seconds: run.seconds };
    }
    return [...(ask ? this.#dropping(counters) : []), ...this.#silent(run, counters)];
  }

  /**
   * Returns whether nothing was captured, nor may still be in the kernel's buffer. Packets that come between the opening of tcpdump's
   * socket and its filter count as received, and are thrown away.
   */
  isSilent({ counters, seconds }: Pick<Patient, "counters" | "seconds">): boolean {
    const { count, seconds: since } = this.#received;
    return counters?.captured === 0 && counters.received === count &&
      (count === 0 || seconds - since > BUFFERED_SECONDS);
  }

  #dropping({ dropped, received }: Counters): Finding[] {
    const now = performance.now();
    const before = this.#dropped;
    const rose = dropped > before.count;
    this.#dropped = { count: dropped, rose };
    if (rose && before.rose) this.#isSteady = true;
    const more = dropped - this.#foundDropped.dropped;
    // It has just begun: the next look tells whether it goes on.
    if (rose && !before.rose) return [];
    if (more <= 0 || now - this.#foundDropped.at < this.#timing.droppedAgain) return [];
    const isSteady = this.#isSteady;
    this.#foundDropped = { dropped, at: now };
    this.#isSteady = false;
    return [{ is: "dropping", more, dropped, received, isSteady }];
  }

  #silent(run: Patient, counters: Counters): Finding[] {
    // Only what has been answered since says something of the time until then.
    const seconds = this.#asked && counters !== this.#asked.counters ? this.#asked.seconds : 0;
    if (!this.isSilent(run) || seconds < this.#timing.silence || this.#foundSilent) return [];
    this.#foundSilent = true;
    return [{ is: "silent", seconds }];
  }
}
