/**
 * The kubectl plugin as its users have it: bundled, installed by `deno install`, run as `kubectl packet-capture …`. Pods on two nodes number their
 * HTTP requests; tshark and capinfos alone read what is fetched.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import { fixture } from "./fixture.ts";
import { InstalledPlugin } from "./installed_plugin.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import {
  assertUnbroken,
  countRotations,
  newestIn,
  pcapBytesIn,
  requestsIn,
  type Ring,
  startWeb,
  type WebPod,
  webPods,
} from "./web.ts";

const { kube, release, namespace } = fixture("plugin");
const REPLICAS = 3;
let installed: InstalledPlugin;
let dir: string;

Deno.test.beforeAll(async () => {
  installed = await InstalledPlugin.install(kube);
  dir = installed.dir;
  await startWeb(kube, namespace, { kind: "Deployment", replicas: REPLICAS });
});
Deno.test.afterAll(() => installed?.[Symbol.asyncDispose]());

/** Runs `kubectl packet-capture …` in the folder `dir`. @param first a folder whose programs come first */
function plugin(args: readonly string[], first?: string) {
  return installed.run(args, first === undefined ? {} : { first });
}

const pods = () => webPods(kube, namespace);

interface Row {
  pod: string;
  node: string;
  state: string;
  files: number;
  bytes: number;
  packets: number;
  dropped: number;
  filter: string | null;
}

async function list(): Promise<Row[]> {
  const { code, stdout, stderr } = await plugin(["list", "-o", "json", "-n", namespace]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout).captures;
}

/** The rings are full and have turned: from now on old packets go as new ones come. */
async function ringsTurn(files: number, fileSize: number): Promise<void> {
  await waitFor("all rings to be full", async () => {
    const rows = await list();
    return rows.length === REPLICAS &&
      rows.every(({ state, bytes }) => state === "capturing" && bytes > (files - 1) * fileSize * 1e6);
  }, { timeoutMs: 90_000, everyMs: 1000 });
}

async function isSorted(file: string): Promise<boolean> {
  return /Strict time order: +True/.test(await run(["capinfos", "-o", join(dir, file)]));
}

/** Where a pod's files are on its node: in the emptyDir of the controller there. */
async function ringOf(pod: WebPod): Promise<Ring> {
  const { uid } = (await release.pod(pod.node)).metadata;
  const volume = `/var/lib/kubelet/pods/${uid}/volumes/kubernetes.io~empty-dir/captures`;
  return { pod, folder: `${volume}/${namespace}/${pod.name}` };
}

/** A folder whose kubectl is the real one, but for downloads, which it does as this line of bash says (`"$@"` is the real command). */
async function otherKubectl(name: string, download: string): Promise<string> {
  const folder = join(dir, name);
  await Deno.mkdir(folder, { recursive: true });
  const script = `#!/bin/bash\nset -o pipefail\nset -- '${installed.kubectl}' "$@"\n` +
    `case "$*" in *"packet-capture cat"*) ${download} ;; esac\nexec "$@"\n`;
  await Deno.writeTextFile(join(folder, "kubectl"), script, { mode: 0o755 });
  return folder;
}

const FILES = 4;
const FILE_SIZE = 2;

