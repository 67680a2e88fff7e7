/** Errors that end a command early: one sentence for the user, and the exit code that goes with it. */

/** A failure: exit 1. The message is one sentence without a final period; terminal.ts makes it safe to show. */
export class Failure extends Error {
  override readonly name: string = "Failure";
  readonly exitCode: number = 1;
}

/** The command line asks for something that cannot be: exit 2. */
export class UsageFailure extends Failure {
  override readonly name = "UsageFailure";
  override readonly exitCode = 2;
}

/** The user ended the command (Ctrl-C, SIGTERM): exit 130 as a shell reports it, without a message. */
export class Interrupted extends Failure {
  override readonly name = "Interrupted";
  override readonly exitCode = 130;
  constructor() {
    super("Interrupted");
  }
}
