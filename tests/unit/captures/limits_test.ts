/** Admission, the disk's floor, the queue, torn records, the argument vector. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import { admit, type Applicant } from "../../../src/captures/admission.ts";
import { DiskFloor, type FileSystem } from "../../../src/captures/disk.ts";
import { KeyedQueue } from "../../../src/captures/queue.ts";
import { tcpdumpArgv } from "../../../src/captures/tcpdump.ts";
import { cutTornRecord } from "../../../src/captures/torn.ts";

const MB = 1_000_000;
const applicant = (key: string, change: Partial<Applicant> = {}): Applicant => ({
  key,
  granted: undefined,
  ranBefore: false,
  firstSeen: 0,
  uid: key,
  claim: 10 * MB,
  bytes: 0,
  ...change,
});
const kinds = (rooms: Map<string, { kind: string }>) =>
  Object.fromEntries([...rooms].map(([key, { kind }]) => [key, kind]));

Deno.test("admit() goes by who has a place, who ran before, first seen, UID", () => {
  const rooms = admit(
    [
      applicant("late", { firstSeen: 3 }),
      applicant("b", { firstSeen: 1 }),
      applicant("a", { firstSeen: 1 }),
      applicant("before", { firstSeen: 9, ranBefore: true }),
      applicant("running", { firstSeen: 9, granted: 10 * MB }),
    ],
    0,
    { maxCaptures: 3, diskBudgetMB: 1500 },
  );
  assertEquals(kinds(rooms), { running: "yes", before: "yes", a: "yes", b: "wait", late: "wait" });
});

Deno.test("admit() rejects what can never fit, and lets nobody overtake who waits for a large place", () => {
  const rooms = admit(
    [
      applicant("huge", { claim: 101 * MB }),
      applicant("running", { granted: 50 * MB, claim: 50 * MB }),
      applicant("large", { firstSeen: 1, claim: 60 * MB }),
      applicant("small", { firstSeen: 2, claim: 1 * MB }),
    ],
    0,
    { maxCaptures: 64, diskBudgetMB: 100 },
  );
  assertEquals(kinds(rooms), { huge: "never", running: "yes", large: "wait", small: "wait" });
  const [huge, large] = [rooms.get("huge"), rooms.get("large")];
  assert(huge?.kind === "never" && huge.reason.includes("limits.diskBudgetMB"));
  assert(large?.kind === "wait" && large.reason.includes("50 MB"));
});

Deno.test("admit() counts the files of those who wait, and gives an edit that claims more its turn like a new one", () => {
  const limits = { maxCaptures: 64, diskBudgetMB: 100 };
  const running = applicant("running", { granted: 80 * MB, claim: 80 * MB, firstSeen: 2 });
  const grown = applicant("grown", { granted: 10 * MB, claim: 50 * MB, firstSeen: 1 });
  assertEquals(kinds(admit([grown, running], 0, limits)), { running: "yes", grown: "wait" });
  assertEquals(kinds(admit([{ ...grown, claim: 20 * MB }, running], 0, limits)), { running: "yes", grown: "yes" });
  // Its own place counts for it, not against it, also where all are taken.
  assertEquals(kinds(admit([{ ...grown, claim: 20 * MB }, running], 0, { ...limits, maxCaptures: 2 })), {
    running: "yes",
    grown: "yes",
  });
  const full = applicant("full", { claim: 80 * MB, bytes: 30 * MB, firstSeen: 9 });
  const fresh = applicant("fresh", { claim: 80 * MB, firstSeen: 1 });
  assertEquals(kinds(admit([fresh, full], 0, limits)), { fresh: "wait", full: "wait" });
  const huge = applicant("huge", { claim: 200 * MB, bytes: 30 * MB, firstSeen: 9 });
  assertEquals(kinds(admit([fresh, huge], 0, limits)), { fresh: "wait", huge: "never" });
});

Deno.test("admit() lets nobody who runs and has not changed wait, and keeps to the limits whoever takes the room first", () => {
  const limits = { maxCaptures: 3, diskBudgetMB: 100 };
  const size = fc.integer({ min: 0, max: 110 }).map((n) => n * MB);
  const some = fc.record({
    hasPlace: fc.boolean(),
    ranBefore: fc.boolean(),
    firstSeen: fc.nat(5),
    granted: size,
    bytes: size,
    claim: size,
    /** It has not been edited since it was given its place. */
    unchanged: fc.boolean(),
  });
  const taken = (all: readonly Applicant[]) => all.reduce((sum, { granted, bytes }) => sum + (granted ?? bytes), 0);
  const places = (all: readonly Applicant[]) => all.filter(({ granted }) => granted !== undefined).length;
  fc.assert(
    fc.property(fc.array(some, { maxLength: 8 }), size, (wishes, othersWish) => {
      // Any state that keeps to the limits: whatever history led to it, what follows has to keep to them too.
      let left = limits.diskBudgetMB * MB;
      const take = (bytes: number) => {
        const taken = Math.min(bytes, left);
        left -= taken;
        return taken;
      };
      const others = take(othersWish);
      const all: Applicant[] = [];
      for (const [i, { hasPlace, granted, bytes, claim, unchanged, ...rest }] of wishes.entries()) {
        const place = hasPlace && places(all) < limits.maxCaptures ? take(granted) : undefined;
        const now = place === undefined ? take(bytes) : Math.min(bytes, place);
        const most = place !== undefined && unchanged ? place : Math.max(claim, now);
        all.push({ key: String(i), uid: String(i), ...rest, granted: place, bytes: now, claim: most });
      }
      const rooms = admit(all, others, limits);
      assertEquals([...rooms.keys()].sort(), all.map(({ key }) => key));
      const after = (looked: (key: string) => boolean) =>
        all.map((one) => looked(one.key) && rooms.get(one.key)?.kind === "yes" ? { ...one, granted: one.claim } : one);
      for (const { key, granted, claim } of all) {
        if (granted !== undefined && claim <= granted) assertEquals(rooms.get(key)?.kind, "yes");
        if (claim > limits.diskBudgetMB * MB) assertEquals(rooms.get(key)?.kind, "never");
      }
      for (const next of [...all.map(({ key }) => after((looked) => looked === key)), after(() => true)]) {
        assert(places(next) <= limits.maxCaptures);
        assert(others + taken(next) <= limits.diskBudgetMB * MB, `${(others + taken(next)) / MB} MB are taken`);
      }
    }),
    { numRuns: 5000 },
  );
});

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

