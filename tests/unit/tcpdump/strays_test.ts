import assert from "node:assert/strict";
import { join } from "@std/path";
import { endStrays } from "../../../src/tcpdump/tcpdump.ts";
import { waitFor } from "../../support/wait.ts";

/** A process with the words of a capture into the folder, which tells when it is up, and when it gets SIGTERM. */
async function stray(dir: string, name: string, onTerm: string): Promise<Deno.ChildProcess> {
  const file = join(dir, name);
  const script = `trap '${onTerm}' TERM; echo up >${file}.up; while :; do read -t 1 <> <(:); done`;
  const child = new Deno.Command("bash", { args: ["-c", script, "-W", "5", "-w", file], stdin: "null" }).spawn();
  await waitFor(`${name} to be up`, () => Deno.lstat(`${file}.up`).then(() => true, () => false));
  return child;
}

Deno.test("endStrays() has a stray write what it has buffered, and kills only one that does not end", async () => {
  const dir = await Deno.realPath(await Deno.makeTempDir());
  const other = await Deno.realPath(await Deno.makeTempDir());
  const writes = (name: string) => `echo all >${join(dir, name)}.written; exit 0`;
  const children = [
    await stray(dir, "runs", writes("runs")),
    await stray(dir, "stopped", writes("stopped")),
    await stray(dir, "hangs", ":"),
    await stray(other, "other", ":"),
  ];
  try {
    children[1]!.kill("SIGSTOP");
    const started = performance.now();
    const ended = await endStrays(dir, new AbortController().signal);
    const took = performance.now() - started;
    assert.ok(took > 900 && took < 4000, `${took} ms`);
    assert.deepEqual(ended.toSorted(), children.slice(0, 3).map(({ pid }) => pid).toSorted());
    const ends = await Promise.all(children.slice(0, 3).map(({ status }) => status));
    assert.deepEqual(ends.map(({ code, signal }) => signal ?? code), [0, 0, "SIGKILL"]);
    for (const name of ["runs", "stopped"]) await Deno.lstat(join(dir, `${name}.written`));
  } finally {
    for (const child of children) {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended.
      }
    }
    await children[3]!.status;
    await Deno.remove(dir, { recursive: true });
    await Deno.remove(other, { recursive: true });
  }
});
