/** `cat` and `stream` next to a real tcpdump that rotates under load. tshark judges what they wrote. */
import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { promote } from "../../../src/store/ring.ts";
import { type CaptureDir, captureDir, REQUEST, run as aRun } from "../../unit/reading/files.ts";
import { linesOf } from "./lines.ts";
import {
  capinfos,
  catCommand,
  filesIn,
  Netns,
  numbersIn,
  readingCommand,
  save,
  Sender,
  Tcpdump,
  tshark,
} from "./rig.ts";

interface Load {
  /** MB of each of the ring's five files. @default 1 */
  readonly fileSize?: number;
  /** @default 2000 */
  readonly perSecond?: number;
  /** @default 1000 */
  readonly size?: number;
}

/** A ring of five files that is being filled. */
async function ringUnderLoad(
  dir: CaptureDir,
  netns: Netns,
  { fileSize = 1, perSecond = 2000, size = 1000 }: Load = {},
) {
  await dir.putManifest({ state: "capturing", runs: [aRun(1)] });
  const ring = ["-C", String(fileSize), "-W", "5", "-w", join(dir.folder, "capture-web-0.pcap")];
  const tcpdump = await Tcpdump.start(netns, ["-i", "any", ...ring, "udp port 9"]);
  const sender = new Sender(netns, { count: 0, perSecond, size });
  return { tcpdump, sender };
}

/** Whether numbers follow each other without gap or repetition. */
function assertConsecutive(numbers: readonly number[]): void {
  numbers.forEach((n, i) => same(n, numbers[0]! + i, `packet ${i} of ${numbers.length}`));
}

/** The number of the newest packet in a folder, whose packets all have a payload of `size` bytes. */
function newestIn(folder: string, size: number): number {
  // Headers of the record, of SLL2, IPv4 and UDP.
  const front = 16 + 20 + 20 + 8;
  const numbers = [...filesIn(folder).keys()].map((name) => {
    const bytes = Deno.readFileSync(join(folder, name));
    const last = Math.floor((bytes.length - 24) / (front + size)) - 1;
    return last < 0 ? -1 : Number(new DataView(bytes.buffer).getBigUint64(24 + last * (front + size) + front));
  });
  return Math.max(...numbers);
}

/** The kernel hands packets to tcpdump within a second, and a stream is 1.5 s behind at most. */
const QUIET_MS = 1700;

/** A time as tshark prints it, to the millisecond. */
function isoOf(epoch: string): string {
  const [seconds, fraction] = epoch.split(".");
  return new Date(Number(seconds) * 1000 + Number(fraction!.slice(0, 3))).toISOString();
}

/** A condition for `waitFor`: nothing in a folder has changed its size since it was asked the last time. */
function quiet(folder: string): () => boolean {
  let before = "";
  return () => {
    const sizes = JSON.stringify([...filesIn(folder)]);
    const same = sizes === before;
    before = sizes;
    return same;
  };
}

/** Counts how often tcpdump begins a file, by the inode and first bytes of what it writes to. */
function countRotations(folder: string): { readonly count: number; stop(): void } {
  const fronts = new Set<string>();
  const look = () => {
    for (const name of filesIn(folder).keys()) {
      try {
        using file = Deno.openSync(join(folder, name));
        const front = new Uint8Array(40);
        if (file.readSync(front) === 40) fronts.add(front.toString());
      } catch (error) {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      }
    }
  };
  look();
  const before = fronts.size;
  const timer = setInterval(look, 50);
  return {
    get count() {
      return fronts.size - before;
    },
    stop: () => clearInterval(timer),
  };
}

/** The files of a snapshot, once all five are set aside, and the numbers in those that are finished, by tshark alone. */
async function snapshotIn(folder: string): Promise<{ readonly finished: number[]; readonly newest: string }> {
  const aside = () => [...filesIn(folder).keys()].filter((name) => name.startsWith("run-")).sort();
  await waitFor("the snapshot", () => aside().length === 5, { everyMs: 10 });
  // tcpdump writes to the last of them until its next rotation.
  const names = aside();
  const numbers = await Promise.all(names.slice(0, 4).map((name) => numbersIn(join(folder, name))));
  return { finished: numbers.flat(), newest: join(folder, names[4]!) };
}

