import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import fc from "fast-check";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import {
  commentOption,
  interfaceDescription,
  interfaceStatistics,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
} from "../../../src/pcap/pcapng_blocks.ts";
import { concat } from "../reading/files.ts";

/** A block made by hand: its body is given in 32-bit words or bytes. */
function block(type: number, littleEndian: boolean, ...body: (number | Uint8Array)[]): Uint8Array {
  const parts = body.map((part) => typeof part === "number" ? word(part, littleEndian) : part);
  const length = 12 + parts.reduce((sum, part) => sum + part.length, 0);
  return concat(word(type, littleEndian), word(length, littleEndian), ...parts, word(length, littleEndian));
}

function word(value: number, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, littleEndian);
  return bytes;
}

function option(code: number, value: Uint8Array, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(4 + value.length + (-value.length & 3));
  new DataView(bytes.buffer).setUint16(0, code, littleEndian);
  new DataView(bytes.buffer).setUint16(2, value.length, littleEndian);
  bytes.set(value, 4);
  return bytes;
}

const text = (value: string) => new TextEncoder().encode(value);
const section = (le: boolean, ...options: Uint8Array[]) =>
  block(0x0a0d0d0a, le, 0x1a2b3c4d, le ? 0x0000_0001 : 0x0001_0000, 0xffff_ffff, 0xffff_ffff, ...options);
const description = (le: boolean, linkType: number, ...options: Uint8Array[]) => {
  const head = new Uint8Array(8);
  new DataView(head.buffer).setUint16(0, linkType, le);
  new DataView(head.buffer).setUint32(4, 96, le);
  return block(1, le, head, ...options);
};
const enhanced = (le: boolean, id: number, time: bigint, data: Uint8Array) =>
  block(
    6,
    le,
    id,
    Number(time >> 32n),
    Number(time & 0xffff_ffffn),
    data.length,
    data.length + 5,
    concat(data, new Uint8Array(-data.length & 3)),
  );

function readAll(...blocks: Uint8Array[]) {
  const reader = new PcapngReader(new MemorySource(concat(...blocks)), { buffer: 64 });
  const packets: { time: bigint; interface: number; data: Uint8Array }[] = [];
  while (reader.next()) {
    packets.push({
      time: BigInt(reader.seconds) * 1_000_000_000n + BigInt(reader.nanos),
      interface: reader.interface,
      data: reader.bytes.slice(reader.start, reader.start + reader.captured),
    });
  }
  return { reader, packets };
}

Deno.test("PcapngReader reads packets of both byte orders and any resolution, to the nanosecond", () => {
  const resolutions: [byte: number, units: bigint][] = [
    [0, 1n],
    [3, 1000n],
    [6, 1_000_000n],
    [7, 10_000_000n],
    [9, 1_000_000_000n],
    [12, 10n ** 12n],
    [0x80 | 10, 1024n],
    [0x80 | 30, 1n << 30n],
    [0x80 | 32, 1n << 32n],
  ];
  fc.assert(fc.property(
    fc.boolean(),
    fc.constantFrom(...resolutions),
    // Seconds since 1970 up to 2106, which 10^-12 s no longer fits.
    fc.bigInt(0n, 4_294_967_295n),
    fc.bigInt(0n, 999_999_999n),
    fc.uint8Array({ maxLength: 50 }),
    (le, [byte, units], seconds, nanos, data) => {
      const ticks = (seconds * 1_000_000_000n + nanos) * units / 1_000_000_000n;
      if (ticks >= 1n << 64n) return;
      const { packets } = readAll(
        section(le),
        description(le, 1, option(9, Uint8Array.of(byte), le)),
        enhanced(le, 0, ticks, data),
      );
      assertEquals(packets, [{
        time: ticks / units * 1_000_000_000n + ticks % units * 1_000_000_000n / units,
        interface: 0,
        data,
      }]);
    },
  ));
});

Deno.test("PcapngReader knows interfaces, comments and statistics, and numbers interfaces over sections", () => {
  for (const le of [true, false]) {
    const one = section(le, option(1, text("first"), le), option(1, text("second"), le), option(4, text("tool"), le));
    const filter = option(11, concat(Uint8Array.of(0), text("tcp port 80")), le);
    const count = new Uint8Array(8);
    new DataView(count.buffer).setBigUint64(0, 7n, le);
    const { reader, packets } = readAll(
      one,
      description(le, 276, option(2, text("ns/pod@node"), le), filter),
      enhanced(le, 0, 5n, Uint8Array.of(1)),
      block(5, le, 0, 0, 0, option(8, count, le), option(4, count, le), option(1, text("remark"), le)),
      section(!le),
      description(!le, 101),
      enhanced(!le, 0, 6n, Uint8Array.of(2)),
    );
    assertEquals(packets.map((packet) => packet.interface), [0, 1]);
    assertEquals(reader.comments, ["first", "second"]);
    same(reader.application, "tool");
    const [first, second] = reader.interfaces;
    assertEquals([first?.name, first?.filter, first?.linkType, first?.snaplen, first?.packets], [
      "ns/pod@node",
      "tcp port 80",
      276,
      96,
      1,
    ]);
    assertEquals(first?.statistics, { received: 7, dropped: undefined, delivered: 7, comments: ["remark"] });
    assertEquals([second?.name, second?.linkType, second?.statistics], [undefined, 101, undefined]);
    assert(reader.statisticsBeforeEnd);
  }
});

