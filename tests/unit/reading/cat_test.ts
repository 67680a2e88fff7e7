import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { deleteFile } from "../../../src/store/delete_file.ts";
import type { Manifest } from "../../../src/store/manifest.ts";
import { keepNames } from "../../../src/store/ring.ts";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { cat, type CatOptions } from "../../../src/reading/cat.ts";
import { ReaderGone } from "../../../src/reading/io.ts";
import { PcapReader } from "../../../src/pcap/pcap.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import {
  type CaptureDir,
  captureDir,
  concat,
  header,
  manifest,
  packet,
  pcap,
  record,
  REQUEST,
  run,
  START,
  type TestIo,
  testIo,
} from "./files.ts";

function read(bytes: Uint8Array) {
  const reader = new PcapngReader(new MemorySource(bytes));
  const numbers: number[] = [];
  const names: (string | undefined)[] = [];
  const remarks: string[] = [];
  while (reader.next()) {
    numbers.push(reader.bytes[reader.start]!);
    names.push(reader.interfaces[reader.interface]?.name);
    const options = reader.bytes.subarray(reader.optionsStart, reader.optionsEnd);
    if (options.length > 0) remarks.push(new TextDecoder().decode(options.subarray(4)).replace(/\0+$/, ""));
  }
  return { reader, numbers, names, remarks };
}

const MIXED =
  "the packets have the link types LINUX_SLL2 and EN10MB: Wireshark reads such a file, tcpdump and others that use libpcap do not";

async function run1(path: string, options: Partial<CatOptions> = {}, io: TestIo = testIo()) {
  const code = await cat({ captureDir: path, pod: "default/web-0", ...options }, io);
  return { code, ...read(io.output), said: io.said, output: io.output };
}

Deno.test("cat() writes the files of all runs in order, with what was asked for and counted", async () => {
  await using dir = await captureDir();
  const tcp = { ...REQUEST, filter: "tcp port 80", interface: "eth0" };
  await dir.putManifest({
    annotations: { "tcpdump.antrea.io": "5", "tcpdump.antrea.io/filter": "tcp port 80\u001b[2J" },
    runs: [
      run(1, { endedAt: "2026-01-31T11:30:00.000Z", ended: "annotation edited" }),
      run(2, { request: tcp, endedAt: "x" }),
    ],
  });
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)]));
  await dir.put("run-000001-000001.pcap", pcap([packet(3)]));
  await dir.put("capture-web-0.pcap0", pcap([packet(4), packet(5)], { linkType: 1, snaplen: 96 }));
  const { code, numbers, names, reader, said } = await run1(dir.path);
  assertEquals([code, said], [0, [`default/web-0: ${MIXED}`]]);
  assertEquals(numbers, [1, 2, 3, 4, 5]);
  assertEquals(names, [...Array(3).fill("default/web-0@worker1"), ...Array(2).fill("default/web-0@worker1#2")]);
  const [first, second] = reader.interfaces;
  assertEquals([first?.filter, first?.linkType, first?.snaplen, second?.filter, second?.linkType, second?.snaplen], [
    undefined,
    276,
    262_144,
    "tcp port 80",
    1,
    262_144,
  ]);
  assertEquals([first?.comments, second?.comments], [[], [
    "snaplen 96: at most so many bytes of each packet were kept",
    MIXED,
  ]]);
  assert(reader.comments.includes(MIXED), reader.comments.join());
  assertEquals([first?.statistics, second?.statistics], [
    { received: 20, dropped: 3, delivered: 3, comments: [] },
    { received: 20, dropped: 3, delivered: 2, comments: [] },
  ]);
  same(reader.statisticsBeforeEnd, false);
  const comments = reader.comments.join("\n");
  match(
    comments,
    /^packet-capture \d+\.\d+\.\d+: default\/web-0 on worker1, pod UID 6f1c2d3e-0000-4000-8000-000000000001$/m,
  );
  match(comments, /tcpdump\.antrea\.io="5" tcpdump\.antrea\.io\/filter="tcp port 80\\u001b\[2J"/);
  match(comments, /run 1 from .* to .* \(annotation edited\), run 2 from/);
});

Deno.test("cat() sorts packets within 2 s across files", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([10, 30, 20, 60].map((n) => packet(n))));
  await dir.put("run-000001-000001.pcap", pcap([50, 70, 5].map((n) => packet(n))));
  assertEquals((await run1(dir.path)).numbers, [5, 10, 20, 30, 50, 60, 70]);
});

