import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import { newestPacket } from "../../../src/pcap/newest.ts";
import { concat, header, packet, pcap, record } from "../reading/files.ts";

/** A file in memory, that counts what is read of it. */
class Fake {
  read = 0;
  #at = 77;

  constructor(readonly bytes: Uint8Array) {}

  seekSync(offset: number, whence: Deno.SeekMode): number {
    same(whence, Deno.SeekMode.Start);
    return this.#at = offset;
  }

  readSync(into: Uint8Array): number | null {
    const some = this.bytes.subarray(this.#at, this.#at + into.length);
    into.set(some);
    this.#at += some.length;
    this.read += some.length;
    return some.length === 0 && into.length > 0 ? null : some.length;
  }

  newest(size = this.bytes.length): ReturnType<typeof newestPacket> {
    return newestPacket(this as never, size);
  }
}

const time = (number: number) => ({ seconds: 1_700_000_000, nanos: number * 1_000_000 });

Deno.test("newestPacket() finds the last whole packet, of the bytes that count", () => {
  const bytes = pcap([1, 2, 3].map((n) => packet(n)));
  assertEquals(new Fake(bytes).newest(), time(3));
  assertEquals(new Fake(bytes.subarray(0, -1)).newest(), time(2));
  assertEquals(new Fake(bytes).newest(24 + 2 * 76), time(2));
  assertEquals(new Fake(bytes).newest(24 + 2 * 76 - 1), time(1));
  for (const none of [bytes.subarray(0, 23), new Uint8Array(), header()]) same(new Fake(none).newest(), undefined);
  same(new Fake(bytes).newest(10), undefined);
});

Deno.test("newestPacket() takes the pieces of a capture file in a packet that is cut for no packets", () => {
  const inner = pcap([10, 11, 12, 13].map((n) => packet(n)));
  const bytes = pcap([packet(1), { ...packet(2), data: concat(inner, new Uint8Array(50)) }]);
  assertEquals(new Fake(bytes.subarray(0, -50)).newest(), time(1));
});

const MIB = 1024 * 1024;

Deno.test("newestPacket() looks at the end of a large file only, and at all of one that is not", () => {
  const large = Array.from({ length: 60 }, (_, i) => packet(i % 250, 99_984));
  for (const size of [4 * MIB, 4 * MIB + 1]) {
    const whole = pcap(large).subarray(0, size);
    const file = new Fake(whole);
    assertEquals(file.newest(), time(40));
    same(file.read, size === 4 * MIB ? size : 24 + 2 * MIB);
  }
  // One that grows meanwhile counts up to the given size.
  const growing = new Fake(concat(pcap(large), record(packet(200))));
  assertEquals(growing.newest(growing.bytes.length - 76), time(59));
  assert(growing.read <= 24 + 2 * MIB, String(growing.read));
});
