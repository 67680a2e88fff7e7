/** What `cat` leaves out, puts in order and says of it, as tshark and capinfos see it: nothing here goes through our own readers. */
import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { FileSource } from "../../../src/pcap/bytes.ts";
import { cat, type CatOptions } from "../../../src/reading/cat.ts";
import { mergeCaptures } from "../../../src/pcap/merge.ts";
import { stream } from "../../../src/reading/stream.ts";
import {
  type CaptureDir,
  captureDir,
  concat,
  manifest,
  packet,
  pcap,
  record,
  REQUEST,
  run as aRun,
  START,
  testIo,
} from "../../unit/reading/files.ts";
import { blocksIn, capinfos, tshark } from "./rig.ts";

/** What cat writes, as a file. @param before is called before the second piece is written. */
async function written(dir: CaptureDir, options: Partial<CatOptions> = {}, before?: () => Promise<void>) {
  const pieces: Uint8Array[] = [];
  const io = testIo({
    write: async (bytes) => {
      if (pieces.push(bytes.slice()) === 1) await before?.();
    },
  });
  const code = await cat({ captureDir: dir.path, pod: "default/web-0", ...options }, io);
  const path = join(dir.path, `out.${options.format ?? "pcapng"}`);
  await Deno.writeFile(path, concat(...pieces));
  return { path, code, said: io.said };
}

/** The first byte of each packet, which is its number, by tshark. */
async function numbersOf(path: string): Promise<number[]> {
  const hex = await run(["tshark", "-n", "-r", path, "-x"]);
  return Array.from(hex.matchAll(/^0{4,} {2}([0-9a-f]{2}) /gm), ([, byte]) => Number.parseInt(byte!, 16));
}

/** The comments at packets, by their place. */
async function commentsOf(path: string): Promise<[number, string][]> {
  const rows = await tshark(path, "frame.comment");
  return rows.flatMap(([comment], i): [number, string][] => comment ? [[i, comment]] : []);
}

Deno.test("cat --since leaves out what is older, by tshark's times", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const now = Date.now();
  const ago = (seconds: number, n: number) => ({ ...packet(n), time: BigInt(now - seconds * 1000) * 1_000_000n });
  await dir.put("run-000001-000000.pcap", pcap([ago(3000, 1), ago(900, 2)]));
  await dir.put("run-000001-000001.pcap", pcap([ago(800, 3), ago(100, 4), ago(1, 5)], { linkType: 1 }));
  for (const format of ["pcapng", "pcap"] as const) {
    // The file with another link type has nothing old enough to matter here.
    if (format === "pcap") await Deno.remove(join(dir.folder, "run-000001-000000.pcap"));
    const { path, code } = await written(dir, { format, sinceSeconds: 300 });
    same(code, 0);
    assertEquals(await numbersOf(path), [4, 5]);
    const times = (await tshark(path, "frame.time_epoch")).map(([time]) => Number(time));
    assert(times.every((time) => time > now / 1000 - 300), times.join());
  }
  const { path } = await written(dir, { sinceSeconds: 300 });
  match(await run(["capinfos", path]), /Capture comment: {5}only packets of the last 300 s before the newest one/);
});

Deno.test("tcpdump reads what cat, stream and the merge wrote of runs and pods with different snaplens", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "completed", runs: [aRun(1, { endedAt: "x" }), aRun(2, { endedAt: "y" })] });
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)], { linkType: 1, snaplen: 96 }));
  await dir.put("run-000002-000000.pcap", pcap([packet(3), packet(4)], { linkType: 1, snaplen: 262_144 }));
  await dir.put("run-000002-000001.pcap", pcap([packet(5)], { linkType: 1, snaplen: 64 }));
  const byTcpdump = async (path: string) => Number.parseInt(await run(["tcpdump", "--count", "-r", path]));
  const { path } = await written(dir);
  same(await byTcpdump(path), 5);
  const live = join(dir.path, "stream.pcapng");
  const io = testIo();
  same(await stream({ captureDir: dir.path, pod: "default/web-0" }, io), 0);
  await Deno.writeFile(live, io.output);
  const other = join(dir.path, "other.pcapng");
  await run(["editcap", "-F", "pcapng", "-s", "80", path, other]);
  const merged = join(dir.path, "merged.pcapng");
  using files = new DisposableStack();
  const sources = [path, live, other].map((name) => ({
    name,
    source: new FileSource(files.use(Deno.openSync(name))),
  }));
  const parts: Uint8Array[] = [];
  await mergeCaptures(sources, {
    application: "test",
    write: (bytes) => Promise.resolve(void parts.push(bytes.slice())),
  });
  await Deno.writeFile(merged, concat(...parts));
  assertEquals(await Promise.all([live, merged].map(byTcpdump)), [5, 15]);
  const snaplens = (await run(["capinfos", path])).match(/Capture length = \d+/g);
  assertEquals(new Set(snaplens), new Set(["Capture length = 262144"]));
});