Deno.test("cat() keeps the order of runs where the clock was set back, and reports it in the file", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ runs: [run(1, { endedAt: "x" }), run(2, { endedAt: "y" })] });
  const later = (n: number) => ({ ...packet(n), time: START + 3600_000_000_000n + BigInt(n) });
  await dir.put("run-000001-000000.pcap", pcap([later(1), later(2)]));
  await dir.put("run-000002-000000.pcap", pcap([packet(3), packet(4)]));
  const { code, numbers, reader, remarks } = await run1(dir.path);
  assertEquals([code, numbers], [0, [1, 2, 3, 4]]);
  match(reader.comments.join("\n"), /the clock was set back by 3600 s or more before run 2/);
  match(reader.interfaces[0]!.statistics!.comments.join("\n"), /the clock was set back once, by 3599\.997 s in all/);
  assertEquals(remarks, ["packet-capture: the clock was set back by 3599.997 s before this packet"]);
});

Deno.test("cat() leaves out what is damaged, writes the rest, reports how much is missing and exits with 1", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30)));
  await dir.put("run-000001-000001.pcap", "not a capture file at all, just text");
  await dir.put("run-000001-000002.pcap", pcap([packet(3)]));
  const { code, numbers, reader, said } = await run1(dir.path);
  assertEquals([code, numbers], [1, [1, 3]]);
  assertEquals(said, [
    "default/web-0: run-000001-000000.pcap is damaged in 1 place: 30 bytes and at least 1 packet are missing",
    "default/web-0: run-000001-000001.pcap is not a pcap file: it is left out (36 bytes)",
  ]);
  assertEquals(reader.interfaces[0]!.statistics!.comments.length, 2);
});

Deno.test("cat() takes the record that tcpdump is writing as not yet there, not as lost", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  await dir.put("capture-web-0.pcap0", concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30)));
  const { code, numbers, said } = await run1(dir.path);
  assertEquals([code, numbers, said], [0, [1], []]);
});

/** A packet so many seconds before the newest one, which was captured when the clock said something else than it does now. */
function before(seconds: number, n: number, clock = START) {
  return { ...packet(n), time: clock - BigInt(seconds * 1000) * 1_000_000n };
}

Deno.test("cat() --since counts from the newest packet, whatever the clock shows now", async () => {
  for (const clock of [START, BigInt(Date.now()) * 1_000_000n, 4_000_000_000_000_000_000n]) {
    await using dir = await captureDir();
    await dir.putManifest({ state: "capturing", runs: [run(1)] });
    const packets = [before(900, 1, clock), before(400, 2, clock), before(300, 3, clock), before(0, 4, clock)];
    await dir.put("run-000001-000000.pcap", pcap(packets.slice(0, 2)));
    // Begun, but without a whole packet as yet.
    await dir.put("capture-web-0.pcap0", concat(pcap(packets.slice(2)), record(before(0, 5, clock)).subarray(0, 30)));
    const { code, numbers, reader } = await run1(dir.path, { sinceSeconds: 300 });
    assertEquals([code, numbers], [0, [3, 4]]);
    assert(reader.comments.includes("only packets of the last 300 s before the newest one"), reader.comments.join());
    assertEquals((await run1(dir.path, { sinceSeconds: 0 })).numbers, [4]);
  }
});

Deno.test("cat() --since leaves nothing out that came before the clock was set back", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([before(30, 1), before(20, 2)]));
  await dir.put("run-000001-000001.pcap", pcap([before(3610, 3), before(3600, 4)]));
  assertEquals((await run1(dir.path, { sinceSeconds: 60 })).numbers, [1, 2, 3, 4]);
});

