/** Shows how far downloads are: a bar on a terminal, plain lines otherwise. */
import { MultiBar } from "cli-progress";
import { formatBytes } from "../../base/format.ts";
import { printable } from "../../base/printable.ts";
import type { Terminal } from "../terminal.ts";

export interface Progress extends Disposable {
  /** Adds bytes of a pod's capture that have come; negative: they are discarded and come again. */
  add(bytes: number): void;
  /** Counts a pod's capture as fetched. */
  done(): void;
  /** Prints a line for the user. */
  note(text: string): void;
}

/** @param expectedBytes Bytes that the controllers report; undefined: not known. */
export function showProgress(to: Terminal, pods: number, expectedBytes: number | undefined): Progress {
  return to.showsProgress ? new Bar(pods, expectedBytes) : new Lines(to);
}

class Lines implements Progress {
  readonly #to: Terminal;
  constructor(to: Terminal) {
    this.#to = to;
  }
  add(): void {}
  done(): void {}
  note(text: string): void {
    this.#to.note(text);
  }
  [Symbol.dispose](): void {}
}

class Bar implements Progress {
  readonly #bars: MultiBar;
  readonly #bar: ReturnType<MultiBar["create"]>;
  readonly #pods: number;
  readonly #expected: number;
  #bytes = 0;
  #done = 0;

  constructor(pods: number, expectedBytes: number | undefined) {
    this.#pods = pods;
    this.#expected = expectedBytes ?? 0;
    const format = "[{bar}] {percentage}%  {size}  {done}/{pods} pods";
    this.#bars = new MultiBar({ format, hideCursor: true, gracefulExit: false });
    this.#bar = this.#bars.create(1, 0, {});
    this.#show();
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    this.#show();
  }

  done(): void {
    this.#done++;
    this.#show();
  }

  note(text: string): void {
    this.#bars.log(`${printable(text)}\n`);
    this.#bars.update();
  }

  [Symbol.dispose](): void {
    this.#bars.stop();
  }

  /**
   * Draws the bar. The size is an estimate, because pcapng is larger than pcap and the ring goes on: only when all
   * are done is it full.
   */
  #show(): void {
    const finished = this.#done === this.#pods;
    const total = finished ? this.#bytes : Math.max(this.#expected, this.#bytes * 1.01);
    this.#bar.setTotal(Math.max(1, total));
    this.#bar.update(finished ? Math.max(1, this.#bytes) : this.#bytes, {
      size: formatBytes(this.#bytes),
      done: this.#done,
      pods: this.#pods,
    });
  }
}
