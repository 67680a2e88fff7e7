import { deepStrictEqual as assertEquals, match as assertMatch, strictEqual as assertSame } from "node:assert/strict";
import { join } from "@std/path";
import { NetnsDir } from "../../../src/sandboxes/netns_dir.ts";
import { waitFor } from "../../support/wait.ts";

interface Watched extends AsyncDisposable {
  readonly path: string;
  readonly dir: NetnsDir;
  readonly events: string[];
  /** Waits for an event, and drops the events so far. */
  event(text: string): Promise<void>;
}

async function watched(path?: string): Promise<Watched> {
  const tmp = await Deno.realPath(await Deno.makeTempDir());
  await Deno.mkdir(join(tmp, "netns"));
  const events: string[] = [];
  const dir = new NetnsDir(path ?? join(tmp, "netns"), {
    onCreate: (name) => events.push(`+${name}`),
    onRemove: (name) => events.push(`-${name}`),
    onUnclear: () => events.push("?"),
  });
  return {
    path: join(tmp, "netns"),
    dir,
    events,
    async event(text) {
      await waitFor(`event ${text} (came: ${events})`, () => events.includes(text), { timeoutMs: 2_000, everyMs: 1 });
      events.length = 0;
    },
    async [Symbol.asyncDispose]() {
      dir[Symbol.dispose]();
      await Deno.remove(tmp, { recursive: true });
    },
  };
}

Deno.test("NetnsDir reports files made, removed, and moved in and out", async () => {
  await using w = await watched();
  assertSame(await w.dir.ensureWatched(), undefined);
  await w.event("?");
  await Deno.writeTextFile(join(w.path, "a"), "");
  await w.event("+a");
  await Deno.rename(join(w.path, "a"), join(w.path, "../a"));
  await w.event("-a");
  await Deno.rename(join(w.path, "../a"), join(w.path, "a"));
  await w.event("?");
  await Deno.remove(join(w.path, "a"));
  await w.event("-a");
});

Deno.test("NetnsDir is not woken by those who read the directory, or read or write a file", async () => {
  await using w = await watched();
  await Deno.writeTextFile(join(w.path, "a"), "");
  await w.dir.ensureWatched();
  await w.event("?");
  await w.dir.names();
  await Deno.readTextFile(join(w.path, "a"));
  await Deno.writeTextFile(join(w.path, "end"), "");
  // The events of the file's closing come before this.
  await Deno.remove(join(w.path, "end"));
  await waitFor("the last event", () => w.events.includes("-end"), { timeoutMs: 2_000, everyMs: 1 });
  // On a busy machine the end of a file may come twice, and instead of its beginning; of "a" there must be no word.
  assertEquals(w.events.filter((event) => event !== "+end" && event !== "-end"), []);
});

Deno.test("NetnsDir.ensureWatched() watches a directory that comes later, goes, and is replaced", async () => {
  await using w = await watched();
  await Deno.remove(w.path);
  assertMatch(await w.dir.ensureWatched() ?? "", /^Cannot watch .*netns: No such file or directory/);
  assertEquals(w.events, []);
  await Deno.mkdir(w.path);
  assertSame(await w.dir.ensureWatched(), undefined);
  await w.event("?");
  await Deno.remove(w.path);
  await w.event("?");
  await Deno.mkdir(w.path);
  assertSame(await w.dir.ensureWatched(), undefined);
  await Deno.writeTextFile(join(w.path, "b"), "");
  await w.event("+b");
  await Deno.rename(w.path, `${w.path}-old`);
  await Deno.mkdir(w.path);
  assertSame(await w.dir.ensureWatched(), undefined);
  await Deno.writeTextFile(join(w.path, "c"), "");
  await w.event("+c");
  await Deno.remove(`${w.path}-old`, { recursive: true });
});

Deno.test("NetnsDir.ensureWatched() does nothing while the watched directory is there", async () => {
  await using w = await watched();
  for (let i = 0; i < 3; i++) await w.dir.ensureWatched();
  assertEquals(w.events, ["?"]);
});

Deno.test("NetnsDir reports files in a directory behind a symbolic link", async () => {
  const link = await Deno.makeTempDir();
  await Deno.remove(link);
  await using w = await watched(link);
  await Deno.symlink(w.path, link);
  try {
    assertSame(await w.dir.ensureWatched(), undefined);
    await Deno.writeTextFile(join(w.path, "a"), "");
    await w.event("+a");
    await Deno.remove(join(w.path, "a"));
    await w.event("-a");
  } finally {
    await Deno.remove(link);
  }
});

Deno.test("NetnsDir.names() lists the files, and is undefined where there is no directory", async () => {
  await using w = await watched();
  await Deno.writeTextFile(join(w.path, "a"), "");
  assertEquals(await w.dir.names(), new Set(["a"]));
  await Deno.remove(w.path, { recursive: true });
  assertSame(await w.dir.names(), undefined);
});

Deno.test("NetnsDir.refusal() reports what a file is that is no network namespace", async () => {
  await using w = await watched();
  await Deno.writeTextFile(join(w.path, "empty"), "");
  assertMatch(await w.dir.refusal(join(w.path, "empty")) ?? "", /empty file.*HostToContainer/);
  assertMatch(await w.dir.refusal(join(w.path, "none")) ?? "", /none does not exist$/);
});