Deno.test("cat() --since leaves nothing out that came before the clock was set forward, as the controller noticed", async () => {
  await using dir = await captureDir();
  // The clock was set forward by an hour 20 s before the newest packet, and by two hours 500 s before that.
  const step = (secondsBefore: number, seconds: number) => ({
    at: new Date(Number(START / 1_000_000n) - secondsBefore * 1000).toISOString(),
    seconds,
  });
  const clockSteps = [step(3600 + 520, 7200), step(20, 3600), step(-5000, 9000)];
  await dir.putManifest({ state: "capturing", runs: [run(1, { clockSteps })] });
  await dir.put(
    "run-000001-000000.pcap",
    pcap([before(3600 + 301, 1), before(3600 + 299, 2), before(3600 + 21, 3), before(19, 4), before(0, 5)]),
  );
  assertEquals((await run1(dir.path, { sinceSeconds: 300 })).numbers, [2, 3, 4, 5]);
  assertEquals((await run1(dir.path, { sinceSeconds: 19 })).numbers, [4, 5]);
  // 500 s and 20 s, and beyond the first step.
  await dir.put("run-000001-000000.pcap", pcap([before(3600 + 7200 + 550, 1), before(3600 + 519, 2), before(0, 3)]));
  assertEquals((await run1(dir.path, { sinceSeconds: 540 })).numbers, [2, 3]);
  assertEquals((await run1(dir.path, { sinceSeconds: 560 })).numbers, [1, 2, 3]);
});

Deno.test("cat() --since finds the newest packet of a large file at its end", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const packets = Array.from(
    { length: 100 },
    (_, i) => ({ ...before(100 - i, i), data: new Uint8Array(60_000).fill(i) }),
  );
  await dir.put("run-000001-000000.pcap", pcap(packets));
  assertEquals((await run1(dir.path, { sinceSeconds: 3 })).numbers, [96, 97, 98, 99]);
});

Deno.test("cat() --since judges by the packets that are asked for: their link types, their interfaces", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  // Of another link type, old; the last of its packets would be asked for if it were a second younger.
  await dir.put("run-000001-000000.pcap", pcap([before(900, 1), before(301, 2)]));
  await dir.put("run-000001-000001.pcap", pcap([before(400, 3), before(300, 4)], { linkType: 1, snaplen: 80 }));
  await dir.put("run-000001-000002.pcap", pcap([before(0, 5)], { linkType: 1 }));
  const { code, said, output } = await run1(dir.path, { format: "pcap", sinceSeconds: 300 });
  assertEquals([code, said], [0, []]);
  assertEquals(output, pcap([before(300, 4), before(0, 5)], { linkType: 1 }));
  const { reader, numbers, said: nothing } = await run1(dir.path, { sinceSeconds: 300 });
  assertEquals([numbers, nothing], [[4, 5], []]);
  assertEquals(reader.interfaces.map(({ linkType, statistics }) => [linkType, statistics?.delivered]), [[1, 1], [
    1,
    1,
  ]]);
  const refused = await run1(dir.path, { format: "pcap", sinceSeconds: 301 });
  assertEquals([refused.code, refused.output.length], [1, 0]);
  // What of the old file is damaged is reported all the same.
  const torn = concat(pcap([before(900, 1)]), record(before(890, 2)).subarray(0, 30));
  await dir.put("run-000001-000000.pcap", torn);
  const damaged = await run1(dir.path, { format: "pcap", sinceSeconds: 300 });
  assertEquals([damaged.code, damaged.output], [1, output]);
  match(damaged.said.join(), /run-000001-000000\.pcap is damaged in 1 place: 30 bytes/);
});

/** A record that is none: it says 1,000,000 microseconds. */
function impossible(n: number): Uint8Array {
  const bytes = record(packet(n));
  new DataView(bytes.buffer).setUint32(4, 1_000_000, true);
  return bytes;
}

const A_YEAR_LATER = { ...packet(3), time: START + 400n * 86_400_000_000_000n };