Deno.test("start -l and get -l give one sorted file with a named interface of each pod, read at 1 MB/s while the rings turn: all that was held, once", async () => {
  const request = ["--files", String(FILES), "--file-size", String(FILE_SIZE), "--filter", "tcp port 80"];
  const started = await plugin(["start", "-n", namespace, "-l", "app=web", ...request]);
  assert.equal(started.code, 0, started.stderr);
  const all = await pods();
  const names = all.map(({ name, node }) => `${namespace}/${name}@${node}`).sort();
  assert.deepEqual(
    started.stdout.trim().split("\n").sort(),
    all.map(({ name, node }) =>
      `${namespace}/${name}: capturing on node ${node} (${FILES} files of ${FILE_SIZE} MB, filter tcp port 80)`
    ).sort(),
  );
  assert.equal(new Set(all.map(({ node }) => node)).size, 2, "the pods are all on one node");
  await ringsTurn(FILES, FILE_SIZE);
  assert.ok((await list()).every(({ filter }) => filter === "tcp port 80"));

  const rings = await Promise.all(all.map(ringOf));
  const heldTo = new Map<string, number>();
  for (const ring of rings) heldTo.set(`${namespace}/${ring.pod.name}@${ring.pod.node}`, await newestIn(kube, ring));
  const rotations = await countRotations(kube, rings);
  // What reads kubectl takes 1 MB/s and no more: the packets wait in the controller's pod.
  const throttle = `${Deno.execPath()} run --no-config --no-lock ${join(import.meta.dirname!, "throttle.ts")} 1000000`;
  const slow = await otherKubectl("slow", `"$@" | ${throttle}; exit`);
  const begin = performance.now();
  const got = await plugin(["get", "-n", namespace, "-l", "app=web", "-o", "web.pcapng"], slow);
  const seconds = (performance.now() - begin) / 1000;
  const turned = await rotations.stop();
  assert.equal(got.code, 0, got.stderr);
  assert.ok((await list()).every(({ dropped }) => dropped === 0), "the kernel dropped packets: the load is too much");
  for (const [name, count] of turned) assert.ok(count >= 3, `the ring of ${name} turned only ${count} times`);

  assert.ok(await isSorted("web.pcapng"));
  const requests = await requestsIn(join(dir, "web.pcapng"));
  assert.deepEqual([...requests.keys()].sort(), names);
  const bytes = await pcapBytesIn(join(dir, "web.pcapng"));
  for (const [name, numbers] of requests) {
    assertUnbroken(numbers);
    assert.ok(
      numbers.at(-1)! >= heldTo.get(name)!,
      `${name}: up to ${numbers.at(-1)}, held was up to ${heldTo.get(name)}`,
    );
    // All files but the newest are full: with the oldest one missing it would be less.
    const full = (FILES - 1) * (FILE_SIZE * 1e6 - 24);
    assert.ok(bytes.get(name)! >= full, `${name}: ${bytes.get(name)} bytes, the full files alone have ${full}`);
    assert.ok(
      seconds > bytes.get(name)! / 1e6 - 1,
      `${bytes.get(name)} bytes in ${seconds} s: the reader was to be slow`,
    );
  }
  const filtered = await run(["tshark", "-r", join(dir, "web.pcapng"), "-Y", "!(tcp.port == 80)"], {
    timeoutMs: 60_000,
  });
  assert.equal(filtered, "");
});

Deno.test("while the load runs, /metrics has all that the docs name, and reports the same as list and tcpdump", async () => {
  const all = await pods();
  const documented = (await Deno.readTextFile(join(import.meta.dirname!, "../../docs/metrics.md")))
    .match(/^\| `packet_capture_\w+`/gm)!.map((cell) => cell.slice(3, -1));
  const label = (name: string) => `{namespace="${namespace}",pod="${name}"}`;
  for (const node of new Set(all.map((pod) => pod.node))) {
    const here = all.filter((pod) => pod.node === node);
    const first = await metrics(node);
    for (const name of documented) {
      // A failure has not happened, and so has no series.
      assert.match(first.text, new RegExp(`^# TYPE ${name} `, "m"));
      if (!/failures|watch_restarts/.test(name)) assert.match(first.text, new RegExp(`^${name}[{_ ]`, "m"));
    }
    assert.equal(first.value("packet_capture_active"), here.length);
    assert.equal(first.value('packet_capture_requests{state="capturing"}'), here.length);
    assert.ok(first.value("packet_capture_disk_free_bytes")! > 1e6);
    for (const { name } of here) {
      const packets = `packet_capture_packets_total${label(name)}`;
      const before = first.value(packets)!;
      // Both come from tcpdump, a few seconds late each: what list says lies between two looks at the metric.
      const row = await waitFor(`list to say that ${name} has ${before} packets`, async () => {
        return (await list()).find((row) => row.pod === name && row.packets >= before);
      }, { timeoutMs: 15_000, everyMs: 1000 });
      await waitFor(`the metric to reach the ${row.packets} packets of list`, async () => {
        return (await metrics(node)).value(packets)! >= row.packets;
      }, { timeoutMs: 15_000, everyMs: 1000 });
      assert.equal(first.value(`packet_capture_packets_dropped_total${label(name)}`), 0);
      const ring = first.value(`packet_capture_ring_bytes${label(name)}`)!;
      assert.ok(ring > 1e6 && ring <= 2 * FILES * FILE_SIZE * 1.01e6, `${ring} bytes`);
    }
  }
});

