import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { promote, trim } from "../../../src/store/ring.ts";
import { Follower } from "../../../src/reading/follow.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { captureDir, header, packet, pcap } from "./files.ts";

/** A follower of a folder, with what it has to be read by the first bytes' packet numbers. */
async function follower() {
  const dir = await captureDir();
  const follower = new Follower(dir.folder, "web-0");
  const put = async (name: string, second: number, ...numbers: number[]) => {
    await dir.put(name, pcap(numbers.map((n) => packet(n))));
    await Deno.utime(join(dir.folder, name), second, second);
  };
  return {
    dir,
    follower,
    put,
    look: async () => {
      await follower.look(() => Promise.resolve(1));
      return follower.queue.map(({ bytes }) => (bytes - 24) / 76);
    },
    async [Symbol.asyncDispose]() {
      follower[Symbol.dispose]();
      await dir[Symbol.asyncDispose]();
    },
  };
}

Deno.test("Follower queues each file once, in order of time, however often it is looked at and renamed", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap1", 10, 1, 2, 3);
  await f.put("capture-web-0.pcap0", 20, 4);
  assertEquals(await f.look(), [3, 1]);
  assertEquals(await f.look(), [3, 1]);
  await promote(f.dir.folder, "web-0", 1);
  assertEquals(await f.look(), [3, 1]);
  f.follower.shift(Infinity);
  f.follower.shift(Infinity);
  await f.put("capture-web-0.pcap1", 30, 5, 6);
  assertEquals(await f.look(), [2]);
  same(f.follower.missed, undefined);
});

Deno.test("Follower notices that a file waiting to be read was overwritten, and counts its bytes", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.put("capture-web-0.pcap1", 20, 2, 3);
  await f.put("capture-web-0.pcap2", 30, 4);
  assertEquals(await f.look(), [1, 2, 1]);
  await f.put("capture-web-0.pcap1", 40, 5, 6, 7);
  assertEquals(await f.look(), [1, 1, 3]);
  same(f.follower.missed, 24 + 2 * 76);
});

Deno.test("Follower lets go of a waiting file that was trimmed, but not of the one being read", async () => {
  await using f = await follower();
  for (const n of [0, 1, 2, 3]) await f.put(`run-000001-00000${n}.pcap`, 10, n + 1);
  assertEquals(await f.look(), [1, 1, 1, 1]);
  await trim(f.dir.folder, "web-0", 2);
  assertEquals(await f.look(), [1, 1, 1]);
  same(f.follower.missed, 100);
});

Deno.test("Follower takes no file for the newest that is deleted, and emptied, while it is opened", async () => {
  await using f = await follower();
  for (const n of [0, 1]) await f.put(`capture-web-0.pcap${n}`, 10 + n, n + 1);
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    Deno.openSync = openSync;
    const file = openSync(path, options);
    using emptied = openSync(path, { write: true });
    Deno.removeSync(path);
    emptied.truncateSync();
    return file;
  };
  try {
    assertEquals(await f.look(), [1]);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("Follower notices that it missed packets when the ring went around between two looks", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.put("capture-web-0.pcap1", 20, 2);
  await f.look();
  f.follower.shift(Infinity);
  f.follower.shift(Infinity);
  await f.put("capture-web-0.pcap0", 30, 3);
  await f.put("capture-web-0.pcap1", 40, 4);
  assertEquals(await f.look(), [1, 1]);
  same(f.follower.missed, 0);
});

Deno.test("Follower is not misled by a clock that was set back", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 1010, 1);
  await f.put("capture-web-0.pcap1", 1020, 2);
  assertEquals(await f.look(), [1, 1]);
  f.follower.shift(Infinity);
  f.follower.shift(Infinity);
  await f.put("capture-web-0.pcap2", 15, 3, 4);
  assertEquals(await f.look(), [2]);
  // What was the newest by its modification time is overwritten, as the oldest that it is.
  await f.put("capture-web-0.pcap0", 25, 5);
  await f.put("capture-web-0.pcap1", 35, 6, 7, 8);
  assertEquals(await f.look(), [2, 1, 3]);
  same(f.follower.missed, undefined);
});

Deno.test("Follower does not take a file without packets that is written again as missed", async () => {
  await using f = await follower();
  await f.dir.put("capture-web-0.pcap0", header());
  await f.look();
  await Deno.remove(join(f.dir.folder, "capture-web-0.pcap0"));
  await f.put("capture-web-0.pcap0", 20, 1);
  await f.look();
  same(f.follower.missed, undefined);
});

