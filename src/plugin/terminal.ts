/** The user's terminal, or what stands in its place. The only file that writes to stdout and stderr as text. */
import { printable } from "../base/printable.ts";
import { abortable } from "../base/timeout.ts";
import { UsageFailure } from "./failure.ts";

export interface Terminal {
  /** Prints a line of the answer, to stdout, made safe to show. */
  line(text: string): void;
  /** Prints a line about what goes on or went wrong, to stderr, made safe likewise. */
  note(text: string): void;
  /** Prints the answer as a program reads it, to stdout, as it is. */
  document(text: string): void;
  /**
   * Asks a yes-or-no question.
   *
   * @throws {UsageFailure} nobody is there to answer: standard input is no terminal.
   */
  confirm(question: string, insteadOfAsking: string, signal: AbortSignal): Promise<boolean>;
  /** Writes the question of a program of the user's own to stderr, as it is. */
  ask(text: string): void;
  /** Whether a progress bar on stderr would be seen. */
  readonly showsProgress: boolean;
  /** Whether the user can answer what is asked: standard input is a terminal. */
  readonly canAnswer: boolean;
}

export const terminal: Terminal = {
  line: (text) => write(Deno.stdout, `${printable(text)}\n`),
  note: (text) => writeIfHeard(`${printable(text)}\n`),
  ask: writeIfHeard,
  document: (text) => write(Deno.stdout, text),
  async confirm(question, insteadOfAsking, signal) {
    if (!terminal.canAnswer) {
      throw new UsageFailure(`${question} Nobody can answer (no terminal): ${insteadOfAsking}`);
    }
    write(Deno.stderr, `${printable(question)} [y/N] `);
    return /^\s*y(es)?\s*$/i.test(await readLine(signal));
  },
  get showsProgress() {
    return Deno.stderr.isTerminal();
  },
  get canAnswer() {
    return Deno.stdin.isTerminal();
  },
};

/** Writes to stderr. Where nobody listens, what is written to files and to stdout does not depend on it. */
function writeIfHeard(text: string): void {
  try {
    write(Deno.stderr, text);
  } catch (error) {
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

function write(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  let bytes = new TextEncoder().encode(text);
  while (bytes.length > 0) bytes = bytes.subarray(to.writeSync(bytes));
}

/** Reads one line from the terminal; an end of input counts as an empty line. */
async function readLine(signal: AbortSignal): Promise<string> {
  const reader = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await abortable(reader.read(), signal);
    if (done) break;
    text += value;
  }
  return text;
}