Deno.test("cat, read at 1 MB/s while the ring goes around: each packet held at its start comes once, in order", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  // 20 MB and more are held, which no buffer on the way can take up, and the ring goes around in 2.5 s.
  const { tcpdump, sender } = await ringUnderLoad(dir, netns, { fileSize: 5, perSecond: 1000, size: 10_000 });
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("the ring to have wrapped", () => sender.sent > 4000, { everyMs: 20 });
  const heldTo = newestIn(dir.folder, 10_000);
  const rotations = countRotations(dir.folder);
  const cat = catCommand(dir.path).spawn();
  const path = join(dir.path, "out.pcapng");
  const started = performance.now();
  const [bytes, { code }, said, held] = await Promise.all([
    save(cat.stdout, path, 1_000_000),
    cat.status,
    new Response(cat.stderr).text(),
    snapshotIn(dir.folder),
  ]);
  const seconds = (performance.now() - started) / 1000;
  rotations.stop();
  assertEquals([code, said], [0, ""]);
  assert(seconds > bytes / 1_000_000 - 1, `${bytes} bytes in ${seconds} s: the reader was to be slow`);
  assert(rotations.count >= 10, `${rotations.count} rotations, the ring was to go around`);
  const numbers = await numbersIn(path);
  assertConsecutive(numbers);
  // All of what was held, and nothing else: the four finished files, and of the fifth what tcpdump had written by then.
  const { finished } = held;
  assert(finished.length > 1980, `${finished.length} packets, four files hold 1988`);
  assertEquals(numbers.slice(0, finished.length), finished);
  assert(heldTo > 1000 && numbers.at(-1)! >= heldTo, `up to ${numbers.at(-1)}, captured was up to ${heldTo}`);
  const inNewest = numbers.length - finished.length;
  assert(inNewest <= 520, `${inNewest} packets of the newest file, which has room for 499`);
  const infos = await capinfos(path);
  same(infos.get("Strict time order"), "True");
  same(infos.get("Number of packets"), String(numbers.length));
});

Deno.test("two cats at once: the second one has no room for a snapshot, and reports what the ring overtook", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  // More than what is held back in memory to be sorted, lest the second one has read it all before the ring goes around.
  const { tcpdump, sender } = await ringUnderLoad(dir, netns, { fileSize: 4, perSecond: 1000, size: 6000 });
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("the ring to have wrapped", () => sender.sent > 4000, { everyMs: 20 });
  const first = catCommand(dir.path).spawn();
  const firstPath = join(dir.path, "first.pcapng");
  const lastRead = Promise.withResolvers<void>();
  // It holds its snapshot until the second one has been overtaken.
  const firstSaved = save(first.stdout, firstPath, 100_000, lastRead.promise);
  const { finished } = await snapshotIn(dir.folder);
  const filled = countRotations(dir.folder);
  await waitFor("new files beside it", () => filled.count >= 2, { everyMs: 20 });
  filled.stop();
  const most: number[] = [];
  const watch = setInterval(() => most.push(filesIn(dir.folder).size), 20);
  const second = catCommand(dir.path).spawn();
  const secondPath = join(dir.path, "second.pcapng");
  const around = Promise.withResolvers<void>();
  const secondSaved = save(second.stdout, secondPath, 100_000, around.promise);
  await waitFor("the second one's first bytes", () => Deno.statSync(secondPath).size > 0, { everyMs: 20 });
  const rotations = countRotations(dir.folder);
  await waitFor("the ring to go around while it reads", () => rotations.count >= 6, { everyMs: 20 });
  rotations.stop();
  around.resolve();
  const [{ code: secondCode }, secondSaid] = await Promise.all([
    second.status,
    new Response(second.stderr).text(),
    secondSaved,
  ]);
  lastRead.resolve();
  const [{ code: firstCode }] = await Promise.all([first.status, firstSaved, first.stderr.cancel()]);
  clearInterval(watch);
  same(firstCode, 0);
  assertConsecutive(await numbersIn(firstPath));
  assert(Math.max(...most) <= 10, `${Math.max(...most)} files of the 2N = 10 that the capture may have`);
  same(secondCode, 1);
  const overtaken =
    /^packet-capture: default\/web-0: capture-web-0\.pcap\d was overtaken by the ring before it was read: \d+ of its \d+ bytes are missing$/m;
  match(secondSaid, overtaken);
  const numbers = await numbersIn(secondPath);
  // Each once and in order, with a gap where the ring was faster; the first one's snapshot is protected.
  assertEquals(numbers, [...new Set(numbers)].sort((a, b) => a - b));
  assertEquals(numbers.slice(0, finished.length), finished);
  const infos = await run(["capinfos", secondPath]);
  match(infos, /written without a snapshot, because there is no room next to another reader's/);
});