Deno.test("cat reports where the clock was set back, at the packet, in the file's comments and its statistics", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ runs: [aRun(1, { endedAt: "x" }), aRun(2, { endedAt: "y" })] });
  const later = (n: number) => ({ ...packet(n), time: START + 3_600_000_000_000n + BigInt(n) * 1_000_000n });
  await dir.put("run-000001-000000.pcap", pcap([later(1), later(2)]));
  await dir.put("run-000002-000000.pcap", pcap([packet(3), packet(4)]));
  const { path, code } = await written(dir);
  same(code, 0);
  assertEquals(await numbersOf(path), [1, 2, 3, 4]);
  assertEquals(await commentsOf(path), [[
    2,
    "packet-capture: the clock was set back by 3599.999 s before this packet",
  ]]);
  same((await capinfos(path)).get("Strict time order"), "False");
  match(
    await run(["capinfos", path]),
    /the clock was set back by 3600 s or more before run 2, run-000002-000000\.pcap/,
  );
  match((await blocksIn(path)).at(-1)!.text, /the clock was set back once, by 3599\.999 s in all/);
});

Deno.test("cat writes what is left of damaged files, and reports in the statistics what is missing", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const torn = concat(
    pcap([packet(1)]),
    record(packet(2)).subarray(0, 41),
    ...[3, 4, 5, 6].map((n) => record(packet(n))),
  );
  await dir.put("run-000001-000000.pcap", torn);
  await dir.put("run-000001-000001.pcap", concat(pcap([packet(7)]), record(packet(8)).subarray(0, 30)));
  await dir.put("run-000001-000002.pcap", "not a capture file at all, just text");
  await dir.put("run-000001-000003.pcap", pcap([packet(9)]));
  const { path, code, said } = await written(dir);
  same(code, 1);
  assertEquals(await numbersOf(path), [1, 3, 4, 5, 6, 7, 9]);
  const notes = [
    "run-000001-000000.pcap is damaged in 1 place: 41 bytes and at least 1 packet are missing",
    "run-000001-000001.pcap is damaged in 1 place: 30 bytes and at least 1 packet are missing",
    "run-000001-000002.pcap is not a pcap file: it is left out (36 bytes)",
  ];
  assertEquals(said, notes.map((note) => `default/web-0: ${note}`));
  const statistics = (await blocksIn(path)).at(-1)!;
  same(statistics.type, "Interface Statistics Block");
  for (const note of notes) assert(statistics.text.includes(note), statistics.text);
});

Deno.test("cat without room for a snapshot names in the statistics what the ring overtook", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [aRun(2, { request: { ...REQUEST, files: 2 } })] });
  const large = (n: number) => Array.from({ length: 5 }, () => packet(n, 200_000));
  await dir.put("run-000001-000000.pcap", pcap(large(1)));
  await dir.put("capture-web-0.pcap0", pcap(large(2)));
  await dir.put("capture-web-0.pcap1", pcap(large(3)));
  await Deno.utime(join(dir.folder, "capture-web-0.pcap0"), 100, 100);
  const { path, code, said } = await written(dir, {}, () => dir.put("capture-web-0.pcap0", pcap([packet(9, 200)])));
  same(code, 1);
  assertEquals([...new Set(await numbersOf(path))], [1, 3]);
  assertEquals(said, [
    "default/web-0: capture-web-0.pcap0 was overtaken by the ring before it was read: 1000104 of its 1000104 bytes are missing",
  ]);
  match(await run(["capinfos", path]), /written without a snapshot, because there is no room next to another reader's/);
});

Deno.test("cat reads the kept capture of a deleted pod by its UID, and capinfos sees whose it is", async () => {
  await using dir = await captureDir();
  await Deno.remove(dir.folder);
  const uid = "6f1c2d3e-0000-4000-8000-000000000001";
  const folder = join(dir.path, ".retained", uid);
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(join(folder, "capture.json"), JSON.stringify(manifest({ uid, state: "retained" })));
  await Deno.writeFile(join(folder, "run-000001-000000.pcap"), pcap([packet(1), packet(2)]));
  await Deno.writeFile(join(folder, "capture-web-0.pcap0"), pcap([packet(3)]));
  const { path, code } = await written(dir, { pod: uid });
  same(code, 0);
  assertEquals(await numbersOf(path), [1, 2, 3]);
  const infos = await run(["capinfos", path]);
  match(infos, /Name = default\/web-0@worker1/);
  match(infos, new RegExp(`default/web-0 on worker1, pod UID ${uid}`));
});
