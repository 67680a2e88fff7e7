/** 10,000 mutated capture files: the readers neither throw nor hang nor take more memory than they are given. */
import { ok as assert } from "node:assert/strict";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { mergeCaptures } from "../../../src/pcap/merge.ts";
import type { Packet } from "../../../src/pcap/packet.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import { commentOption } from "../../../src/pcap/pcapng_blocks.ts";
import { PacketWriter } from "../../../src/pcap/writer.ts";
import { concat, packet, pcap } from "../../unit/reading/files.ts";

/** Each seed gives the same files again. */
const SEED = Number(Deno.env.get("FUZZ_SEED") ?? 20261124);
const FILES = 10_000;
/** A file of some 100 KB at most; the slowest takes a few milliseconds. */
const SLOWEST_MS = 2000;
/** What a reader may hold: twice the largest block, and what it was given at the start. */
const MOST_BUFFER = 6 * 1024 * 1024;

/** mulberry32: small, seeded, good enough to spread mutations. */
function random(seed: number): (below: number) => number {
  return (below) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor(((t ^ (t >>> 14)) >>> 0) / 4_294_967_296 * below);
  };
}

/** Numbers that lengths and counts are most often got wrong with. */
const NASTY = [
  0,
  1,
  3,
  4,
  11,
  12,
  16,
  28,
  0x7f,
  0xff,
  0xffff,
  0x10000,
  262_144,
  262_145,
  0x7fff_ffff,
  0x8000_0000,
  0xffff_fff0,
  0xffff_ffff,
];

function mutate(file: Uint8Array, below: (n: number) => number, others: readonly Uint8Array[]): Uint8Array {
  let bytes = file.slice();
  for (let changes = 1 + below(6); changes > 0; changes--) {
    const at = below(bytes.length + 1);
    const some = 1 + below(200);
    switch (below(8)) {
      case 0:
        if (at < bytes.length) bytes[at] = below(256);
        break;
      case 1:
        if (at < bytes.length) bytes[at]! ^= 1 << below(8);
        break;
      case 2:
        if (at + 4 <= bytes.length) {
          new DataView(bytes.buffer).setUint32(at, NASTY[below(NASTY.length)]!, below(2) === 0);
        }
        break;
      case 3:
        bytes = bytes.slice(0, at);
        break;
      case 4:
        bytes = concat(bytes.subarray(0, at), bytes.subarray(at + some));
        break;
      case 5:
        bytes = concat(bytes.subarray(0, at), bytes.subarray(at, at + some), bytes.subarray(at));
        break;
      case 6:
        bytes = concat(bytes.subarray(0, at), new Uint8Array(some * below(100)), bytes.subarray(at));
        break;
      default: {
        const other = others[below(others.length)]!;
        const from = below(other.length);
        bytes = concat(bytes.subarray(0, at), other.subarray(from, from + some), bytes.subarray(at));
      }
    }
  }
  return bytes;
}

async function pcapng(): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  const writer = new PacketWriter({ write: (bytes) => Promise.resolve(void parts.push(bytes.slice())) });
  await writer.begin({ application: "fuzz", comments: ["one", "two"] }, []);
  await writer.addInterface({ name: "a", linkType: 276, snaplen: 100, digits: 6, filter: "udp" });
  await writer.addInterface({ name: "b", linkType: 1, snaplen: 0, digits: 9 });
  for (let n = 0; n < 30; n++) {
    const data = new Uint8Array(n * 7).fill(n);
    writer.add(
      {
        bytes: data,
        start: 0,
        captured: data.length,
        original: data.length,
        seconds: 1_700_000_000 + n,
        nanos: n * 1000,
      },
      n % 2,
      n % 5 === 0 ? commentOption("here") : undefined,
    );
  }
  await writer.flush();
  await writer.statistics([{ received: 1, dropped: 0 }, { received: 2, dropped: 3 }]);
  return concat(...parts);
}

/** Reads all packets, looking at every byte that is said to belong to one. @returns how many there were. */
function readAll(reader: Packet & { next(): boolean }, limit: number): number {
  let packets = 0;
  while (reader.next()) {
    packets++;
    assert(packets <= limit, `more than ${limit} packets`);
    const { bytes, start, captured, seconds, nanos } = reader;
    assert(
      start >= 0 && captured >= 0 && start + captured <= bytes.length,
      `packet at ${start}, ${captured} of ${bytes.length} bytes`,
    );
    assert(Number.isFinite(seconds) && nanos >= 0 && nanos < 1e9, `time ${seconds} ${nanos}`);
  }
  return packets;
}