Deno.test("stream writes the ring's content, then what comes, each packet once, while the ring goes around", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const { tcpdump, sender } = await ringUnderLoad(dir, netns);
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("something to have been captured", () => sender.sent > 3000, { everyMs: 20 });
  const rotations = countRotations(dir.folder);
  const stream = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const path = join(dir.path, "out.pcapng");
  const saved = save(stream.stdout, path);
  await waitFor("the ring to go around twice", () => rotations.count >= 10, { everyMs: 50 });
  rotations.stop();
  stream.kill("SIGTERM");
  const [{ code }, said] = await Promise.all([stream.status, new Response(stream.stderr).text(), saved]);
  assertEquals([code, said], [0, ""]);
  const numbers = await numbersIn(path);
  assertConsecutive(numbers);
  assert(numbers.length > 8000, String(numbers.length));
  same((await capinfos(path)).get("Strict time order"), "True");
});

Deno.test("stream hands each packet on within 1.5 s of its capture", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const { tcpdump, sender } = await ringUnderLoad(dir, netns, { perSecond: 50, size: 100 });
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  const delayOf = (line: string) => Date.now() / 1000 - Number(line.split(" ")[0]);
  // What the machine alone is late with: another tcpdump, which prints each packet at once.
  const words = ["tcpdump", "-n", "-tt", "-l", "--immediate-mode", "-Z", "root", "-i", "any", "udp port 9"];
  const plain = netns.command(["setpriv", "--pdeathsig", "KILL", "--", ...words], {
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  let [printed, load] = [0, 0];
  const watching = (async () => {
    for await (const line of linesOf(plain.stdout)) {
      // It ends with an empty one.
      if (line === "") continue;
      printed++;
      load = Math.max(load, delayOf(line));
    }
  })();
  const stream = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  // Another program says when each packet was captured, as soon as it has it.
  const reader = new Deno.Command("tcpdump", {
    args: ["-n", "-tt", "-l", "-r", "-"],
    stdin: "piped",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const piped = stream.stdout.pipeTo(reader.stdin).catch(() => {});
  const delays: number[] = [];
  for await (const line of linesOf(reader.stdout)) {
    delays.push(delayOf(line));
    if (delays.length === 500) stream.kill("SIGTERM");
  }
  const [{ code }] = await Promise.all([stream.status, piped, reader.status, stream.stderr.cancel()]);
  plain.kill("SIGTERM");
  await Promise.all([watching, plain.status]);
  same(code, 0);
  assert(printed > 200, `${printed} packets were printed at once`);
  // Those of the first seconds were there before the programs had started.
  const late = delays.slice(200).filter((delay) => delay > 1.5 + load);
  assertEquals(late, [], `of ${delays.length}, and ${load} s are the machine's`);
});

Deno.test("cat and stream know the file that tcpdump writes to, though its time is that of the oldest", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const { tcpdump, sender } = await ringUnderLoad(dir, netns);
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("the ring to have wrapped", () => sender.sent > 8000, { everyMs: 20 });
  let sizes: [string, number][] = [];
  // Again, should the last packet just have filled its file: then the time is all that tells.
  for (let sent = sender.sent; sizes.length < 5 || sizes[0]![1] > 1_000_000; sent = sender.sent) {
    sender.resume();
    await waitFor("some packets", () => sender.sent > sent, { everyMs: 20 });
    sender.pause();
    await waitFor("tcpdump to have written all", quiet(dir.folder), { everyMs: QUIET_MS });
    sizes = [...filesIn(dir.folder)].sort(([, a], [, b]) => a - b);
  }
  // As after a clock that was set back by an hour while the newest file was written.
  const ahead = Date.now() / 1000 + 3600;
  for (const [name] of sizes.slice(1)) await Deno.utime(join(dir.folder, name), ahead, ahead);

  const path = join(dir.path, "stream.pcapng");
  const stream = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const saved = save(stream.stdout, path);
  await waitFor("the stream's first bytes", () => Deno.statSync(path).size > 4_000_000, { everyMs: 20 });
  const catPath = join(dir.path, "cat.pcapng");
  const cat = catCommand(dir.path).spawn();
  const [{ code: catCode }] = await Promise.all([cat.status, save(cat.stdout, catPath), cat.stderr.cancel()]);
  sender.resume();
  const before = sender.sent;
  await waitFor("more packets", () => sender.sent > before + 500, { everyMs: 20 });
  sender.pause();
  await waitFor("tcpdump to have written all", quiet(dir.folder), { everyMs: QUIET_MS });
  await waitFor("the stream to be at its end", quiet(dir.path), { everyMs: QUIET_MS });
  stream.kill("SIGTERM");
  const [{ code }, said] = await Promise.all([stream.status, new Response(stream.stderr).text(), saved]);
  assertEquals([catCode, code, said], [0, 0, ""]);
  const [inCat, inStream] = [await numbersIn(catPath), await numbersIn(path)];
  assertConsecutive(inCat);
  assertConsecutive(inStream);
  same(inStream[0], inCat[0]);
  assert(inStream.at(-1)! > before && inCat.at(-1)! < inStream.at(-1)!, `${inCat.at(-1)}, ${inStream.at(-1)}`);
  // What the next reader's trimming would take first is the oldest.
  const first = await numbersIn(join(dir.folder, "run-000001-000000.pcap"));
  same(first[0], inCat[0]);
});

Deno.test("stream tells a reader that is slower than the ring what it missed, at each gap, in tshark's view", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  // More in a second than the reader takes in ten, and more at once than is held back in memory.
  const { tcpdump, sender } = await ringUnderLoad(dir, netns, { fileSize: 3, perSecond: 1000, size: 8000 });
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("the ring to have wrapped", () => sender.sent > 3000, { everyMs: 20 });
  const stream = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const path = join(dir.path, "out.pcapng");
  const fast = Promise.withResolvers<void>();
  const saved = save(stream.stdout, path, 400_000, fast.promise);
  const rotations = countRotations(dir.folder);
  await waitFor("the ring to go around twice", () => rotations.count >= 10, { everyMs: 20 });
  rotations.stop();
  sender.pause();
  fast.resolve();
  await waitFor("tcpdump to have written all", quiet(dir.folder), { everyMs: QUIET_MS });
  await waitFor("the stream to be at its end", quiet(dir.path), { everyMs: QUIET_MS });
  stream.kill("SIGTERM");
  const [{ code }, said] = await Promise.all([stream.status, new Response(stream.stderr).text(), saved]);
  same(code, 1);
  const rows = await tshark(path, "udp.payload", "frame.comment", "frame.time_epoch");
  const packets = rows.map(([payload, comment, time]) => ({
    number: Number.parseInt(payload!.replaceAll(":", "").slice(0, 16), 16),
    comment,
    time: isoOf(time!),
  }));
  const gaps = packets.flatMap(({ number, time }, i) => {
    const before = packets[i - 1];
    assert(before === undefined || number > before.number, `${before?.number} before ${number}`);
    return before === undefined || number === before.number + 1 ? [] : [{ i, from: before.time, to: time }];
  });
  assert(gaps.length >= 1, `none in ${packets.length} packets`);
  // On a busy machine the ring overtakes the reader before its first packet, too.
  if (packets[0]?.comment) gaps.unshift({ i: 0, from: "the start", to: packets[0].time });
  // A remark for each gap and none elsewhere, and the same on stderr.
  assertEquals(packets.flatMap(({ comment }, i) => comment ? [i] : []), gaps.map(({ i }) => i));
  const lines = said.trimEnd().split("\n");
  same(lines.length, gaps.length, said);
  for (const [n, { i, from, to }] of gaps.entries()) {
    const remark = `packets between ${from} and ${to} are missing`;
    match(
      packets[i]!.comment!,
      new RegExp(`^packet-capture: ${remark}(, at least \\d+ bytes?)?: the reader was slower than the ring$`),
    );
    assert(lines[n]?.startsWith(`packet-capture: ${remark}`), String(lines[n]));
  }
});

Deno.test("stream reports at the first packet behind a restart from when to when nothing was captured, in tshark's view", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const path = join(dir.path, "out.pcapng");
  const ended = { endedAt: "2026-01-31T11:30:00.000Z", ended: "annotation changed" };
  const restarted = { startedAt: "2026-01-31T11:30:01.000Z", request: { ...REQUEST, filter: "udp port 9" } };
  const ring = ["-i", "any", "-C", "1", "-W", "5", "-w", join(dir.folder, "capture-web-0.pcap")];
  const capture = async (count: number) => {
    await using tcpdump = await Tcpdump.start(netns, [...ring, "-c", String(count), "udp port 9"]);
    await new Sender(netns, { count, perSecond: 1000, size: 100 }).done();
    await tcpdump.ended;
  };
  await dir.putManifest({ state: "capturing", runs: [aRun(1)] });
  await capture(300);
  const stream = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const saved = save(stream.stdout, path);
  await waitFor("the first run's packets", () => Deno.statSync(path).size > 30_000, { everyMs: 20 });
  await promote(dir.folder, "web-0", 1);
  await dir.putManifest({ state: "capturing", runs: [aRun(1, ended), aRun(2, restarted)] });
  await capture(200);
  await waitFor("the second run's packets", () => Deno.statSync(path).size > 65_000, { everyMs: 20 });
  stream.kill("SIGTERM");
  const [{ code }, said] = await Promise.all([stream.status, new Response(stream.stderr).text(), saved]);
  same(code, 0);
  const remark = `not captured from ${ended.endedAt} to ${restarted.startedAt}: annotation changed`;
  same(said, `packet-capture: ${remark}\n`);
  const rows = await tshark(path, "frame.comment", "frame.interface_name");
  same(rows.length, 500);
  assertEquals(rows.flatMap(([comment], i) => comment ? [[i, comment]] : []), [[300, `packet-capture: ${remark}`]]);
  assertEquals([rows[299]![1], rows[300]![1]], ["default/web-0@worker1", "default/web-0@worker1#2"]);
});

