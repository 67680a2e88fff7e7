import assert from "node:assert/strict";
import { dirname, join } from "@std/path";
import { Throttling } from "../../../src/tcpdump/throttling.ts";

/** Files below a root of their own. */
async function tree(files: Readonly<Record<string, string>>): Promise<AsyncDisposable & { readonly root: string }> {
  const root = await Deno.makeTempDir();
  await put(root, files);
  return { root, [Symbol.asyncDispose]: () => Deno.remove(root, { recursive: true }) };
}

async function put(root: string, files: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(files)) {
    await Deno.mkdir(dirname(join(root, path)), { recursive: true });
    await Deno.writeTextFile(join(root, path), text);
  }
}

const stat = (n: number) => `nr_periods 10\nnr_throttled ${n}\nthrottled_usec 5\n`;
const V1 = "12:memory:/kube/pod\n4:cpuset:/other\n3:cpu,cpuacct:/kube/pod\n";

/** Where the counter is: in the folder of the own cgroup, or where a container sees its own as the root. */
const PLACES: readonly [name: string, own: string, file: string][] = [
  ["version 2, of the node", "0::/kube/pod\n", "sys/fs/cgroup/kube/pod/cpu.stat"],
  ["version 2, in a container", "0::/\n", "sys/fs/cgroup/cpu.stat"],
  ["version 1, of the node", V1, "sys/fs/cgroup/cpu,cpuacct/kube/pod/cpu.stat"],
  ["version 1, in a container", V1, "sys/fs/cgroup/cpu,cpuacct/cpu.stat"],
];

for (const [name, own, file] of PLACES) {
  Deno.test(`Throttling notices that the counter grows: cgroup ${name}`, async () => {
    const { now } = performance;
    let later = 0;
    // The clock stands still between the steps, however busy the machine is.
    performance.now = () => later;
    try {
      await using files = await tree({ "proc/self/cgroup": own, [file]: stat(7) });
      const throttling = new Throttling(files.root);
      await throttling.look();
      later += 1000;
      await throttling.look();
      assert.equal(throttling.isRecent, false, "it has been so before");
      await put(files.root, { [file]: stat(8) });
      later += 999;
      await throttling.look();
      assert.equal(throttling.isRecent, false, "it has just been read");
      later += 1;
      await throttling.look();
      assert.equal(throttling.isRecent, true);
      later += 5000;
      await throttling.look();
      assert.equal(throttling.isRecent, true);
      later += 5001;
      assert.equal(throttling.isRecent, false);
    } finally {
      performance.now = now;
    }
  });
}

Deno.test("Throttling knows of no limit where the kernel counts none, or shows nothing", async () => {
  for (
    const files of [
      {},
      { "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.stat": "usage_usec 5\n" },
      { "proc/self/cgroup": "4:cpuset:/a\n", "sys/fs/cgroup/cpuset/a/cpu.stat": stat(1) },
    ]
  ) {
    await using there = await tree(files as Record<string, string>);
    const throttling = new Throttling(there.root);
    await throttling.look();
    assert.equal(throttling.isRecent, false);
  }
});
