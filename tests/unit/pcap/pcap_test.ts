import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import fc from "fast-check";
import { type ByteSource, MemorySource } from "../../../src/pcap/bytes.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { pcapHeader, peekPcap, putPcapRecord } from "../../../src/pcap/pcap_format.ts";
import { concat, header, packet, pcap, type PcapOptions, record, START, type TestPacket } from "../reading/files.ts";

function read(reader: PcapReader): TestPacket[] {
  const packets: TestPacket[] = [];
  while (reader.next()) {
    packets.push({
      time: BigInt(reader.seconds) * 1_000_000_000n + BigInt(reader.nanos),
      data: reader.bytes.slice(reader.start, reader.start + reader.captured),
      original: reader.original,
    });
  }
  return packets;
}

const numbers = (packets: readonly TestPacket[]) => packets.map(({ data }) => data[0]);
const readAll = (bytes: Uint8Array) => {
  // Hundreds of readers of small files need no quarter of a megabyte each.
  const reader = new PcapReader(new MemorySource(bytes), { buffer: 4096 });
  return { packets: read(reader), loss: reader.loss };
};
const WHOLE = { bytes: 0, records: 0, places: 0 };

/** Gives at most `most` bytes at a time. */
function slowly(bytes: Uint8Array, most: number): ByteSource {
  const source = new MemorySource(bytes);
  return { read: (into) => source.read(into.subarray(0, most)) };
}

