import { deepStrictEqual as assertEquals, ok as assert, rejects as assertRejects } from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import {
  keepNames,
  lastRunNumber,
  lastWritten,
  listRing,
  promote,
  READING_LOCK,
  ringFileName,
  runNumber,
  setAside,
  trim,
} from "../../../src/store/ring.ts";

async function folder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "pc-ring-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** A file whose content is its first name, longer than a pcap header, last written `second` seconds after the epoch. */
async function put(path: string, name: string, second: number): Promise<void> {
  await Deno.writeTextFile(join(path, name), name.padEnd(40));
  await Deno.utime(join(path, name), second, second);
}

const names = async (path: string, pod: string) => (await listRing(path, pod)).map((file) => file.name);
const contents = async (path: string, pod: string) =>
  await Promise.all((await listRing(path, pod)).map(async (file) => (await Deno.readTextFile(file.path)).trim()));

Deno.test("ringFileName() is what tcpdump makes of -C and -W", () => {
  assertEquals(ringFileName("web", 0, 1), "capture-web.pcap");
  assertEquals(ringFileName("web", 0, 2), "capture-web.pcap0");
  assertEquals(ringFileName("web", 9, 10), "capture-web.pcap9");
  assertEquals(ringFileName("web", 0, 11), "capture-web.pcap00");
  assertEquals(ringFileName("web", 7, 100), "capture-web.pcap07");
  assertEquals(ringFileName("web", 7, 101), "capture-web.pcap007");
});

Deno.test("ringFileName() stays within NAME_MAX for the longest pod name", () => {
  const name = ringFileName("p".repeat(253), 9999, 10_000);
  assert(name.length <= 255, String(name.length));
});

Deno.test("listRing() puts files in order, however the ring has wrapped, and takes nobody else's files", async () => {
  await using dir = await folder();
  await put(dir.path, "capture-web.pcap0", 30);
  await put(dir.path, "capture-web.pcap1", 40);
  await put(dir.path, "capture-web.pcap2", 20);
  await put(dir.path, "run-000001-000000.pcap", 90);
  await put(dir.path, "run-000002-000001.pcap", 15);
  await put(dir.path, "run-000002-000000.pcap", 16);
  for (const other of ["capture-web-1.pcap0", "capture-web.pcap.bak", "capture-webx.pcap0", "notes", "run-1-1.pcap"]) {
    await put(dir.path, other, 50);
  }
  await Deno.symlink("/etc/passwd", join(dir.path, "capture-web.pcap7"));
  await Deno.mkdir(join(dir.path, "capture-web.pcap8"));
  assertEquals(await names(dir.path, "web"), [
    "run-000001-000000.pcap",
    "run-000002-000000.pcap",
    "run-000002-000001.pcap",
    "capture-web.pcap2",
    "capture-web.pcap0",
    "capture-web.pcap1",
  ]);
});

Deno.test("promote() finds a file that tcpdump begins again meanwhile as the newest", async () => {
  await using dir = await folder();
  for (const [second, index] of [2, 3, 4, 0, 1].entries()) {
    await put(dir.path, ringFileName("web", index, 5), second + 1);
  }
  const { rename } = Deno;
  // The ring wraps just before the oldest file is renamed.
  Deno.rename = async (from, to) => {
    Deno.rename = rename;
    await Deno.writeTextFile(join(dir.path, "capture-web.pcap2"), "begun anew");
    await rename(from, to);
  };
  try {
    await promote(dir.path, "web", 1);
  } finally {
    Deno.rename = rename;
  }
  assertEquals(await contents(dir.path, "web"), [
    "capture-web.pcap3",
    "capture-web.pcap4",
    "capture-web.pcap0",
    "capture-web.pcap1",
    "begun anew",
  ]);
});

