import { ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { denoArgs } from "../../rig/cli.ts";
import { captureDir, header } from "../../unit/reading/files.ts";

/** Between a ring of 10 MB and one of 500 MB: the engine's own garbage, 5 % of the difference in size. */
const MOST_GROWTH_KB = 24_000;
const PACKET = 1000;

/** A ring of `files` files of `megabytes` each, whose packets are 10 µs apart. */
async function ring(folder: string, files: number, megabytes: number): Promise<void> {
  let number = 0;
  const chunk = new Uint8Array(1000 * (16 + PACKET));
  const view = new DataView(chunk.buffer);
  for (let i = 0; i < files; i++) {
    using file = await Deno.open(join(folder, `run-000001-00000${i}.pcap`), { write: true, create: true });
    await file.write(header());
    for (let written = 0; written < megabytes * 1e6; written += chunk.length) {
      for (let at = 0; at < chunk.length; at += 16 + PACKET, number++) {
        view.setUint32(at, 1_700_000_000 + Math.floor(number / 100_000), true);
        view.setUint32(at + 4, number % 100_000 * 10, true);
        view.setUint32(at + 8, PACKET, true);
        view.setUint32(at + 12, PACKET, true);
        view.setUint32(at + 16, number, true);
      }
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
    }
  }
}

/** KB that `cat` took for a ring of that size. */
async function memoryOfCat(files: number, megabytes: number): Promise<number> {
  await using dir = await captureDir();
  await dir.putManifest();
  await ring(dir.folder, files, megabytes);
  return await memory(["tests/integration/reading/cat_memory.ts", dir.path], files * megabytes * 1e6);
}

/** KB that merging so many captures of that size took. */
async function memoryOfMerge(captures: number, megabytes: number): Promise<number> {
  await using dir = await captureDir();
  await ring(dir.folder, captures, megabytes);
  const paths = Array.from({ length: captures }, (_, i) => join(dir.folder, `${i}.pcapng`));
  for (const [i, path] of paths.entries()) {
    await run(["editcap", "-F", "pcapng", join(dir.folder, `run-000001-00000${i}.pcap`), path], { timeoutMs: 300_000 });
    await Deno.remove(join(dir.folder, `run-000001-00000${i}.pcap`));
  }
  return await memory(["tests/integration/reading/merge_memory.ts", ...paths], captures * megabytes * 1e6);
}

/** What a program says that it took, having written `least` bytes at least. */
async function memory([program, ...rest]: readonly [string, ...string[]], least: number): Promise<number> {
  const args = [...denoArgs(program), ...rest];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  let bytes = 0;
  const [said, { code }] = await Promise.all([
    new Response(child.stderr).text(),
    child.status,
    child.stdout.pipeTo(new WritableStream({ write: (chunk) => void (bytes += chunk.length) })),
  ]);
  same(code, 0, said);
  assert(bytes > least, `${bytes} bytes`);
  return Number(said.trim());
}

Deno.test("cat takes no more memory for 500 MB than for 10 MB", async () => {
  const small = await memoryOfCat(5, 2);
  const large = await memoryOfCat(5, 100);
  assert(small > 10_000, `${small} KB`);
  assert(large - small <= MOST_GROWTH_KB, `${small} KB for 10 MB, ${large} KB for 500 MB`);
});

Deno.test("merging takes no more memory for 300 MB than for 6 MB", async () => {
  const small = await memoryOfMerge(3, 2);
  const large = await memoryOfMerge(3, 100);
  assert(small > 10_000, `${small} KB`);
  assert(large - small <= MOST_GROWTH_KB, `${small} KB for 6 MB, ${large} KB for 300 MB`);
});