/** A file that is still written: its bytes may become more. */
class GrowingSource implements ByteSource {
  bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  read(into: Uint8Array): number {
    const n = Math.min(into.length, this.bytes.length - this.#at);
    into.set(this.bytes.subarray(this.#at, this.#at + n));
    this.#at += n;
    return n;
  }
}

const anyOptions: fc.Arbitrary<PcapOptions> = fc.record({
  littleEndian: fc.boolean(),
  digits: fc.constantFrom(6, 9),
  linkType: fc.constantFrom(1, 101, 113, 276),
  snaplen: fc.integer({ min: 64, max: 262_144 }),
});
const anyPackets = (digits: 6 | 9) =>
  fc.array(
    fc.tuple(fc.bigInt(1n, 4_294_967_295_999_999_999n), fc.uint8Array({ minLength: 1, maxLength: 300 }), fc.nat(100)),
    { maxLength: 40 },
  ).map((all) =>
    all.map(([time, data, more]) => ({
      time: digits === 9 ? time : time - time % 1000n,
      data,
      original: data.length + more,
    }))
  );

Deno.test("PcapReader gives back what was put in, in both byte orders, both resolutions, in pieces of any size", () => {
  fc.assert(fc.property(
    anyOptions.chain((options) =>
      fc.tuple(fc.constant(options), anyPackets(options.digits!), fc.integer({ min: 1, max: 500 }))
    ),
    ([options, packets, piece]) => {
      const reader = new PcapReader(slowly(pcap(packets, options), piece), { buffer: 64 });
      assertEquals(read(reader), packets);
      assertEquals(reader.loss, WHOLE);
      const { linkType, digits, snaplen } = reader.header!;
      assertEquals({ linkType, digits, snaplen }, {
        linkType: options.linkType,
        digits: options.digits,
        snaplen: options.snaplen,
      });
    },
  ));
});

Deno.test("putPcapRecord() and pcapHeader() write the bytes that the format asks for", () => {
  fc.assert(
    fc.property(
      fc.constantFrom<(6 | 9)[]>(6, 9).chain((digits) => fc.tuple(fc.constant(digits), anyPackets(digits))),
      ([digits, packets]) => {
        const bytes = new Uint8Array(20_000);
        const view = new DataView(bytes.buffer);
        const written = packets.map(({ time, data, original }) => {
          const end = putPcapRecord(bytes, view, 100, {
            bytes: concat(Uint8Array.of(1, 2, 3), data),
            start: 3,
            captured: data.length,
            original: original!,
            seconds: Number(time / 1_000_000_000n),
            nanos: Number(time % 1_000_000_000n),
          }, digits);
          return bytes.slice(100, end);
        });
        const options = { linkType: 113, snaplen: 96, digits };
        assertEquals(concat(pcapHeader(options), ...written), pcap(packets, options));
      },
    ),
  );
});

Deno.test("PcapReader gives all whole records of a file cut anywhere, and reports what is missing", () => {
  const packets = [1, 2, 3, 4, 5].map((n) => packet(n));
  const whole = pcap(packets);
  for (let cut = 24; cut < whole.length; cut += 5) {
    const { packets: got, loss } = readAll(whole.subarray(0, cut));
    const complete = Math.floor((cut - 24) / 76);
    assertEquals(numbers(got), [1, 2, 3, 4, 5].slice(0, complete), `cut at ${cut}`);
    const tail = (cut - 24) % 76;
    assertEquals(loss, tail === 0 ? WHOLE : { bytes: tail, records: 1, places: 1 }, `cut at ${cut}`);
  }
});

Deno.test("PcapReader waits for the rest of a record in a growing file, wherever it was seen", () => {
  // The second one is itself a piece of a capture file, whose records are not to be taken for the next ones.
  const inner = concat(Uint8Array.of(2), pcap([10, 11, 12, 13].map((n) => packet(n))));
  const whole = pcap([packet(1), { ...packet(2), data: inner }, packet(3)]);
  for (let cut = 0; cut < whole.length; cut++) {
    const file = new GrowingSource(whole.subarray(0, cut));
    const reader = new PcapReader(file, { growing: true });
    const first = read(reader);
    assertEquals(reader.loss, WHOLE);
    file.bytes = whole;
    assertEquals(numbers([...first, ...read(reader)]), [1, 2, 3], `seen first with ${cut} bytes`);
    assertEquals(reader.loss, WHOLE);
  }
});

Deno.test("PcapReader finds the next record after one that is torn anywhere, and loses no other", () => {
  const before = [1, 2, 3].map((n) => packet(n));
  const torn = record(packet(4, 400));
  const after = [5, 6, 7, 8].map((n) => packet(n));
  for (let length = 1; length < torn.length; length += 3) {
    // Where what follows is just as long as the rest of the record, nobody could tell.
    if ((torn.length - length) % 76 === 0) continue;
    const bytes = concat(pcap(before), torn.subarray(0, length), ...after.map((each) => record(each)));
    const { packets, loss } = readAll(bytes);
    assertEquals(numbers(packets), [1, 2, 3, 5, 6, 7, 8], `torn after ${length} bytes`);
    assertEquals(loss, { bytes: length, records: 1, places: 1 }, `torn after ${length} bytes`);
  }
});

Deno.test("PcapReader finds the one whole record behind a torn one at the file's end", () => {
  const bytes = concat(pcap([packet(1)]), record(packet(2, 1400)).subarray(0, 700), record(packet(3)));
  const { packets, loss } = readAll(bytes);
  assertEquals(numbers(packets), [1, 3]);
  assertEquals(loss.bytes, 700);
});

Deno.test("PcapReader passes over zeros that a crash of the node has left in a file", () => {
  const { packets, loss } = readAll(
    concat(pcap([packet(1)]), new Uint8Array(5000), record(packet(2)), record(packet(3))),
  );
  assertEquals(numbers(packets), [1, 2, 3]);
  assertEquals(loss, { bytes: 5000, records: 1, places: 1 });
});

Deno.test("PcapReader is not led astray by packets that are themselves pieces of pcap files", () => {
  const inner = pcap([10, 11, 12, 13].map((n) => packet(n)));
  const outer = [1, 2, 3].map((n) => ({ ...packet(n), data: concat(Uint8Array.of(n), inner) }));
  assertEquals(numbers(readAll(pcap(outer)).packets), [1, 2, 3]);
  // Damage behind such a packet: a run of records inside it does not reach beyond it.
  const damaged = concat(pcap(outer.slice(0, 2)), new Uint8Array(100).fill(0xee), record(outer[2]!), record(packet(4)));
  assertEquals(numbers(readAll(damaged).packets), [1, 2, 3, 4]);
});

Deno.test("PcapReader reports of another file that it is none, and of an empty one nothing", () => {
  const foreign = new PcapReader(new MemorySource(new TextEncoder().encode("this is not a capture file at all")));
  same(foreign.next(), false);
  assert(foreign.foreign);
  const empty = new PcapReader(new MemorySource(new Uint8Array()));
  same(empty.next(), false);
  assertEquals([empty.foreign, empty.header, empty.loss], [false, undefined, WHOLE]);
});

Deno.test("PcapReader takes the link type from the lower half of its field", () => {
  const bytes = pcap([packet(1)]);
  // A frame check sequence of four bytes, as some cards add it.
  new DataView(bytes.buffer).setUint32(20, 0x4400_0001, true);
  const reader = new PcapReader(new MemorySource(bytes));
  reader.open();
  same(reader.header?.linkType, 1);
});

Deno.test("PcapReader keeps its buffer small, whatever the lengths in a damaged file are", () => {
  const huge = record(packet(2));
  // As long as an original packet may be, but longer than a record.
  new DataView(huge.buffer).setUint32(8, 16 * 1024 * 1024, true);
  new DataView(huge.buffer).setUint32(12, 16 * 1024 * 1024, true);
  for (const before of [[], [packet(1)]]) {
    const bytes = concat(pcap(before), huge, record(packet(3)), record(packet(4)));
    const reader = new PcapReader(new MemorySource(bytes));
    assertEquals(numbers(read(reader)), [...numbers(before), 3, 4]);
    assert(reader.bytes.length < 4 * 1024 * 1024, String(reader.bytes.length));
  }
});

Deno.test("peekPcap() reports the first packet's time from a file's first 40 bytes", () => {
  const [first] = [{ time: START + 123_456_789n, data: new Uint8Array(9) }];
  for (const littleEndian of [true, false]) {
    const front = pcap([first!], { digits: 9, littleEndian }).subarray(0, 40);
    assertEquals(peekPcap(front).first, { seconds: 1_700_000_000, nanos: 123_456_789 });
    assertEquals(peekPcap(front.subarray(0, 39)).first, undefined);
    same(peekPcap(front.subarray(0, 39)).header?.digits, 9);
  }
  assertEquals(peekPcap(header().subarray(0, 23)), {});
});

/** A record whose header says something else than what it is: its seconds, fraction, captured and original length. */
function saying(n: number, fields: { at: number; value: number }[], size = 60): Uint8Array {
  const bytes = record(packet(n, size));
  for (const { at, value } of fields) new DataView(bytes.buffer).setUint32(at, value, true);
  return bytes;
}

const GOOD = [4, 5, 6, 7].map((n) => record(packet(n)));
const lost = (bytes: number, places = 1) => ({ bytes, records: places, places });

Deno.test("PcapReader takes a record for one up to what a header can hold, and for damage beyond", () => {
  const CAPTURED = [{ at: 8, value: 60 }];
  const cases: [what: string, record: Uint8Array, isOne: boolean][] = [
    ["a packet that was longer", saying(1, [...CAPTURED, { at: 12, value: 16 * 1024 * 1024 }]), true],
    ["one that is too long", saying(1, [...CAPTURED, { at: 12, value: 16 * 1024 * 1024 + 1 }]), false],
    ["one that was shorter", saying(1, [...CAPTURED, { at: 12, value: 59 }]), false],
    ["the last microsecond", saying(1, [{ at: 4, value: 999_999 }]), true],
    ["none of them", saying(1, [{ at: 4, value: 1_000_000 }]), false],
    ["the longest record", saying(1, [], 262_144), true],
    ["a longer one", saying(1, [], 262_145), false],
    ["a packet of which nothing was kept", saying(1, [{ at: 12, value: 5 }], 0), true],
    ["zeros with a time", saying(1, [{ at: 12, value: 0 }], 0), false],
  ];
  for (const [what, bytes, isOne] of cases) {
    const { packets, loss } = readAll(concat(pcap([packet(3)]), bytes, ...GOOD));
    assertEquals(packets.length, isOne ? 6 : 5, what);
    assertEquals(loss, isOne ? WHOLE : lost(bytes.length), what);
  }
  const nanos = (value: number) => {
    const bytes = record(packet(1), { digits: 9 });
    new DataView(bytes.buffer).setUint32(4, value, true);
    const good = GOOD.map((_, i) => record(packet(4 + i), { digits: 9 }));
    return readAll(concat(pcap([packet(3)], { digits: 9 }), bytes, ...good)).packets.length;
  };
  assertEquals([nanos(999_999_999), nanos(1_000_000_000)], [6, 5]);
});

/** Packets that many seconds after START. */
const later = (n: number, seconds: number) => ({ ...packet(n), time: START + BigInt(seconds) * 1_000_000_000n });

Deno.test("PcapReader believes records behind damage that are near in time to what came before, and to each other", () => {
  const damage = new Uint8Array(100).fill(0xee);
  const YEAR = 366 * 86_400, WEEK = 7 * 86_400;
  const behind = (...seconds: number[]) => {
    const records = seconds.map((each, i) => record(later(10 + i, each)));
    const { packets, loss } = readAll(concat(pcap([later(1, 0)]), damage, ...records));
    return [numbers(packets), loss.bytes];
  };
  for (const sign of [1, -1]) {
    const near = sign * (YEAR - 1), far = sign * YEAR;
    assertEquals(behind(near, near, near), [[1, 10, 11, 12], 100]);
    assertEquals(behind(far, far, far), [[1], 100 + 3 * 76]);
    assertEquals(behind(0, sign * WEEK, 0), [[1, 10, 11, 12], 100]);
    // The first two do not fit together; the last two do, up to the end.
    assertEquals(behind(0, sign * (WEEK + 1), sign * (WEEK + 1)), [[1, 11, 12], 176]);
  }
  // Before the first packet any time will do but none.
  const first = (seconds: number) => {
    const records = [10, 11, 12].map((n) => record({ ...packet(n), time: BigInt(seconds) * 1_000_000_000n }));
    return numbers(readAll(concat(pcap([]), damage, ...records)).packets);
  };
  assertEquals([first(1), first(4_000_000_000), first(0)], [[10, 11, 12], [10, 11, 12], []]);
});

Deno.test("PcapReader believes three records behind damage, and fewer only at the end of the file", () => {
  const damage = new Uint8Array(100).fill(0xee);
  const front = concat(pcap([packet(1)]), damage);
  const read = (...rest: Uint8Array[]) => {
    const { packets, loss } = readAll(concat(front, ...rest));
    return [numbers(packets), loss.bytes];
  };
  const [a, b, c] = [record(packet(2)), record(packet(3)), record(packet(4))];
  assertEquals(read(a, b, c, damage), [[1, 2, 3, 4], 200]);
  assertEquals(read(a, b, damage), [[1], 200 + 2 * 76]);
  assertEquals(read(a), [[1, 2], 100]);
  assertEquals(read(a, damage.subarray(0, 15)), [[1, 2], 115]);
  assertEquals(read(a, damage.subarray(0, 16)), [[1], 192]);
  assertEquals(read(a, b.subarray(0, 40)), [[1, 2], 140]);
  // A record that is cut, without a whole one before it, is none.
  assertEquals(read(a.subarray(0, 75)), [[1], 175]);
  assertEquals(read(a.subarray(0, 10)), [[1], 110]);
  // One without bytes is not the first.
  assertEquals(read(saying(2, [], 0).fill(9, 12, 13), b, c), [[1, 3, 4], 116]);
});

Deno.test("PcapReader passes over damage of any length, in as little memory", () => {
  // What has to be in the buffer to follow a run: four records and headers.
  const scan = 4 * (16 + 262_144);
  for (const size of [1, 15, 16, 17, scan + 3]) {
    const bytes = concat(pcap([packet(1)]), new Uint8Array(size).fill(0xee), ...GOOD);
    const reader = new PcapReader(new MemorySource(bytes));
    assertEquals([numbers(read(reader)), reader.loss], [[1, 4, 5, 6, 7], lost(size)], String(size));
    assert(reader.bytes.length <= 2 * (scan + 100), String(reader.bytes.length));
    const end = readAll(bytes.subarray(0, -4 * 76));
    assertEquals([numbers(end.packets), end.loss], [[1], lost(size)], String(size));
  }
});

Deno.test("PcapReader reports when it is stuck in a growing file, and counts the damage when it finds its end", () => {
  const file = new GrowingSource(concat(pcap([packet(1)]), new Uint8Array(100).fill(0xee)));
  const reader = new PcapReader(file, { growing: true });
  assertEquals([reader.isStuck, numbers(read(reader)), reader.isStuck, reader.loss.places], [false, [1], true, 0]);
  assertEquals([reader.next(), reader.isStuck], [false, true]);
  file.bytes = concat(file.bytes, ...GOOD);
  assertEquals([numbers(read(reader)), reader.isStuck, reader.loss], [[4, 5, 6, 7], false, lost(100)]);
  file.bytes = concat(file.bytes, record(packet(8)).subarray(0, 30));
  assertEquals([reader.next(), reader.isStuck, reader.loss], [false, false, lost(100)]);
  // Once it grows no more, what is incomplete is lost.
  reader.growing = false;
  assertEquals([reader.next(), reader.loss], [false, lost(130, 2)]);
});

Deno.test("PcapReader loses what is less than a header, and waits for the rest of one that grows", () => {
  const bytes = pcap([packet(1)]);
  for (const cut of [1, 23]) {
    const reader = new PcapReader(new MemorySource(bytes.subarray(0, cut)));
    assertEquals([reader.open(), reader.next(), reader.foreign], [false, false, false]);
    assertEquals([reader.loss, reader.offset], [{ bytes: cut, records: 0, places: 1 }, cut]);
    const growing = new PcapReader(new MemorySource(bytes.subarray(0, cut)), { growing: true });
    assertEquals([growing.open(), growing.loss, growing.offset], [false, WHOLE, 0]);
  }
  const reader = new PcapReader(new MemorySource(bytes));
  assertEquals([reader.open(), reader.open(), reader.offset], [true, true, 24]);
  assertEquals([reader.next(), reader.offset, reader.next(), reader.offset], [true, 100, false, 100]);
  const foreign = new PcapReader(new MemorySource(new Uint8Array(100)));
  assertEquals([foreign.open(), foreign.open(), foreign.foreign, foreign.loss], [false, false, true, WHOLE]);
});

Deno.test("PcapReader leaves the headers of packets, when that is wanted, and goes on behind the whole", () => {
  const bytes = pcap([packet(1), packet(2)], { linkType: 1 });
  const lengths = (options: { headersOnly?: boolean }) => {
    const reader = new PcapReader(new MemorySource(bytes), options);
    return read(reader).map(({ data, original }) => [data.length, original]);
  };
  // Of an unknown protocol only what comes before it: Ethernet's fourteen bytes.
  assertEquals(lengths({ headersOnly: true }), [[14, 60], [14, 60]]);
  assertEquals([lengths({}), lengths({ headersOnly: false })], [[[60, 60], [60, 60]], [[60, 60], [60, 60]]]);
});

Deno.test("PcapReader gives up looking inside a packet that is made of headers, lest it looks for ever", () => {
  // Each header in it begins a run of all after it, which leads nowhere: n runs of up to n records.
  const among = (n: number) => {
    const tiny = Array.from({ length: n }, () => record({ time: START, data: Uint8Array.of(1) }));
    const torn = record(packet(2, 400));
    const outer = { ...packet(9), data: concat(...tiny, new Uint8Array(40).fill(0xee), torn.subarray(0, 200)) };
    const { packets, loss } = readAll(concat(pcap([packet(1), outer]), torn.subarray(200), ...GOOD));
    return [packets.map(({ data }) => data.length), loss.bytes];
  };
  const good = GOOD.map(() => 60);
  // The packet is torn, and the whole record in it is found; or it is taken for whole, and the rest of that record is lost.
  assertEquals(among(100), [[60, 400, ...good], 16 + 100 * 17 + 40]);
  assertEquals(among(1500), [[60, 1500 * 17 + 40 + 200, ...good], 216]);
});

Deno.test("PcapReader is not led astray by a packet that ends with a piece of a pcap file, before a header that is cut", () => {
  const inner = pcap([10, 11, 12, 13].map((n) => packet(n)));
  const outer = [1, 2].map((n) => ({ ...packet(n), data: concat(Uint8Array.of(n), inner) }));
  for (const tail of [1, 15]) {
    const { packets, loss } = readAll(concat(pcap(outer), record(packet(3)).subarray(0, tail)));
    assertEquals([numbers(packets), loss], [[1, 2], lost(tail)], `${tail} bytes`);
  }
});

Deno.test("PcapReader looks as far as it must to tell a run of records from damage", () => {
  // A torn record, and one that is longer than what was read at once.
  const torn = concat(pcap([packet(1)]), record(packet(4, 400)).subarray(0, 100), record(packet(5, 4000)), ...GOOD);
  const reader = new PcapReader(new MemorySource(torn), { buffer: 64 });
  assertEquals([numbers(read(reader)), reader.loss], [[1, 5, 4, 5, 6, 7], lost(100)]);
  // Two of the longest records are no run if damage follows, nor where a buffer of twice their size ends with them.
  const damage = (size: number) => new Uint8Array(size).fill(0xee);
  const longest = [2, 3].map((n) => record(packet(n, 262_144)));
  for (const size of [100, 2 * 262_160 + 76]) {
    const { packets, loss } = readAll(concat(pcap([packet(1)]), damage(size), ...longest, damage(100), ...GOOD));
    assertEquals([numbers(packets), loss], [[1, 4, 5, 6, 7], lost(size + 100 + 2 * 262_160)], String(size));
  }
});

Deno.test("PcapReader counts long damage in a growing file once, whenever its end comes", () => {
  const size = 1_060_000;
  const bytes = concat(pcap([packet(1)]), new Uint8Array(size).fill(0xee), ...GOOD);
  const file = new GrowingSource(bytes.subarray(0, 24 + 76));
  const reader = new PcapReader(file, { growing: true });
  assertEquals(numbers(read(reader)), [1]);
  for (const end of [1000, 1_055_000]) {
    file.bytes = bytes.subarray(0, end);
    assertEquals([reader.next(), reader.loss.places], [false, 0]);
  }
  file.bytes = bytes;
  assertEquals([numbers(read(reader)), reader.loss], [[4, 5, 6, 7], lost(size)]);
});

Deno.test("PcapReader counts each damaged place by itself, however much is in its buffer already", () => {
  const damage = (size: number) => new Uint8Array(size).fill(0xee);
  const much = Array.from({ length: 20 }, (_, i) => record(packet(20 + i, 200_000)));
  for (const size of [50, 1_060_000]) {
    const bytes = concat(pcap([packet(1)]), damage(30), ...GOOD, damage(size), ...GOOD, ...much);
    const { packets, loss } = readAll(bytes);
    assertEquals([packets.length, loss], [1 + 4 + 4 + 20, lost(30 + size, 2)], String(size));
  }
  const torn = record(packet(9, 400)).subarray(0, 100);
  const { packets, loss } = readAll(concat(pcap([packet(1)]), torn, ...GOOD, torn, ...GOOD, ...much));
  assertEquals([packets.length, loss], [1 + 4 + 4 + 20, lost(200, 2)]);
});

Deno.test("PcapReader is not led astray by a last packet that ends within a record of another file, cut or growing", () => {
  const inner = pcap([10, 11, 12, 13].map((n) => packet(n)));
  const outer = { ...packet(2), data: concat(Uint8Array.of(2), inner.subarray(0, -30)) };
  const whole = pcap([packet(1), outer, packet(3)]);
  const end = whole.length - 76;
  assertEquals(readAll(whole.subarray(0, end)), { packets: readAll(whole).packets.slice(0, 2), loss: WHOLE });
  for (const tail of [0, 1, 15]) {
    const file = new GrowingSource(whole.subarray(0, end + tail));
    const reader = new PcapReader(file, { growing: true });
    assertEquals(numbers(read(reader)), [1, 2], String(tail));
    file.bytes = whole;
    assertEquals([numbers(read(reader)), reader.loss], [[3], WHOLE], String(tail));
  }
});