Deno.test("list reports from when to when the packets are that tcpdump's files hold, as tshark reads them", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const { tcpdump, sender } = await ringUnderLoad(dir, netns);
  await using _tcpdump = tcpdump;
  await using _sender = sender;
  await waitFor("the ring to have wrapped", () => sender.sent > 8000, { everyMs: 20 });
  sender.pause();
  await waitFor("tcpdump to have written all", quiet(dir.folder), { everyMs: QUIET_MS });
  const look = async () => {
    const { stdout } = await readingCommand(["list", "-o", "json", "--capture-dir", dir.path]).output();
    const files = [...filesIn(dir.folder)];
    const times = await Promise.all(files.map(([name]) => tshark(join(dir.folder, name), "frame.time_epoch")));
    return { row: JSON.parse(new TextDecoder().decode(stdout))[0], files, times };
  };
  // Again, should tcpdump have come to its last packets only now.
  const { row, files, times } = await waitFor("a look at files that do not change", async () => {
    const before = JSON.stringify([...filesIn(dir.folder)]);
    const found = await look();
    return JSON.stringify([...filesIn(dir.folder)]) === before ? found : undefined;
  });
  const sorted = times.flat().map(([time]) => isoOf(time!)).sort();
  assertEquals([row.oldest, row.newest], [sorted[0], sorted.at(-1)]);
  assertEquals([row.files, row.bytes], [files.length, files.reduce((sum, [, size]) => sum + size, 0)]);
});