/** What a node's controller tells a scraper, through the API server's proxy. */
async function metrics(node: string): Promise<{ text: string; value(series: string): number | undefined }> {
  const controller = (await release.pod(node)).metadata.name;
  const path = `/api/v1/namespaces/${release.namespace}/pods/${controller}:9090/proxy/metrics`;
  const text = await kube.kubectl(["get", "--raw", path]);
  return {
    text,
    value(series) {
      const line = text.split("\n").find((line) => line.startsWith(`${series} `));
      return line === undefined ? undefined : Number(line.slice(series.length + 1));
    },
  };
}

Deno.test("get begins again after a broken connection and gives each packet once", async () => {
  const [pod] = await pods();
  // The first download is cut after 300,000 bytes.
  const once = `if mkdir '${dir}/cut' 2>/dev/null; then "$@" | head -c 300000; exit 1; fi`;
  const cutting = await otherKubectl("cutting", once);
  const { code, stderr } = await plugin(["get", "-n", namespace, pod!.name, "-o", "cut.pcapng"], cutting);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /broken off after 300\.0 kB .* attempt 2 of 6/);
  const requests = await requestsIn(join(dir, "cut.pcapng"));
  assert.deepEqual([...requests.keys()], [`${namespace}/${pod!.name}@${pod!.node}`]);
  for (const numbers of requests.values()) assertUnbroken(numbers);
});

Deno.test("get -o - and deployment/web: the pods of the deployment through a pipe into tshark", async () => {
  const line =
    `kubectl packet-capture get -n ${namespace} deployment/web --since 2s -o - | tshark -r - -T fields -e frame.interface_name | sort -u`;
  const names = await run(["bash", "-o", "pipefail", "-c", line], {
    env: installed.env(),
    timeoutMs: 60_000,
  });
  assert.deepEqual(
    names.trim().split("\n"),
    (await pods()).map(({ name, node }) => `${namespace}/${name}@${node}`).sort(),
  );
});

for (const signal of ["SIGINT", "SIGKILL"] as const) {
  Deno.test(`stream shows all pods' packets in tshark as they come; after ${signal} nothing is left on the nodes`, async () => {
    const child = new Deno.Command(installed.kubectl, {
      args: ["packet-capture", "stream", "-n", namespace, "-l", "app=web", "--tshark"],
      env: installed.env(),
      stdin: "null",
      stdout: "piped",
      stderr: "null",
      signal: AbortSignal.timeout(120_000),
    }).spawn();
    let text = "";
    const reading = (async () => {
      for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) text += chunk;
    })();
    const latest = () => Math.max(0, ...[...text.matchAll(/GET \/n\/(\d+) /g)].map(([, number]) => Number(number)));
    await waitFor("packets in tshark", () => Promise.resolve(latest() > 0), { timeoutMs: 30_000 });
    // Far more than the rings held: these have come while it ran.
    const before = latest();
    await waitFor("further packets in tshark", () => Promise.resolve(latest() > before + 100), { timeoutMs: 60_000 });
    child.kill(signal);
    const { code } = await child.status;
    await reading;
    assert.equal(code, signal === "SIGINT" ? 0 : 137);
    for (const { node } of await pods()) {
      await waitFor(`the stream's end on ${node}`, async () => {
        const ps = ["ps", "-o", "args"];
        const said = await Promise.all([release.exec(node, ps), release.read(node, ps)]);
        return said.every(({ code, stdout }) => code === 0 && !stdout.includes(`stream ${namespace}/`));
      }, { timeoutMs: 10_000 });
    }
  });
}

