/** Blocks of pcapng byte for byte, as the draft asks for them. */
import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import type { Packet } from "../../../src/pcap/packet.ts";
import {
  commentOption,
  emptyBlock,
  interfaceDescription,
  interfaceStatistics,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
} from "../../../src/pcap/pcapng_blocks.ts";
import { concat } from "../reading/files.ts";

const text = (value: string) => new TextEncoder().encode(value);
const u16 = (value: number) => Uint8Array.of(value & 0xff, value >> 8);
const u32 = (value: number) => concat(u16(value & 0xffff), u16(value >>> 16));
const u64 = (value: bigint) => concat(u32(Number(value & 0xffff_ffffn)), u32(Number(value >> 32n)));
const padded = (value: Uint8Array) => concat(value, new Uint8Array(-value.length & 3));
const option = (code: number, value: Uint8Array) => concat(u16(code), u16(value.length), padded(value));
const END = u32(0);

function block(type: number, ...parts: Uint8Array[]): Uint8Array {
  const length = u32(12 + concat(...parts).length);
  return concat(u32(type), length, ...parts, length);
}

Deno.test("sectionHeader() writes a section of unknown length, comments first", () => {
  const head = [u32(0x1a2b3c4d), u16(1), u16(0), u64(0xffff_ffff_ffff_ffffn)];
  assertEquals(sectionHeader({ application: "tool" }), block(0x0a0d0d0a, ...head, option(4, text("tool")), END));
  assertEquals(
    sectionHeader({ comments: ["a", "bcdef"], os: "Linux", application: "" }),
    block(
      0x0a0d0d0a,
      ...head,
      option(1, text("a")),
      option(1, text("bcdef")),
      option(3, text("Linux")),
      option(4, text("")),
      END,
    ),
  );
});

Deno.test("interfaceDescription() writes what is known of an interface", () => {
  const head = [u16(276), u16(0), u32(96)];
  assertEquals(
    interfaceDescription({ linkType: 276, snaplen: 96, digits: 6 }),
    block(1, ...head, option(9, Uint8Array.of(6)), END),
  );
  const full = { linkType: 276, snaplen: 96, digits: 9, name: "n", description: "four", filter: "tcp" } as const;
  assertEquals(
    interfaceDescription(full, ["said"]),
    block(
      1,
      ...head,
      option(1, text("said")),
      option(2, text("n")),
      option(3, text("four")),
      option(11, text("\0tcp")),
      option(9, Uint8Array.of(9)),
      END,
    ),
  );
});

Deno.test("interfaceStatistics() writes the counters that are known, with the time in the interface's units", () => {
  const now = 1_700_000_000_123.4;
  const time = (units: bigint) => concat(u32(Number(units >> 32n)), u32(Number(units & 0xffff_ffffn)));
  assertEquals(
    interfaceStatistics(7, 6, { received: undefined, dropped: undefined, delivered: 3 }, now),
    block(5, u32(7), time(1_700_000_000_123_000n), option(8, u64(3n)), END),
  );
  assertEquals(
    interfaceStatistics(0, 9, { received: 2 ** 40, dropped: 0, delivered: 0, comments: ["a", "b"] }, now),
    block(
      5,
      u32(0),
      time(1_700_000_000_123_000_000n),
      option(1, text("a")),
      option(1, text("b")),
      option(4, u64(1n << 40n)),
      option(5, u64(0n)),
      option(7, u64(0n)),
      option(8, u64(0n)),
      END,
    ),
  );
  const [before, bytes] = [Date.now(), interfaceStatistics(0, 6, { received: 1, dropped: 1, delivered: 1 })];
  const view = new DataView(bytes.buffer);
  const at = (view.getUint32(12, true) * 2 ** 32 + view.getUint32(16, true)) / 1000;
  assert(at >= before && at <= Date.now(), String(at));
});

Deno.test("putPacketBlock() writes a packet block into a buffer that has been used, and nothing next to it", () => {
  const times: [digits: 6 | 9, seconds: number, nanos: number, units: bigint][] = [
    [6, 1_700_000_000, 123_456_789, 1_700_000_000_123_456n],
    [9, 1_700_000_000, 123_456_789, 1_700_000_000_123_456_789n],
    [6, 0, 999, 0n],
    [9, 0, 999, 999n],
    [9, 65_535, 999_999_999, 65_535_999_999_999n],
    [9, 65_536, 0, 65_536_000_000_000n],
    [6, 4_294_967_295, 999_999_999, 4_294_967_295_999_999n],
    [9, 4_294_967_295, 999_999_999, 4_294_967_295_999_999_999n],
  ];
  for (const [digits, seconds, nanos, units] of times) {
    for (const captured of [0, 1, 2, 3, 4, 5]) {
      for (const options of [undefined, concat(option(1, text("mark")), END)]) {
        const data = Uint8Array.from({ length: captured }, (_, i) => i + 1);
        const packet: Packet = {
          bytes: concat(u32(0), data, u32(99)),
          start: 4,
          captured,
          original: 1500,
          seconds,
          nanos,
        };
        const bytes = new Uint8Array(200).fill(0xee);
        const end = putPacketBlock(bytes, new DataView(bytes.buffer), 8, packet, 3, digits, options);
        const high = u32(Number(units >> 32n)), low = u32(Number(units & 0xffff_ffffn));
        const parts = [u32(3), high, low, u32(captured), u32(1500), padded(data), options ?? new Uint8Array()];
        assertEquals(bytes.subarray(8, end), block(6, ...parts), `${units} ${captured}`);
        assert([...bytes.subarray(0, 8), ...bytes.subarray(end)].every((byte) => byte === 0xee));
        assert(end - 8 <= PACKET_BLOCK_BYTES + captured + (options?.length ?? 0));
      }
    }
  }
  same(PACKET_BLOCK_BYTES, 36);
});

Deno.test("commentOption() and emptyBlock() end as the draft asks for", () => {
  assertEquals(commentOption("abcde"), concat(option(1, text("abcde")), END));
  assertEquals(emptyBlock(), block(4, END));
});

Deno.test("a text is as long as an option can be, and a longer one is cut between characters", () => {
  const value = (written: string) => commentOption(written).subarray(4, -4);
  const longest = "x".repeat(65_535);
  assertEquals(commentOption(longest), concat(option(1, text(longest)), END));
  assertEquals(value(`${longest}y`), padded(text("x".repeat(65_532) + "…")));
  // A character of three bytes begins at 65,532, 65,531 or 65,530: it is left out where it does not fit whole.
  for (const [before, kept] of [[0, 21_844], [1, 21_843], [2, 21_843]] as const) {
    const written = "x".repeat(before) + "€".repeat(30_000);
    assertEquals(value(written), padded(text("x".repeat(before) + "€".repeat(kept) + "…")), String(before));
  }
});
