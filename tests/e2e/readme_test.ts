/**
 * The README's commands, as a reader types them: `make e2e` and `make test` in a clone, then every block of shell that needs a
 * cluster or the plugin, one after the other in one shell.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { attempt, run, type RunResult } from "../support/run.ts";
import { cacheDir } from "../support/cache.ts";
import { type Tree, tree } from "../rig/tree.ts";
import { ROOT } from "../support/paths.ts";
import { removeOtherReleases } from "./fixture.ts";
import { Kube, waitFor } from "./kube.ts";
import { picture } from "./picture.ts";
import { Release } from "./release.ts";
import { startWeb } from "./web.ts";

const OUTPUTS = ["capture-files.txt", "capture-output.txt", "capture.pcap", "pod-describe.txt", "pods.txt"];
const kube = new Kube();
/** What the README calls it. */
const release = Release.of(kube);
let clone: Tree;

Deno.test.beforeAll(async () => {
  await removeOtherReleases(kube);
  const parts = [".dockerignore", "Dockerfile", "Makefile", "charts", "deno.json", "deno.lock", "kind-config.yaml"];
  clone = await tree(...parts, "node_modules", "src", "tests", "tools");
});
Deno.test.afterAll(async () => {
  await release.uninstall();
  await clone[Symbol.asyncDispose]();
});

async function make(...args: string[]): Promise<RunResult> {
  return await attempt(["make", ...args], { cwd: clone.path, env: { CLUSTER_DIR: kube.dir }, timeoutMs: 240_000 });
}

async function outputs(): Promise<void> {
  const folder = join(clone.path, "outputs");
  assert.deepEqual(Array.from(Deno.readDirSync(folder), ({ name }) => name).sort(), OUTPUTS);
  for (const name of OUTPUTS) assert.ok((await Deno.stat(join(folder, name))).size > 0, `${name} is empty`);
  assert.match(await run(["capinfos", "-c", join(folder, "capture.pcap")]), /Number of packets: +[1-9]/);
}

Deno.test("make e2e does everything, from a clone to packets in outputs/, and make test does its part again", async () => {
  const all = await make("e2e", "VALUES=--set logLevel=debug");
  assert.equal(all.code, 0, all.stderr);
  assert.match(all.stderr, /release packet-capture is Ready on worker1, worker2$/m);
  assert.match(all.stderr, /captured \d+ packets$/m);
  assert.match(all.stderr, /process and files are gone; see .*outputs\/$/m);
  await outputs();
  assert.equal(await release.setting("LOG_LEVEL"), "debug");
  const again = await make("test");
  assert.equal(again.code, 0, again.stderr);
  await outputs();
});

/** The section of the README that shows what `make e2e` prints. */
const MAKE = "## Try it without a cluster\n";

interface Block {
  readonly mark: string | undefined;
  readonly code: string;
}

async function blocks(): Promise<Block[]> {
  const text = await Deno.readTextFile(join(ROOT, "README.md"));
  return [...text.matchAll(/(?:^<!-- (.+) -->\n)?^```sh\n([^]*?)^```$/gm)].map(([, mark, code]) => ({
    mark,
    code: code!,
  }));
}

/** What a reader has done before a block, by its first line: a pod's capture runs, and has packets. */
const CAPTURING = `kubectl annotate --overwrite pod web-0 tcpdump.antrea.io=5 >&2
until kubectl exec -n packet-capture "$(kubectl get pods -n packet-capture -l app.kubernetes.io/name=packet-capture \\
  --field-selector spec.nodeName="$(kubectl get pod web-0 -o jsonpath='{.spec.nodeName}')" -o name)" -c reader -- \\
  packet-capture list -o json | grep -q '"packets": *[1-9]'; do sleep 0.3; done
`;
const BEFORE: readonly (readonly [firstLine: RegExp, what: string])[] = [
  [/^kubectl packet-capture get -l app=web/, CAPTURING],
  [/^NODE=/, CAPTURING],
];

/** What the README binds in namespace default, and all that its commands and this test make there. */
const BOUND = ["rolebinding/ask", "rolebinding/read", "rolebinding/headers"];
const MADE = ["statefulset/web", "pod/server", ...BOUND];

