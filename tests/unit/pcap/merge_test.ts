import { deepStrictEqual as assertEquals, match, rejects, strictEqual as same } from "node:assert/strict";
import fc from "fast-check";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { mergeCaptures, type MergeOptions } from "../../../src/pcap/merge.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { PacketWriter } from "../../../src/pcap/writer.ts";
import {
  commentOption,
  interfaceDescription,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
} from "../../../src/pcap/pcapng_blocks.ts";
import { mergeLive } from "../../../src/pcap/live_merge.ts";
import { concat } from "../reading/files.ts";

/** A pcapng file with packets of one byte, at the given milliseconds. */
async function source(
  name: string,
  times: readonly number[],
  { linkType = 276, digits = 6 as 6 | 9, comment = `of ${name}`, snaplen = 100 } = {},
) {
  const parts: Uint8Array[] = [];
  const writer = new PacketWriter({ write: (bytes) => Promise.resolve(void parts.push(bytes.slice())) });
  await writer.begin({ application: "test", comments: [comment] }, [{ linkType, snaplen, digits }]);
  await writer.addInterface({ name, linkType, snaplen, digits });
  for (const time of times) {
    writer.add({
      bytes: Uint8Array.of(time),
      start: 0,
      captured: 1,
      original: 1,
      seconds: Math.floor(time / 1000),
      nanos: time % 1000 * 1e6,
    }, 0);
  }
  await writer.flush();
  await writer.statistics([{ received: 100, dropped: 5, comments: [`remark of ${name}`] }]);
  return { name, source: new MemorySource(concat(...parts)) };
}

async function merge(sources: Parameters<typeof mergeCaptures>[0], options: Partial<MergeOptions> = {}) {
  const parts: Uint8Array[] = [];
  const write = (bytes: Uint8Array) => Promise.resolve(void parts.push(bytes.slice()));
  const merged = await mergeCaptures(sources, { write, application: "merger", ...options });
  return { merged, bytes: concat(...parts) };
}

Deno.test("mergeCaptures() writes every packet once, in order of time, each with its pod's interface", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.array(fc.nat(100_000), { maxLength: 30 }), { minLength: 1, maxLength: 12 }),
      async (all) => {
        const sorted = all.map((times) => times.toSorted((a, b) => a - b));
        const { merged, bytes } = await merge(
          await Promise.all(sorted.map((times, i) => source(`ns/pod-${i}@node`, times))),
        );
        const reader = new PcapngReader(new MemorySource(bytes));
        const got: [number, string][] = [];
        while (reader.next()) {
          got.push([reader.seconds * 1000 + reader.nanos / 1e6, reader.interfaces[reader.interface]!.name!]);
        }
        const wanted = sorted.flatMap((times, i) => times.map((time): [number, string] => [time, `ns/pod-${i}@node`]));
        const byTimeAndName = (a: [number, string], b: [number, string]) => a[0] - b[0] || (a[1] < b[1] ? -1 : 1);
        assertEquals(got.map(([time]) => time), wanted.map(([time]) => time).sort((a, b) => a - b));
        assertEquals(got.sort(byTimeAndName), wanted.sort(byTimeAndName));
        same(merged.packets, wanted.length);
        // Also pods without packets have their interface.
        assertEquals(reader.interfaces.map(({ name }) => name), sorted.map((_, i) => `ns/pod-${i}@node`));
        assertEquals(
          reader.interfaces.map(({ statistics }) => statistics?.delivered),
          sorted.map(({ length }) => length),
        );
      },
    ),
  );
});

Deno.test("mergeCaptures() keeps counters and comments, its own comments first", async () => {
  const { bytes } = await merge([await source("a", [1]), await source("b", [2])], { comments: ["mine"] });
  const reader = new PcapngReader(new MemorySource(bytes));
  while (reader.next());
  assertEquals(reader.comments, ["mine", "of a", "of b"]);
  assertEquals(reader.interfaces.map(({ statistics }) => statistics), [
    { received: 100, dropped: 5, delivered: 1, comments: ["remark of a"] },
    { received: 100, dropped: 5, delivered: 1, comments: ["remark of b"] },
  ]);
  same(reader.statisticsBeforeEnd, false);
});

