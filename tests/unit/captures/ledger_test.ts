import { deepStrictEqual as assertEquals, rejects } from "node:assert/strict";
import { join } from "@std/path";
import { Ledger } from "../../../src/captures/ledger.ts";
import { readManifest } from "../../../src/captures/manifest_file.ts";

const request = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" } as const;
const pod = {
  namespace: "default",
  name: "web",
  uid: "u-1",
  resourceVersion: "1",
  annotations: {},
  sandboxUid: "u-1",
  terminating: false,
};

Deno.test("Ledger.save() writes one after another, however many ask at once, and the last stays", async () => {
  const folder = await Deno.makeTempDir();
  const ledger = new Ledger(folder, "node-1");
  await ledger.begin(pod, request, { n: 1, sandboxId: "s" });
  const saves: Promise<void>[] = [];
  for (let captured = 1; captured <= 50; captured++) {
    ledger.amend({ captured });
    saves.push(ledger.save({ durable: captured % 2 === 0 }));
  }
  await Promise.all(saves);
  assertEquals((await readManifest(folder))?.runs[0]?.captured, 50);
  assertEquals(Array.from(Deno.readDirSync(folder)).map(({ name }) => name), ["capture.json"]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Ledger.adopt() sets aside what cannot be read, whatever is in the way", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "capture.json");
  const adopt = () => new Ledger(folder, "node-1").adopt();
  try {
    await Deno.writeTextFile(path, "{");
    await Deno.mkdir(join(folder, "capture.json.damaged", "deep"), { recursive: true });
    const { interrupted, damage } = await adopt();
    assertEquals([interrupted, damage?.includes("not JSON")], [true, true]);
    assertEquals(await Deno.readTextFile(`${path}.damaged`), "{");
    // Not a word about its content: it cannot be read at all.
    await Deno.writeTextFile(path, "{}");
    const { readTextFile } = Deno;
    Deno.readTextFile = () => Promise.reject(new Error("Input/output error (os error 5)"));
    try {
      assertEquals((await adopt()).damage, "Input/output error (os error 5)");
    } finally {
      Deno.readTextFile = readTextFile;
    }
    assertEquals(await adopt(), { interrupted: true });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("readManifest() refuses what the program would calculate with if it is no number, or no time", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const ledger = new Ledger(folder, "node-1");
    await ledger.begin(pod, { ...request, durationSeconds: 5 }, { n: 1, sandboxId: "s" });
    const path = join(folder, "capture.json");
    const text = await Deno.readTextFile(path);
    const { runs: [run] } = JSON.parse(text);
    const other = (change: object) => ({ ...request, ...change });
    for (
      const change of [
        { request: {} },
        { request: other({ files: "5" }) },
        { request: other({ fileSizeMB: -1 }) },
        { request: other({ filter: 7 }) },
        { request: other({ durationSeconds: "1h" }) },
        { runs: [{ ...run, request: {} }] },
        { capturedSeconds: -1 },
        { retainedSeconds: "0" },
        { retainedSeconds: -3600 },
        { since: "yesterday" },
      ]
    ) {
      await Deno.writeTextFile(path, JSON.stringify({ ...JSON.parse(text), ...change }));
      await rejects(readManifest(folder), SyntaxError, JSON.stringify(change));
    }
    await Deno.writeTextFile(path, JSON.stringify({ ...JSON.parse(text), retainedSeconds: 60 }));
    assertEquals((await readManifest(folder))?.retainedSeconds, 60);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