Deno.test("every block of shell in the README that needs a cluster or the plugin does what it says", async () => {
  await kube.kubectl(["delete", ...BOUND, "-n", "default", "--ignore-not-found"]); // of a run that was killed half way
  await startWeb(kube, "default", { kind: "StatefulSet", replicas: 2 });
  const home = await Deno.makeTempDir({ prefix: "packet-capture-readme-" });
  try {
    const bin = join(home, ".local/bin");
    await Deno.mkdir(bin, { recursive: true });
    // No machine that runs tests has a screen: tshark stands in for Wireshark, until it has seen some packets.
    const wireshark = "#!/bin/sh\nexec tshark -n -l -r - -c 500 -Y http.request\n";
    await Deno.writeTextFile(join(bin, "wireshark"), wireshark, { mode: 0o755 });
    const run = (await blocks()).filter(({ mark }) => mark === "needs a cluster" || mark === "needs the plugin");
    assert.ok(run.length >= 5, `only ${run.length} blocks were found`);
    const script = run.map(({ code }, i) => {
      const before = BEFORE.filter(([firstLine]) => firstLine.test(code)).map(([, what]) => what);
      return [...before, `echo "### block ${i}"`, code, `echo "### end of block ${i}"`].join("\n");
    }).join("\n");
    const path = [bin, join(cacheDir(), "bin"), Deno.env.get("PATH")].join(":");
    const caches = {
      XDG_CACHE_HOME: join(cacheDir(), ".."),
      DENO_DIR: Deno.env.get("DENO_DIR") ?? join(cacheDir(), "../deno"),
    };
    const { code, stdout } = await attempt(["bash", "-euo", "pipefail", "-c", `exec 2>&1\n${script}`], {
      cwd: clone.path,
      env: { ...kube.env, HOME: home, PATH: path, ...caches },
      timeoutMs: 180_000,
    });
    await Deno.writeTextFile(join(ROOT, "dist/readme.log"), stdout);
    assert.equal(code, 0, stdout);
    assert.match(stdout, new RegExp(`### end of block ${run.length - 1}\n$`));
    assert.deepEqual(await unlikeReadme(stdout), []);
    await looksRight(join(clone.path, "web.pcapng"));
    assert.match(await capinfos(join(clone.path, "web-0.pcapng")), /Number of packets: +[1-9]/);
  } finally {
    await Deno.remove(home, { recursive: true });
    await kube.kubectl(["delete", ...MADE, "-n", "default", "--wait", "--ignore-not-found"], { timeoutMs: 90_000 });
  }
  // The last block has uninstalled it.
  await waitFor("the DaemonSet to be gone", async () => {
    return (await kube.tryKubectl(["get", "daemonset", "packet-capture", "-n", "packet-capture"])).code !== 0;
  });
});

async function capinfos(file: string): Promise<string> {
  return await run(["capinfos", "-c", "-o", file]);
}

/** The merged file is sorted and has both pods; the picture of it shows whose each packet is. */
async function looksRight(file: string): Promise<void> {
  await Deno.copyFile(file, join(ROOT, "dist/web.pcapng"));
  assert.match(await capinfos(file), /Strict time order: +True/);
  const svg = await picture(file, "http.request", 12);
  for (const name of ["default/web-0@worker", "default/web-1@worker"]) {
    assert.ok(svg.includes(name), `no ${name} in the picture`);
  }
  assert.match(svg, /GET \/n\/\d+ HTTP/);
}

/**
 * Lines of output that the README shows for these blocks and that were not seen, whatever numbers, times and spaces are in them. The
 * README's output is in indented blocks. Those of {@linkcode MAKE} are of the commands that another test runs.
 */
async function unlikeReadme(seen: string): Promise<string[]> {
  const plain = (line: string) =>
    line.trim().replace(/\d[\d.:TZ-]*/g, "0").replace(/\s+/g, " ").replace(/\b0 [kM]B\b/g, "0 B");
  const lines = new Set(seen.split("\n").map(plain));
  const sections = (await Deno.readTextFile(join(ROOT, "README.md"))).split(/^(?=## )/m);
  const others = sections.filter((section) => !section.startsWith(MAKE));
  assert.equal(others.length, sections.length - 1, `there is no section "${MAKE}"`);
  const shown = others.join("").replace(/^```[^]*?^```$/gm, "").split("\n").filter((line) => line.startsWith("    "));
  assert.ok(shown.length >= 15, `the README shows only ${shown.length} lines of output`);
  return shown.filter((line) => !lines.has(plain(line)));
}

Deno.test("make test where no controller runs ends with 1, and reports it", async () => {
  const { code, stderr } = await make("test");
  assert.equal(code, 2, stderr); // make's own, for a recipe that ended with 1
  assert.match(stderr, /^make test: The controllers are not Ready: .*daemonsets.* "packet-capture" not found$/m);
  assert.match(stderr, /^make(\[\d+\])?: \*\*\* \[Makefile:\d+: test\] Error 1$/m);
});
