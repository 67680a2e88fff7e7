import { deepStrictEqual as assertEquals, rejects } from "node:assert/strict";
import { join } from "@std/path";
import { Folder } from "../../../src/captures/folder.ts";
import type { Log, LogFields } from "../../../src/log.ts";
import { readManifest, writeManifest } from "../../../src/store/manifest_file.ts";
import type { CaptureRequest } from "../../../src/spec/request.ts";

const request = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" } as const;
const pod = {
  namespace: "default",
  name: "web",
  uid: "u-1",
  resourceVersion: "1",
  annotations: {},
  terminating: false,
};

/** Problems that were logged. */
const problems: unknown[] = [];
const note = (_: string, { problem }: LogFields = {}) => void problems.push(problem);
const log: Log = { debug: note, info: note, warn: note, error: note };

/** @param done gets what is done with the folder as a whole. */
function folderAt(path: string, done: string[] = []): Folder {
  const directory = {
    folderOf: () => path,
    makeFolder: () => Promise.resolve(path),
    removeFolder: () => Promise.resolve(void done.push("removed")),
    retainFolder: () => Promise.resolve((done.push("retained"), path)),
  };
  return new Folder({ directory, namespace: "default", name: "web", node: "node-1", log });
}

Deno.test("Folder.save() writes one after another, however many ask at once, and the last stays", async () => {
  const folder = await Deno.makeTempDir();
  const one = folderAt(folder);
  await one.begin(pod, request, { n: 1, sandboxId: "s" });
  const saves: Promise<void>[] = [];
  for (let captured = 1; captured <= 50; captured++) {
    one.amend({ captured });
    saves.push(one.save({ durable: captured % 2 === 0 }));
  }
  await Promise.all(saves);
  assertEquals((await readManifest(folder))?.runs[0]?.captured, 50);
  assertEquals(Array.from(Deno.readDirSync(folder)).map(({ name }) => name), ["capture.json"]);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("Folder.adopt() sets aside what cannot be read, whatever is in the way", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "capture.json");
  const adopt = async () => {
    problems.length = 0;
    await folderAt(folder).adopt();
    return problems.map(String);
  };
  try {
    await Deno.writeTextFile(path, "{");
    await Deno.mkdir(join(folder, "capture.json.damaged", "deep"), { recursive: true });
    const said = await adopt();
    assertEquals([said.length, said[0]?.includes("not JSON")], [1, true]);
    assertEquals(await Deno.readTextFile(`${path}.damaged`), "{");
    // Not a word about its content: it cannot be read at all.
    await Deno.writeTextFile(path, "{}");
    const { readTextFile } = Deno;
    Deno.readTextFile = () => Promise.reject(new Error("Input/output error (os error 5)"));
    try {
      assertEquals(await adopt(), ["Input/output error (os error 5)"]);
    } finally {
      Deno.readTextFile = readTextFile;
    }
    assertEquals(await adopt(), []);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("readManifest() refuses what the program would calculate with if it is no number, or no time", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const one = folderAt(folder);
    await one.begin(pod, { ...request, durationSeconds: 5 }, { n: 1, sandboxId: "s" });
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

Deno.test("a duration and a packet count count from the request that names them, also across a restart", async () => {
  const folder = await Deno.makeTempDir();
  const begin = (one: Folder, n: number, request: CaptureRequest) => one.begin(pod, request, { n, sandboxId: "s" });
  const captured = (captured: number) => ({ captured, received: captured, dropped: 0 });
  const of = (change: Partial<CaptureRequest>) => ({ ...request, ...change });
  try {
    let one = folderAt(folder);
    await begin(one, 1, of({}));
    // Named while a run is in progress: neither its seconds nor its packets are charged.
    assertEquals(one.recount(of({ durationSeconds: 8, packets: 10 }), 60), { seconds: 8 });
    assertEquals(one.isReached(of({ durationSeconds: 8, packets: 10 }), 67), false);
    assertEquals(one.isReached(of({ durationSeconds: 8, packets: 10 }), 68), true);
    one.end(captured(500), 61, "annotation changed");
    assertEquals(await begin(one, 2, of({ durationSeconds: 8, packets: 10 })), { seconds: 7, packets: 10 });
    one.end(captured(4), 2, "killed");
    // Another filter is another run, and the same count goes on.
    assertEquals(await begin(one, 3, of({ durationSeconds: 8, packets: 10, filter: "udp" })), {
      seconds: 5,
      packets: 6,
    });
    one.end(captured(1), 1, "the controller was restarted");
    await one.save();

    one = folderAt(folder);
    await one.adopt();
    assertEquals(await begin(one, 4, of({ durationSeconds: 8, packets: 10 })), { seconds: 4, packets: 5 });
    one.end(captured(0), 0, "annotation changed");
    // Only the changed one begins again, and list still shows all that was captured so far.
    assertEquals(one.recount(of({ durationSeconds: 8, packets: 7 }), 0), undefined);
    assertEquals(await begin(one, 5, of({ durationSeconds: 8, packets: 7 })), { seconds: 4, packets: 7 });
    assertEquals([one.manifest?.capturedPackets, one.manifest?.capturedSeconds], [505, 64]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a manifest of the first version, which names no budget, goes on counting for the request in it", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const asked = { ...request, durationSeconds: 8 };
    const one = folderAt(folder);
    await one.begin(pod, asked, { n: 1, sandboxId: "s" });
    one.end({ captured: 1, received: 1, dropped: 0 }, 5, "the controller was restarted");
    const { budget: _, ...old } = one.manifest!;
    await writeManifest(folder, old);
    const next = folderAt(folder);
    await next.adopt();
    assertEquals(await next.begin(pod, asked, { n: 2, sandboxId: "s" }), { seconds: 3, packets: undefined });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("Folder.retire() retains a deleted pod's folder that cannot be listed, and deletes one that has no file", async () => {
  const path = await Deno.makeTempDir();
  const retired = async (error?: Error) => {
    const done: string[] = [];
    const folder = folderAt(path, done);
    await folder.prepare();
    await folder.begin(pod, request, { n: 1, sandboxId: "s" });
    const { readDir } = Deno;
    if (error) {
      Deno.readDir = () => {
        throw error;
      };
    }
    try {
      const { isRetained } = await folder.retire(true, 60);
      return [...done, isRetained];
    } finally {
      Deno.readDir = readDir;
    }
  };
  try {
    assertEquals(await retired(new Error("Too many open files (os error 24)")), ["retained", true]);
    assertEquals(await retired(new Deno.errors.NotFound("No such file or directory (os error 2)")), ["removed", false]);
    assertEquals(await retired(), ["removed", false]);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
});
