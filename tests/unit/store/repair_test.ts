import { deepStrictEqual as assertEquals, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { Capture } from "../../../src/captures/capture.ts";
import { cutTornRecord } from "../../../src/store/repair.ts";
import { CAPTURE_TIMING } from "../../../src/timing.ts";
import { concat, manifest, packet, pcap, record, run } from "../reading/files.ts";

async function folder(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "pc-torn-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** A file whose disk was full after packet 2, and had room again from packet 4 on. */
const TORN_IN_THE_MIDDLE = concat(
  pcap([packet(1), packet(2)]),
  record(packet(3)).subarray(0, 41),
  ...[4, 5, 6, 7].map((n) => record(packet(n))),
);

Deno.test("cutTornRecord() leaves what is torn in the middle, and cuts the last record only", async () => {
  await using dir = await folder();
  const path = join(dir.path, "x.pcap");
  await Deno.writeFile(path, TORN_IN_THE_MIDDLE);
  same(await cutTornRecord(path), 0);
  await Deno.writeFile(path, concat(TORN_IN_THE_MIDDLE, record(packet(8)).subarray(0, 33)));
  same(await cutTornRecord(path), 33);
  assertEquals(await Deno.readFile(path), TORN_IN_THE_MIDDLE);
});

Deno.test("cutTornRecord() cuts no file that has another name", async () => {
  await using dir = await folder();
  const [precious, planted] = [join(dir.path, "precious"), join(dir.path, "x.pcap")];
  await Deno.writeTextFile(precious, "short");
  await Deno.link(precious, planted);
  same(await cutTornRecord(planted), 0);
  same(await Deno.readTextFile(precious), "short");
});

Deno.test("cutTornRecord() leaves what is not pcap as it is, and the time of a whole file", async () => {
  await using dir = await folder();
  const path = join(dir.path, "x.pcap");
  const notes = "these are somebody's notes, longer than the header of a pcap file";
  await Deno.writeTextFile(path, notes);
  same(await cutTornRecord(path), 0);
  same(await Deno.readTextFile(path), notes);
  // By its time the newest file of a ring may be known (ring.ts).
  await Deno.writeFile(path, pcap([packet(1)]));
  await Deno.utime(path, 1000, 1000);
  same(await cutTornRecord(path), 0);
  same((await Deno.stat(path)).mtime?.getTime(), 1_000_000);
  // Less than a header is a torn file too.
  await Deno.writeFile(path, pcap([]).subarray(0, 20));
  same(await cutTornRecord(path), 20);
  same((await Deno.stat(path)).size, 0);
});

Deno.test("cutTornRecord() lets others work after each 4 MiB that it has read", async () => {
  await using dir = await folder();
  const path = join(dir.path, "x.pcap");
  const { setTimeout } = globalThis;
  let pauses = 0;
  globalThis.setTimeout = ((...args: Parameters<typeof setTimeout>) => {
    pauses++;
    return setTimeout(...args);
  }) as typeof setTimeout;
  try {
    // Forty of these and the header are 4 MiB to the byte.
    const record = packet(1, 104_857 - 16);
    for (const [records, expected] of [[39, 0], [40, 1], [79, 1], [81, 2]] as const) {
      await Deno.writeFile(path, pcap(Array.from({ length: records }, () => record)));
      pauses = 0;
      same(await cutTornRecord(path), 0);
      same(pauses, expected, `${records} records`);
    }
  } finally {
    globalThis.setTimeout = setTimeout;
  }
});

Deno.test("a controller that was killed cuts the file that tcpdump wrote to, also one that a reader had set aside", async () => {
  const torn = concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30));
  for (
    const [last, cut] of [
      // The ring's own file, when there is one; else the last that was set aside, if that is of the run that has ended.
      ["capture-web-0.pcap3", true],
      ["run-000002-000004.pcap", true],
      ["run-000001-000004.pcap", false],
    ] as const
  ) {
    await using dir = await folder();
    const earlier = "run-000001-000000.pcap";
    for (const name of [earlier, last]) await Deno.writeFile(join(dir.path, name), torn);
    await Deno.writeTextFile(
      join(dir.path, "capture.json"),
      JSON.stringify(manifest({ state: "capturing", runs: [run(1, { endedAt: "x" }), run(2)] })),
    );
    const options = {
      ...{ namespace: "default", name: "web-0", firstSeen: 0, settings: { nodeName: "worker1" } },
      timing: CAPTURE_TIMING,
      directory: { folderOf: () => dir.path },
      log: { info() {}, warn() {} },
    };
    await new Capture(options as never).adopt();
    const size = async (name: string) => (await Deno.stat(join(dir.path, name))).size;
    assertEquals([await size(earlier), await size(last)], [torn.length, cut ? torn.length - 30 : torn.length], last);
  }
});