Deno.test("promote() keeps all bytes and their order, however often it is interrupted", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.nat(9),
      fc.integer({ min: 1, max: 10 }),
      fc.array(fc.nat(10), { maxLength: 4 }),
      async (oldest, length, interruptions) => {
        await using dir = await folder();
        // Where the ring has not gone around, it begins anywhere: others were set aside before.
        const written = Array.from({ length }, (_, i) => (oldest + i) % 10);
        for (const [second, index] of written.entries()) {
          await put(dir.path, ringFileName("web", index, 10), second + 1);
        }
        const before = await contents(dir.path, "web");
        assertEquals(before, written.map((index) => ringFileName("web", index, 10)));
        // An interruption: some files have been renamed, the rest has not.
        for (const done of interruptions) {
          const current = (await listRing(dir.path, "web")).filter((file) => !file.earlier);
          const earlier = (await listRing(dir.path, "web")).length - current.length;
          for (const [i, file] of current.slice(0, done).entries()) {
            await Deno.rename(file.path, join(dir.path, `run-000003-${String(earlier + i).padStart(6, "0")}.pcap`));
          }
          assertEquals(await contents(dir.path, "web"), before);
          await promote(dir.path, "web", 3);
        }
        await promote(dir.path, "web", 3);
        assertEquals(await contents(dir.path, "web"), before);
        assert((await names(dir.path, "web")).every((name) => name.startsWith("run-000003-")));
      },
    ),
    { numRuns: 50 },
  );
});

/** Files of a ring by their index, with so many bytes, as tcpdump leaves them on disk: nothing is stored of the zeros. */
async function putSizes(path: string, sizes: readonly number[], second: (index: number) => number): Promise<void> {
  for (const [index, size] of sizes.entries()) {
    const file = join(path, ringFileName("web", index, sizes.length));
    await Deno.writeTextFile(file, "");
    await Deno.truncate(file, size);
    await Deno.utime(file, second(index), second(index));
  }
}

Deno.test("listRing() finds the file that tcpdump writes to by its size, whatever the clock did", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 2, max: 12 }),
      fc.nat(11),
      fc.integer({ min: 1, max: 3 }),
      // Sizes beyond -C by less than a packet, and the newest file's up to it.
      fc.array(fc.integer({ min: 1, max: 262_160 }), { minLength: 12, maxLength: 12 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.array(fc.integer({ min: 1, max: 2_000_000_000 }), { minLength: 12, maxLength: 12 }),
      async (files, newestOf, megabytes, beyond, filled, seconds) => {
        await using dir = await folder();
        const newest = newestOf % files;
        const sizes = Array.from(
          { length: files },
          (_, i) => i === newest ? Math.round(filled * megabytes * 1e6) : megabytes * 1e6 + beyond[i]!,
        );
        await putSizes(dir.path, sizes, (index) => seconds[index]!);
        assertEquals(
          await names(dir.path, "web"),
          sizes.map((_, i) => ringFileName("web", (newest + 1 + i) % files, files)),
        );
      },
    ),
    { numRuns: 50 },
  );
});

Deno.test("listRing() finds the newest file while none is unfinished, or several seem to be", async () => {
  await using dir = await folder();
  // The last packet has filled file 1: the times tell, and of equal ones the one whose follower is older.
  await putSizes(dir.path, [1_000_080, 1_000_100, 1_000_090, 1_000_040], (index) => [100, 100, 40, 60][index]!);
  assertEquals((await names(dir.path, "web")).at(-1), "capture-web.pcap1");
  await putSizes(dir.path, [1_000_080, 1_000_100, 1_000_090, 1_000_040], (index) => [100, 40, 60, 100][index]!);
  assertEquals((await names(dir.path, "web")).at(-1), "capture-web.pcap0");
  // The ring has not gone around since the others were set aside: the gap tells, also where it is at an end.
  await Deno.remove(join(dir.path, "capture-web.pcap1"));
  assertEquals((await names(dir.path, "web")).at(-1), "capture-web.pcap0");
  await Deno.utime(join(dir.path, "capture-web.pcap0"), 1, 1);
  assertEquals((await names(dir.path, "web")).at(-1), "capture-web.pcap0");
  await Deno.remove(join(dir.path, "capture-web.pcap0"));
  await Deno.utime(join(dir.path, "capture-web.pcap3"), 1, 1);
  assertEquals(await names(dir.path, "web"), ["capture-web.pcap2", "capture-web.pcap3"]);
  // tcpdump has gone on from file 2 to file 3 and to file 0, after file 2 was looked at.
  await putSizes(dir.path, [24, 1_000_080, 999_000, 500_000], (index) => [5, 900, 4, 3][index]!);
  assertEquals(await names(dir.path, "web"), [1, 2, 3, 0].map((index) => `capture-web.pcap${index}`));
});

