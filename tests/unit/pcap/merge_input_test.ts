import { deepStrictEqual as assertEquals, strictEqual as same } from "node:assert/strict";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { MergeInput, putStatistics } from "../../../src/pcap/merge_input.ts";
import {
  commentOption,
  interfaceDescription,
  interfaceStatistics,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
} from "../../../src/pcap/pcapng_blocks.ts";
import type { Counters } from "../../../src/pcap/writer.ts";
import { concat } from "../reading/files.ts";

function packet(seconds: number, nanos: number, id = 0, options?: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PACKET_BLOCK_BYTES + 100);
  const data = { bytes: Uint8Array.of(7), start: 0, captured: 1, original: 1, seconds, nanos };
  return bytes.slice(0, putPacketBlock(bytes, new DataView(bytes.buffer), 0, data, id, 9, options));
}

const described = (name: string) => interfaceDescription({ name, linkType: 1, snaplen: 9, digits: 9 }, [`of ${name}`]);
const input = (...blocks: Uint8Array[]) =>
  new MergeInput(new MemorySource(concat(sectionHeader({ application: "test" }), described("a"), ...blocks)));

/** A writer that writes down what it is given, and numbers interfaces from 10. */
class Writer {
  readonly interfaces: [name: string | undefined, comments: readonly string[]][] = [];
  readonly packets: [seconds: number, to: number, options: number | undefined][] = [];
  counters: readonly Counters[] = [];

  addInterface({ name }: { name?: string }, comments: readonly string[]): Promise<number> {
    return Promise.resolve(9 + this.interfaces.push([name, comments]));
  }

  add({ seconds }: { seconds: number }, to: number, options?: Uint8Array): void {
    this.packets.push([seconds, to, options?.length]);
  }

  statistics(counters: readonly Counters[]): Promise<void> {
    return Promise.resolve(void (this.counters = counters));
  }

  get output(): never {
    return this as never;
  }
}

Deno.test("MergeInput stays at a packet until it is handed on", async () => {
  const one = input(packet(1, 0), packet(2, 0));
  const writer = new Writer();
  assertEquals([one.look(), one.look(), one.reader.seconds], [true, true, 1]);
  await one.addInterfaces(writer.output);
  one.addPacket(writer.output);
  assertEquals([one.look(), one.reader.seconds], [true, 2]);
  one.addPacket(writer.output);
  assertEquals([one.look(), one.look()], [false, false]);
});

Deno.test("MergeInput reports which packet is older, to the nanosecond, and of equal ones that neither is", () => {
  const at = (seconds: number, nanos: number) => {
    const one = input(packet(seconds, nanos));
    one.look();
    return one;
  };
  const sorted = [at(1, 5), at(2, 4), at(2, 5)];
  for (const [i, one] of sorted.entries()) {
    assertEquals(sorted.map((other) => one.isBefore(other)), sorted.map((_, j) => i < j));
  }
});

Deno.test("MergeInput makes each interface known once, with what is said of the whole at the first one", async () => {
  const one = input(packet(1, 0), described("b"), described("c"), packet(2, 0, 2, commentOption("mark")));
  const writer = new Writer();
  same(one.hasNewInterface, false);
  one.look();
  same(one.hasNewInterface, true);
  await one.addInterfaces(writer.output, ["whole"]);
  same(one.hasNewInterface, false);
  one.addPacket(writer.output);
  one.look();
  same(one.hasNewInterface, true);
  await one.addInterfaces(writer.output, ["whole"]);
  one.addPacket(writer.output);
  assertEquals(writer.interfaces, [["a", ["whole", "of a"]], ["b", ["of b"]], ["c", ["of c"]]]);
  assertEquals(writer.packets, [[1, 10, undefined], [2, 12, 12]]);
});

Deno.test("putStatistics() gives each interface's counters by its number, as far as they are known", async () => {
  const counted = interfaceStatistics(1, 9, { received: 5, dropped: 2, delivered: 1, comments: ["remark"] });
  const [one, two] = [input(described("b"), counted), input(packet(1, 0))];
  const writer = new Writer();
  two.look();
  // Not known to the writer: nothing is said of it.
  assertEquals(one.counters(), []);
  one.look();
  await two.addInterfaces(writer.output);
  await one.addInterfaces(writer.output);
  assertEquals(writer.interfaces, [["a", ["of a"]], ["a", ["of a"]], ["b", ["of b"]]]);
  await putStatistics([one, two], writer.output);
  const unknown = { received: undefined, dropped: undefined, comments: [] };
  assertEquals(writer.counters, [unknown, unknown, { received: 5, dropped: 2, comments: ["remark"] }]);
  await putStatistics([two], writer.output);
  assertEquals(writer.counters, [unknown]);
  const three = input();
  three.look();
  await three.addInterfaces(writer.output);
  await three.addInterfaces(writer.output);
  assertEquals(three.counters(), [[13, unknown]]);
});
