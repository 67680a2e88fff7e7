import { deepStrictEqual as assertEquals } from "node:assert/strict";
import fc from "fast-check";
import { BLOCK, dataView, OPTION, optionsIn } from "../../../src/pcap/pcapng_format.ts";
import { concat } from "../reading/files.ts";
import { option } from "./option.ts";

/** The options in the middle of a buffer, from `front` bytes on up to `back` bytes before its end. */
function read(bytes: Uint8Array, littleEndian: boolean, front = 0, back = 0) {
  const found = optionsIn({ bytes, view: dataView(bytes) }, littleEndian, front, bytes.length - back);
  return [...found].map(({ code, bytes }) => ({ code, value: [...bytes] }));
}

const anyOptions = fc.array(fc.record({
  code: fc.integer({ min: 1, max: 0xffff }),
  value: fc.array(fc.nat(255), { maxLength: 9 }),
}, { noNullPrototype: true }));

Deno.test("optionsIn() gives back what was put in, in both byte orders, and nothing from beyond its bounds", () => {
  fc.assert(fc.property(anyOptions, fc.boolean(), fc.nat(9), fc.nat(9), (options, le, front, back) => {
    const inside = options.map(({ code, value }) => option(code, Uint8Array.from(value), le));
    const all = concat(new Uint8Array(front).fill(1), ...inside, new Uint8Array(back).fill(1));
    assertEquals(read(all, le, front, back), options);
    // Nothing follows an end mark.
    const ended = concat(...inside, option(0, new Uint8Array(), le), option(1, Uint8Array.of(7), le));
    assertEquals(read(ended, le), options);
  }));
});

Deno.test("optionsIn() ends before an option that does not fit, and takes one whose padding is missing", () => {
  for (const le of [true, false]) {
    const both = concat(option(2, Uint8Array.of(9), le), option(3, Uint8Array.of(1, 2, 3), le));
    const first = { code: 2, value: [9] };
    assertEquals(read(both.subarray(0, 15), le), [first, { code: 3, value: [1, 2, 3] }]);
    for (const length of [14, 12, 11, 8, 5]) assertEquals(read(both.subarray(0, length), le), [first], `${length}`);
    for (const length of [4, 3, 0]) assertEquals(read(both.subarray(0, length), le), []);
    assertEquals(read(option(5, new Uint8Array(), le), le), [{ code: 5, value: [] }]);
  }
});

Deno.test("optionsIn() reads a value as UTF-8", () => {
  const bytes = option(1, new TextEncoder().encode("a €"), true);
  assertEquals([...optionsIn({ bytes, view: dataView(bytes) }, true, 0, bytes.length)].map(({ text }) => text), [
    "a €",
  ]);
});

Deno.test("dataView() is of a part of an array, and of no more", () => {
  const view = dataView(Uint8Array.of(1, 2, 3, 4).subarray(1, 3));
  assertEquals([view.byteLength, view.getUint8(0)], [2, 2]);
});

Deno.test("blocks and options have the numbers of the standard", () => {
  // draft-ietf-opsawg-pcapng, sections 3 and 4.
  assertEquals(BLOCK, {
    section: 0x0a0d0d0a,
    interface: 1,
    obsoletePacket: 2,
    simplePacket: 3,
    names: 4,
    statistics: 5,
    packet: 6,
  });
  assertEquals(OPTION, {
    comment: 1,
    section: { hardware: 2, os: 3, application: 4 },
    interface: { name: 2, description: 3, resolution: 9, filter: 11, os: 12, offset: 14 },
    statistics: { start: 2, end: 3, received: 4, dropped: 5, accepted: 6, osDropped: 7, delivered: 8 },
  });
});
