import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { dirname, join } from "@std/path";
import fc from "fast-check";
import { readAnnotations, requestHash } from "../../../src/spec/annotations.ts";
import type { CaptureRequest } from "../../../src/spec/request.ts";
import { cat } from "../../../src/reading/cat.ts";
import { list } from "../../../src/reading/list.ts";
import type { Row } from "../../../src/spec/row.ts";
import { captureDir, concat, header, manifest, packet, pcap, record, REQUEST, run, START, testIo } from "./files.ts";

async function rows(path: string, code = 0): Promise<Row[]> {
  const io = testIo();
  same(await list({ captureDir: path, output: "json" }, io), code, io.said.join());
  return JSON.parse(new TextDecoder().decode(io.output));
}

const time = (ms: number) => new Date(Number(START / 1_000_000n) + ms).toISOString();

Deno.test("list() reports for each capture its state, what it holds, and from when to when", async () => {
  await using dir = await captureDir();
  await dir.putManifest({
    state: "capturing",
    request: { ...REQUEST, filter: "udp" },
    runs: [
      run(1, { endedAt: "x", captured: 7, received: 9, dropped: 1 }),
      run(2, { captured: 12, received: 20, dropped: 4 }),
    ],
    capturedPackets: 7,
  });
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)]));
  await dir.put("capture-web-0.pcap0", concat(pcap([packet(3), packet(40)]), record(packet(50)).subarray(0, 30)));
  await dir.put("capture-web-0.pcap1", header());
  await Deno.utime(join(dir.folder, "capture-web-0.pcap0"), 100, 100);
  assertEquals(await rows(dir.path), [{
    namespace: "default",
    pod: "web-0",
    uid: "6f1c2d3e-0000-4000-8000-000000000001",
    state: "capturing",
    reason: "",
    since: "2026-01-31T12:00:00.000Z",
    files: 3,
    bytes: 24 + 2 * 76 + 24 + 2 * 76 + 30 + 24,
    packets: 19,
    received: 29,
    dropped: 5,
    lostPercent: 17.24,
    oldest: time(1),
    newest: time(40),
    filter: "udp",
    options: {},
    request: requestHash(manifest().annotations),
    listening: false,
  }]);
});

const option = <T>(arbitrary: fc.Arbitrary<T>) => fc.option(arbitrary, { nil: undefined });
const requests = fc.record<Record<keyof CaptureRequest, unknown>>({
  files: fc.integer({ min: 1, max: 100 }),
  fileSizeMB: fc.constantFrom(1, 2, 100),
  snaplen: fc.constantFrom(64, 262_143, 262_144),
  interface: fc.constantFrom("any", "eth0"),
  direction: fc.constantFrom("in", "out", "inout"),
  filter: option(fc.constantFrom("udp", "tcp port 80")),
  durationSeconds: option(fc.constantFrom(1, 60, 5400)),
  packets: option(fc.constantFrom(1, 1000)),
  bufferMB: option(fc.constantFrom(1, 32)),
}).map((request) => JSON.parse(JSON.stringify(request)) as CaptureRequest);