Deno.test("cat() lets only a file that a living tcpdump writes end in what cannot be read yet", async () => {
  const capturing: Partial<Manifest> = { state: "capturing", runs: [run(1)] };
  const half = concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30));
  const cases: [
    what: string,
    file: Uint8Array,
    manifest: Partial<Manifest> | undefined,
    alive: boolean,
    whole: boolean,
  ][] = [
    ["written to", half, capturing, true, true],
    ["of a run that has ended", half, { state: "failing" }, true, false],
    ["held", half, { state: "held" }, true, false],
    ["left by a controller that is gone", half, capturing, false, false],
    ["written to, without a manifest", half, undefined, true, true],
    ["left without a manifest", half, undefined, false, false],
    // Nothing that comes makes a record of it, nor of what stands behind it.
    ["nonsense", concat(pcap([packet(1)]), impossible(2), record(A_YEAR_LATER)), capturing, true, false],
    ["nonsense at the end", concat(pcap([packet(1)]), impossible(2)), capturing, true, false],
  ];
  for (const [what, file, manifest, alive, whole] of cases) {
    await using dir = await captureDir();
    if (manifest) await dir.putManifest(manifest);
    await dir.put("capture-web-0.pcap0", file);
    if (!alive) dir.controllerGone();
    const { code, numbers, said } = await run1(dir.path);
    assertEquals([code, numbers], [whole ? 0 : 1, [1]], what);
    if (!whole) match(said.at(-1)!, /pcap0 is damaged in 1 place: \d+ bytes and at least 1 packet are missing/, what);
  }
  // Nor of a deleted pod's files, though a controller is there.
  await using dir = await captureDir();
  const kept = join(dir.path, ".retained", "6f1c2d3e-0000-4000-8000-000000000001");
  await Deno.mkdir(kept, { recursive: true });
  await Deno.writeFile(join(kept, "capture-web-0.pcap0"), half);
  same((await run1(dir.path, { pod: "6f1c2d3e-0000-4000-8000-000000000001" })).code, 1);
});

Deno.test("cat() --format pcap writes one link type, with nanoseconds if there are any, and refuses two", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const nanos = { ...packet(2), time: START + 7_123_456_789n };
  await dir.put("run-000001-000000.pcap", pcap([packet(1)], { snaplen: 80 }));
  await dir.put("run-000001-000001.pcap", pcap([nanos], { digits: 9, littleEndian: false, snaplen: 100 }));
  const { output, code } = await run1(dir.path, { format: "pcap" });
  same(code, 0);
  assertEquals(output, pcap([packet(1), nanos], { digits: 9, snaplen: 100 }));
  await dir.put("run-000001-000002.pcap", pcap([packet(3)], { linkType: 1 }));
  const refused = await run1(dir.path, { format: "pcap" });
  assertEquals([refused.code, refused.output.length], [1, 0]);
  match(
    refused.said.join(),
    /^Cannot write packets of the link types LINUX_SLL2 and EN10MB as pcap: a pcap file has one link type/,
  );
});

Deno.test("cat() refuses in one sentence what it cannot do, and writes nothing", async () => {
  await using dir = await captureDir();
  const refusal = async (options: Partial<CatOptions>, io = testIo()) => {
    const { code, said, output } = await run1(dir.path, options, io);
    same(output.length, 0);
    same(said.length, 1, said.join("\n"));
    return `${code} ${said[0]}`;
  };
  for (
    const pod of [
      "web-0",
      "default/",
      "/web-0",
      "default/web_0",
      "../etc",
      "default/../web",
      "a/b/c",
      "Default/web",
      "default/web-0\u001b[2J",
      `default/${"x".repeat(254)}`,
    ]
  ) {
    match(
      await refusal({ pod }),
      /^2 Cannot read .* as a pod: it must be NAMESPACE\/POD, or the UID of a kept capture$/,
    );
  }
  match(
    await refusal({ pod: "default/web-1" }),
    /^4 Cannot find a capture of default\/web-1 on this node: the pod is not annotated/,
  );
  match(
    await refusal({ pod: "00000000-0000-4000-8000-000000000000" }),
    /^4 Cannot find a kept capture with the UID 0000/,
  );
  await dir.putManifest({ state: "pending", reason: "the pod has no sandbox yet" });
  match(
    await refusal({}),
    /^3 Cannot read default\/web-0: no packet has been captured yet, it is pending: the pod has no sandbox yet$/,
  );
  await dir.put("capture-web-0.pcap0", header());
  match(await refusal({}), /^3 Cannot read default\/web-0: no packet has been captured yet/);
  await dir.put("capture-web-0.pcap0", "something else, longer than a header");
  match(await refusal({}), /^1 Cannot read default\/web-0: capture-web-0\.pcap0 is not a pcap file$/);
  await dir.put("capture-web-0.pcap0", pcap([packet(1)]));
  match(await refusal({}, testIo({ terminal: true })), /^2 Cannot write packets to a terminal/);
  const entry = {
    namespace: "default",
    pod: "web-2",
    uid: "u",
    state: "rejected",
    reason: 'annotation tcpdump.antrea.io must be a whole number from 1 to 100: got "0"',
    since: "x",
  };
  await Deno.writeTextFile(join(dir.path, ".not-capturing.json"), JSON.stringify([entry]));
  match(
    await refusal({ pod: "default/web-2" }),
    /^3 Cannot read default\/web-2: no packet has been captured yet, it is rejected: annotation tcpdump\.antrea\.io must be a whole number from 1 to 100: got "0"$/,
  );
});