Deno.test("KeyedQueue works on a key serially, on different ones in parallel, and once more if asked meanwhile", async () => {
  const gates = new Map<string, PromiseWithResolvers<void>>();
  const log: string[] = [];
  const busy = new Set<string>();
  const queue = new KeyedQueue(async (key) => {
    assert(!busy.has(key), "two at a time for one key");
    busy.add(key);
    log.push(key);
    const gate = Promise.withResolvers<void>();
    gates.set(key, gate);
    await gate.promise;
    busy.delete(key);
  }, () => assert(false));
  queue.add("a");
  queue.add("b");
  assertEquals(log, ["a", "b"]);
  queue.add("a");
  queue.add("a");
  gates.get("a")?.resolve();
  gates.get("b")?.resolve();
  while (log.length < 3) await Promise.resolve();
  gates.get("a")?.resolve();
  assert(await queue.idle(10_000));
  assertEquals(log, ["a", "b", "a"]);
});

Deno.test("KeyedQueue does at once what was asked for during work that fails, but not for ever", async () => {
  const delays: number[] = [];
  let calls = 0;
  const queue = new KeyedQueue((key) => {
    calls++;
    queue.add(key);
    return Promise.reject(new Error("no"));
  }, (_key, _error, retryInMs) => delays.push(retryInMs));
  queue.add("a");
  await queue.idle(10_000);
  assertEquals(calls, 2);
  assertEquals(delays[0], 0);
  assert(delays[1]! >= 300, String(delays[1]));
  queue.close();
});

Deno.test("KeyedQueue.idle() waits no longer than it is told to", async () => {
  const gate = Promise.withResolvers<void>();
  const queue = new KeyedQueue(() => gate.promise, () => assert(false));
  queue.add("a");
  assertEquals(await queue.idle(1), false);
  gate.resolve();
  assert(await queue.idle(10_000));
});

Deno.test("KeyedQueue tries a failing key again, later and later, until it works", async () => {
  const delays: number[] = [];
  let failures = 3;
  const done = Promise.withResolvers<void>();
  const queue = new KeyedQueue((_key) => {
    if (failures-- > 0) return Promise.reject(new Error("no"));
    done.resolve();
    return Promise.resolve();
  }, (_key, _error, retryInMs) => delays.push(retryInMs));
  queue.add("a");
  await done.promise;
  assertEquals(delays.length, 3);
  for (const [i, nominal] of [200, 400, 800].entries()) {
    const ms = delays[i] ?? 0;
    assert(ms >= nominal * 0.75 && ms <= nominal * 1.25, String(ms));
  }
  queue.close();
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

Deno.test("cutTornRecord() cuts behind the last whole record, wherever the file was torn", async () => {
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

Deno.test("tcpdumpArgv() is the promised command, with the filter as the one argument behind --", () => {
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
    "/usr/bin/nsenter --net=/run/netns/cni-1 -- /usr/local/bin/tcpdump -n -C 1 -W 5 -i any -Z root -U -B 4096 -s 262144 " +
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