Deno.test("list() shows every option that is not the default, and no other, with and without a folder", async () => {
  await fc.assert(
    fc.asyncProperty(requests, async (request) => {
      await using dir = await captureDir();
      await dir.putManifest({ request });
      const waits = {
        namespace: "other",
        pod: "waits",
        uid: "u",
        state: "waiting",
        reason: "",
        since: "",
        request: "",
      };
      await Deno.writeTextFile(join(dir.path, ".not-capturing.json"), JSON.stringify([{ ...waits, wanted: request }]));
      const found = await rows(dir.path);
      same(found.length, 2);
      for (const { filter, options } of found) {
        const asked = (shown: Row["options"]) => {
          const all = { files: String(request.files), ...shown, ...(filter === null ? {} : { filter }) };
          const annotations = Object.entries(all).map(([name, value]) => [name === "files" ? "k" : `k/${name}`, value]);
          return readAnnotations(Object.fromEntries(annotations), "k", {
            ...{ maxFiles: 100, maxFileSizeMB: 100, maxBufferMB: 32, maxDurationSeconds: 86_400 },
          });
        };
        assertEquals(asked(options), { kind: "valid", request, hold: false });
        for (const name of Object.keys(options)) {
          const { [name]: _, ...fewer } = options;
          assert(JSON.stringify(asked(fewer)) !== JSON.stringify(asked(options)), `${name} is the default`);
        }
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("list() writes the options into one column of its table", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ request: { ...REQUEST, fileSizeMB: 2, interface: "eth0", durationSeconds: 600 } });
  const io = testIo();
  same(await list({ captureDir: dir.path }, io), 0);
  match(new TextDecoder().decode(io.output), / {2}file-size=2 interface=eth0 duration=10m {2}-\n$/);
});

Deno.test("list() finds the newest packet of a large file at its end", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const packets = Array.from({ length: 100 }, (_, i) => packet(i, 60_000 + i * 7));
  await dir.put("run-000001-000000.pcap", pcap(packets, { littleEndian: false, digits: 9 }));
  const [row] = await rows(dir.path);
  assertEquals([row?.oldest, row?.newest], [time(0), time(99)]);
});

Deno.test("list() shows requests without a folder, kept captures, and folders without a manifest", async () => {
  await using dir = await captureDir();
  await dir.put("capture-web-0.pcap0", pcap([packet(1)]));
  const kept = join(dir.path, ".retained", "6f1c2d3e-0000-4000-8000-000000000009");
  await Deno.mkdir(kept, { recursive: true });
  await Deno.writeTextFile(
    join(kept, "capture.json"),
    JSON.stringify(manifest({ uid: "6f1c2d3e-0000-4000-8000-000000000009", state: "retained", pod: "gone-0" })),
  );
  const entry = {
    namespace: "other",
    pod: "bad-0",
    uid: "u1",
    state: "rejected",
    reason: "because",
    since: "2026-01-31T12:00:00.000Z",
  };
  await Deno.writeTextFile(join(dir.path, ".not-capturing.json"), JSON.stringify([entry, { namespace: 5 }]));
  assertEquals(
    (await rows(dir.path)).map(({ namespace, pod, state, reason, files }) => [namespace, pod, state, reason, files]),
    [
      ["default", "gone-0", "retained", "", 0],
      ["default", "web-0", "unknown", "", 1],
      ["other", "bad-0", "rejected", "because", 0],
    ],
  );
});

Deno.test("list() aligns its table, and shows no control character that a user has put into a filter", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ request: { ...REQUEST, filter: "udp\u001b]0;owned\u0007 or tcp\u202e" } });
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  const io = testIo();
  same(await list({ captureDir: dir.path }, io), 0);
  const [head, line, ...rest] = new TextDecoder().decode(io.output).split("\n");
  match(head!, /^POD +STATE +SINCE +FILES +BYTES +PACKETS +DROPPED +OLDEST +NEWEST +OPTIONS +FILTER$/);
  match(
    line!,
    /^default\/web-0 +held +2026-01-31T12:00:00Z +1 +100 B +7 +3 \(15%\) +2023-11-14T22:13:20Z +2023-11-14T22:13:20Z +- +udp\\x1b\]0;owned\\x07 or tcp\\u202e$/,
  );
  same(head!.indexOf("FILES"), line!.indexOf("1  "));
  assertEquals(rest, [""]);
});

