/**
 * Schedule of the calls to the runtime, and whether they ask for a whole list. All times are milliseconds of
 * performance.now().
 */

import { backoffMs } from "../base/backoff.ts";

/** Poll while a capture runs or is wanted, and the longest otherwise: two of them fit in the 30 s of /readyz. */
const URGENT_POLL_MS = 1_000;
const IDLE_POLL_MS = 15_000;
/** A poll lists all sandboxes even if nothing has happened, after as long. */
const FULL_POLL_MS = 60_000;

/** Pauses between calls after a netns was made: they are a twentieth of the time waited so far, within these limits. */
const SHORTEST_PAUSE_MS = 5;
const LONGEST_PAUSE_MS = 250;
/** The most that is rested for twice the time that the last look took. */
const LONGEST_REST_MS = 50;
/** Milliseconds after a netns was made in which its sandbox is waited for like that: slow CNI plugins take seconds. */
const EXPECTED_WITHIN_MS = 30_000;

/** A failing runtime is asked again after 100 ms, twice that … up to this. */
const FIRST_BACKOFF_MS = 100;
const URGENT_BACKOFF_MS = 1_000;
const IDLE_BACKOFF_MS = 5_000;

export class PollSchedule {
  readonly #longestPollMs: number;
  #urgent = false;
  /** Grows from look to look while nothing happens. */
  #pollMs = URGENT_POLL_MS;
  /** Looks that failed after the last that did not. */
  #failures = 0;
  /**
   * Names of netns files that are not those of a known sandbox (yet) → when they were seen first. Those that never become one,
   * made by other tools, stay in it, so that they are waited for only once.
   */
  readonly #expected = new Map<string, number>();
  /** End of the last whole list, and of the last look of any kind. */
  #listedAt = -Infinity;
  #lookedAt = -Infinity;
  #lookMs = 0;

  constructor(longestPollMs = IDLE_POLL_MS) {
    this.#longestPollMs = longestPollMs;
  }

  /** Sets whether it is urgent. @returns false: it was so already. */
  setUrgent(on: boolean): boolean {
    if (on === this.#urgent) return false;
    this.#urgent = on;
    this.changed();
    return true;
  }

  /** Notes a change: there may be more to come. */
  changed(): void {
    this.#pollMs = URGENT_POLL_MS;
  }

  /** Makes the next look due at once. */
  hurry(): void {
    this.changed();
    this.#lookedAt = -Infinity;
  }

  /**
   * Expects a sandbox for a netns file that was made, or that belongs to no known one. The runtime is up, so a
   * back-off ends.
   */
  expect(name: string, now: number): void {
    if (this.#expected.has(name)) return;
    this.#expected.set(name, now);
    this.#failures = 0;
  }

  /** Ends the wait for a netns file that belongs to a known sandbox now, or is removed. */
  settle(name: string): void {
    this.#expected.delete(name);
  }

  /** Drops the files that were there before `now`, but for `names`. */
  retain(names: ReadonlySet<string>, now: number): void {
    for (const [name, seenAt] of this.#expected) if (seenAt < now && !names.has(name)) this.#expected.delete(name);
  }

  /** Notes that a look has ended. "pinged": it found no more than that the runtime answers. */
  looked(startedAt: number, now: number, outcome: "listed" | "pinged" | "failed"): void {
    this.#lookedAt = now;
    this.#lookMs = now - startedAt;
    this.#failures = outcome === "failed" ? this.#failures + 1 : 0;
    if (outcome !== "listed") return;
    this.#listedAt = now;
    this.#pollMs = Math.min(this.#pollMs * 2, this.#longestPollMs);
  }

  /** Returns when to look next, jittered; `askAts` are the times at which single sandboxes are looked up. */
  due(now: number, askAts: readonly number[]): number {
    if (this.#failures > 0) {
      const mostMs = this.#urgent ? URGENT_BACKOFF_MS : IDLE_BACKOFF_MS;
      return this.#lookedAt + backoffMs(this.#failures, { firstMs: FIRST_BACKOFF_MS, mostMs });
    }
    let pause = (this.#urgent ? URGENT_POLL_MS : this.#pollMs) * (0.9 + Math.random() * 0.1);
    for (const seenAt of this.#waitedFor(now)) {
      pause = Math.min(pause, Math.max(SHORTEST_PAUSE_MS, Math.min((now - seenAt) / 20, LONGEST_PAUSE_MS)));
    }
    // However many netns are being made: no more than a third of the time is spent on asking. (A look that took very long took
    // its time in waiting, and that costs nothing.)
    const rest = Math.max(SHORTEST_PAUSE_MS, Math.min(2 * this.#lookMs, LONGEST_REST_MS));
    return Math.max(Math.min(this.#lookedAt + pause, ...askAts), this.#lookedAt + rest);
  }

  /** Returns whether nothing has happened for long and nothing is waited for: a list would bring nothing new. */
  quiet(now: number, askAts: readonly number[]): boolean {
    return !this.#urgent && this.#failures === 0 && this.#pollMs >= this.#longestPollMs &&
      now - this.#listedAt < FULL_POLL_MS && this.#waitedFor(now).length === 0 && askAts.every((askAt) => askAt > now);
  }

  #waitedFor(now: number): number[] {
    return [...this.#expected.values()].filter((seenAt) => now - seenAt <= EXPECTED_WITHIN_MS);
  }
}