Deno.test("mergeCaptures() reports which source is cut or is no capture, and merges the rest", async () => {
  const cut = await source("cut", [1, 2, 3]);
  const bytes = new Uint8Array(10_000);
  const length = cut.source.read(bytes);
  const { merged } = await merge([
    { name: "cut", source: new MemorySource(bytes.subarray(0, length - 130)) },
    { name: "other", source: new MemorySource(new TextEncoder().encode("something else")) },
    await source("whole", [1, 2]),
  ]);
  same(merged.notes.length, 2);
  assertEquals(merged.notes.map((note) => note.split(" ")[0]), ["cut", "other"]);
  same(merged.packets >= 4, true);
});

Deno.test("mergeCaptures() writes pcap of one link type with the finest resolution, and refuses two", async () => {
  const { bytes } = await merge([await source("a", [3]), await source("b", [1, 2], { digits: 9 })], { format: "pcap" });
  const reader = new PcapReader(new MemorySource(bytes));
  const times: number[] = [];
  while (reader.next()) times.push(reader.nanos / 1e6);
  assertEquals(times, [1, 2, 3]);
  same(reader.header?.digits, 9);
  await rejects(
    async () => await merge([await source("a", [1]), await source("b", [1], { linkType: 1 })], { format: "pcap" }),
    /link types LINUX_SLL2 and EN10MB as pcap: a pcap file has one link type/,
  );
});

/** Comments of so many bytes in all, as a packet's options. */
function comments(bytes: number): Uint8Array {
  const each = commentOption("x".repeat(50_000)).subarray(0, -4);
  return concat(...Array.from({ length: Math.ceil(bytes / each.length) }, () => each), commentOption("the last"));
}

/** A pcapng file whose packets, one every millisecond, have options of these sizes. */
function large(sizes: readonly number[], late: boolean): Uint8Array {
  const packets = sizes.map((size, i) => {
    const options = size === 0 ? new Uint8Array() : comments(size);
    const bytes = new Uint8Array(PACKET_BLOCK_BYTES + 4 + options.length);
    const time = late ? timeOf(i) : i;
    const packet = { bytes: bytesOf(i), start: 0, captured: 4, original: 4, seconds: 1000, nanos: (time + 2) * 1e6 };
    return bytes.subarray(0, putPacketBlock(bytes, new DataView(bytes.buffer), 0, packet, 0, 6, options));
  });
  return concat(
    sectionHeader({ application: "test" }),
    interfaceDescription({ name: "a", linkType: 1, snaplen: 100, digits: 6 }),
    ...packets,
  );
}

/** Milliseconds at which a packet was captured if every other one comes late. */
function timeOf(i: number): number {
  return i % 2 === 1 ? i - 1.5 : i;
}

