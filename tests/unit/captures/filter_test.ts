import { deepStrictEqual as assertEquals, ok as assert, rejects as assertRejects } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../cluster/wait.ts";
import { FilterChecks } from "../../../src/captures/filter_checks.ts";
import { checkFilter } from "../../../src/captures/tcpdump.ts";

const request = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" } as const;
const check = (filter: string, unshare = "unshare") =>
  checkFilter({ tcpdump: "tcpdump", unshare, filter, linkType: "LINUX_SLL2" });

/** A program in place of unshare, in a directory that it finds as `$here`. */
async function program(script: string): Promise<AsyncDisposable & { path: string; dir: string }> {
  const dir = await Deno.makeTempDir({ prefix: "pc-filter-" });
  const path = join(dir, "unshare");
  await Deno.writeTextFile(path, `#!/bin/sh\nhere=${dir}\n${script}\n`);
  await Deno.chmod(path, 0o755);
  return { path, dir, [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }) };
}

const checks = ({ path }: { path: string }) =>
  new FilterChecks({ tcpdump: "tcpdump", unshare: path, signal: new AbortController().signal });

Deno.test("checkFilter() says why a filter does not compile, and nothing of one that does", async () => {
  assertEquals(await check("tcp port 80 and host 10.0.0.1"), undefined);
  assert((await check("tcp port"))?.includes("syntax error"));
  assert((await check("host example.com"))?.includes("write the address"));
});

Deno.test("checkFilter() rejects when it could not be done, which is no word about the filter", async () => {
  await using unshare = await program("echo 'unshare: unshare failed: No space left on device' >&2; exit 1");
  await assertRejects(check("udp", unshare.path), /Cannot check the filter: unshare: unshare failed: No space left/);
  await assertRejects(check("udp", join(unshare.dir, "nothing")), /Cannot check the filter: /);
});

Deno.test("checkFilter() rejects when it takes too long, and ends the process", async () => {
  await using unshare = await program("echo $$ >$here/pid; exec sleep 60");
  await assertRejects(check("udp", unshare.path), /Cannot check the filter: it took longer than 2 s/);
  const pid = (await Deno.readTextFile(join(unshare.dir, "pid"))).trim();
  // A zombie has no command line.
  const argv = () => Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "");
  await waitFor("the end of the process", async () => await argv() === "", { timeoutMs: 10_000, everyMs: 5 });
});

Deno.test("checkFilter() ends with its signal", async () => {
  await using unshare = await program("exec sleep 60");
  const abort = new AbortController();
  const { signal } = abort;
  const found = checkFilter({ tcpdump: "tcpdump", unshare: unshare.path, filter: "udp", linkType: "EN10MB", signal });
  abort.abort();
  await assertRejects(found, /the controller is stopping/);
});

Deno.test("FilterChecks has a filter compiled once for all who ask, but for each link type, and needs no process for none", async () => {
  await using unshare = await program("echo >>$here/calls");
  const all = checks(unshare);
  const calls = () => Deno.readTextFileSync(join(unshare.dir, "calls")).length;
  await Promise.all(
    Array.from({ length: 50 }, (_, i) => all.problemOf({ ...request, filter: "udp", snaplen: 64 + i })),
  );
  assertEquals(calls(), 1);
  await all.problemOf({ ...request, filter: "udp", interface: "eth0" });
  await all.problemOf({ ...request, filter: "tcp" });
  await all.problemOf(request);
  assertEquals(calls(), 3);
});

Deno.test("FilterChecks has at most four filters compiled at a time, and does not remember what failed", async () => {
  await using unshare = await program(
    "mkdir -p $here/now; touch $here/now/$$; ls $here/now | wc -l >>$here/counts; sleep 0.1; rm $here/now/$$; exit 1",
  );
  const all = checks(unshare);
  const ask = (n: number) =>
    Promise.allSettled(Array.from({ length: n }, (_, i) => all.problemOf({ ...request, filter: `port ${i}` })));
  const settled = await ask(12);
  assert(settled.every(({ status }) => status === "rejected"));
  await ask(1);
  const counts = (await Deno.readTextFile(join(unshare.dir, "counts"))).trim().split("\n").map(Number);
  assertEquals(counts.length, 13);
  assert(Math.max(...counts) <= 4, counts.join(" "));
});
