import { deepStrictEqual as assertEquals, rejects as assertRejects } from "node:assert/strict";
import { join } from "@std/path";
import type { Manifest } from "../../../src/store/manifest.ts";
import { isRequest, readManifest, writeManifest } from "../../../src/store/manifest_file.ts";
import { manifest, REQUEST, run } from "../reading/files.ts";

Deno.test("writeManifest() has the bytes on the disk before they get their name, unless asked not to wait", async () => {
  const { sync } = Deno.FsFile.prototype;
  const { rename } = Deno;
  const folder = await Deno.makeTempDir({ prefix: "packet-capture-durable-" });
  let calls: string[] = [];
  Deno.FsFile.prototype.sync = async function () {
    calls.push(`sync ${(await Deno.stat(join(folder, "capture.json.tmp"))).size > 20 ? "of all" : "of nothing"}`);
    return await sync.call(this);
  };
  Deno.rename = (from, to) => {
    calls.push("rename");
    return rename(from, to);
  };
  try {
    const manifest = { uid: "some-text-that-is-longer-than-twenty-bytes" } as Manifest;
    await writeManifest(folder, manifest);
    assertEquals(calls, ["sync of all", "rename"]);
    calls = [];
    await writeManifest(folder, manifest, { durable: false });
    assertEquals(calls, ["rename"]);
  } finally {
    Deno.FsFile.prototype.sync = sync;
    Deno.rename = rename;
    await Deno.remove(folder, { recursive: true });
  }
});

