/** One of the captures that are merged: its packets, one after the other, and its interfaces' numbers in the merged one. */
import type { ByteSource } from "./bytes.ts";
import { PcapngReader } from "./pcapng.ts";
import type { Counters, PacketWriter } from "./writer.ts";

export class MergeInput {
  readonly reader: PcapngReader;
  /** The writer's number of each of the reader's interfaces that it has written. */
  readonly #numbers: number[] = [];
  #hasPacket = false;

  /** @param buffer bytes read at a time. */
  constructor(source: ByteSource, options: { readonly buffer?: number } = {}) {
    this.reader = new PcapngReader(source, options);
  }

  /** Goes on to the next packet, unless it stands at one. @returns whether it stands at one. */
  look(): boolean {
    return this.#hasPacket ||= this.reader.next();
  }

  /** Returns whether its packet is older than another's. */
  isBefore(another: MergeInput): boolean {
    const own = this.reader, other = another.reader;
    return own.seconds < other.seconds || (own.seconds === other.seconds && own.nanos < other.nanos);
  }

  /** Whether the writer does not know all of its interfaces. */
  get hasNewInterface(): boolean {
    return this.#numbers.length < this.reader.interfaces.length;
  }

  /** Makes its new interfaces known. @param comments for the first of all of them, before its own. */
  async addInterfaces(output: PacketWriter, comments: readonly string[] = []): Promise<void> {
    for (const described of this.reader.interfaces.slice(this.#numbers.length)) {
      const first = this.#numbers.length === 0 ? comments : [];
      this.#numbers.push(await output.addInterface(described, [...first, ...described.comments]));
    }
  }

  /** Hands the packet at which it stands to the writer, which must know its interface. */
  addPacket(output: PacketWriter): void {
    const { bytes, optionsStart, optionsEnd, interface: from } = this.reader;
    const options = optionsEnd > optionsStart ? bytes.subarray(optionsStart, optionsEnd) : undefined;
    output.add(this.reader, this.#numbers[from]!, options);
    this.#hasPacket = false;
  }

  /** Returns its counters, by the writer's numbers, as far as they have come. */
  counters(): (readonly [number: number, counters: Counters])[] {
    return this.#numbers.map((number, i) => {
      const { received, dropped, comments = [] } = this.reader.interfaces[i]?.statistics ?? {};
      return [number, { received, dropped, comments }] as const;
    });
  }
}

/** Writes the statistics of all inputs, which end the file. */
export async function putStatistics(inputs: readonly MergeInput[], output: PacketWriter): Promise<void> {
  const counters = inputs.flatMap((input) => input.counters()).sort(([a], [b]) => a - b);
  await output.statistics(counters.map(([, each]) => each));
}
