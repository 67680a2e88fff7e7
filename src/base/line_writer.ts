/** Lines to standard error that nobody waits for: a reader that has stopped reading must not stop the program. */
import { settledWithin } from "./timeout.ts";

/** UTF-16 units of the lines that wait to be written; what comes beyond that is dropped and counted. */
const MOST_WAITING = 512 * 1024;

export interface LineWriterOptions {
  /** Writes some of the bytes. @returns how many. */
  readonly write: (bytes: Uint8Array) => Promise<number>;
  /** The line that reports how many lines were dropped. */
  readonly dropped: (lines: number) => string;
}

/** Writes lines one after the other, in the background. */
export class LineWriter {
  readonly #options: LineWriterOptions;
  #waiting: string[] = [];
  #size = 0;
  #dropped = 0;
  #writing: Promise<void> | undefined;

  constructor(options: LineWriterOptions) {
    this.#options = options;
  }

  /** @param line without its end. */
  add(line: string): void {
    if (this.#size + line.length > MOST_WAITING) {
      this.#dropped++;
      return;
    }
    this.#waiting.push(line);
    this.#size += line.length;
    this.#writing ??= this.#write();
  }

  /** Waits until all lines are written, but no longer than `ms` milliseconds. */
  async flush(ms: number): Promise<void> {
    await settledWithin(ms, this.#writing ?? Promise.resolve());
  }

  async #write(): Promise<void> {
    while (this.#waiting.length > 0) {
      const lines = this.#waiting;
      // They were dropped after all that has waited.
      if (this.#dropped > 0) lines.push(this.#options.dropped(this.#dropped));
      this.#waiting = [];
      this.#size = this.#dropped = 0;
      let rest = new TextEncoder().encode(lines.join("\n") + "\n");
      try {
        while (rest.length > 0) rest = rest.subarray(await this.#options.write(rest));
      } catch {
        // Nobody reads any more: that must not end captures.
      }
    }
    this.#writing = undefined;
  }
}
