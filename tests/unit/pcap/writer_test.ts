import {
  deepStrictEqual as assertEquals,
  ok as assert,
  rejects,
  strictEqual as same,
  throws,
} from "node:assert/strict";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import type { Interface, Packet } from "../../../src/pcap/packet.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import { commentOption, emptyBlock, interfaceStatistics, sectionHeader } from "../../../src/pcap/pcapng_blocks.ts";
import { PacketWriter, type PacketWriterOptions } from "../../../src/pcap/writer.ts";
import { concat, header } from "../reading/files.ts";

const SLL: Interface = { name: "a", linkType: 276, snaplen: 100, digits: 6 };
const ETHERNET: Interface = { name: "b", linkType: 1, snaplen: 200, digits: 9 };

/** A packet of one byte, its number, or of so many. */
function packet(number: number, millis = number, size = 1): Packet {
  const [seconds, nanos] = [Math.floor(millis / 1000), millis % 1000 * 1_000_000 + 789];
  return { bytes: new Uint8Array(size).fill(number), start: 0, captured: size, original: size, seconds, nanos };
}

/** A writer and the pieces that it has written. */
function writing(options: Partial<PacketWriterOptions> = {}) {
  const pieces: Uint8Array[] = [];
  const writer = new PacketWriter({ write: (bytes) => Promise.resolve(void pieces.push(bytes.slice())), ...options });
  return { writer, pieces };
}

/** What a reader finds in pcapng: of each packet its first byte, its interface, its nanoseconds and its comment. */
function read(pieces: readonly Uint8Array[]) {
  const reader = new PcapngReader(new MemorySource(concat(...pieces)));
  const packets: [number, number, number, string][] = [];
  while (reader.next()) {
    const options = reader.bytes.subarray(reader.optionsStart + 4, reader.optionsEnd);
    const comment = new TextDecoder().decode(options).replace(/\0+$/, "");
    packets.push([reader.bytes[reader.start]!, reader.interface, reader.nanos, comment]);
  }
  assertEquals(reader.loss, { bytes: 0, records: 0, places: 0 });
  return { reader, packets };
}

Deno.test("PacketWriter writes a section, interfaces by number, packets and what is counted of them", async () => {
  const { writer, pieces } = writing();
  await writer.begin({ application: "tool", comments: ["mine"] }, [SLL, ETHERNET]);
  assertEquals(pieces, [sectionHeader({ application: "tool", comments: ["mine"] })]);
  assertEquals([await writer.addInterface(SLL, ["first"]), await writer.addInterface(ETHERNET)], [0, 1]);
  writer.add(packet(1), 0);
  writer.add(packet(2), 1);
  writer.add(packet(3), 1, commentOption("mark"));
  same(writer.isFull, false);
  await writer.drain();
  same(pieces.length, 3);
  await writer.flush();
  same(pieces.length, 4);
  assertEquals(writer.delivered, [1, 2]);
  await writer.statistics([{ received: 5, dropped: 1, comments: ["remark"] }, {
    received: undefined,
    dropped: undefined,
  }]);
  const { reader, packets } = read(pieces);
  assertEquals(packets, [[1, 0, 1_000_000, ""], [2, 1, 2_000_789, ""], [3, 1, 3_000_789, "mark"]]);
  assertEquals(reader.interfaces.map(({ name, snaplen, digits, comments }) => [name, snaplen, digits, comments]), [
    ["a", 200, 6, ["first", "snaplen 100: at most so many bytes of each packet were kept"]],
    ["b", 200, 9, [
      "the packets have the link types LINUX_SLL2 and EN10MB: Wireshark reads such a file, tcpdump and others that use " +
      "libpcap do not",
    ]],
  ]);
  assertEquals(reader.interfaces.map(({ statistics }) => statistics), [
    { received: 5, dropped: 1, delivered: 1, comments: ["remark"] },
    { received: undefined, dropped: undefined, delivered: 2, comments: [] },
  ]);
});

Deno.test("PacketWriter gives an interface that it does not know statistics of no packets", async () => {
  const { writer, pieces } = writing();
  const { now } = Date;
  Date.now = () => 1_700_000_000_000;
  try {
    await writer.statistics([{ received: 1, dropped: 2 }]);
    await writer.addInterface(ETHERNET);
    await writer.statistics([{ received: 1, dropped: 2 }]);
    const counters = { received: 1, dropped: 2, delivered: 0 };
    assertEquals([pieces[0], pieces[2]], [interfaceStatistics(0, 6, counters), interfaceStatistics(0, 9, counters)]);
  } finally {
    Date.now = now;
  }
});

Deno.test("PacketWriter reports at a packet by how much the clock was set back before it, unless that has options of its own", async () => {
  const { writer, pieces } = writing();
  await writer.begin({ application: "tool" }, []);
  await writer.addInterface(SLL);
  for (const [number, millis] of [[1, 90_000], [2, 20_000], [3, 30_000]] as const) {
    writer.add(packet(number, millis), 0);
  }
  writer.add(packet(4, 1000), 0, commentOption("its own"));
  await writer.flush();
  assertEquals(read(pieces).packets.map(([number, , , comment]) => [number, comment]), [
    [1, ""],
    [2, "packet-capture: the clock was set back by 70.000 s before this packet"],
    [3, ""],
    [4, "its own"],
  ]);
  assertEquals(writer.disorder, { sorted: 0, unsorted: 0, steps: 2, stepSeconds: 99 });
});

