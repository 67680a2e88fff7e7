import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import { cutTornRecord } from "../../../src/store/repair.ts";

/** A little-endian pcap with records of the given lengths. */
function pcap(lengths: number[], bigEndian = false): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(24 + lengths.reduce((sum, n) => sum + 16 + n, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0xa1b2c3d4, !bigEndian);
  view.setUint32(16, 262_144, !bigEndian);
  view.setUint32(20, 276, !bigEndian);
  let at = 24;
  for (const n of lengths) {
    view.setUint32(at + 8, n, !bigEndian);
    view.setUint32(at + 12, n, !bigEndian);
    at += 16 + n;
  }
  return bytes;
}

Deno.test("cutTornRecord() cuts after the last whole record, wherever the file was torn", async () => {
  const directory = await Deno.makeTempDir({ prefix: "pc-torn-" });
  try {
    const path = join(directory, "x.pcap");
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 60_000, max: 140_000 })), {
          maxLength: 12,
        }),
        fc.nat(),
        fc.boolean(),
        async (lengths, where, bigEndian) => {
          const whole = pcap(lengths, bigEndian);
          const size = where % (whole.length + 1);
          await Deno.writeFile(path, whole.subarray(0, size));
          let expected = size < 24 ? 0 : 24;
          if (size >= 24) {
            for (const n of lengths) {
              if (expected + 16 + n <= size) expected += 16 + n;
              else break;
            }
          }
          assertEquals(await cutTornRecord(path), size - expected);
          assertEquals((await Deno.stat(path)).size, expected);
        },
      ),
      { numRuns: 200 },
    );
    await Deno.writeTextFile(path, "this is no capture file at all");
    assertEquals(await cutTornRecord(path), 0);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});
