/** Cuts a stream of bytes into lines, each as soon as it is whole, keeping only the line that is not. */

/**
 * An object is at most 1.5 MiB in etcd (its default request limit); JSON and the event around it do not make 16 of it. A line
 * that is longer comes from something else than an API server.
 */
const LONGEST_LINE = 16 * 1024 * 1024;

const NEWLINE = 10;

export class LineSplitter {
  readonly #decoder = new TextDecoder();
  /** Pieces of the line that is not whole yet. */
  #pieces: Uint8Array[] = [];
  #size = 0;

  /** Bytes of the last line, which no newline has ended yet. */
  get rest(): number {
    return this.#size;
  }

  /**
   * The lines that end in this chunk, without their newlines; empty ones are left out.
   * @throws {RangeError} when a line is longer than 16 MiB.
   */
  *take(chunk: Uint8Array): Generator<string> {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      const piece = chunk.subarray(from, end);
      from = end + 1;
      const line = this.#size === 0 ? piece : this.#join(piece);
      if (line.length > 0) yield this.#decoder.decode(line);
    }
    if (from < chunk.length) this.#keep(chunk.subarray(from));
  }

  #keep(piece: Uint8Array): void {
    this.#size += piece.length;
    if (this.#size > LONGEST_LINE) throw new RangeError(`a line is longer than ${LONGEST_LINE} bytes`);
    this.#pieces.push(piece);
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
