import { deepStrictEqual as assertEquals, ok as assert, rejects as assertRejects } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { FilterChecks, PodFilter } from "../../../src/tcpdump/filter_checks.ts";
import { tooComplex } from "../../../src/tcpdump/filter_limits.ts";
import { checkFilter, linkTypeOf, listInterfaces } from "../../../src/tcpdump/tcpdump_queries.ts";

const request = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" } as const;
const check = (filter: string, unshare = "unshare", timeoutMs = 60_000) =>
  checkFilter({ tcpdump: "tcpdump", unshare, filter, linkType: "LINUX_SLL2", timeoutMs });
const anybody = { namespace: "default", signal: new AbortController().signal };
const ports = (n: number) => `port ${Array.from({ length: n }, (_, i) => i + 1).join("||")}`;
const hosts = (n: number) =>
  `host ${Array.from({ length: n }, (_, i) => `10.1.${Math.floor(i / 200)}.${i % 200}`).join(" or ")}`;

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
  assert((await check("host example.com"))?.includes("it must be an address"));
});

Deno.test("checkFilter() rejects when it could not be done, which is no word about the filter", async () => {
  await using unshare = await program("echo 'unshare: unshare failed: No space left on device' >&2; exit 1");
  await assertRejects(check("udp", unshare.path), /Cannot check the filter: unshare: unshare failed: No space left/);
  await assertRejects(check("udp", join(unshare.dir, "nothing")), /Cannot check the filter: /);
});

Deno.test("checkFilter() rejects when it takes too long, and ends the process", async () => {
  await using unshare = await program("echo $$ >$here/pid; exec sleep 60");
  const why = /Cannot check the filter: the machine is busy: it took longer than 0.5 s/;
  await assertRejects(check("udp", unshare.path, 500), why);
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
  abort.abort(new Error("the controller is stopping"));
  await assertRejects(found, /the controller is stopping/);
});

Deno.test("FilterChecks has a filter compiled once for all who ask, but for each link type, and needs no process for none", async () => {
  await using unshare = await program("echo >>$here/calls");
  const all = checks(unshare);
  const calls = () => Deno.readTextFileSync(join(unshare.dir, "calls")).length;
  await Promise.all(
    Array.from({ length: 50 }, (_, i) => {
      const one = { ...request, filter: "udp", snaplen: 64 + i };
      return all.problemOf(one, anybody);
    }),
  );
  assertEquals(calls(), 1);
  await all.problemOf({ ...request, filter: "udp", interface: "eth0" }, anybody);
  await all.problemOf({ ...request, filter: "tcp" }, anybody);
  await all.problemOf(request, anybody);
  assertEquals(calls(), 3);
});

/** Counts how many of it run at a time, in `$here/counts`. */
const COUNTED =
  "mkdir -p $here/now; touch $here/now/$$; ls $here/now | wc -l >>$here/counts; sleep 0.1; rm $here/now/$$; exit 1";

async function counts({ dir }: { dir: string }): Promise<number[]> {
  return (await Deno.readTextFile(join(dir, "counts"))).trim().split("\n").map(Number);
}

Deno.test("FilterChecks compiles two filters of a namespace and four of all at a time, and does not remember what failed", async () => {
  await using unshare = await program(COUNTED);
  const all = checks(unshare);
  const ask = (n: number, namespace: string) =>
    Promise.allSettled(
      Array.from(
        { length: n },
        (_, i) => all.problemOf({ ...request, filter: `port ${i}` }, { ...anybody, namespace }),
      ),
    );
  const settled = await ask(6, "a");
  assert(settled.every(({ status }) => status === "rejected"));
  assertEquals(Math.max(...await counts(unshare)), 2);
  await Promise.all([ask(4, "a"), ask(4, "b"), ask(4, "c")]);
  const seen = await counts(unshare);
  assertEquals(seen.length, 18);
  assert(Math.max(...seen) <= 4, seen.join(" "));
});

Deno.test("checkFilter() refuses a filter that needs more memory or CPU time than it may, and names the limit", async () => {
  assertEquals(
    await check(ports(1499)),
    "is too complex: tcpdump needs more than 64 MB of memory to compile it; use fewer terms, net or portrange",
  );
  await using spins = await program("kill -XCPU $$");
  assertEquals(
    await check("udp", spins.path),
    "is too complex: tcpdump needs more than 20 s of CPU time to compile it; use fewer terms, net or portrange",
  );
  await using crashes = await program("kill -SEGV $$");
  assert((await check("udp", crashes.path))?.includes("too complex"));
});

Deno.test("checkFilter() lets honest long filters pass", async () => {
  for (const filter of [ports(150), hosts(300), `not (${hosts(300)})`]) assertEquals(await check(filter), undefined);
});

Deno.test("checkFilter() takes no verdict from a machine that is short of something", async () => {
  for (
    const [script, why] of [
      ["kill -KILL $$", /tcpdump was ended by SIGKILL/],
      ["echo 'tcpdump: error while loading shared libraries: libpcap.so: cannot open' >&2; exit 127", /loading shared/],
      ["echo 'capsh: Unable to set capabilities' >&2; exit 1", /Unable to set/],
    ] as const
  ) {
    await using unshare = await program(script);
    await assertRejects(check("udp", unshare.path), why);
  }
});