Deno.test("listRing() finds a file that is renamed while it lists, whether it blocks or not", async () => {
  for (const blocking of [true, false]) {
    await using dir = await folder();
    for (const index of [0, 1, 2]) await put(dir.path, ringFileName("web", index, 3), index + 1);
    const { lstat, lstatSync } = Deno;
    let listings = 0;
    const rename = (path: string | URL) => {
      if (String(path).endsWith("pcap0") && ++listings === 1) {
        Deno.renameSync(path, join(dir.path, "run-000001-000000.pcap"));
      }
    };
    Deno.lstat = (path) => (rename(path), lstat(path));
    Deno.lstatSync = (path) => (rename(path), lstatSync(path));
    try {
      const found = (await listRing(dir.path, "web", { blocking })).map(({ name }) => name);
      assertEquals(found, ["run-000001-000000.pcap", "capture-web.pcap1", "capture-web.pcap2"]);
    } finally {
      Object.assign(Deno, { lstat, lstatSync });
    }
    assertEquals(listings, 1);
  }
});

Deno.test("promote() at the same time from two sides never overwrites a file", async () => {
  await using dir = await folder();
  for (let i = 0; i < 10; i++) await put(dir.path, ringFileName("web", i, 10), i + 1);
  await Promise.all([promote(dir.path, "web", 1), promote(dir.path, "web", 1), promote(dir.path, "web", 2)]);
  assertEquals((await contents(dir.path, "web")).sort(), Array.from({ length: 10 }, (_, i) => `capture-web.pcap${i}`));
});

Deno.test("promote() drops files without packets only when asked to", async () => {
  await using dir = await folder();
  await Deno.writeFile(join(dir.path, "capture-web.pcap0"), new Uint8Array(24));
  await promote(dir.path, "web", 1);
  assertEquals(await names(dir.path, "web"), ["run-000001-000000.pcap"]);
  await Deno.writeFile(join(dir.path, "capture-web.pcap1"), new Uint8Array(24));
  await promote(dir.path, "web", 1, { dropEmpty: true });
  assertEquals(await names(dir.path, "web"), ["run-000001-000000.pcap"]);
});

Deno.test("trim() deletes the oldest earlier files down to N, and none of the present ring", async () => {
  await using dir = await folder();
  for (let i = 0; i < 5; i++) await put(dir.path, `run-000001-00000${i}.pcap`, i + 1);
  for (let i = 0; i < 3; i++) await put(dir.path, ringFileName("web", i, 5), 10 + i);
  await trim(dir.path, "web", 5);
  assertEquals(await names(dir.path, "web"), [
    "run-000001-000003.pcap",
    "run-000001-000004.pcap",
    "capture-web.pcap0",
    "capture-web.pcap1",
    "capture-web.pcap2",
  ]);
  await trim(dir.path, "web", 2);
  assertEquals((await names(dir.path, "web")).length, 3, "the present ring is tcpdump's");
});

Deno.test("trim() leaves a reader its snapshot, but never more than 2N files", async () => {
  await using dir = await folder();
  for (let i = 0; i < 7; i++) await put(dir.path, `run-000001-00000${i}.pcap`, i + 1);
  for (let i = 0; i < 5; i++) await put(dir.path, ringFileName("web", i, 5), 10 + i);
  {
    using reading = await Deno.open(join(dir.path, READING_LOCK), { read: true, write: true, create: true });
    await reading.lock(false);
    await trim(dir.path, "web", 5);
    assertEquals((await names(dir.path, "web")).length, 10);
  }
  await trim(dir.path, "web", 5);
  assertEquals((await names(dir.path, "web")).length, 5);
});

Deno.test("promote() waits for another promotion of the same folder to end", async () => {
  await using dir = await folder();
  await put(dir.path, "capture-web.pcap0", 1);
  using other = await Deno.open(join(dir.path, ".promoting"), { read: true, write: true, create: true });
  await other.lock(true);
  let done = false;
  const promoted = promote(dir.path, "web", 1).then(() => done = true);
  for (let i = 0; i < 20; i++) assertEquals(await names(dir.path, "web"), ["capture-web.pcap0"]);
  assertEquals(done, false);
  await other.unlock();
  await promoted;
  assertEquals(await names(dir.path, "web"), ["run-000001-000000.pcap"]);
});

