import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { DiskFloor, type FileSystem } from "../../../src/limits/disk.ts";

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