Deno.test(`readers survive ${FILES} mutated files (seed ${SEED})`, async () => {
  const below = random(SEED);
  const some = Array.from({ length: 40 }, (_, n) => packet(n, 1 + n * 11));
  const originals = [
    pcap(some),
    pcap(some, { littleEndian: false, digits: 9 }),
    // A packet that is itself a piece of a capture file.
    pcap([packet(1), { ...packet(2), data: pcap(some.slice(0, 9)) }, packet(3)]),
    await pcapng(),
  ];
  let packets = 0;
  let lost = 0;
  for (let n = 0; n < FILES; n++) {
    const bytes = mutate(originals[below(originals.length)]!, below, originals);
    const started = performance.now();
    try {
      // Both readers get each file, also as one that still grows.
      const first = new PcapReader(new MemorySource(bytes), { buffer: 64 });
      packets += readAll(first, bytes.length / 16);
      const growing = new PcapReader(new MemorySource(bytes), { buffer: 64, growing: true });
      readAll(growing, bytes.length / 16);
      const second = new PcapngReader(new MemorySource(bytes), { buffer: 64 });
      packets += readAll(second, bytes.length / 12);
      lost += first.loss.bytes + second.loss.bytes;
      for (const reader of [first, growing, second]) {
        assert(reader.bytes.length <= MOST_BUFFER, `${reader.bytes.length} bytes of buffer`);
      }
      assert(first.loss.bytes <= bytes.length && second.loss.bytes <= bytes.length, "lost more than there was");
      if (n % 10 === 0) {
        await mergeCaptures([{ name: "x", source: new MemorySource(bytes) }], {
          application: "fuzz",
          write: () => Promise.resolve(),
        });
      }
    } catch (error) {
      throw new Error(`file ${n} of seed ${SEED}, ${bytes.length} bytes`, { cause: error });
    }
    const took = performance.now() - started;
    assert(took < SLOWEST_MS, `file ${n} of seed ${SEED} took ${took} ms`);
  }
  // The mutations left something to read, and something to complain of.
  assert(packets > FILES * 10, String(packets));
  assert(lost > FILES, String(lost));
});

/** `count` copies of the pieces in turn, behind a front. */
function repeat(front: Uint8Array, count: number, ...pieces: Uint8Array[]): Uint8Array {
  const all = concat(...pieces);
  const bytes = new Uint8Array(front.length + count * all.length);
  bytes.set(front);
  for (let n = 0; n < count; n++) bytes.set(all, front.length + n * all.length);
  return bytes;
}

Deno.test("readers take time in proportion to a hostile file, not to its square", async () => {
  const head = pcap([packet(1, 1)]).subarray(24, 40);
  const huge = head.slice();
  new DataView(huge.buffer).setUint32(8, 262_144, true);
  new DataView(huge.buffer).setUint32(12, 262_144, true);
  const junk = Uint8Array.of(1, 2, 3, 4, 5);
  const block = new Uint8Array(16);
  new DataView(block.buffer).setUint32(0, 6, true);
  new DataView(block.buffer).setUint32(4, 2 * 1024 * 1024, true);
  const ng = await pcapng();
  const hostile: Record<string, Uint8Array> = {
    "runs of records that break off": repeat(pcap([packet(1)]), 80_000, head, head, head, head, junk),
    "records that claim all they can": repeat(pcap([packet(1)]), 400_000, huge),
    "records that claim all they can, each with junk behind it": repeat(pcap([packet(1)]), 300_000, huge, junk),
    "blocks that claim all they can": repeat(ng, 400_000, block),
  };
  for (const [name, bytes] of Object.entries(hostile)) {
    for (const reader of [new PcapReader(new MemorySource(bytes)), new PcapngReader(new MemorySource(bytes))]) {
      const started = performance.now();
      readAll(reader, bytes.length);
      const took = performance.now() - started;
      // Linear, it is well below 1 s; quadratic, minutes.
      assert(took < 30_000, `${name}: ${bytes.length} bytes took ${took} ms`);
      assert(reader.bytes.length <= MOST_BUFFER, `${name}: ${reader.bytes.length} bytes of buffer`);
    }
  }
});