Deno.test("promote() does not wait for ever for one that was stopped half way, and reports it", async () => {
  await using dir = await folder();
  await put(dir.path, "capture-web.pcap0", 1);
  using other = await Deno.open(join(dir.path, ".promoting"), { read: true, write: true, create: true });
  await other.lock(true);
  // Ten seconds pass at each look at the clock.
  const { now } = performance;
  let seconds = 0;
  performance.now = () => (seconds += 10) * 1000;
  try {
    await assertRejects(
      promote(dir.path, "web", 1),
      /^TimedOut: Cannot set files aside in .*: another process has held them for 5 s$/,
    );
  } finally {
    performance.now = now;
  }
  assertEquals(await names(dir.path, "web"), ["capture-web.pcap0"]);
});

Deno.test("promote() makes its lock for its owner alone, whatever the process's umask is", async () => {
  await using dir = await folder();
  await put(dir.path, "capture-web.pcap0", 1);
  await promote(dir.path, "web", 1);
  assertEquals(((await Deno.stat(join(dir.path, ".promoting"))).mode ?? 0) & 0o777, 0o600);
});

Deno.test("listRing() takes no name that only contains one of ours", async () => {
  await using dir = await folder();
  for (const name of ["x-run-000001-000000.pcap", "run-000001-000000.pcap.gz", "run-0000011-00000.pcap"]) {
    await put(dir.path, name, 1);
  }
  assertEquals(await names(dir.path, "web"), []);
});

Deno.test("listRing() lists once where nothing is missing, and gives up what is missing again and again", async () => {
  await using dir = await folder();
  for (const index of [0, 1, 2, 3, 4]) await put(dir.path, ringFileName("web", index, 5), index + 1);
  const { readDir, lstat, lstatSync } = Deno;
  let listings = 0, goneFile = "none";
  const check = (path: string | URL) => {
    if (String(path).endsWith(goneFile)) throw new Deno.errors.NotFound();
  };
  Deno.readDir = (path) => {
    if (++listings > 100) throw new Error("listed for ever");
    return readDir(path);
  };
  Deno.lstatSync = (path) => (check(path), lstatSync(path));
  Deno.lstat = async (path) => (check(path), await lstat(path));
  try {
    for (const blocking of [true, false]) {
      for (const [gone, found, expected] of [["none", 5, 1], ["pcap1", 4, 20]] as const) {
        listings = 0;
        goneFile = gone;
        assertEquals((await listRing(dir.path, "web", { blocking })).length, found);
        assertEquals(listings, expected);
      }
    }
  } finally {
    Object.assign(Deno, { readDir, lstat, lstatSync });
  }
});

Deno.test("listRing() waits for the disk in the thread only when asked to, and passes on what else is wrong", async () => {
  await using dir = await folder();
  await put(dir.path, "capture-web.pcap0", 1);
  const { lstat, lstatSync } = Deno;
  const refuse = () => {
    throw new Deno.errors.PermissionDenied("no");
  };
  try {
    Deno.lstatSync = refuse;
    assertEquals(await names(dir.path, "web"), ["capture-web.pcap0"]);
    await assertRejects(listRing(dir.path, "web", { blocking: true }), Deno.errors.PermissionDenied);
    Object.assign(Deno, { lstat: refuse, lstatSync });
    assertEquals((await listRing(dir.path, "web", { blocking: true })).length, 1);
    await assertRejects(listRing(dir.path, "web"), Deno.errors.PermissionDenied);
  } finally {
    Object.assign(Deno, { lstat, lstatSync });
  }
});

Deno.test("listRing() finds the newest file at the very limit, of a ring with several gaps, and where nothing shows it", async () => {
  await using dir = await folder();
  // File 1 is full to the byte: only the next packet ends it. The times mislead.
  await putSizes(dir.path, [24, 1_000_000, 1_000_080, 1_000_080], (index) => [1, 2, 4, 3][index]!);
  assertEquals((await names(dir.path, "web")).at(-1), "capture-web.pcap1");
  // All are finished, and two gaps tell nothing: the times do.
  await using other = await folder();
  await putSizes(other.path, Array.from({ length: 8 }, () => 1_000_080), (index) => index === 4 ? 900 : index);
  for (const index of [0, 1, 3, 5, 6]) await Deno.remove(join(other.path, `capture-web.pcap${index}`));
  assertEquals(await names(other.path, "web"), [7, 2, 4].map((index) => `capture-web.pcap${index}`));
  for (const index of [2, 4, 7]) await Deno.utime(join(other.path, `capture-web.pcap${index}`), 5, 5);
  assertEquals(await names(other.path, "web"), [2, 4, 7].map((index) => `capture-web.pcap${index}`));
});