async function folder(): Promise<AsyncDisposable & { readonly path: string; readonly file: string }> {
  const path = await Deno.makeTempDir({ prefix: "packet-capture-manifest-" });
  return {
    path,
    file: join(path, "capture.json"),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

/** A manifest in which every field is there. */
const FULL = manifest({
  annotations: { "tcpdump.antrea.io": "5", "tcpdump.antrea.io/filter": "tcp" },
  reason: "because",
  request: { ...REQUEST, filter: "tcp", durationSeconds: 60, packets: 7 },
  runs: [
    run(1, { endedAt: "2026-01-31T11:30:00.000Z", ended: "annotation changed", linkType: "LINUX_SLL2" }),
    run(2, { clockSteps: [-3.5, 4].map((seconds) => ({ at: "2026-01-31T11:40:00.000Z", seconds })) }),
  ],
  size: { files: 3, bytes: 3_000_000 },
  budget: { durationSeconds: 60, packets: 7, secondsBefore: 0, packetsBefore: 2 },
  completed: "[5]",
  retainedSeconds: 10,
});

Deno.test("writeManifest() and readManifest() bring everything through, whatever is optional", async () => {
  await using dir = await folder();
  const { request: _, ...unasked } = manifest({ runs: [] });
  for (const each of [FULL, manifest(), unasked as Manifest]) {
    await writeManifest(dir.path, each);
    assertEquals(await readManifest(dir.path), each);
    assertEquals(await Deno.readTextFile(dir.file), JSON.stringify(each) + "\n");
  }
  assertEquals(((await Deno.lstat(dir.file)).mode ?? 0) & 0o777, 0o600);
  assertEquals(Array.from(Deno.readDirSync(dir.path), ({ name }) => name), ["capture.json"]);
});

Deno.test("writeManifest() writes all, where the system takes a few bytes at a time", async () => {
  await using dir = await folder();
  const { write } = Deno.FsFile.prototype;
  Deno.FsFile.prototype.write = function (bytes) {
    return write.call(this, bytes.subarray(0, 100));
  };
  try {
    await writeManifest(dir.path, FULL);
  } finally {
    Deno.FsFile.prototype.write = write;
  }
  assertEquals(await readManifest(dir.path), FULL);
});

Deno.test("writeManifest() writes through no symlink, and leaves what it has where it cannot write", async () => {
  await using dir = await folder();
  await Deno.writeTextFile(join(dir.path, "precious"), "precious");
  await Deno.symlink(join(dir.path, "precious"), `${dir.file}.tmp`);
  await writeManifest(dir.path, FULL);
  assertEquals(await Deno.readTextFile(join(dir.path, "precious")), "precious");
  await Deno.mkdir(join(`${dir.file}.tmp`, "sub"), { recursive: true });
  await assertRejects(writeManifest(dir.path, manifest()), /not empty/i);
  assertEquals(await readManifest(dir.path), FULL);
});

Deno.test("readManifest() finds none, and refuses what is no file, no JSON or of a newer version, by name", async () => {
  await using dir = await folder();
  assertEquals(await readManifest(dir.path), undefined);
  const refused = async (message: string) =>
    await assertRejects(readManifest(dir.path), {
      name: "SyntaxError",
      message: `Cannot read ${dir.file}: ${message}`,
    });
  const texts: [string, string][] = [
    ["{", "it is damaged (not JSON)"],
    ...["1", "null", "{}", '{"version":1.5}', '"text"'].map((text): [string, string] => [
      text,
      "it is damaged (no version)",
    ]),
    ['{"version":2}', "it has version 2; it must have version 1"],
    ['{"version":1}', "it is damaged (a field is missing or wrong)"],
  ];
  for (const [text, message] of texts) {
    await Deno.writeTextFile(dir.file, text);
    await refused(message);
  }
  await Deno.remove(dir.file);
  await Deno.mkdir(dir.file);
  await refused("it is not a regular file");
  await assertRejects(readManifest(join(dir.path, "x".repeat(300))), /File name too long/);
});

/** Returns a copy of a value with one field replaced; undefined: taken away. */
function replaced(value: unknown, [key, ...rest]: readonly (string | number)[], by: unknown): unknown {
  if (key === undefined) return by;
  const copy: Record<string | number, unknown> = Array.isArray(value) ? [...value] as never : { ...value as object };
  copy[key] = replaced(copy[key], rest, by);
  return copy;
}

/** What no field of the kind may be. JSON has neither NaN nor undefined. */
const NO_TEXT = [1, null, {}];
const NO_AMOUNT = ["1", -1, null, {}];
const NO_OBJECT = [null, 1, "text"];

Deno.test("readManifest() takes no manifest in which one field is missing or wrong", async () => {
  await using dir = await folder();
  type Field = [at: (string | number)[], wrong: unknown[], isRequired: boolean];
  const each = (at: (string | number)[], keys: string[], wrong: unknown[], isRequired: boolean) =>
    keys.map((key): Field => [[...at, key], wrong, isRequired]);
  const request = (...at: (string | number)[]): Field[] => [
    [at, NO_OBJECT, false],
    ...each(at, ["files", "fileSizeMB", "snaplen"], NO_AMOUNT, true),
    ...each(at, ["interface", "direction"], NO_TEXT, true),
    ...each(at, ["filter"], NO_TEXT, false),
    ...each(at, ["durationSeconds", "packets"], NO_AMOUNT, false),
  ];
  const fields: Field[] = [
    [["uid"], [...NO_TEXT, "", "../x"], true],
    ...each([], ["namespace", "pod", "node", "state", "reason"], NO_TEXT, true),
    [["since"], [...NO_TEXT, "", "yesterday"], true],
    [["annotations"], NO_OBJECT, true],
    [["annotations", "tcpdump.antrea.io"], NO_TEXT, false],
    ...request("request"),
    [["runs"], [null, {}, "text", 1], true],
    [["runs", 0], NO_OBJECT, true],
    [["runs", 1, "n"], ["1", 1.5, null], true],
    ...request("runs", 1, "request"),
    [["runs", 1, "startedAt"], NO_TEXT, true],
    ...each(["runs", 0], ["endedAt", "ended", "linkType"], NO_TEXT, false),
    ...each(["runs", 1], ["captured", "received", "dropped"], NO_AMOUNT, true),
    [["runs", 1, "clockSteps"], [null, {}, "text"], false],
    [["runs", 1, "clockSteps", 0], NO_OBJECT, true],
    [["runs", 1, "clockSteps", 0, "at"], [...NO_TEXT, 2026, "yesterday"], true],
    [["runs", 1, "clockSteps", 0, "seconds"], ["1", null], true],
    ...each([], ["capturedSeconds", "capturedPackets"], NO_AMOUNT, true),
    ...each([], ["retainedSeconds"], NO_AMOUNT, false),
    [["budget"], NO_OBJECT, false],
    ...each(["budget"], ["secondsBefore", "packetsBefore"], NO_AMOUNT, true),
    ...each(["budget"], ["durationSeconds", "packets"], NO_AMOUNT, false),
    [["size"], NO_OBJECT, false],
    ...each(["size"], ["files", "bytes"], NO_AMOUNT, true),
  ];
  const write = (value: unknown) => Deno.writeTextFile(dir.file, JSON.stringify(value));
  for (const [at, wrong, isRequired] of fields) {
    for (const by of isRequired ? [...wrong, undefined] : wrong) {
      await write(replaced(FULL, at, by));
      await assertRejects(
        readManifest(dir.path),
        { name: "SyntaxError", message: `Cannot read ${dir.file}: it is damaged (a field is missing or wrong)` },
        `${at.join(".")} ${JSON.stringify(by)}`,
      );
    }
    if (isRequired || at.includes("annotations")) continue;
    await write(replaced(FULL, at, undefined));
    // A run without its request cannot be read, the rest can be left out.
    if (at.join(".") === "runs.1.request") await assertRejects(readManifest(dir.path));
    else assertEquals((await readManifest(dir.path))?.uid, FULL.uid, at.join("."));
  }
});

Deno.test("isRequest() takes 0 and refuses what is not an object", () => {
  assertEquals([isRequest({ ...REQUEST, files: 0 }), isRequest(undefined), isRequest(null)], [true, false, false]);
});
