import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { join } from "@std/path";
import type { Manifest } from "../../../src/store/manifest.ts";
import { writeManifest } from "../../../src/store/manifest_file.ts";

Deno.test("writeManifest() has the bytes on the disk before they get their name, unless told not to wait", async () => {
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