Deno.test("PcapngReader notices packets behind the statistics", () => {
  const statistics = block(5, true, 0, 0, 0);
  const packet = enhanced(true, 0, 5n, Uint8Array.of(1));
  const front = concat(section(true), description(true, 1));
  same(readAll(front, packet, statistics).reader.statisticsBeforeEnd, false);
  same(readAll(front, statistics, packet).reader.statisticsBeforeEnd, true);
  same(readAll(front, statistics, description(true, 1)).reader.statisticsBeforeEnd, true);
});

Deno.test("PcapngReader reads simple and obsolete packet blocks, and passes over what it does not know", () => {
  const data = text("abcdef");
  const padded = concat(data, new Uint8Array(2));
  const obsolete = block(2, true, 0x0003_0000, 0, 9_000_001, data.length, data.length, padded);
  const { packets, reader } = readAll(
    section(true),
    description(true, 1),
    obsolete,
    block(3, true, data.length, padded),
    block(0x0bad, true, 1, 2),
    block(4, true, 0),
  );
  assertEquals(packets, [{ time: 9_000_001_000n, interface: 0, data }, { time: 9_000_001_000n, interface: 0, data }]);
  same(reader.loss.bytes, 0);
});

Deno.test("PcapngReader goes on behind damage, and says how much is missing", () => {
  const good = [1, 2, 3].map((n) => enhanced(true, 0, BigInt(n), Uint8Array.of(n)));
  const front = concat(section(true), description(true, 1));
  const numbers = (...blocks: Uint8Array[]) => {
    const { packets, reader } = readAll(front, ...blocks);
    return [packets.map(({ data }) => data[0]), reader.loss.bytes, reader.loss.places];
  };
  assertEquals(numbers(good[0]!, new Uint8Array(100).fill(0xee), good[1]!, good[2]!), [[1, 2, 3], 100, 1]);
  const torn = enhanced(true, 0, 9n, new Uint8Array(200)).subarray(0, 77);
  assertEquals(numbers(good[0]!, torn, good[1]!, good[2]!), [[1, 2, 3], 77, 1]);
  assertEquals(numbers(good[0]!, good[1]!, torn), [[1, 2], 77, 1]);
  // An interface that was never described, and a packet longer than its block.
  assertEquals(numbers(enhanced(true, 5, 1n, Uint8Array.of(9)), good[0]!), [[1], 36, 1]);
  assertEquals(numbers(block(6, true, 0, 0, 0, 100, 100, 0), good[0]!), [[1], 36, 1]);
});

Deno.test("PcapngReader says of another file that it is none", () => {
  assert(readAll(text("this is not a capture file at all, is it")).reader.foreign);
  assert(readAll(concat(word(0x0a0d0d0a, true), word(28, true), new Uint8Array(20))).reader.foreign);
  assert(!readAll(new Uint8Array()).reader.foreign);
});

Deno.test("the block writers and PcapngReader agree, options and padding included", () => {
  fc.assert(fc.property(
    fc.constantFrom<(6 | 9)[]>(6, 9),
    fc.bigInt(0n, 4_294_967_295n),
    fc.integer({ min: 0, max: 999_999_999 }),
    fc.uint8Array({ maxLength: 70 }),
    fc.string({ unit: "grapheme" }),
    (digits, seconds, nanos, data, comment) => {
      if (digits === 6) nanos -= nanos % 1000;
      const bytes = new Uint8Array(10_000).fill(0xff);
      const options = comment === "" ? undefined : commentOption(comment);
      const packet = {
        bytes: data,
        start: 0,
        captured: data.length,
        original: data.length,
        seconds: Number(seconds),
        nanos,
      };
      const end = putPacketBlock(bytes, new DataView(bytes.buffer), 0, packet, 0, digits, options);
      same(end, PACKET_BLOCK_BYTES - 4 + data.length + (-data.length & 3) + (options?.length ?? 0));
      const written = { name: "n", filter: comment, description: "d", linkType: 1, snaplen: 9, digits } as const;
      const { reader, packets } = readAll(
        sectionHeader({ comments: [comment], application: "a" }),
        interfaceDescription(written),
        bytes.subarray(0, end),
        interfaceStatistics(0, digits, { received: 2 ** 40, dropped: 1, delivered: 1, comments: [comment] }),
      );
      assertEquals(packets, [{ time: seconds * 1_000_000_000n + BigInt(nanos), interface: 0, data }]);
      const { name, filter, description, linkType, snaplen } = reader.interfaces[0]!;
      assertEquals({ name, filter, description, linkType, snaplen, digits: reader.interfaces[0]!.digits }, written);
      assertEquals(reader.interfaces[0]!.statistics, {
        received: 2 ** 40,
        dropped: 1,
        delivered: 1,
        comments: [comment],
      });
      assertEquals([reader.comments, reader.loss.bytes, reader.statisticsBeforeEnd], [[comment], 0, false]);
    },
  ));
});

Deno.test("a text longer than an option can hold is cut between characters", () => {
  const { reader } = readAll(
    sectionHeader({ comments: ["a" + "€".repeat(30_000)], application: "a" }),
    interfaceDescription({ linkType: 1, snaplen: 0, digits: 6 }),
  );
  same(reader.comments[0], "a" + "€".repeat(21_843) + "…");
});
