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
import { option } from "./option.ts";

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

Deno.test("PcapngReader reads times finer than a nanosecond as exactly", () => {
  const time = (byte: number, ticks: bigint) =>
    readAll(
      section(true),
      description(true, 1, option(9, Uint8Array.of(byte), true)),
      enhanced(true, 0, ticks, text("x")),
    )
      .packets[0]!.time;
  // Half a year of picoseconds, and of 2^-40 s: more than a float64 can hold.
  for (const nanos of [123_456_789n, 1n, 999_999_999n]) {
    assertEquals(time(12, (16_000_000n * 1_000_000_000n + nanos) * 1000n + 999n), 16_000_000_000_000_000n + nanos);
    const ticks = (16_000_000n << 40n) + (nanos << 40n) / 1_000_000_000n + 1n;
    assertEquals(time(0x80 | 40, ticks), 16_000_000_000_000_000n + nanos);
  }
});

Deno.test("PcapngReader finds a packet's interface by its number in its section", () => {
  const packet = (id: number) => enhanced(true, id, 5n, Uint8Array.of(1));
  const second = concat(HEAD, description(true, 1), packet(1), packet(0), packet(1), block(5, true, 1, 0, 0));
  const { packets, reader } = readAll(HEAD, packet(0), second);
  assertEquals(packets.map((packet) => packet.interface), [0, 2, 1, 2]);
  const known = reader.interfaces.map(({ packets, statistics }) => [packets, statistics !== undefined]);
  assertEquals(known, [[1, false], [1, false], [2, true]]);
});

Deno.test("PcapngReader reads nothing beyond a block that is too short for a packet, at the end of its buffer", () => {
  // The first 64 bytes, which are read at once, end with it.
  const front = concat(section(true), block(1, true, 1, 96, 0));
  same(front.length, 52);
  const { packets, reader } = readAll(front, block(6, true), one(2));
  assertEquals([packets.map(({ data }) => data[0]), reader.loss], [[2], lost(12)]);
});

Deno.test("PcapngReader reads interfaces, comments and statistics, and numbers interfaces over sections", () => {
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
    block(3, true, 4, text("ghij")),
    block(0x0bad, true, 1, 2),
    block(4, true, 0),
  );
  assertEquals(packets, [
    { time: 9_000_001_000n, interface: 0, data },
    { time: 9_000_001_000n, interface: 0, data: text("ghij") },
  ]);
  same(reader.loss.bytes, 0);
});

