/** A request that cannot be carried out: one sentence for people, and the exit code that goes with it (outcome.ts). */
import type { CaptureState } from "../spec/state.ts";

export class Refusal extends Error {
  /** One of outcome.ts. */
  readonly code: 1 | 2 | 3 | 4;
  /** The capture's, if it is known. */
  readonly state: CaptureState | undefined;

  constructor(code: 1 | 2 | 3 | 4, message: string, state?: CaptureState) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.state = state;
  }
}
