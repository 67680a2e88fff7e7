/** A request that cannot be carried out: one sentence for people, and the exit code that goes with it (outcome.ts). */
import { messageOf } from "../base/errors.ts";
import { EXIT } from "../spec/outcome.ts";
import type { CaptureState } from "../spec/state.ts";
import { type Io, ReaderGone } from "./io.ts";

export class Refusal extends Error {
  /** Exit code, one of outcome.ts. */
  readonly code: 1 | 2 | 3 | 4;
  /** State of the capture, if it is known. */
  readonly state: CaptureState | undefined;

  constructor(code: 1 | 2 | 3 | 4, message: string, state?: CaptureState) {
    super(message);
    this.name = "Refusal";
    this.code = code;
    this.state = state;
  }
}

/** Runs a command, and writes in one sentence why it failed. @returns its exit code. */
export async function refusing(io: Io, work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    // The reader has enough, or has failed itself: as quiet as a program that SIGPIPE ends.
    if (error instanceof ReaderGone && error.waited === undefined) return 1;
    if (io.signal.aborted) return io.refuse(EXIT.ended, "ended before all was written");
    if (error instanceof Refusal) return io.refuse(error.code, messageOf(error), error.state);
    return io.refuse(EXIT.failed, messageOf(error));
  }
}