Deno.test("list() of a namespace shows nothing of another, nor of kept captures of which it is not known whose they are", async () => {
  await using dir = await captureDir();
  await dir.put("capture.json", "{");
  await Deno.mkdir(join(dir.path, "other", "web-0"), { recursive: true });
  const keep = async (end: string, text: string) => {
    const folder = join(dir.path, ".retained", `6f1c2d3e-0000-4000-8000-00000000000${end}`);
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(join(folder, "capture.json"), text);
    await Deno.writeFile(join(folder, "capture-web-0.pcap0"), pcap([packet(1)]));
  };
  const kept = (end: string, namespace: string) =>
    keep(
      end,
      JSON.stringify(manifest({ uid: `6f1c2d3e-0000-4000-8000-00000000000${end}`, namespace, state: "retained" })),
    );
  await kept("1", "default");
  await kept("2", "other");
  await keep("3", "{");
  const entry = { pod: "bad-0", uid: "u1", state: "rejected", reason: "", since: "2026-01-31T12:00:00.000Z" };
  await Deno.writeTextFile(
    join(dir.path, ".not-capturing.json"),
    JSON.stringify([{ ...entry, namespace: "default" }, { ...entry, namespace: "other", pod: "bad-1", uid: "u2" }]),
  );
  const of = async (namespace: string) => {
    const io = testIo();
    same(await list({ captureDir: dir.path, output: "json", namespace }, io), namespace === "default" ? 1 : 0);
    const found: Row[] = JSON.parse(new TextDecoder().decode(io.output));
    return [found.map(({ namespace, pod, uid }) => [namespace, pod, uid.at(-1)].join("/")), io.said.length];
  };
  assertEquals(await of("default"), [["default/bad-0/1", "default/web-0/", "default/web-0/1"], 1]);
  assertEquals(await of("other"), [["other/bad-1/2", "other/web-0/", "other/web-0/2"], 1]);
  assertEquals(await of("unknown"), [[], 0]);
  assertEquals(await of("none"), [[], 0]);
  const io = testIo();
  same(await list({ captureDir: dir.path, namespace: "../default" }, io), 2);
  match(io.said.join(), /^Cannot list the namespace "\.\.\/default": it must be a DNS label such as default$/);
  // Nor is it read by a name that anybody's namespace may have.
  const packets = testIo();
  same(await cat({ captureDir: dir.path, pod: "unknown/web-0" }, packets), 4);
  match(packets.said.join(), /^Cannot find a capture of unknown\/web-0/);
});

Deno.test("list() of an empty or missing captureDir is empty", async () => {
  assertEquals(await rows("/nonexistent"), []);
});

Deno.test("list() and cat() know a kept capture whose manifest is damaged by its UID and its files", async () => {
  await using dir = await captureDir();
  await Deno.remove(dir.folder);
  const keep = async (uid: string, name: string) => {
    const folder = join(dir.path, ".retained", uid);
    await Deno.mkdir(folder, { recursive: true });
    await Deno.writeTextFile(join(folder, "capture.json"), "{");
    await Deno.writeFile(join(folder, name), pcap([packet(1)]));
  };
  await keep("6f1c2d3e-0000-4000-8000-000000000001", "capture-web-0.pcap3");
  await keep("6f1c2d3e-0000-4000-8000-000000000002", "run-000001-000000.pcap");
  await keep("6f1c2d3e-0000-4000-8000-000000000003", "notes.txt");
  assertEquals(
    (await rows(dir.path, 1)).map((
      { namespace, pod, uid, state, files },
    ) => [namespace, pod, uid.at(-1), state, files]),
    [["unknown", "unknown", "2", "unknown", 1], ["unknown", "web-0", "1", "unknown", 1]],
  );
  const io = testIo();
  same(await cat({ captureDir: dir.path, pod: "6f1c2d3e-0000-4000-8000-000000000001", format: "pcap" }, io), 0);
  assertEquals(io.output, pcap([packet(1)]));
});

Deno.test("list() passes over a symlink in place of the folder of kept captures, as the controller does", async () => {
  await using dir = await captureDir();
  const folder = join(dir.path, ".elsewhere", "6f1c2d3e-0000-4000-8000-000000000001");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeFile(join(folder, "capture-web-0.pcap3"), pcap([packet(1)]));
  await Deno.symlink(join(dir.path, ".elsewhere"), join(dir.path, ".retained"));
  assertEquals((await rows(dir.path)).map(({ uid }) => uid).filter((uid) => uid !== ""), []);
});