Deno.test("stop --keep holds, get reads what is held, stop --yes reports what it deleted and nothing is left", async () => {
  const held = await plugin(["stop", "-n", namespace, "-l", "app=web", "--keep"]);
  assert.equal(held.code, 0, held.stderr);
  assert.equal(held.stdout.match(/: Held: stopped and flushed, its files are kept/g)?.length, REPLICAS, held.stdout);
  const rows = await list();
  assert.deepEqual(new Set(rows.map(({ state }) => state)), new Set(["held"]));
  // The series of what has ended are gone.
  for (const { name, node } of await pods()) {
    const { text, value } = await metrics(node);
    assert.equal(value("packet_capture_active"), 0);
    assert.doesNotMatch(text, new RegExp(`pod="${name}"`));
  }
  const got = await plugin(["get", "-n", namespace, "-l", "app=web", "-o", "held.pcapng"]);
  assert.equal(got.code, 0, got.stderr);
  for (const numbers of (await requestsIn(join(dir, "held.pcapng"))).values()) assertUnbroken(numbers);

  const stopped = await plugin(["stop", "-n", namespace, "deployment/web", "--yes"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.match(stopped.stderr, /^This ends the captures of 3 pods and deletes \d+ files, \d+\.\d MB\.$/m);
  assert.equal(
    stopped.stdout.match(/: Annotation removed: deleted \d+ files? \([0-9.]+ [kM]?B\)$/gm)?.length,
    REPLICAS,
    stopped.stdout,
  );
  for (const { name, node } of await pods()) {
    assert.deepEqual(await release.files(node, namespace, name), []);
    assert.deepEqual(await release.processes(node, namespace, name), []);
  }
});

Deno.test("get --stop removes the annotation when the file is there, and the files go; list has counted as tcpdump does", async () => {
  const [pod] = await pods();
  const { folder } = await ringOf(pod!);
  // So little of each packet that the ring does not turn: all that were captured are there to be counted.
  assert.equal((await plugin(["start", "-n", namespace, pod!.name, "--files", "20", "--snaplen", "64"])).code, 0);
  await waitFor("packets", async () => (await list()).some(({ packets }) => packets > 100));
  assert.equal((await plugin(["stop", "-n", namespace, pod!.name, "--keep"])).code, 0);
  const count = 'set -o pipefail; for file in "$1"/capture-*.pcap*; do tcpdump -n -r "$file" 2>/dev/null; done | wc -l';
  const counted = await kube.nodeExec(pod!.node, ["bash", "-c", count, "bash", folder]);
  assert.equal(counted.code, 0, counted.stderr);
  assert.equal((await list()).find((row) => row.pod === pod!.name)!.packets, Number(counted.stdout));
  const { code, stdout, stderr } = await plugin(["get", "-n", namespace, pod!.name, "--stop"]);
  assert.equal(code, 0, stderr);
  assert.match(stdout, /: Annotation removed: deleted \d+ files? \([0-9.]+ [kM]?B\)\n$/);
  assert.match(
    await run(["capinfos", "-c", "-M", join(dir, `${pod!.name}.pcapng`)]),
    new RegExp(`packets: +${counted.stdout.trim()}$`, "m"),
  );
  assert.deepEqual(await release.files(pod!.node, namespace, pod!.name), []);
});

Deno.test("start passes the controller's refusal on, with exit code 1", async () => {
  const [pod] = await pods();
  const { code, stderr } = await plugin(["start", "-n", namespace, pod!.name, "--filter", "tcp prt 80"]);
  assert.equal(code, 1);
  assert.match(stderr, new RegExp(`^${namespace}/${pod!.name}: rejected: .*filter`, "i"));
  assert.equal((await plugin(["stop", "-n", namespace, pod!.name, "--yes"])).code, 0);
});

Deno.test("start answers its own request only, however fast one follows another, and soon", async () => {
  const [pod] = await pods();
  const name = pod!.name;
  const start = async (...more: string[]) => {
    const began = performance.now();
    const result = await plugin(["start", "-n", namespace, name, ...more]);
    return { ...result, seconds: (performance.now() - began) / 1000 };
  };
  const first = await start("--filter", "tcp port 80");
  assert.equal(first.code, 0, first.stderr);
  assert.equal((await plugin(["stop", "-n", namespace, name, "--yes", "--wait", "0s"])).code, 0);
  assert.equal((await start("--filter", "tcp port 80", "--wait", "0s")).code, 0);
  // The repeat of the first CaptureStarted is yet to come, or comes now.
  const never = await start("--interface", "none0");
  assert.deepEqual([never.code, never.stdout], [1, ""], never.stderr);
  assert.match(never.stderr, new RegExp(`^${namespace}/${name}: (failing|rejected): .*none0`));
  const again = await start("--filter", "tcp port 80");
  assert.equal(again.code, 0, again.stderr);
  assert.match(again.stdout, /: capturing on node /);
  // A repeat that is held back would come 10 s late; what the node and kubectl take, the first one took too.
  const later = again.seconds - first.seconds;
  assert.ok(later < 8, `answered after ${again.seconds} s, the first one after ${first.seconds} s`);
  const ten = await start("--filter", "tcp port 80", "--packets", "10", "--wait", "60s");
  assert.equal(ten.code, 0, ten.stderr);
  assert.match(ten.stdout, /: (capturing|completed) on node .*for 10 packets/);
  await waitFor("ten packets", async () => (await list()).some((row) => row.pod === name && row.state === "completed"));
  const done = await start("--filter", "tcp port 80", "--packets", "10", "--wait", "60s");
  assert.equal(done.code, 0, done.stderr);
  assert.match(done.stdout, /annotated like this already; completed on node /);
  assert.ok(done.seconds < 30, `answered after ${done.seconds} s`);
  const stopped = await plugin(["stop", "-n", namespace, name, "--yes"]);
  assert.match(stopped.stdout, /: Annotation removed: /, stopped.stderr);
});

Deno.test("get of a deployment names its pods that are not captured: exit code 1, 0 with --partial", async () => {
  const [pod, ...others] = await pods();
  assert.equal((await plugin(["start", "-n", namespace, pod!.name])).code, 0);
  await waitFor("packets", async () => (await list()).some(({ packets }) => packets > 0));
  for (const [more, code] of [[[], 1], [["--partial"], 0]] as const) {
    const args = ["get", "-n", namespace, "deployment/web", "--force", "-o", "one.pcapng", ...more];
    const got = await plugin(args);
    assert.equal(got.code, code, got.stderr);
    for (const { name } of others) {
      assert.match(got.stderr, new RegExp(`^${namespace}/${name}: left out: it is not captured, `, "m"));
    }
    assert.deepEqual([...(await requestsIn(join(dir, "one.pcapng"))).keys()], [
      `${namespace}/${pod!.name}@${pod!.node}`,
    ]);
  }
  assert.equal((await plugin(["stop", "-n", namespace, pod!.name, "--yes"])).code, 0);
});

Deno.test("start of a deployment names the command that has its later pods captured, stop the one that ends it: both do", async () => {
  const follow = async (text: string) => {
    const [, command] = /^Deployment .*: (kubectl patch .*)$/m.exec(text) ?? [];
    assert.ok(command !== undefined, text);
    await run(["sh", "-c", command], { env: installed.env() });
    await kube.kubectl(["rollout", "status", "deployment/web", "-n", namespace, "--timeout=60s"], {
      timeoutMs: 70_000,
    });
    const all = await waitFor("the old pods' end", async () => {
      const all = await pods();
      return all.length === REPLICAS && all;
    }, { timeoutMs: 60_000 });
    return all.map(({ name }) => name).sort();
  };
  const captured = async () => (await list()).map(({ pod, state, filter }) => `${pod} ${state} ${filter}`).sort();
  const begun = await plugin(["start", "-n", namespace, "deployment/web", "--files", "2", "--filter", "tcp port 80"]);
  assert.equal(begun.code, 0, begun.stderr);
  const later = await follow(begun.stderr);
  await waitFor("the later pods' captures", async () => {
    return `${await captured()}` === `${later.map((name) => `${name} capturing tcp port 80`)}`;
  }, { timeoutMs: 60_000 });
  // By selector the template is known from the ReplicaSet and its Deployment alone.
  const stopped = await plugin(["stop", "-n", namespace, "-l", "app=web", "--yes"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  await follow(stopped.stderr);
  await waitFor("no capture", async () => (await captured()).length === 0, { timeoutMs: 60_000 });

  // The Deployment's controller copies its annotations to the ReplicaSet.
  await kube.kubectl(["annotate", "deployment", "web", "-n", namespace, "tcpdump.antrea.io=5"]);
  const misplaced = await plugin(["get", "-n", namespace, "deployment/web"]);
  assert.equal(misplaced.code, 1);
  assert.match(
    misplaced.stderr,
    /^Deployment \S+: annotation tcpdump\.antrea\.io is on the Deployment object, where it has no effect; /,
  );
  await kube.kubectl(["annotate", "deployment", "web", "-n", namespace, "tcpdump.antrea.io-"]);
});

Deno.test("list and start report that the quota refuses all controllers of an installation, and where to look", async () => {
  const [pod] = await pods();
  const quota = `${namespace}-quota`;
  const labels = { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "refused" };
  const annotations = {
    "packet-capture.antrea.io/namespace": quota,
    "packet-capture.antrea.io/annotation-key": "refused.example",
  };
  const template = { metadata: { labels }, spec: { containers: [{ name: "reader", image: "localhost/busybox:1" }] } };
  const daemonSet = {
    metadata: { name: "refused", namespace: quota, labels },
    spec: { selector: { matchLabels: labels }, template },
  };
  await using _installation = await kube.having(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: quota } } as KubeObject,
    {
      apiVersion: "v1",
      kind: "ResourceQuota",
      metadata: { name: "none", namespace: quota },
      spec: { hard: { pods: "0" } },
    } as KubeObject,
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "refused-read", labels, annotations },
      rules: [],
    } as KubeObject,
    { apiVersion: "apps/v1", kind: "DaemonSet", ...daemonSet } as KubeObject,
  );
  const words =
    `Release ${quota}/refused has no controller pods: the cluster may refuse them by a LimitRange, a quota or ` +
    `Pod Security (see: kubectl describe daemonset -n ${quota} refused)\n`;
  const listed = await plugin(["list", "--release", "refused"]);
  assert.deepEqual([listed.code, listed.stdout, listed.stderr], [1, "", `error: ${words}`]);
  const started = await plugin(["start", "-n", namespace, pod!.name, "--release", "refused"]);
  assert.deepEqual([started.code, started.stdout, started.stderr], [
    ...[1, "", `${namespace}/${pod!.name}: not annotated: ${words}`],
  ]);
});