Deno.test("runNumber(), lastRunNumber() and lastWritten() find what a run has left", async () => {
  await using dir = await folder();
  for (const [second, name] of ["run-000002-000000.pcap", "run-000011-000003.pcap", "capture-web.pcap0"].entries()) {
    await put(dir.path, name, second + 1);
  }
  const files = await listRing(dir.path, "web");
  assertEquals(files.map(runNumber), [2, 11, undefined]);
  assertEquals([lastRunNumber(files), lastRunNumber(files.slice(2)), lastRunNumber([])], [11, 0, 0]);
  const written = (run?: number, some = files) => lastWritten(some, run).map(({ name }) => name);
  assertEquals(written(11), ["run-000011-000003.pcap", "capture-web.pcap0"]);
  assertEquals(written(), ["run-000011-000003.pcap", "capture-web.pcap0"]);
  assertEquals(written(2), ["capture-web.pcap0"]);
  assertEquals(written(2, files.slice(2)), ["capture-web.pcap0"]);
});

Deno.test("setAside() counts on from its own run's files, and keeps files without packets unless asked otherwise", async () => {
  await using dir = await folder();
  for (const name of ["run-000001-000007.pcap", "run-000002-000003.pcap"]) await put(dir.path, name, 1);
  await Deno.writeFile(join(dir.path, "capture-web.pcap0"), new Uint8Array(24));
  await setAside(dir.path, await listRing(dir.path, "web"), 2);
  await Deno.writeFile(join(dir.path, "capture-web.pcap0"), new Uint8Array(25));
  await setAside(dir.path, await listRing(dir.path, "web"), 3, { dropEmpty: true });
  assertEquals(await names(dir.path, "web"), [
    "run-000001-000007.pcap",
    "run-000002-000003.pcap",
    "run-000002-000004.pcap",
    "run-000003-000000.pcap",
  ]);
});

Deno.test("keepNames() holds its lock alone, waits out the time to the end, and leaves nothing open when it gives up", async () => {
  await using dir = await folder();
  using other = await Deno.open(join(dir.path, ".promoting"), { read: true, write: true, create: true });
  {
    using _names = await keepNames(dir.path);
    assertEquals(await other.tryLock(false), false);
  }
  await other.lock(true);
  const { now } = performance;
  const { close } = Deno.FsFile.prototype;
  let looks = 0, closed = 0;
  const times = [0, 5000, 5001];
  performance.now = () => times[looks++] ?? 9999;
  Deno.FsFile.prototype.close = function () {
    closed++;
    close.call(this);
  };
  try {
    await assertRejects(keepNames(dir.path), Deno.errors.TimedOut);
  } finally {
    performance.now = now;
    Deno.FsFile.prototype.close = close;
  }
  assertEquals([looks, closed], [3, 1]);
});

Deno.test("trim() reports what is left, deletes nothing of fewer than N files, and does not look for readers then", async () => {
  await using dir = await folder();
  for (let i = 0; i < 4; i++) await put(dir.path, `run-000001-00000${i}.pcap`, i + 1);
  await Deno.writeTextFile(join(dir.path, READING_LOCK), "");
  const all = await names(dir.path, "web");
  const { open } = Deno;
  Deno.open = () => Promise.reject(new Error("looked for readers"));
  try {
    for (const files of [4, 5, 7]) {
      assertEquals((await trim(dir.path, "web", files)).map(({ name }) => name), all);
      assertEquals(await names(dir.path, "web"), all);
    }
  } finally {
    Deno.open = open;
  }
  assertEquals((await trim(dir.path, "web", 3)).map(({ name }) => name), all.slice(1));
  assertEquals(await names(dir.path, "web"), all.slice(1));
});
