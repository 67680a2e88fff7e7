/** The local cluster itself: it comes up after anything, and leaves nothing behind. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { bridges } from "../cluster/network.ts";
import { CONTROL_PLANE } from "../cluster/control_plane.ts";
import { daemonsOf, recorded } from "../support/daemon.ts";
import { attempt, run } from "../support/run.ts";
import { Kube, waitFor } from "./kube.ts";

const MAIN = join(import.meta.dirname!, "../cluster/main.ts");
const UP_AND_DOWN_MS = 180_000;

/** A folder for a cluster of the test's own, taken down whatever happens. */
async function ownFolder(): Promise<AsyncDisposable & { dir: string }> {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-cluster-", dir: "/tmp" });
  return {
    dir,
    async [Symbol.asyncDispose]() {
      await launcher(dir, "down");
    },
  };
}

async function launcher(dir: string, ...args: string[]): Promise<string> {
  const argv = [Deno.execPath(), "run", "--allow-all", "--no-check", MAIN, ...args];
  return await run(argv, { env: { CLUSTER_DIR: dir, CLUSTER_PROVIDER: "local" }, timeoutMs: UP_AND_DOWN_MS });
}

/** Kills a launcher without warning as soon as it has started the process `name`. */
async function killUpWhenStarted(dir: string, name: string): Promise<void> {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", "--no-check", MAIN, "up"],
    env: { CLUSTER_DIR: dir, CLUSTER_PROVIDER: "local" },
    stdin: "null",
    stderr: "null",
  }).spawn();
  await waitFor(`the start of ${name}`, async () => await recorded(dir, name), { everyMs: 10 });
  child.kill("SIGKILL");
  await child.status;
}

async function assertNothingLeft(dir: string): Promise<void> {
  assert.deepEqual(await daemonsOf(dir), []);
  assert.deepEqual((await bridges()).filter((b) => b.dir === dir), []);
  await assert.rejects(Deno.stat(dir), Deno.errors.NotFound);
  // Namespaces are named after the index, and the index after the bridge: without an owner there must be none.
  const owned = (await bridges()).map((b) => `pc${b.index}-`);
  const names = (await run(["ip", "netns", "list"])).match(/^pc\d+-worker\d/gm) ?? [];
  assert.deepEqual(names.filter((name) => !owned.some((prefix) => name.startsWith(prefix))), []);
}

Deno.test("up() after the launcher was killed half way brings a whole cluster, down() leaves nothing, and others are untouched", async () => {
  await using folder = await ownFolder();
  const { dir } = folder;
  const neighbour = await pids(new Kube().dir);
  await killUpWhenStarted(dir, "apiserver");

  await launcher(dir, "up");
  const own = new Kube(dir);
  assert.deepEqual(await own.workers(), ["worker1", "worker2"]);
  assert.notDeepEqual((await own.get<{ items: unknown[] }>("nodes")).items, []);

  const before = await pids(dir);
  await launcher(dir, "up");
  assert.deepEqual(await pids(dir), before, "a second up started something anew");

  await launcher(dir, "down");
  await assertNothingLeft(dir);
  await launcher(dir, "down"); // again: nothing to do
  assert.deepEqual(await pids(new Kube().dir), neighbour, "the suite's own cluster was touched");
});

Deno.test("down() after the launcher was killed half way leaves nothing", async () => {
  await using folder = await ownFolder();
  const { dir } = folder;
  await killUpWhenStarted(dir, "worker2-containerd");
  await launcher(dir, "down");
  await assertNothingLeft(dir);
});

Deno.test("up() refuses a folder with something else in it, down() does not touch it", async () => {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-cluster-" });
  try {
    await Deno.writeTextFile(join(dir, "diary.txt"), "dear diary");
    await assert.rejects(launcher(dir, "up"), /not empty \(diary\.txt\)/);
    await launcher(dir, "down");
    assert.equal(await Deno.readTextFile(join(dir, "diary.txt")), "dear diary");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("nodes have their own /var, /run and processes", async () => {
  const kube = new Kube();
  const [one, two] = await kube.workers();
  const mark = `/var/lib/packet-capture-test-${crypto.randomUUID()}`;
  try {
    assert.equal((await kube.nodeExec(one!, ["touch", mark])).code, 0);
    assert.notEqual((await kube.nodeExec(two!, ["test", "-e", mark])).code, 0, "the other node has the file too");
    assert.notEqual((await attempt(["test", "-e", mark])).code, 0, "the host has the file too");
  } finally {
    await kube.nodeExec(one!, ["rm", "-f", mark]);
  }
  const { stdout } = await kube.nodeExec(one!, ["ps", "-o", "args="], {});
  assert.ok(!stdout.includes("kube-apiserver"), "a node sees the host's processes");
});

/** The control plane's processes, by id. */
async function pids(dir: string): Promise<(number | undefined)[]> {
  return await Promise.all(CONTROL_PLANE.map(async (name) => (await recorded(dir, name))?.pid));
}