Deno.test("tooComplex() knows libpcap's words for a memory limit, and takes no other end for one", () => {
  for (
    const said of ["tcpdump: malloc", "tcpdump: out of memory", "tcpdump: out of dynamic memory in yy_create_buffer()"]
  ) {
    assert(tooComplex({ code: 1, signal: null, said })?.includes("64 MB of memory"), said);
  }
  for (const said of ["tcpdump: syntax error", "tcpdump: any: can't mmap rx ring: Cannot allocate memory"]) {
    assertEquals(tooComplex({ code: 1, signal: null, said }), undefined, said);
  }
  assertEquals(tooComplex({ code: 137, signal: "SIGKILL", said: "" }), undefined);
  assertEquals(tooComplex({ code: 143, signal: "SIGTERM", said: "" }), undefined);
});

Deno.test("checkFilter() runs tcpdump without any capability, with no_new_privs and with both limits", async () => {
  await using dir = await program("");
  const tcpdump = join(dir.dir, "tcpdump");
  await Deno.writeTextFile(tcpdump, `#!/bin/sh\ncat /proc/self/status /proc/self/limits >${dir.dir}/seen\n`);
  await Deno.chmod(tcpdump, 0o755);
  await checkFilter({ tcpdump, unshare: "unshare", filter: "udp", linkType: "EN10MB" });
  const seen = await Deno.readTextFile(join(dir.dir, "seen"));
  for (const name of ["CapInh", "CapPrm", "CapEff", "CapAmb"]) {
    assert(seen.includes(`${name}:\t0000000000000000`), seen);
  }
  assert(seen.includes("NoNewPrivs:\t1"));
  assert(/^Max address space +64000000 +64000000 /m.test(seen), seen);
  assert(/^Max cpu time +20 +22 /m.test(seen), seen);
});

Deno.test("tcpdump tells interfaces and their link types of a netns", async () => {
  const here = { tcpdump: "tcpdump", nsenter: "nsenter", netnsPath: undefined };
  assert((await listInterfaces(here)).some((line) => line.startsWith("lo ")));
  assertEquals(await linkTypeOf("lo", here), "EN10MB");
  assertEquals(await linkTypeOf("nothing0", here), undefined);
});

Deno.test("FilterChecks remembers that a filter is too complex", async () => {
  await using unshare = await program("echo >>$here/calls; echo 'tcpdump: malloc' >&2; exit 1");
  const all = checks(unshare);
  for (let i = 0; i < 3; i++) {
    assert((await all.problemOf({ ...request, filter: "udp" }, anybody))?.includes("too complex"));
  }
  assertEquals(Deno.readTextFileSync(join(unshare.dir, "calls")).length, 1);
});

Deno.test("FilterChecks lets no namespace wait behind another's queue, for the same filter neither", async () => {
  await using unshare = await program('case "$*" in *slow*) exec sleep 60; esac; echo >>$here/calls');
  const all = checks(unshare);
  const abort = new AbortController();
  const greedy = { namespace: "greedy", signal: abort.signal };
  const slow = Array.from({ length: 20 }, (_, i) => all.problemOf({ ...request, filter: `slow ${i}` }, greedy));
  const queued = all.problemOf({ ...request, filter: "udp" }, greedy);
  assertEquals(await all.problemOf({ ...request, filter: "udp" }, { ...anybody, namespace: "other" }), undefined);
  abort.abort(new Error("over"));
  const settled = await Promise.allSettled([...slow, queued]);
  assert(settled.every(({ status }) => status === "rejected"));
});

Deno.test("FilterChecks drops a check that nobody waits for, queued or running, and not one for which another waits", async () => {
  await using unshare = await program("echo $$ >>$here/pids; [ -e $here/go ] || exec sleep 60");
  const all = checks(unshare);
  const [first, second] = [new AbortController(), new AbortController()];
  const ask = (filter: string, { signal }: AbortController) =>
    all.problemOf({ ...request, filter }, { namespace: "default", signal });
  const pids = () =>
    Deno.readTextFile(join(unshare.dir, "pids")).then((text) => text.trim().split("\n").map(Number), () => []);
  const left = ask("shared", first);
  const shared = ask("shared", second);
  const other = ask("other", first);
  const queued = ask("queued", first);
  await waitFor("two checks", async () => (await pids()).length === 2, { everyMs: 5 });
  first.abort(new Error("edited"));
  for (const dropped of [left, other, queued]) await assertRejects(dropped, /edited/);
  const lives = async () => {
    const argvs = (await pids()).map((pid) => Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => ""));
    return (await Promise.all(argvs)).filter((argv) => argv !== "").length;
  };
  await waitFor("the end of the other check", async () => await lives() === 1, { everyMs: 5 });
  assertEquals((await pids()).length, 2, "the queued one was begun");
  await Deno.writeTextFile(join(unshare.dir, "go"), "");
  const ended = assertRejects(shared, /SIGKILL/);
  for (const pid of await pids()) {
    if ((await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "")) !== "") Deno.kill(pid, "SIGKILL");
  }
  await ended;
  assertEquals(await ask("shared", second), undefined);
});

Deno.test("PodFilter checks few of a thousand edits, and the last one", async () => {
  await using unshare = await program("echo >>$here/calls");
  const pod = new PodFilter(checks(unshare), "default");
  const dropped: Promise<unknown>[] = [];
  for (let i = 0; i < 999; i++) {
    dropped.push(pod.problemOf({ ...request, filter: `port ${i}` }));
    if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const last = pod.problemOf({ ...request, filter: "port 999" });
  assert((await Promise.allSettled(dropped)).some(({ status }) => status === "rejected"));
  assertEquals(await last, undefined);
  const calls = Deno.readTextFileSync(join(unshare.dir, "calls")).length;
  assert(calls >= 1 && calls <= 10, `${calls} checks`);
});
