/** A deleted file's blocks are free at once, and nothing else is touched. */
import { deepStrictEqual as assertEquals, rejects } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../../support/run.ts";
import { deleteFile } from "../../../src/store/delete_file.ts";

async function directory(): Promise<AsyncDisposable & { readonly path: string; at(name: string): string }> {
  const path = await Deno.makeTempDir({ prefix: "pc-delete-" });
  return {
    path,
    at: (name) => join(path, name),
    [Symbol.asyncDispose]: async () => {
      await attempt(["umount", path]);
      await Deno.remove(path, { recursive: true });
    },
  };
}

async function kilobytesUsed(path: string): Promise<number> {
  const [blocks, free, size] = (await run(["stat", "-f", "-c", "%b %f %S", path])).split(" ").map(Number);
  return (blocks! - free!) * size! / 1024;
}

Deno.test("deleteFile() frees a file's blocks though somebody has it open, which a plain deletion does not", async () => {
  await using dir = await directory();
  await run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir.path]);
  const before = await kilobytesUsed(dir.path);
  for (const name of ["plain", "emptied"]) await Deno.writeFile(dir.at(name), new Uint8Array(2 * 1024 * 1024));
  using plain = await Deno.open(dir.at("plain"));
  using emptied = await Deno.open(dir.at("emptied"));
  await Deno.remove(dir.at("plain"));
  assertEquals(await kilobytesUsed(dir.path) - before, 4096);
  await deleteFile(dir.at("emptied"));
  assertEquals(await kilobytesUsed(dir.path) - before, 2048);
  assertEquals([...Deno.readDirSync(dir.path)], []);
  assertEquals([plain.statSync().size, emptied.statSync().size], [2 * 1024 * 1024, 0]);
});

Deno.test("deleteFile() truncates nothing that has another name, and waits for nobody", async () => {
  await using dir = await directory();
  for (const name of ["linked", "target"]) await Deno.writeTextFile(dir.at(name), "kept");
  await Deno.link(dir.at("linked"), dir.at("link"));
  await Deno.symlink(dir.at("target"), dir.at("symlink"));
  await Deno.symlink(dir.at("nowhere"), dir.at("dangling"));
  await run(["mkfifo", dir.at("pipe")]);
  for (const name of ["link", "symlink", "dangling", "pipe"]) await deleteFile(dir.at(name));
  assertEquals([...Deno.readDirSync(dir.path)].map(({ name }) => name).sort(), ["linked", "target"]);
  for (const name of ["linked", "target"]) assertEquals(await Deno.readTextFile(dir.at(name)), "kept");
  await rejects(deleteFile(dir.at("gone")), Deno.errors.NotFound);
});