Deno.test("cat() of a capture that is deleted while it begins reports it", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const { open } = Deno;
  Deno.open = async (...args) => {
    Deno.open = open;
    await Deno.remove(dir.folder, { recursive: true });
    return await open(...args);
  };
  try {
    const { code, said } = await run1(dir.path);
    assertEquals([code, said], [1, ["Cannot read default/web-0: its files have just been deleted"]]);
  } finally {
    Deno.open = open;
  }
});

Deno.test("cat() of a capture whose files are deleted, and emptied, while they are opened reports it", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  for (const n of [0, 1]) await dir.put(`capture-web-0.pcap${n}`, pcap([packet(n)]));
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    const file = openSync(path, options);
    using emptied = openSync(path, { write: true });
    Deno.removeSync(path);
    emptied.truncateSync();
    return file;
  };
  try {
    const { code, said } = await run1(dir.path);
    assertEquals([code, said], [1, ["Cannot read default/web-0: its files have just been deleted"]]);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("cat() reports which files of its snapshot the controller deleted before they were read, and how much of each is missing", async () => {
  for (const running of [true, false]) {
    await using dir = await captureDir();
    const large = (n: number) => Array.from({ length: 20 }, () => packet(n, 50_000));
    await dir.putManifest({
      state: running ? "capturing" : "held",
      runs: [run(1, { request: { ...REQUEST, files: 3 }, ...(running ? {} : { endedAt: "x" }) })],
    });
    for (const n of [0, 1, 2]) {
      await dir.put(`capture-web-0.pcap${n}`, pcap(large(n + 1)));
      await Deno.utime(join(dir.folder, `capture-web-0.pcap${n}`), 100 + n, 100 + n);
    }
    let first = true;
    const written: Uint8Array[] = [];
    const io = testIo({
      write: async (bytes) => {
        written.push(bytes.slice());
        if (!first) return;
        first = false;
        for (const { name } of [...Deno.readDirSync(dir.folder)]) await deleteFile(join(dir.folder, name));
      },
    });
    const code = await cat({ captureDir: dir.path, pod: "default/web-0" }, io);
    const { numbers, reader } = read(concat(...written));
    same(code, 1);
    assertEquals([numbers, reader.interfaces[0]!.statistics!.delivered], [[], 0]);
    const missing = (n: number) =>
      `default/web-0: capture-web-0.pcap${n} was deleted before it was read: 1000344 of its 1000344 bytes are missing`;
    assertEquals(io.said, [0, 1, 2].map(missing));
    assertEquals(reader.interfaces[0]!.statistics!.comments.length, io.said.length);
  }
});

Deno.test("cat() takes no file for deleted whose torn end the controller has cut off", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ runs: [run(1, { endedAt: "x" })] });
  await dir.put("capture-web-0.pcap0", concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30)));
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    Deno.openSync = openSync;
    const file = openSync(path, options);
    const { statSync } = file;
    file.statSync = () => {
      const info = statSync.call(file);
      Deno.truncateSync(String(path), info.size - 30);
      file.statSync = statSync;
      return info;
    };
    return file;
  };
  try {
    const { code, numbers, said } = await run1(dir.path);
    assertEquals([code, numbers, said], [0, [1], []]);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("cat() reads a capture whose manifest is damaged, and reports what is missing", async () => {
  await using dir = await captureDir();
  await dir.put("capture.json", "{");
  await dir.put("capture-web-0.pcap0", pcap([packet(1)]));
  const { code, numbers, names, said } = await run1(dir.path);
  assertEquals([code, numbers, names], [0, [1], ["default/web-0@unknown"]]);
  match(said.join("\n"), /capture\.json: it is damaged \(not JSON\): names, filters and counters are missing/);
});

Deno.test("cat() finds the kept capture of a deleted pod by its UID, and by name while only one is kept", async () => {
  await using dir = await captureDir();
  await Deno.remove(dir.folder);
  const keep = async (uid: string, n: number) => {
    const folder = join(dir.path, ".retained", uid);
    await Deno.mkdir(folder, { recursive: true });
    const kept: Manifest = manifest({ uid, state: "retained" });
    await Deno.writeTextFile(join(folder, "capture.json"), JSON.stringify(kept));
    await Deno.writeFile(join(folder, "run-000001-000000.pcap"), pcap([packet(n)]));
  };
  await keep("6f1c2d3e-0000-4000-8000-000000000001", 1);
  assertEquals((await run1(dir.path)).numbers, [1]);
  await keep("6f1c2d3e-0000-4000-8000-000000000002", 2);
  assertEquals((await run1(dir.path, { pod: "6f1c2d3e-0000-4000-8000-000000000002" })).numbers, [2]);
  const both = await run1(dir.path);
  same(both.code, 1);
  match(
    both.said.join(),
    /^Cannot tell which capture of default\/web-0 is meant: several have this name; give one of the UIDs 6f1c.*1, 6f1c.*2$/,
  );
});

Deno.test("cat() sets a running ring's files aside by rename, and gives the lock back", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(3)] });
  await dir.put("run-000002-000000.pcap", pcap([packet(1)]));
  await dir.put("capture-web-0.pcap0", pcap([packet(2)]));
  await dir.put("capture-web-0.pcap1", pcap([packet(3)]));
  await Deno.utime(join(dir.folder, "capture-web-0.pcap0"), 100, 100);
  const { numbers, code } = await run1(dir.path);
  assertEquals([code, numbers], [0, [1, 2, 3]]);
  const names = [...Deno.readDirSync(dir.folder)].map(({ name }) => name).filter((name) =>
    name.endsWith(".pcap") || name.includes("pcap")
  );
  assertEquals(names.sort(), ["run-000002-000000.pcap", "run-000003-000000.pcap", "run-000003-000001.pcap"]);
  using lock = await Deno.open(join(dir.folder, ".reading"), { read: true, write: true });
  assert(await lock.tryLock(true));
});

