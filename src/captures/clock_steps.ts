/** Notices when the wall clock is set: it then runs apart from the monotonic one, which nothing sets. */
import type { ClockStep } from "../store/manifest.ts";

/** Less is what a clock is slewed by, or what passes between the two looks at it on a busy machine. */
const LEAST_SECONDS = 1;
/** So many of a run are remembered. */
const MOST = 20;

export class ClockSteps {
  #offset = offset();

  /** Returns the step since the last look, if there was one. */
  look(): ClockStep | undefined {
    const now = offset();
    const seconds = (now - this.#offset) / 1000;
    this.#offset = now;
    return Math.abs(seconds) < LEAST_SECONDS ? undefined : { at: new Date().toISOString(), seconds };
  }
}

/** Returns the steps of a run with one more. */
export function withStep(steps: readonly ClockStep[] = [], step: ClockStep): ClockStep[] {
  return [...steps, step].slice(-MOST);
}

function offset(): number {
  return Date.now() - performance.now();
}