function bytesOf(number: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

/** Of each packet of a pcapng file, in order: its number, and how many bytes of options it has. */
function numbersIn(file: Uint8Array): [number, number][] {
  const reader = new PcapngReader(new MemorySource(file));
  const found: [number, number][] = [];
  while (reader.next()) {
    const { bytes, start } = reader;
    found.push([new DataView(bytes.buffer).getUint32(start), reader.optionsEnd - reader.optionsStart]);
  }
  assertEquals(reader.loss.bytes, 0);
  return found;
}

const LARGE = [0, 600_000, 0, 0, 1_900_000, 0, 524_200, 524_288, 600_000, 1_200_000, 0, 600_000];

for (const late of [false, true]) {
  Deno.test(`mergeCaptures() takes a packet with any options that a block may have${late ? ", also a late one" : ""}`, async () => {
    const file = large(LARGE, late);
    const sent = numbersIn(file);
    const sorted = late ? sent.toSorted((a, b) => timeOf(a[0]) - timeOf(b[0])) : sent;
    const { merged, bytes } = await merge([{ name: "a", source: new MemorySource(file) }]);
    assertEquals(merged, { packets: LARGE.length, notes: [], remarks: [] });
    assertEquals(numbersIn(bytes), sorted);
    const { bytes: pcap } = await merge([{ name: "a", source: new MemorySource(file) }], { format: "pcap" });
    same(pcap.length, 24 + LARGE.length * 20);
  });
}

Deno.test("mergeLive() takes blocks that are longer than what it takes ahead", async () => {
  const file = large(LARGE, false);
  const parts: Uint8Array[] = [];
  const stream = ReadableStream.from((function* () {
    for (let at = 0; at < file.length; at += 65_536) yield file.slice(at, at + 65_536);
  })());
  const done = mergeLive([stream], {
    application: "test",
    write: (bytes) => Promise.resolve(void parts.push(bytes.slice())),
    ended: (_, error) => same(error, undefined),
  });
  let timer: ReturnType<typeof setTimeout> | undefined;
  const hangs = new Promise((_, reject) => timer = setTimeout(() => reject(new Error("it hangs")), 10_000));
  await Promise.race([done, hangs]).finally(() => clearTimeout(timer));
  assertEquals(numbersIn(concat(...parts)), numbersIn(file));
});

Deno.test("mergeCaptures() writes pcap of one link type although another source had interfaces of another, without packets", async () => {
  const { bytes, merged } = await merge([await source("a", [], { linkType: 1 }), await source("b", [1, 2])], {
    format: "pcap",
  });
  const reader = new PcapReader(new MemorySource(bytes));
  let packets = 0;
  while (reader.next()) packets++;
  assertEquals([packets, reader.header?.linkType, merged.remarks], [2, 276, []]);
  const none = await merge([await source("a", [], { linkType: 1 })], { format: "pcap" });
  same(none.bytes.length, 24);
});

Deno.test("mergeCaptures() gives all interfaces the largest snaplen and reports the real ones, and mixed link types", async () => {
  const sources = [await source("a", [1], { snaplen: 64 }), await source("b", [2], { snaplen: 0 })];
  const { bytes, merged } = await merge(sources);
  const reader = new PcapngReader(new MemorySource(bytes));
  while (reader.next());
  const real = "snaplen 64: at most so many bytes of each packet were kept";
  assertEquals(reader.interfaces.map(({ snaplen, comments }) => [snaplen, comments]), [[262_144, [real]], [
    262_144,
    [],
  ]]);
  assertEquals(merged.remarks, []);
  // What has been merged before keeps what was said of it.
  const again = await merge([{ name: "ab", source: new MemorySource(bytes) }, await source("c", [3], { linkType: 1 })]);
  const second = new PcapngReader(new MemorySource(again.bytes));
  while (second.next());
  const mixed = /^the packets have the link types LINUX_SLL2 and EN10MB: Wireshark reads/;
  assertEquals(second.interfaces[0]?.comments, [real]);
  match(second.interfaces[2]!.comments.at(-1)!, mixed);
  match(second.comments[0]!, mixed);
  match(again.merged.remarks.join(), mixed);
});

Deno.test("mergeCaptures() stops when aborted", async () => {
  const many = { name: "a", source: new MemorySource(concat(FRONT, ofLargePackets(30))) };
  await rejects(merge([many], { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
});

/** A section and an interface, and a packet of one byte at so many milliseconds. */
const FRONT = concat(sectionHeader({ application: "test" }), described("a"));
function described(name: string): Uint8Array {
  return interfaceDescription({ name, linkType: 1, snaplen: 100, digits: 6 });
}
function packetAt(millis: number, id = 0): Uint8Array {
  const bytes = new Uint8Array(PACKET_BLOCK_BYTES + 4);
  const packet = { bytes: Uint8Array.of(millis), start: 0, captured: 1, original: 1, seconds: 1, nanos: millis * 1e6 };
  return bytes.subarray(0, putPacketBlock(bytes, new DataView(bytes.buffer), 0, packet, id, 6));
}

Deno.test("mergeCaptures() reports for each source in a sentence what of it cannot be read", async () => {
  const sources = [
    { name: "whole", source: new MemorySource(concat(FRONT, packetAt(1))) },
    { name: "cut", source: new MemorySource(concat(FRONT, packetAt(2), new Uint8Array(5))) },
    { name: "torn", source: new MemorySource(concat(FRONT, packetAt(3), new Uint8Array(1))) },
    { name: "another", source: new MemorySource(new TextEncoder().encode("something else")) },
    { name: "empty", source: new MemorySource(new Uint8Array()) },
  ];
  const { merged, bytes } = await merge(sources);
  assertEquals(merged, {
    packets: 3,
    notes: [
      "cut is cut or damaged: 5 bytes of it cannot be read",
      "torn is cut or damaged: 1 byte of it cannot be read",
      "another is not a pcapng file",
    ],
    remarks: [],
  });
  const reader = new PcapngReader(new MemorySource(bytes));
  same(reader.next(), true);
  assertEquals([reader.application, reader.comments], ["merger", []]);
});

Deno.test("mergeCaptures() takes interfaces wherever they are described, and gives each a number", async () => {
  const one = concat(FRONT, packetAt(1), described("b"), packetAt(3, 1), packetAt(4), described("c"));
  const { bytes, merged } = await merge([
    { name: "one", source: new MemorySource(one) },
    { name: "two", source: new MemorySource(concat(FRONT, packetAt(2), packetAt(5))) },
    { name: "none", source: new MemorySource(concat(FRONT, described("d"))) },
  ]);
  const reader = new PcapngReader(new MemorySource(bytes));
  const packets: [number, string][] = [];
  while (reader.next()) packets.push([reader.bytes[reader.start]!, reader.interfaces[reader.interface]!.name!]);
  assertEquals(packets, [[1, "a"], [2, "a"], [3, "b"], [4, "a"], [5, "a"]]);
  assertEquals(reader.interfaces.map(({ name, packets }) => [name, packets]), [
    ["a", 2],
    ["a", 2],
    ["a", 0],
    ["d", 0],
    ["b", 1],
    ["c", 0],
  ]);
  assertEquals(reader.interfaces.map(({ statistics }) => statistics?.delivered), [2, 2, 0, 0, 1, 0]);
  same(merged.packets, 5);
});

Deno.test("mergeCaptures() writes while it reads, and is not stopped by a signal that is not aborted", async () => {
  const large = concat(FRONT, ofLargePackets(60));
  let read = 0, first = 0;
  const source = new MemorySource(large);
  const counted = {
    read(into: Uint8Array) {
      first ||= into.length;
      const n = source.read(into);
      read += n;
      return n;
    },
  };
  const seen: number[] = [];
  const { signal } = new AbortController();
  await mergeCaptures([{ name: "a", source: counted }], {
    application: "merger",
    signal,
    write: (bytes) => Promise.resolve(void (bytes.length > 400_000 && seen.push(read))),
  });
  // It reads 64 KiB at first, and holds 2 MiB back: four chunks of two packets.
  same(first, 65_536);
  assertEquals([seen[0]! > 1_700_000, seen[0]! < large.length], [true, true], String(seen[0]));
});

/** So many packets of 200 kB each. */
function ofLargePackets(count: number): Uint8Array {
  const size = 200_000;
  const bytes = new Uint8Array(PACKET_BLOCK_BYTES + size);
  const packet = { bytes: new Uint8Array(size), start: 0, captured: size, original: size, seconds: 2, nanos: 0 };
  const block = bytes.subarray(0, putPacketBlock(bytes, new DataView(bytes.buffer), 0, packet, 0, 6));
  return concat(...Array.from({ length: count }, () => block));
}