Deno.test("cat() puts a file that tcpdump begins again during the snapshot after the others", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  for (const n of [0, 1, 2]) {
    await dir.put(`capture-web-0.pcap${n}`, pcap([packet(n + 1), packet(n + 1)]));
    await Deno.utime(join(dir.folder, `capture-web-0.pcap${n}`), 100 + n, 100 + n);
  }
  const { rename } = Deno;
  Deno.rename = async (from, to) => {
    Deno.rename = rename;
    // Ten seconds later, lest sorting put right what is not.
    await dir.put("capture-web-0.pcap0", pcap([{ ...packet(9), time: START + 10_000_000_000n }]));
    await rename(from, to);
  };
  try {
    const { code, numbers, said } = await run1(dir.path);
    assertEquals([code, numbers, said], [0, [2, 2, 3, 3, 9], []]);
  } finally {
    Deno.rename = rename;
  }
});

/** Calls `before` once, just before the first file whose name ends so is opened. */
function onceBeforeOpening(end: string, before: (path: string) => void): Disposable {
  const { openSync } = Deno;
  let called = false;
  Deno.openSync = (path, options) => {
    if (!called && String(path).endsWith(end)) {
      called = true;
      before(String(path));
    }
    return openSync(path, options);
  };
  return { [Symbol.dispose]: () => void (Deno.openSync = openSync) };
}

/** A ring of three files with the packets 1 and 2, 3 and 4, 5 and 6. */
async function ringOfThree(dir: CaptureDir): Promise<void> {
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  for (const n of [0, 1, 2]) {
    await dir.put(`capture-web-0.pcap${n}`, pcap([packet(2 * n + 1), packet(2 * n + 2)]));
    await Deno.utime(join(dir.folder, `capture-web-0.pcap${n}`), 100 + n, 100 + n);
  }
}

Deno.test("cat() reads all files though they are renamed between listing and opening", async () => {
  await using dir = await captureDir();
  await ringOfThree(dir);
  using _hook = onceBeforeOpening("pcap0", (path) => {
    Deno.renameSync(path, join(dir.folder, "run-000001-000000.pcap"));
    Deno.renameSync(join(dir.folder, "capture-web-0.pcap1"), join(dir.folder, "run-000001-000001.pcap"));
  });
  const { code, numbers, said } = await run1(dir.path);
  assertEquals([code, numbers, said], [0, [1, 2, 3, 4, 5, 6], []]);
});

