/** Notices when the wall clock is set: it then runs apart from the monotonic one, which nothing sets. */

/** The smallest step: a clock is slewed by less, and less passes between reading the two clocks on a busy machine. */
const LEAST_SECONDS = 1;

export class ClockSteps {
  #offset = offset();

  /** Returns by how many seconds the clock was set since the last look; undefined: it was not. */
  look(): number | undefined {
    const now = offset();
    const seconds = (now - this.#offset) / 1000;
    this.#offset = now;
    return Math.abs(seconds) < LEAST_SECONDS ? undefined : seconds;
  }
}

function offset(): number {
  return Date.now() - performance.now();
}