Deno.test("PacketWriter makes room for a packet with its options, however full a chunk is", async () => {
  // A chunk has 524,288 bytes: the second packet would not fit into the first one's, by less than any of its parts.
  for (const [size, options] of [[262_108, undefined], [261_600, commentOption("x".repeat(500))]] as const) {
    const { writer, pieces } = writing();
    await writer.addInterface(SLL);
    writer.add(packet(1, 1, 262_144), 0);
    writer.add(packet(2, 2, size), 0, options);
    await writer.flush();
    same(pieces.length, 3, "one more for the interface");
    same(concat(...pieces.slice(1)).length, 32 + 262_144 + 32 + size + (options?.length ?? 0));
  }
});

Deno.test("PacketWriter hands on what cannot be overtaken, piece by piece and each after the one before", async () => {
  let open = 0, most = 0;
  const sizes: number[] = [];
  const { writer } = writing({
    asTheyCome: true,
    write: async (bytes) => {
      most = Math.max(most, ++open);
      const { length } = bytes;
      await Promise.resolve();
      sizes.push(length);
      open--;
    },
  });
  await writer.addInterface(SLL);
  for (let number = 0; number < 8; number++) writer.add(packet(number, number, 200_000), 0);
  same(writer.isFull, true);
  const full = sizes.length;
  await writer.drain();
  same(writer.isFull, false);
  await writer.flush();
  assertEquals([full, sizes.slice(1).map((size) => Math.floor(size / 200_000))], [1, [2, 2, 2, 2]]);
  same(most, 1);
});

Deno.test("PacketWriter fills the next chunk while the last piece is written, and fails at the next call if that fails", async () => {
  const gate = Promise.withResolvers<void>();
  let calls = 0;
  const { writer } = writing({ asTheyCome: true, write: () => ++calls === 2 ? gate.promise : Promise.resolve() });
  await writer.addInterface(SLL);
  for (let number = 0; number < 3; number++) writer.add(packet(number, number, 200_000), 0);
  await writer.drain();
  same(writer.isFull, false);
  const flushed = writer.flush();
  gate.reject(new Error("the reader has gone"));
  await rejects(flushed, /the reader has gone/);
  same(calls, 2, "nothing is written after what failed");
  await rejects(writer.addInterface(SLL), /the reader has gone/);
});

Deno.test("PacketWriter keeps an error until the next call, and its chunks for the packets to come", async () => {
  let calls = 0;
  const buffers = new Set<ArrayBufferLike>();
  const { writer } = writing({
    asTheyCome: true,
    write: (bytes) => {
      buffers.add(bytes.buffer);
      return ++calls === 30 ? Promise.reject(new Error("the reader has gone")) : Promise.resolve();
    },
  });
  await writer.addInterface(SLL);
  for (let number = 0; calls < 30; number++) {
    writer.add(packet(number % 256, number, 200_000), 0);
    await writer.drain();
  }
  // Nobody has waited for what failed: it must not end the process.
  await Deno.stat(".");
  await rejects(writer.flush(), /the reader has gone/);
  // One is filled, one is written, and the interface had its own.
  assert(buffers.size <= 4, String(buffers.size));
});

Deno.test("PacketWriter beats by statistics, or by an empty block before there is an interface", async () => {
  const { writer, pieces } = writing();
  await writer.beat([]);
  assertEquals(pieces, [emptyBlock()]);
  await writer.addInterface(SLL);
  await writer.beat([{ received: 7, dropped: 0 }]);
  assertEquals(read([sectionHeader({ application: "tool" }), ...pieces]).reader.interfaces[0]?.statistics?.received, 7);
  const pcap = writing({ format: "pcap" });
  await pcap.writer.begin({ application: "tool" }, []);
  await pcap.writer.beat([]);
  await pcap.writer.addInterface(SLL);
  await pcap.writer.beat([{ received: 7, dropped: 0 }]);
  assertEquals(pcap.pieces, []);
});

Deno.test("PacketWriter writes pcap with the first packet's link type, the finest resolution and the largest snaplen", async () => {
  const { writer, pieces } = writing({ format: "pcap", asTheyCome: true });
  await writer.begin({ application: "tool" }, [SLL, ETHERNET, SLL]);
  for (const each of [SLL, ETHERNET]) await writer.addInterface(each);
  writer.add(packet(1), 1);
  await writer.drain();
  assertEquals(pieces, [], "its header waits for packets");
  for (let number = 0; number < 3; number++) writer.add(packet(2 + number, 2, 200_000), 1, commentOption("left out"));
  await writer.drain();
  assertEquals(pieces[0], header({ linkType: 1, snaplen: 200, digits: 9 }));
  throws(() => writer.add(packet(9), 0), {
    name: "MixedLinkTypes",
    message: "Cannot write packets of the link types EN10MB and LINUX_SLL2 as pcap: a pcap file has one link type; " +
      "use the format pcapng",
  });
  await writer.statistics([{ received: 1, dropped: 1 }]);
  await writer.flush();
  const reader = new PcapReader(new MemorySource(concat(...pieces)));
  const found: number[] = [];
  while (reader.next()) found.push(reader.bytes[reader.start]!);
  assertEquals([found, reader.loss.bytes, reader.nanos, writer.delivered], [[1, 2, 3, 4], 0, 2_000_789, [0, 4]]);
});

Deno.test("PacketWriter writes a pcap header without packets too, once", async () => {
  for (
    const [interfaces, expected] of [
      [[], header({ linkType: 1, snaplen: 0 })],
      [[SLL], header({ linkType: 276, snaplen: 100 })],
    ] as const
  ) {
    const { writer, pieces } = writing({ format: "pcap" });
    await writer.begin({ application: "tool" }, interfaces);
    for (const each of interfaces) await writer.addInterface(each);
    await writer.flush();
    await writer.flush();
    assertEquals(pieces, [expected]);
  }
});