Deno.test("get and list name the node whose exec kubectl's own proxy refuses, after one attempt", async () => {
  const [pod] = await pods();
  await kube.annotate(namespace, pod!.name, { "tcpdump.antrea.io": "2" });
  const proxy = new Deno.Command(tool("kubectl"), {
    args: ["proxy", "--port=0"],
    env: kube.env,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    let said = "";
    for await (const text of proxy.stdout.pipeThrough(new TextDecoderStream())) {
      if ((said += text).includes("\n")) break;
    }
    const server = `http://${/127\.0\.0\.1:\d+/.exec(said)![0]}`;
    for (const words of [["get", pod!.name, "-o", "refused.pcapng"], ["list"]]) {
      const { code, stderr } = await plugin([...words, "-n", namespace, "-s", server]);
      assert.equal(code, 1, stderr);
      const refusals = stderr.match(/kubectl exec to node \S+ is refused on the way: unable to upgrade connection: /g);
      // list asks both nodes, get the pod's.
      assert.equal(refusals?.length, words[0] === "get" ? 1 : 2, stderr);
      assert.equal(stderr.trimEnd().split("\n").length, refusals!.length, stderr);
    }
  } finally {
    proxy.kill();
    await proxy.status;
    await kube.annotate(namespace, pod!.name, { "tcpdump.antrea.io": null });
  }
});

Deno.test("what a user may not do is named with verb and resource, by the real API server", async () => {
  const [pod] = await pods();
  await kube.annotate(namespace, pod!.name, { "tcpdump.antrea.io": "2" });
  const role = { apiVersion: "rbac.authorization.k8s.io/v1", metadata: { name: "e2e-plugin-viewer" } };
  await using _rights = await kube.having(
    {
      ...role,
      kind: "ClusterRole",
      rules: [{
        apiGroups: ["", "rbac.authorization.k8s.io"],
        resources: ["pods", "clusterroles"],
        verbs: ["get", "list"],
      }],
    } as KubeObject,
    {
      ...role,
      kind: "ClusterRoleBinding",
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "e2e-plugin-viewer" },
      subjects: [{ kind: "User", name: "jane" }],
    } as KubeObject,
  );
  const { code, stderr } = await plugin(["get", "-n", namespace, pod!.name, "--as", "jane", "-o", "jane.pcapng"]);
  assert.equal(code, 1);
  assert.match(
    stderr,
    /^error: .*: User jane lacks the permission "(create|get)" on "pods\/exec" in namespace packet-capture-plugin$/m,
  );
  await assert.rejects(Deno.stat(join(dir, "jane.pcapng")), Deno.errors.NotFound);
  await kube.annotate(namespace, pod!.name, { "tcpdump.antrea.io": null });
});