Deno.test("cat() does not look at the files while another sets them aside", async () => {
  await using dir = await captureDir();
  await ringOfThree(dir);
  using another = await keepNames(dir.folder) as Deno.FsFile;
  const { readDir } = Deno;
  const waiting = Promise.withResolvers<void>();
  let listed = false;
  const { tryLock } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.tryLock = function (exclusive) {
    if (exclusive) waiting.resolve();
    return tryLock.call(this, exclusive);
  };
  Deno.readDir = (path) => {
    listed ||= path === dir.folder;
    return readDir(path);
  };
  try {
    const written = run1(dir.path);
    await waiting.promise;
    same(listed, false);
    await Deno.rename(join(dir.folder, "capture-web-0.pcap0"), join(dir.folder, "run-000001-000000.pcap"));
    await another.unlock();
    assertEquals((await written).numbers, [1, 2, 3, 4, 5, 6]);
    same(listed, true);
  } finally {
    Deno.readDir = readDir;
    Deno.FsFile.prototype.tryLock = tryLock;
  }
});

Deno.test("cat() puts a file that tcpdump begins again between listing and opening after the others", async () => {
  await using dir = await captureDir();
  await ringOfThree(dir);
  // A minute later, lest sorting put right what is not.
  const anew = concat(pcap([{ ...packet(9), time: START + 60_000_000_000n }]), record(packet(10)).subarray(0, 20));
  using _hook = onceBeforeOpening("pcap0", (path) => Deno.writeFileSync(path, anew));
  const { code, numbers, said, reader } = await run1(dir.path);
  assertEquals([code, numbers, said], [0, [3, 4, 5, 6, 9], []]);
  assert(!reader.comments.some((comment) => comment.includes("clock")), reader.comments.join("\n"));
});

Deno.test("cat() sets files aside under the run that has begun since it looked for the capture", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "held", runs: [run(1, { endedAt: "x" })] });
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  await dir.put("capture-web-0.pcap0", pcap([packet(2)]));
  const { open } = Deno;
  Deno.open = async (...args) => {
    Deno.open = open;
    await dir.putManifest({
      state: "capturing",
      runs: [run(1, { endedAt: "x" }), run(2, { request: { ...REQUEST, filter: "udp" } })],
    });
    return await open(...args);
  };
  try {
    const { numbers, names } = await run1(dir.path);
    assertEquals([numbers, names], [[1, 2], ["default/web-0@worker1", "default/web-0@worker1#2"]]);
    assertEquals(
      [...Deno.readDirSync(dir.folder)].map(({ name }) => name).filter((name) => name.includes("pcap")).sort(),
      [
        "run-000001-000000.pcap",
        "run-000002-000000.pcap",
      ],
    );
  } finally {
    Deno.open = open;
  }
});

Deno.test("cat() renames nothing of a kept capture, and waits for nobody, though its last run has no end", async () => {
  await using dir = await captureDir();
  const request = { ...REQUEST, files: 1 };
  await dir.putManifest({ state: "retained", request, runs: [run(1, { request })] });
  for (const n of [0, 1, 2]) await dir.put(`capture-web-0.pcap${n}`, pcap([packet(n + 1)]));
  const before = [...Deno.readDirSync(dir.folder)].map(({ name }) => name).filter((name) => name !== ".reading");
  const { numbers, reader } = await run1(dir.path);
  assertEquals(numbers, [1, 2, 3]);
  assert(!reader.comments.some((comment) => comment.includes("without a snapshot")), reader.comments.join("\n"));
  const after = [...Deno.readDirSync(dir.folder)].map(({ name }) => name).filter((name) => name !== ".reading");
  assertEquals(after.sort(), before.sort());
});

Deno.test("cat() writes no interface for a file without packets, and refuses no format because of it", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  await dir.put("run-000001-000001.pcap", header({ linkType: 1 }));
  await dir.put("run-000001-000002.pcap", concat(header({ linkType: 1 }), new Uint8Array(5)));
  const { reader, said } = await run1(dir.path);
  same(reader.interfaces.length, 1);
  assertEquals(said, [
    "default/web-0: run-000001-000002.pcap is damaged in 1 place: 5 bytes and at least 1 packet are missing",
  ]);
  same((await run1(dir.path, { format: "pcap" })).output.length, pcap([packet(1)]).length);
});

