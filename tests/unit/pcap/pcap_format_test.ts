import { deepStrictEqual as assertEquals, strictEqual as same } from "node:assert/strict";
import { parsePcapHeader, pcapHeader, peekPcap, putPcapRecord } from "../../../src/pcap/pcap_format.ts";
import { concat, header, packet, pcap, START } from "../reading/files.ts";

const at = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

Deno.test("parsePcapHeader() reads both byte orders and resolutions, wherever the header stands", () => {
  for (const littleEndian of [true, false]) {
    for (const digits of [6, 9] as const) {
      const bytes = concat(new Uint8Array(5), header({ littleEndian, digits, linkType: 113, snaplen: 96 }));
      assertEquals(parsePcapHeader(at(bytes), 5), { littleEndian, digits, linkType: 113, snaplen: 96 });
      same(parsePcapHeader(at(bytes), 1), undefined);
    }
  }
});

Deno.test("parsePcapHeader() passes over how long a frame check sequence is", () => {
  const bytes = header({ linkType: 0xffff });
  at(bytes).setUint32(20, 0x4400_ffff, true);
  same(parsePcapHeader(at(bytes), 0)?.linkType, 0xffff);
});

Deno.test("pcapHeader() and putPcapRecord() write what another's hand writes", () => {
  for (const digits of [6, 9] as const) {
    const options = { digits, linkType: 101, snaplen: 96 };
    const time = START + 123_456_789n;
    const bytes = new Uint8Array(100).fill(0xff);
    const end = putPcapRecord(bytes, at(bytes), 10, {
      bytes: Uint8Array.of(9, 1, 2, 3, 9),
      start: 1,
      captured: 3,
      original: 1500,
      seconds: Number(time / 1_000_000_000n),
      nanos: 123_456_789,
    }, digits);
    const expected = pcap([{ time, data: Uint8Array.of(1, 2, 3), original: 1500 }], options);
    assertEquals(concat(pcapHeader(options), bytes.subarray(10, end)), expected);
    assertEquals([bytes[9], bytes[end]], [0xff, 0xff]);
  }
});

Deno.test("peekPcap() reads the front of a file, as far as it is there", () => {
  const options = { linkType: 113, snaplen: 96 };
  for (const [digits, nanos] of [[6, 123_456_000], [9, 123_456_789]] as const) {
    const bytes = pcap([{ time: START + 123_456_789n, data: new Uint8Array(9) }], { ...options, digits });
    const [header, first] = [{ ...options, digits }, { seconds: 1_700_000_000, nanos }];
    assertEquals(peekPcap(bytes), { header, first });
    // In the middle of another buffer.
    assertEquals(peekPcap(concat(new Uint8Array(3), bytes).subarray(3)), { header, first });
    assertEquals(peekPcap(bytes.subarray(0, 40)), { header, first });
    assertEquals(peekPcap(bytes.subarray(0, 39)), { header });
    assertEquals(peekPcap(bytes.subarray(0, 24)), { header });
    assertEquals(peekPcap(bytes.subarray(0, 23)), {});
    assertEquals(peekPcap(bytes.subarray(1)), {});
  }
});

Deno.test("peekPcap() takes zeros for no packet, but a packet of 1970 for one", () => {
  const zeros = concat(header(), new Uint8Array(60));
  same(peekPcap(zeros).first, undefined);
  same(peekPcap(zeros).header?.linkType, 276);
  for (const field of [0, 8, 12]) {
    const bytes = zeros.slice();
    at(bytes).setUint32(24 + field, 1, true);
    assertEquals(peekPcap(bytes).first, { seconds: field === 0 ? 1 : 0, nanos: 0 });
  }
  same(peekPcap(pcap([packet(1)])).first?.seconds, 1_700_000_000);
});
