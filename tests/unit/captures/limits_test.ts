/** The disk's floor, torn records, the argument vector. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import { DiskFloor, type FileSystem } from "../../../src/limits/disk.ts";
import { tcpdumpArgv } from "../../../src/tcpdump/tcpdump.ts";
import { cutTornRecord } from "../../../src/store/repair.ts";

Deno.test("DiskFloor pauses below the floor, resumes two percent above it, and does not flutter between", async () => {
  let fs: FileSystem = { bsize: 4096, blocks: 1000, bavail: 500, files: 1000, ffree: 500 };
  const floor = new DiskFloor("/", 16, () => Promise.resolve(fs));
  const at = async (change: Partial<FileSystem>) => {
    fs = { ...fs, ...change };
    const turned = await floor.look();
    return [floor.paused !== undefined, turned];
  };
  assertEquals(await at({ bavail: 160 }), [false, false]);
  assertEquals(await at({ bavail: 159 }), [true, true]);
  assertEquals(await at({ bavail: 170 }), [true, false]);
  assertEquals(await at({ bavail: 180 }), [false, true]);
  assertEquals(await at({ bavail: 161 }), [false, false]);
  assertEquals(await at({ ffree: 0 }), [true, true]);
  assert(floor.paused?.includes("inodes"));
  assertEquals(await at({ ffree: 500 }), [false, true]);
  assertEquals(await at({ files: 0, ffree: 0 }), [false, false], "btrfs counts no inodes");
  assertEquals(floor.freeBytes, 161 * 4096);
});

Deno.test("DiskFloor pauses without a floor when nothing is free, and with any floor resumes on a disk that is nearly all free", async () => {
  for (
    const [floor, bavail, paused] of [[0, 0, true], [0, 19, true], [0, 20, false], [99, 0, true], [
      99,
      995,
      false,
    ]] as const
  ) {
    let free = 0;
    const disk = new DiskFloor(
      "/",
      floor,
      () => Promise.resolve({ bsize: 4096, blocks: 1000, bavail: free, files: 0, ffree: 0 }),
    );
    await disk.look();
    assert(disk.paused !== undefined);
    free = bavail;
    await disk.look();
    assertEquals(disk.paused !== undefined, paused, `${bavail} of 1000 free with a floor of ${floor} %`);
  }
});

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

Deno.test("tcpdumpArgv() is the promised command, with the filter as the one argument after --", () => {
  const argv = (filter?: string) =>
    tcpdumpArgv({
      tcpdump: "/usr/local/bin/tcpdump",
      nsenter: "/usr/bin/nsenter",
      request: {
        files: 5,
        fileSizeMB: 1,
        snaplen: 262144,
        interface: "any",
        direction: "inout",
        ...(filter === undefined ? {} : { filter }),
      },
      netnsPath: "/run/netns/cni-1",
      file: "/captures/default/web/capture-web.pcap",
    });
  assertEquals(
    argv().join(" "),
    "/usr/bin/nsenter --net=/run/netns/cni-1 -- " +
      // The tests run as root; with fewer capabilities fewer are kept.
      "capsh --no-new-privs --caps=cap_net_raw,cap_setgid,cap_setuid=ep --shell=/usr/bin/prlimit -- --as=85000000 --core=1 -- " +
      "/usr/local/bin/tcpdump -n -p -C 1 -W 5 -s 262144 -i any -Z root -U -B 4096 " +
      "-w /captures/default/web/capture-web.pcap",
  );
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.constantFrom("-z sh", "-w /etc/passwd", "; id", "$(id)", "--")), (filter) => {
      const vector = argv(filter);
      assertEquals(vector.slice(-2), ["--", filter]);
      assertEquals(vector.slice(0, -2), argv());
    }),
  );
});