Deno.test("cat() takes zeros at a file's beginning for no packet of 1970", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)]));
  await dir.put(
    "run-000001-000001.pcap",
    concat(header(), new Uint8Array(4096), pcap([4, 5, 6].map((n) => packet(n))).subarray(24)),
  );
  const { numbers, reader, code } = await run1(dir.path);
  assertEquals([code, numbers], [1, [1, 2, 4, 5, 6]]);
  assert(!reader.comments.some((comment) => comment.includes("clock")), reader.comments.join("\n"));
});

Deno.test("cat() reports that it will not write to a terminal before it touches the ring", async () => {
  await using dir = await captureDir();
  await ringOfThree(dir);
  same((await run1(dir.path, {}, testIo({ terminal: true }))).code, 2);
  assert((await Deno.stat(join(dir.folder, "capture-web-0.pcap0"))).isFile);
});

Deno.test("cat() passing over old packets lets itself be ended", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([...Array.from({ length: 120_000 }, () => packet(1, 1)), packet(9999)]));
  const stop = new AbortController();
  const { next } = PcapReader.prototype;
  let packets = 0;
  PcapReader.prototype.next = function () {
    if (++packets === 1) setTimeout(() => stop.abort());
    return next.call(this);
  };
  try {
    const { code, said } = await run1(dir.path, { sinceSeconds: 1 }, testIo({ signal: stop.signal }));
    assertEquals([code, said], [143, ["ended before all was written"]]);
    // All of them once, at the end of the file, to find the newest.
    assert(packets < 120_000 + 120_000, String(packets));
  } finally {
    PcapReader.prototype.next = next;
  }
});

Deno.test("cat() without room for a snapshot leaves the ring alone, and reports what the ring overtook", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(2, { request: { ...REQUEST, files: 2 } })] });
  const large = (n: number) => Array.from({ length: 20 }, () => packet(n, 50_000));
  await dir.put("run-000001-000000.pcap", pcap(large(1)));
  await dir.put("capture-web-0.pcap0", pcap(large(2)));
  await dir.put("capture-web-0.pcap1", pcap(large(3)));
  await Deno.utime(join(dir.folder, "capture-web-0.pcap0"), 100, 100);
  let first = true;
  const written: Uint8Array[] = [];
  const io = testIo({
    write: async (bytes) => {
      written.push(bytes.slice());
      if (!first) return;
      first = false;
      // What tcpdump does when the ring wraps: the same inode, truncated and written again.
      await dir.put("capture-web-0.pcap0", pcap([packet(9, 200)]));
    },
  });
  const code = await cat({ captureDir: dir.path, pod: "default/web-0" }, io);
  const { numbers, reader } = read(concat(...written));
  same(code, 1);
  assertEquals([...new Set(numbers)], [1, 3]);
  match(
    io.said.join("\n"),
    /^default\/web-0: capture-web-0\.pcap0 was overtaken by the ring before it was read: 1000344 of its 1000344 bytes are missing$/,
  );
  match(reader.comments.join("\n"), /written without a snapshot, because there is no room/);
  assertEquals(reader.interfaces[0]!.statistics!.comments.length, 1);
  assertEquals(
    reader.interfaces.map(({ packets }) => packets),
    reader.interfaces.map(({ statistics }) => statistics!.delivered),
  );
  assert((await Deno.stat(join(dir.folder, "capture-web-0.pcap1"))).isFile);
});

Deno.test("cat() without room for a snapshot is whole if the ring was not faster", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(2, { request: { ...REQUEST, files: 1 } })] });
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  await dir.put("capture-web-0.pcap", concat(pcap([packet(2)]), new Uint8Array(10)));
  const { code, numbers, said } = await run1(dir.path);
  assertEquals([code, numbers, said], [0, [1, 2], []]);
});

Deno.test("cat() ends quietly when its reader has gone, and with 143 when it is aborted", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  const gone = testIo({ write: () => Promise.reject(new ReaderGone()) });
  same(await cat({ captureDir: dir.path, pod: "default/web-0" }, gone), 1);
  assertEquals(gone.said, []);
  const stop = new AbortController();
  const stuck = testIo({
    signal: stop.signal,
    write: () => {
      stop.abort();
      return new Promise<void>(() => {});
    },
  });
  same(await cat({ captureDir: dir.path, pod: "default/web-0" }, stuck), 143);
  assertEquals(stuck.said, ["ended before all was written"]);
});
