/** Cuts a stream of bytes into lines, each as soon as it is whole, keeping only the line that is not. */

/**
 * An object is at most 1.5 MiB in etcd (its default request limit); JSON and the event around it do not make 16 of it. A line
 * that is longer comes from something else than an API server.
 */
const LONGEST_LINE = 16 * 1024 * 1024;

const NEWLINE = 10;

export interface LineSplitterOptions {
  /** Bytes of the longest line. @default 16 MiB */
  readonly longest?: number;
  /** Whether only the end of a longer one is kept, instead of throwing. @default false */
  readonly keepsEnd?: boolean;
}

export class LineSplitter {
  readonly #longest: number;
  readonly #keepsEnd: boolean;
  readonly #decoder = new TextDecoder();
  /** Pieces of the line that is not whole yet. */
  #pieces: Uint8Array[] = [];
  #size = 0;

  constructor({ longest = LONGEST_LINE, keepsEnd = false }: LineSplitterOptions = {}) {
    this.#longest = longest;
    this.#keepsEnd = keepsEnd;
  }

  /** Bytes of the last line, which no newline has ended yet. */
  get rest(): number {
    return this.#size;
  }

  /**
   * Yields the lines that end in this chunk, without their newlines.
   * @throws {RangeError} when a line is longer than the longest.
   */
  *take(chunk: Uint8Array): Generator<string> {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, end);
      from = end + 1;
      const line = this.#bounded(this.#size === 0 ? piece : this.#join(piece));
      yield this.#decoder.decode(line);
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
  }

  #keep(piece: Uint8Array): void {
    if (this.#size + piece.length <= this.#longest) {
      this.#size += piece.length;
      this.#pieces.push(piece);
      return;
    }
    const end = this.#bounded(this.#join(piece));
    this.#size = end.length;
    this.#pieces = [end];
  }

  /** Returns as much of a line as may be kept. */
  #bounded(line: Uint8Array): Uint8Array {
    if (line.length <= this.#longest) return line;
    if (!this.#keepsEnd) throw new RangeError(`a line is longer than ${this.#longest} bytes`);
    return line.slice(-this.#longest);
  }

  #join(last: Uint8Array): Uint8Array {
    const line = new Uint8Array(this.#size + last.length);
    let at = 0;
    for (const piece of this.#pieces) {
      line.set(piece, at);
      at += piece.length;
    }
    line.set(last, at);
    this.#pieces = [];
    this.#size = 0;
    return line;
  }
}

/** Reads the first line that comes. @returns undefined if the input ends before, or it is too long. */
export async function firstLine(
  input: { read(into: Uint8Array): Promise<number | null> },
  longest = LONGEST_LINE,
): Promise<string | undefined> {
  const lines = new LineSplitter({ longest });
  const bytes = new Uint8Array(1024);
  try {
    for (let n; (n = await input.read(bytes)) !== null;) {
      const [line] = lines.take(bytes.slice(0, n));
      if (line !== undefined) return line;
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}