Deno.test("PcapngReader goes on behind damage, and reports how much is missing", () => {
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

Deno.test("PcapngReader reports of another file that it is none", () => {
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

const LONGEST = 2 * 1024 * 1024;
const HEAD = concat(section(true), description(true, 1));
const one = (n: number) => enhanced(true, 0, BigInt(n), Uint8Array.of(n));

/** Of a file that goes on behind its head: its packets' first bytes, and what was lost of it. */
function after(...blocks: Uint8Array[]) {
  const { packets, reader } = readAll(HEAD, ...blocks);
  return [packets.map(({ data }) => data[0]), reader.loss];
}
const lost = (bytes: number, places = bytes === 0 ? 0 : 1) => ({ bytes, records: places, places });

Deno.test("PcapngReader takes blocks up to 2 MiB, and what has no such length for damage", () => {
  const sized = (length: number, end = length) => {
    const bytes = new Uint8Array(Math.min(length, LONGEST + 4));
    new DataView(bytes.buffer).setUint32(0, 0x0bad, true);
    new DataView(bytes.buffer).setUint32(4, length, true);
    new DataView(bytes.buffer).setUint32(bytes.length - 4, end, true);
    return bytes;
  };
  assertEquals(after(one(1), sized(12), sized(LONGEST), one(2)), [[1, 2], lost(0)]);
  assertEquals(after(one(1), sized(LONGEST + 4), one(2)), [[1, 2], lost(LONGEST + 4)]);
  assertEquals(after(one(1), sized(16, 12), one(2)), [[1, 2], lost(16)]);
  for (const length of [8, 14]) {
    const bytes = new Uint8Array(20);
    new DataView(bytes.buffer).setUint32(0, 6, true);
    new DataView(bytes.buffer).setUint32(4, length, true);
    new DataView(bytes.buffer).setUint32(length - 4, length, true);
    assertEquals(after(one(1), bytes, one(2)), [[1, 2], lost(20)], String(length));
  }
  // A section of no byte order.
  for (const le of [true, false]) {
    assertEquals(after(one(1), block(0x0a0d0d0a, le, 0x01020304, 1, 0, 0), one(2)), [[1, 2], lost(28)]);
  }
  // Less than a block, at the end.
  for (const tail of [1, 11]) assertEquals(after(one(1), new Uint8Array(tail)), [[1], lost(tail)]);
});

Deno.test("PcapngReader takes no packet that is longer than its block, than a packet can be, or of no interface", () => {
  const longest = new Uint8Array(262_144);
  assertEquals(readAll(HEAD, enhanced(true, 0, 1n, longest)).packets[0]?.data.length, 262_144);
  assertEquals(after(enhanced(true, 0, 1n, new Uint8Array(262_145)), one(2)), [[2], lost(262_180)]);
  assertEquals(after(block(6, true, 0, 0, 0, 4, 4, 7), one(2)), [[7, 2], lost(0)]);
  assertEquals(after(block(6, true, 0, 0, 0, 5, 5, 7), one(2)), [[2], lost(36)]);
  assertEquals(after(block(6, true, 0, 0, 0, 0, 0), one(2)), [[undefined, 2], lost(0)]);
  assertEquals(after(block(6, true, 0, 0, 0, 0), one(2)), [[2], lost(28)]);
  assertEquals(after(block(6, true, 1, 0, 0, 4, 4, 7), one(2)), [[2], lost(36)]);
  // Of an obsolete one the interface has 16 bits; the other 16 count drops.
  assertEquals(after(block(2, true, 0xffff_0000, 0, 0, 4, 4, 7), one(2)), [[7, 2], lost(0)]);
  assertEquals(after(block(2, true, 0x0000_0001, 0, 0, 4, 4, 7), one(2)), [[2], lost(36)]);
});

Deno.test("PcapngReader cuts simple packets to the first interface's snaplen, and gives them the time before", () => {
  const simple = (original: number, size: number) => block(3, true, original, new Uint8Array(size).fill(3));
  const read = (...blocks: Uint8Array[]) => {
    const reader = new PcapngReader(new MemorySource(concat(section(true), ...blocks)));
    const found: number[][] = [];
    while (reader.next()) found.push([reader.captured, reader.original, reader.nanos, reader.interface]);
    return [found, reader.loss.bytes];
  };
  const [limited, unlimited] = [description(true, 1), block(1, true, 1, 0)];
  assertEquals(read(limited, one(5), simple(8, 8), simple(8, 4)), [
    [[1, 6, 5000, 0], [8, 8, 5000, 0], [4, 8, 5000, 0]],
    0,
  ]);
  assertEquals(read(limited, simple(500, 200)), [[[96, 500, 0, 0]], 0]);
  assertEquals(read(unlimited, limited, simple(500, 200)), [[[200, 500, 0, 0]], 0]);
  assertEquals(read(unlimited, simple(262_144, 262_144), simple(300_000, 300_000)), [
    [[262_144, 262_144, 0, 0], [262_144, 300_000, 0, 0]],
    0,
  ]);
  assertEquals(read(simple(8, 8)), [[], 24]);
  assertEquals(read(limited, block(3, true)), [[], 12]);
  assertEquals(read(limited, block(3, true, 0)), [[[0, 0, 0, 0]], 0]);
  assertEquals(read(limited, block(3, true, 5)), [[[0, 5, 0, 0]], 0]);
  // Longer than a packet can be, although its interface allows it.
  assertEquals(read(block(1, true, 1, 300_000), simple(300_000, 300_000)), [[], 300_016]);
  const second = new PcapngReader(
    new MemorySource(concat(section(true), unlimited, section(true), unlimited, unlimited, simple(8, 8))),
  );
  assertEquals([second.next(), second.interface, second.interfaces.map(({ packets }) => packets)], [true, 1, [
    0,
    1,
    0,
  ]]);
  assertEquals([second.optionsStart, second.optionsEnd], [0, 0]);
});

Deno.test("PcapngReader gives a packet's options as they are, if it is little-endian and not obsolete", () => {
  const mark = option(1, text("mark"), true);
  const read = (le: boolean, type: number, size: number) => {
    const data = concat(new Uint8Array(size), new Uint8Array(-size & 3));
    const packet = block(type, le, 0, 0, 0, size, size, data, option(1, text("mark"), le), 0);
    const reader = new PcapngReader(new MemorySource(concat(section(le), description(le, 1), packet)));
    assert(reader.next());
    return [...reader.bytes.subarray(reader.optionsStart, reader.optionsEnd)];
  };
  for (const size of [0, 1, 2, 3, 4]) {
    assertEquals(read(true, 6, size), [...mark, 0, 0, 0, 0], String(size));
    assertEquals([read(false, 6, size), read(true, 2, size)], [[], []]);
  }
});

Deno.test("PcapngReader reads what is said of an interface, and passes over what cannot be", () => {
  const eight = (value: bigint, le: boolean) => {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigInt64(0, value, le);
    return bytes;
  };
  for (const le of [true, false]) {
    const read = (...options: Uint8Array[]) => {
      const { reader, packets } = readAll(
        section(le),
        description(le, 276, ...options),
        enhanced(le, 0, 5_000_007n, text("x")),
      );
      const { name, description: words, filter, comments, digits, linkType, snaplen } = reader.interfaces[0]!;
      return { said: { name, words, filter, comments, digits, linkType, snaplen }, time: packets[0]!.time };
    };
    const plain = {
      name: undefined,
      words: undefined,
      filter: undefined,
      comments: [],
      digits: 6,
      linkType: 276,
      snaplen: 96,
    };
    assertEquals(read(), { said: plain, time: 5_000_007_000n });
    assertEquals(
      read(
        option(1, text("a"), le),
        option(1, text("b"), le),
        option(2, text("eth0"), le),
        option(3, text("words"), le),
        option(11, text("\0tcp"), le),
        option(12, text("Linux"), le),
        option(9, Uint8Array.of(9), le),
        option(14, eight(100n, le), le),
      ),
      {
        said: { ...plain, name: "eth0", words: "words", filter: "tcp", comments: ["a", "b"], digits: 9 },
        time: 100_005_000_007n,
      },
    );
    // A filter in its compiled form, a resolution of nothing or too fine, and an offset of other than eight bytes.
    assertEquals(read(option(11, text("\u0001tcp"), le)).said, plain);
    for (const some of [option(9, new Uint8Array(), le), option(14, text("four"), le)]) {
      assertEquals(read(some), { said: plain, time: 5_000_007_000n });
    }
    for (const resolution of [0x80 | 64, 19, 200]) {
      assertEquals(read(option(9, Uint8Array.of(resolution), le)), { said: plain, time: 5_000_007_000n });
    }
    assertEquals(read(option(9, Uint8Array.of(0x80 | 63), le)).time, 0n);
    // Each way to divide a time adds the offset, also one before 1970.
    for (const [resolution, time] of [[6, 5_000_007_000n], [3, 5_000_007_000_000n], [12, 5000n]] as const) {
      const options = [option(9, Uint8Array.of(resolution), le), option(14, eight(1000n, le), le)];
      assertEquals(read(...options).time, 1_000_000_000_000n + time);
    }
    assertEquals(read(option(14, eight(-2n, le), le)).time, 3_000_007_000n);
    // Another option of eight bytes, the interface's speed, is no offset.
    assertEquals(read(option(8, eight(100n, le), le)), { said: plain, time: 5_000_007_000n });
  }
  assertEquals(readAll(section(true), block(1, true, 1)).reader.loss, lost(16));
});

Deno.test("PcapngReader reads the counters of an interface that is known, of the last block of it", () => {
  const eight = (value: number) => concat(word(value, true), word(0, true));
  const counted = (id: number, ...options: Uint8Array[]) => block(5, true, id, 0, 0, ...options);
  const statistics = (...blocks: Uint8Array[]) => {
    const { reader } = readAll(HEAD, ...blocks);
    return [reader.interfaces[0]!.statistics, reader.loss.bytes];
  };
  const none = { received: undefined, dropped: undefined, delivered: undefined, comments: [] };
  assertEquals(statistics(), [undefined, 0]);
  assertEquals(statistics(counted(0)), [none, 0]);
  const all = [
    option(4, eight(4), true),
    option(5, eight(5), true),
    option(7, eight(7), true),
    option(8, eight(8), true),
  ];
  assertEquals(statistics(counted(0, ...all, option(1, text("said"), true), option(1, text("more"), true))), [
    { received: 4, dropped: 5, delivered: 8, comments: ["said", "more"] },
    0,
  ]);
  assertEquals(statistics(counted(0, ...all), counted(0, option(4, eight(9), true))), [{ ...none, received: 9 }, 0]);
  assertEquals(statistics(counted(0, option(4, text("four"), true), option(5, eight(5), true))), [{
    ...none,
    dropped: 5,
  }, 0]);
  assertEquals(statistics(counted(1)), [undefined, 24]);
  assertEquals(statistics(block(5, true, 0, 0)), [undefined, 20]);
  // What stands behind the options' end mark, or is longer than its block, does not count.
  assertEquals(statistics(counted(0, word(0, true), option(4, eight(4), true))), [none, 0]);
  assertEquals(statistics(counted(0, option(4, eight(4), true).subarray(0, 8))), [none, 0]);
});

Deno.test("PcapngReader reads no option beyond the end of a block", () => {
  // The next block begins with the number of a comment: that of an interface is the same.
  const { reader } = readAll(section(true), description(true, 1), description(true, 1), block(5, true, 0, 0, 0), HEAD);
  assertEquals(reader.interfaces.map(({ comments }) => comments), [[], [], []]);
  assertEquals([reader.comments, reader.interfaces[0]!.statistics?.comments, reader.loss.bytes], [[], [], 0]);
});

Deno.test("PcapngReader reports who wrote the first section, and the comments of all", () => {
  const first = section(true, option(1, text("a"), true), option(4, text("first"), true), option(2, text("x86"), true));
  const { reader } = readAll(first, section(false, option(4, text("second"), false), option(1, text("b"), false)));
  assertEquals([reader.application, reader.comments, reader.statisticsBeforeEnd], ["first", ["a", "b"], false]);
  const { reader: none } = readAll(section(true));
  assertEquals([none.application, none.comments, none.foreign, none.next()], [undefined, [], false, false]);
});

Deno.test("PcapngReader takes what does not begin with a section for another file, and reads on in none", () => {
  for (const bytes of [description(true, 1), concat(one(1), HEAD), word(0x0a0d0d0a, true), new Uint8Array(11)]) {
    const { reader, packets } = readAll(bytes);
    assertEquals([packets, reader.foreign, reader.loss.bytes], [
      [],
      bytes.length >= 12,
      bytes.length >= 12 ? 0 : bytes.length,
    ]);
    assertEquals(reader.next(), false);
  }
});

Deno.test("PcapngReader finds the next block after any damage, in no more memory", () => {
  for (const size of [1, 40, LONGEST + 1]) {
    const { packets, reader } = readAll(HEAD, one(1), new Uint8Array(size).fill(0xee), one(2), one(3));
    assertEquals([packets.map(({ data }) => data[0]), reader.loss], [[1, 2, 3], lost(size)], String(size));
    assert(reader.bytes.length <= 2 * (LONGEST + 1), String(reader.bytes.length));
    assertEquals(after(one(1), new Uint8Array(size).fill(0xee)), [[1], lost(size)]);
  }
  // A shortest block at the very end is found, and one that is none is not.
  const names = block(4, true);
  const damage = new Uint8Array(30).fill(0xee);
  assertEquals(after(one(1), damage, names), [[1], lost(30)]);
  assertEquals(after(one(1), damage, names.subarray(0, 11)), [[1], lost(41)]);
  for (const [type, length, end] of [[6, 8, 8], [6, 14, 14], [6, 64, 64], [6, 16, 12], [0x0bad, 16, 16]] as const) {
    const bytes = new Uint8Array(20);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, type, true);
    view.setUint32(4, length, true);
    if (length <= 20) view.setUint32(length - 4, end, true);
    assertEquals(after(one(1), damage, bytes), [[1], lost(50)], `${type} ${length} ${end}`);
  }
  // Several places, each by itself, in either byte order.
  assertEquals(after(damage, one(1), damage, one(2)), [[1, 2], lost(60, 2)]);
  const big = readAll(section(false), description(false, 1), damage, enhanced(false, 0, 1n, Uint8Array.of(9)));
  assertEquals([big.packets.length, big.reader.loss], [1, lost(30)]);
});

Deno.test("PcapngReader takes no block behind damage that is longer than a block can be", () => {
  const damage = new Uint8Array(30).fill(0xee);
  const names = (length: number) => block(4, true, new Uint8Array(length - 12));
  assertEquals(after(one(1), damage, names(LONGEST), one(2)), [[1, 2], lost(30)]);
  assertEquals(after(one(1), damage, names(LONGEST + 4), one(2)), [[1, 2], lost(30 + LONGEST + 4)]);
});

Deno.test("PcapngReader counts each damaged place by itself, however much is in its buffer already", () => {
  const damage = (size: number) => new Uint8Array(size).fill(0xee);
  const much = Array.from({ length: 3 }, () => block(4, true, new Uint8Array(LONGEST - 12)));
  assertEquals(after(damage(30), one(1), damage(50), one(2), ...much, one(3)), [[1, 2, 3], lost(80, 2)]);
  const long = LONGEST + 5;
  assertEquals(after(damage(30), one(1), damage(long), one(2), ...much), [[1, 2], lost(30 + long, 2)]);
});

Deno.test("PcapngReader takes no block for whole that the file ends within, whatever its buffer held before", () => {
  // Damage of more than a block, made of the length with which such a block would end.
  const length = 32_768;
  const damage = concat(Uint8Array.of(0xee), new Uint8Array(new Uint32Array(545_000).fill(length).buffer));
  const begun = concat(word(6, true), word(length, true), damage.subarray(0, 102));
  assertEquals(after(one(1), damage, begun), [[1], lost(damage.length + begun.length)]);
});