Deno.test("list() and cat() go on with whatever a manifest may be, and report whose is damaged", async () => {
  await using dir = await captureDir();
  const other = join(dir.path, "other", "db-0");
  await Deno.mkdir(other, { recursive: true });
  await Deno.writeTextFile(join(other, "capture.json"), JSON.stringify(manifest({ namespace: "other", pod: "db-0" })));
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  const clockSteps = [{ at: "2026-01-31T12:00:00.000Z", seconds: 3600 }];
  const runs = [run(1, { endedAt: "2026-01-31T12:00:00.000Z", clockSteps })];
  const good = JSON.parse(JSON.stringify(manifest({ request: { ...REQUEST, filter: "udp" }, completed: "x", runs })));
  /** Every place in the manifest, as the keys that lead to it. */
  const places = (value: unknown): string[][] =>
    typeof value !== "object" || value === null
      ? [[]]
      : [[], ...Object.entries(value).flatMap(([key, inner]) => places(inner).map((path) => [key, ...path]))];
  const changed = (value: unknown, [key, ...rest]: string[], to: unknown): unknown =>
    key === undefined ? to : Object.assign(Array.isArray(value) ? [...value] : { ...value as object }, {
      [key]: changed((value as Record<string, unknown>)[key], rest, to),
    });
  let damaged = 0;
  for (const place of places(good)) {
    for (const to of [null, 7, -1, 1e308, "", "x", true, [], {}, [null], { a: 1 }]) {
      await dir.put("capture.json", JSON.stringify(changed(good, place, to)));
      for (const output of ["table", "json"] as const) {
        const io = testIo();
        const code = await list({ captureDir: dir.path, output }, io);
        const text = new TextDecoder().decode(io.output);
        match(text, output === "json" ? /"pod": "db-0"/ : /^other\/db-0 /m);
        match(text, output === "json" ? /"pod": "web-0"/ : /^default\/web-0 /m);
        same(code, io.said.length, `${place}: ${JSON.stringify(to)}: ${io.said}`);
        if (code === 1) match(io.said[0]!, /default\/web-0\/capture\.json/);
        damaged += code;
      }
      const io = testIo();
      same(await cat({ captureDir: dir.path, pod: "default/web-0" }, io), 0, `${place}: ${io.said}`);
    }
  }
  assert(damaged > 100, `${damaged} were taken for damaged`);
});

Deno.test("list() shows all other captures where something odd is in the way of one, and exits 1", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const put = async (path: string, make: (path: string) => unknown) => {
    await Deno.mkdir(dirname(join(dir.path, path)), { recursive: true });
    await make(join(dir.path, path));
  };
  // Neither files nor names of ours: passed over.
  await dir.put("run-000001-99999999999999999999999999999999.pcap", pcap([packet(1)]));
  await dir.put("run-99999999999999999999999999999999-000001.pcap", pcap([packet(1)]));
  await dir.put("capture-web-0.pcap99999999", pcap([packet(1)]));
  await put("default/web-0/capture-web-0.pcap3", (path) => Deno.mkdir(path));
  await put("default/web-0/capture-web-0.pcap4", (path) => Deno.symlink("/etc/passwd", path));
  await put("default/Odd_Name", (path) => Deno.mkdir(path));
  await put("default/a-file", (path) => Deno.writeTextFile(path, ""));
  await put("a-file", (path) => Deno.writeTextFile(path, ""));
  await put(".not-capturing.json", (path) => Deno.mkdir(path));
  await put(".retained", (path) => Deno.writeTextFile(path, ""));
  assertEquals((await rows(dir.path)).map(({ pod, files }) => [pod, files]), [["web-0", 0]]);
  // In the way of one.
  await put("default/a/capture.json", (path) => Deno.mkdir(path));
  await put("default/b/capture.json", (path) => Deno.symlink("capture.json", path));
  await put("default/c/capture.json", (path) => Deno.writeFile(path, Uint8Array.of(0xff, 0xfe, 0)));
  await put("default/d/capture.json", (path) => Deno.writeTextFile(path, "null"));
  const io = testIo();
  same(await list({ captureDir: dir.path, output: "json" }, io), 1);
  const found: Row[] = JSON.parse(new TextDecoder().decode(io.output));
  assertEquals(found.map(({ pod, state }) => [pod, state]), [
    ...["a", "b", "c", "d"].map((pod) => [pod, "unknown"]),
    ["web-0", "held"],
  ]);
  assertEquals(io.said.map((line) => /default\/(.)\/capture\.json/.exec(line)?.[1]), ["a", "b", "c", "d"]);
  // Another namespace's damage is nobody else's business.
  const elsewhere = testIo();
  same(await list({ captureDir: dir.path, namespace: "other" }, elsewhere), 0);
  assertEquals(elsewhere.said, []);
});

Deno.test("list() -o json leaves no character in it that a terminal obeys", async () => {
  await using dir = await captureDir();
  const said = "unknown host '\u009b31m\u202e\u2028\u007f'";
  await dir.putManifest({ state: "rejected", reason: said });
  const io = testIo();
  same(await list({ captureDir: dir.path, output: "json" }, io), 0);
  const text = new TextDecoder().decode(io.output);
  match(text, /^[\n\u0020-\u007e]*$/);
  same(JSON.parse(text)[0].reason, said);
});