Deno.test("Follower reports when the folder is gone, and what was open can still be read", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.look();
  await Deno.remove(f.dir.folder, { recursive: true });
  await f.look();
  same(f.follower.ended, true);
  same(f.follower.queue[0]?.read(new Uint8Array(200)), 100);
});

/** As tcpdump's: larger than one megabyte by less than a packet. */
const FULL = Array.from({ length: 10 }, (_, i) => i + 1);

Deno.test("Follower recognises a file by its bytes though it is renamed between listing and opening", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.put("capture-web-0.pcap1", 20, 2, 3);
  await f.look();
  // The newest file has grown and is finished, so it is opened, and just then set aside.
  await f.put("capture-web-0.pcap1", 30, 2, 3, 4);
  await f.put("capture-web-0.pcap2", 40, 5);
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    if (String(path).endsWith("pcap1")) {
      Deno.openSync = openSync;
      Deno.renameSync(path, join(f.dir.folder, "run-000001-000001.pcap"));
    }
    return openSync(path, options);
  };
  try {
    assertEquals(await f.look(), [1, 2, 1]);
  } finally {
    Deno.openSync = openSync;
  }
  same(f.follower.missed, undefined);
  assertEquals(await f.look(), [1, 2, 1]);
  same(f.follower.missed, undefined);
});

Deno.test("Follower recognises a file again that a whole look missed, because its ring was being renamed", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.put("capture-web-0.pcap1", 20, 2, 3);
  await f.look();
  f.follower.shift(100);
  f.follower.shift(24 + 2 * 76);
  const { lstatSync } = Deno;
  Deno.lstatSync = (path) => {
    if (String(path).endsWith("pcap1")) throw new Deno.errors.NotFound();
    return lstatSync(path);
  };
  try {
    assertEquals(await f.look(), []);
  } finally {
    Deno.lstatSync = lstatSync;
  }
  await promote(f.dir.folder, "web-0", 1);
  assertEquals(await f.look(), []);
  same(f.follower.missed, undefined);
});

Deno.test("Follower takes a file that was begun again since it was listed as the newest", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1, 2, 3);
  await f.put("capture-web-0.pcap1", 20, 4);
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    Deno.openSync = openSync;
    Deno.writeFileSync(path, pcap([packet(5), packet(6)]));
    return openSync(path, options);
  };
  try {
    assertEquals(await f.look(), [1, 2]);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("Follower puts the file that tcpdump writes to last though the clock was set back", async () => {
  await using f = await follower();
  const put = async (name: string, second: number, numbers: number[]) => {
    await f.dir.put(name, pcap(numbers.map((n) => packet(n, 100_100))));
    await Deno.utime(join(f.dir.folder, name), second, second);
  };
  await put("capture-web-0.pcap0", 5010, FULL);
  await put("capture-web-0.pcap1", 5020, FULL.map((n) => n + 10));
  await put("capture-web-0.pcap2", 15, [21]);
  await f.look();
  assertEquals(f.follower.queue.map(({ name }) => name.at(-1)), ["0", "1", "2"]);
});

Deno.test("Follower queues a file again that grows though it was held to be finished, from where it was read to", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 20, 1, 2);
  await f.put("capture-web-0.pcap1", 30, 3);
  await f.look();
  f.follower.shift(24 + 2 * 76);
  await f.put("capture-web-0.pcap0", 40, 1, 2, 7, 8);
  await f.look();
  assertEquals(f.follower.queue.map(({ name }) => name.at(-1)), ["1", "0"]);
  const again = f.follower.queue[1]!;
  again.follow();
  const reader = new PcapReader(again, { growing: true });
  const numbers: number[] = [];
  while (reader.next()) numbers.push(reader.bytes[reader.start]!);
  assertEquals([numbers, again.offsetOf(reader.offset), again.run], [[7, 8], 24 + 4 * 76, 1]);
});

Deno.test("Follower counts what a file took in while it waited and then lost", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.dir.put("capture-web-0.pcap1", header());
  await f.look();
  await f.put("capture-web-0.pcap1", 20, 2, 3);
  await f.put("capture-web-0.pcap2", 30, 4);
  await f.look();
  await f.put("capture-web-0.pcap1", 50, 5);
  await f.look();
  assert(f.follower.missed !== undefined);
});

Deno.test("Follower leaves the files of another capture in the same folder alone", async () => {
  await using f = await follower();
  await f.put("capture-web-0.pcap0", 10, 1);
  await f.look();
  await f.put("capture-web-0.pcap1", 20, 2);
  await f.follower.look(() => Promise.resolve(undefined));
  same(f.follower.ended, true);
  same(f.follower.queue.length, 1);
});
