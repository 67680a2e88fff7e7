import { deepStrictEqual as assertEquals, rejects, throws } from "node:assert/strict";
import { join } from "@std/path";
import {
  checkNames,
  HOLDER,
  holdsCaptures,
  isDirectory,
  MARKER,
  placeOf,
  podFolder,
  podFolders,
  retainedFolder,
  retainedFolderOf,
  retainedUids,
} from "../../../src/store/layout.ts";

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "pc-layout-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

Deno.test("podFolder() and retainedFolderOf() return where captures are, and placeOf() finds the way back", () => {
  assertEquals([MARKER, HOLDER], [".packet-capture", ".holder"], "the names of every version");
  assertEquals(podFolder("/d", "default", "web-0"), "/d/default/web-0");
  assertEquals(retainedFolder("/d"), "/d/.retained");
  assertEquals(retainedFolderOf("/d", "uid-1"), "/d/.retained/uid-1");
  assertEquals(placeOf("/d/default/web-0"), { captureDir: "/d", isRetained: false });
  assertEquals(placeOf("/d/.retained/uid-1"), { captureDir: "/d", isRetained: true });
});

Deno.test("names that must not become a path are refused, with the first 80 characters of them", () => {
  const long = "X".repeat(200);
  const shown = JSON.stringify("X".repeat(80));
  const refused = (use: () => unknown, message: string) => throws(use, { name: "RangeError", message });
  refused(() => checkNames(long, "web"), `Cannot use namespace ${shown} as a folder: it must be a DNS label`);
  refused(
    () => podFolder("/d", "default", long),
    `Cannot use pod ${shown} as a folder: it must be a DNS subdomain name`,
  );
  refused(() => podFolder("/d", "..", "web"), 'Cannot use namespace ".." as a folder: it must be a DNS label');
  refused(
    () => retainedFolderOf("/d", `../${long}`),
    `Cannot use UID ${JSON.stringify(`../${"X".repeat(77)}`)} as a folder`,
  );
});

Deno.test("holdsCaptures() recognises namespaces and the folder of what is retained", () => {
  const names = ["default", ".retained", ".holder", "Default", "lost+found"];
  assertEquals(names.map(holdsCaptures), [true, true, false, false, false]);
});

Deno.test("podFolders() lists what can be a pod's folder, by name, of one namespace or of all", async () => {
  await using dir = await temporary();
  for (const folder of ["b/web", "b/a.b", "a/web", "a/Web", ".retained/uid", "Upper/web", "empty"]) {
    await Deno.mkdir(join(dir.path, folder), { recursive: true });
  }
  await Deno.writeTextFile(join(dir.path, "a", "file"), "");
  await Deno.writeTextFile(join(dir.path, "note"), "");
  await Deno.symlink(join(dir.path, "b"), join(dir.path, "c"));
  const [a, b] = [[{ namespace: "a", pod: "web" }], ["a.b", "web"].map((pod) => ({ namespace: "b", pod }))];
  assertEquals(await podFolders(dir.path), [...a!, ...b!]);
  assertEquals(await podFolders(dir.path, "b"), b);
  assertEquals(await podFolders(dir.path, ".retained"), []);
  assertEquals(await podFolders(join(dir.path, "none")), []);
  assertEquals(await podFolders(join(dir.path, "note")), []);
  await rejects(podFolders(join(dir.path, "x".repeat(300))), /File name too long/);
});

Deno.test("podFolders() sorts, whatever order the file system gives", async () => {
  await using dir = await temporary();
  for (const name of ["c", "a", "b"]) await Deno.mkdir(join(dir.path, name, "web"), { recursive: true });
  const { readDir } = Deno;
  Deno.readDir = (path) => ({
    async *[Symbol.asyncIterator]() {
      yield* (await Array.fromAsync(readDir(path))).sort((x, y) => x.name < y.name ? 1 : -1);
    },
  });
  try {
    assertEquals((await podFolders(dir.path)).map(({ namespace }) => namespace), ["a", "b", "c"]);
  } finally {
    Deno.readDir = readDir;
  }
});

Deno.test("retainedUids() lists folders that have a UID's name, of a directory that is one", async () => {
  await using dir = await temporary();
  assertEquals(await retainedUids(dir.path), []);
  for (const name of ["uid-2", "uid-1", "-no", "a.b"]) {
    await Deno.mkdir(join(dir.path, ".retained", name), { recursive: true });
  }
  assertEquals(await retainedUids(dir.path), ["uid-1", "uid-2"]);
  await Deno.mkdir(join(dir.path, "planted"));
  await Deno.symlink(join(dir.path, ".retained"), join(dir.path, "planted", ".retained"));
  assertEquals(await retainedUids(join(dir.path, "planted")), []);
});

Deno.test("isDirectory() is for directories only, and not for what leads to one", async () => {
  await using dir = await temporary();
  await Deno.symlink(dir.path, join(dir.path, "link"));
  await Deno.writeTextFile(join(dir.path, "file"), "");
  const found = ["", "link", "file", "none"].map((name) => isDirectory(join(dir.path, name)));
  assertEquals(await Promise.all(found), [true, false, false, false]);
  await rejects(isDirectory(join(dir.path, "x".repeat(300))), /File name too long/);
});
