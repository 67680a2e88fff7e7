/**
 * What users do, on the two-worker cluster, with files on the nodes (hostPath): each pod sends tokens of its own, which tshark has
 * to find in that pod's capture and in no other.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fixture } from "./fixture.ts";
import { type KubeObject, type PodObject, waitFor } from "./kube.ts";
import { sendToken, testPod } from "./pods.ts";
import { hasToken, token, tokensIn, writtenToken } from "./tokens.ts";

const KEY = "tcpdump.antrea.io";
const { kube, release, namespace } = fixture("scenarios", {
  storage: { type: "hostPath" },
  limits: { diskBudgetMB: 3000 },
});

/** How many packets of a pod's capture hold each of the tokens, by tshark. */
function found(node: string, pod: string, tokens: readonly string[], space = namespace): Promise<number[]> {
  return tokensIn(release, node, space, pod, tokens);
}

/** Waits until a pod's capture has the token. */
function has(node: string, pod: string, token: string, space = namespace, timeoutMs = 30_000): Promise<void> {
  return hasToken(release, node, space, pod, token, timeoutMs);
}

async function listening(node: string, pod: string, space = namespace): Promise<void> {
  // The header is written when tcpdump listens.
  await waitFor(`the capture of ${space}/${pod}`, async () => {
    const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
    return JSON.parse(stdout).some((c: { namespace: string; pod: string; state: string; files: number }) =>
      c.namespace === space && c.pod === pod && c.state === "capturing" && c.files > 0
    );
  }, { timeoutMs: 30_000 });
}

/** Nothing of the pod's capture is left on the node. */
async function clean(node: string, pod: string, space = namespace): Promise<void> {
  await waitFor(`nothing left of ${space}/${pod}`, async () => {
    const left = [...await release.processes(node, space, pod), ...await release.files(node, space, pod)];
    if (left.length > 0) throw new Error(`left are ${left}`);
    return true;
  }, { timeoutMs: 30_000 });
}

async function send(pod: string, token: string, address: string, space = namespace): Promise<void> {
  // Nobody answers: that is not its business.
  await kube.exec(space, pod, sendToken(token, address));
}

Deno.test("each pod's packets, loopback too, are in its own capture and in no other, on both nodes", async () => {
  const [first, second] = await kube.workers() as [string, string];
  const spec = {
    web1: { name: "web-1", node: first },
    web10: { name: "web-10", node: first },
    far: { name: "far", node: second },
  };
  const annotations = { [KEY]: "5" };
  const pods = Object.values(spec).map(({ name, node }) => testPod({ name, namespace, node, annotations }));
  await using _pods = await kube.having(...pods);
  const tokens = new Map<string, { own: string; lo: string }>();
  const ready = new Map<string, PodObject>();
  for (const { name, node } of Object.values(spec)) {
    ready.set(name, await kube.ready(namespace, name));
    await listening(node, name);
    tokens.set(name, { own: token(), lo: token() });
  }
  // From each pod to an address outside the pod network that nobody has, and to itself.
  for (const { name } of Object.values(spec)) {
    await send(name, tokens.get(name)!.own, "10.255.255.1");
    await send(name, tokens.get(name)!.lo, "127.0.0.1");
  }
  // And from one node's pod to the other's: both have it, each once for itself.
  const across = token();
  await send("web-1", across, ready.get("far")!.status.podIP!);
  for (const { name, node } of Object.values(spec)) {
    await has(node, name, tokens.get(name)!.own);
    await has(node, name, tokens.get(name)!.lo);
    const others = [...tokens].filter(([other]) => other !== name).flatMap(([, { own, lo }]) => [own, lo]);
    assert.deepEqual(await found(node, name, others), others.map(() => 0), `others' packets in the capture of ${name}`);
  }
  await has(first, "web-1", across);
  await has(second, "far", across);
  assert.deepEqual(await found(first, "web-10", [across]), [0]);

  // web-1 is how web-10's name begins: un-annotating the one leaves the other as it is.
  const before = await release.processes(first, namespace, "web-10");
  await kube.annotate(namespace, "web-1", { [KEY]: null });
  await clean(first, "web-1");
  assert.deepEqual(await release.processes(first, namespace, "web-10"), before);
  assert.ok(((await found(first, "web-10", [tokens.get("web-10")!.own]))[0] ?? 0) > 0);
});

Deno.test("one pod name in two namespaces: two captures, and the end of one is not the other's", async () => {
  const [node] = await kube.workers() as [string];
  const other = `${namespace}-b`;
  const space: KubeObject = { apiVersion: "v1", kind: "Namespace", metadata: { name: other } };
  await using _space = await kube.having(space);
  await kube.serviceAccount(other);
  const twin = (namespace: string) => testPod({ name: "twin", namespace, node, annotations: { [KEY]: "3" } });
  await using _pods = await kube.having(twin(namespace), twin(other));
  const [here, there] = [token(), token()];
  for (const [space, word] of [[namespace, here], [other, there]] as const) {
    await kube.ready(space, "twin");
    await listening(node, "twin", space);
    await send("twin", word, "127.0.0.1", space);
    await has(node, "twin", word, space);
  }
  assert.deepEqual(await found(node, "twin", [there]), [0]);
  await kube.annotate(namespace, "twin", { [KEY]: null });
  await clean(node, "twin");
  assert.ok(((await found(node, "twin", [there], other))[0] ?? 0) > 0);
  assert.equal((await release.processes(node, other, "twin")).length, 1);
});

Deno.test("a ring never has more than N files, however much comes", async () => {
  const [first, second] = await kube.workers() as [string, string];
  const image = "localhost/nettools:1";
  const server = testPod({
    name: "server",
    namespace,
    node: first,
    image,
    command: ["iperf3", "-s"],
    annotations: { [KEY]: "3" },
  });
  const client = testPod({ name: "client", namespace, node: second, image });
  await using _pods = await kube.having(server, client);
  const { status } = await kube.ready(namespace, "server");
  await kube.ready(namespace, "client");
  await listening(first, "server");
  // Counted on the node itself, as often as a shell can look while the load runs: the most there were, and the looks.
  const dir = `${release.hostPath}/${namespace}/server`;
  const watcher = 'most=0 looks=0; while [ ! -e "$2" ]; do set -- "$1" "$2" "$1"/*.pcap*; n=$(($# - 2)); ' +
    '[ $n -gt $most ] && most=$n; looks=$((looks + 1)); set -- "$1" "$2"; sleep 0.01; done; echo $most $looks';
  const end = `/run/e2e-ring-${crypto.randomUUID()}`;
  const watching = kube.nodeExec(first, ["sh", "-c", watcher, "sh", dir, end], { timeoutMs: 90_000 });
  const { code, stdout: report, stderr } = await kube.exec(
    ...[namespace, "client", ["iperf3", "-J", "-c", status.podIP!, "-t", "6", "-b", "200M"], {
      timeoutMs: 60_000,
    }] as const,
  ).finally(() => kube.nodeExec(first, ["touch", end]));
  const [most, looks] = (await watching).stdout.trim().split(" ").map(Number);
  await kube.nodeExec(first, ["rm", "-f", end]);
  assert.equal(code, 0, stderr);
  const sent = JSON.parse(report).end.sum_sent.bytes;
  assert.ok(sent > 30_000_000, `only ${sent} bytes came: the ring has not turned`);
  assert.ok(looks! >= 100, `${looks} looks`);
  assert.equal(most, 3);
  const { stdout } = await release.read(first, ["packet-capture", "list", "-o", "json"]);
  const mine = JSON.parse(stdout).find((c: { pod: string }) => c.pod === "server");
  assert.ok(mine.bytes <= 3_200_000, `${mine.bytes} bytes`);
  assert.ok(mine.packets > 500, `only ${mine.packets} packets were captured`);
});

Deno.test("an init container's first packet is there, 20 of 20 pods", async () => {
  const nodes = await kube.workers();
  const early = Array.from({ length: 20 }, (_, i) => {
    const [name, word, node] = [`early-${i}`, token(), nodes[i % nodes.length]!];
    const init = {
      name: "init",
      image: "localhost/busybox:1",
      imagePullPolicy: "Never",
      command: ["sh", "-c", `${sendToken(word, "127.0.0.1").join(" ")}; true`],
    };
    const annotations = { [KEY]: "2" };
    return { name, word, node, pod: testPod({ name, namespace, node, annotations, spec: { initContainers: [init] } }) };
  });
  const missing: string[] = [];
  try {
    // One after the other; all are deleted together, because each deletion takes longer than a start.
    for (const { name, pod } of early) {
      await kube.apply(pod);
      await kube.ready(namespace, name);
    }
    // Each was sent once, before the pod was Ready; what the kernel still holds is in the file a second later.
    for (const { name, word, node } of early) {
      // What was not captured never comes: only then does the look take all its time, which a busy node may need.
      await has(node, name, word).catch(() => missing.push(name));
    }
  } finally {
    await kube.remove(...early.map(({ pod }) => pod));
  }
  assert.deepEqual(missing, []);
});

Deno.test("every replica of an annotated template is captured from its first packet, also those that scaling adds", async () => {
  // Each sends its own name, once, before anything else.
  const once = sendToken('"$HOSTNAME"', "127.0.0.1").join(" ");
  const { spec } = testPod({ name: "many", namespace, command: ["sh", "-c", `${once}; exec sleep 2147483647`] });
  const labels = { app: "many" };
  const spread = {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    whenUnsatisfiable: "DoNotSchedule",
    labelSelector: { matchLabels: labels },
  };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "many", namespace },
    spec: {
      replicas: 3,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels, annotations: { [KEY]: "2" } },
        spec: { ...spec, topologySpreadConstraints: [spread] },
      },
    },
  };
  await using _deployment = await kube.having(deployment);
  const replicas = (count: number) =>
    waitFor(`${count} ready pods`, async () => {
      const { items } = await kube.get<{ items: PodObject[] }>("pods", "-n", namespace, "-l", "app=many");
      return items.length === count && items.every((p) => p.status.containerStatuses?.[0]?.ready) ? items : undefined;
    });
  const first = await replicas(3);
  assert.equal(new Set(first.map((p) => p.spec.nodeName)).size, 2, "the pods are all on one node");
  await kube.kubectl(["scale", "deployment/many", "-n", namespace, "--replicas=5"]);
  const all = await replicas(5);
  for (const { metadata: { name }, spec } of all) {
    await has(spec.nodeName!, name, name);
    const others = all.map((other) => other.metadata.name).filter((other) => other !== name);
    assert.deepEqual(await found(spec.nodeName!, name, others), others.map(() => 0), `others' packets in ${name}'s`);
  }
});

Deno.test("a pod in a restricted namespace is captured, and nothing is put into it or its namespace", async () => {
  const [node] = await kube.workers() as [string];
  const space = `${namespace}-restricted`;
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  const object = { apiVersion: "v1", kind: "Namespace", metadata: { name: space, labels } } as KubeObject;
  await using _space = await kube.having(object);
  await kube.serviceAccount(space);
  const pod = testPod({ name: "strict", namespace: space, node });
  const { containers: [container] } = pod.spec as { containers: [Record<string, unknown>] };
  container.securityContext = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  pod.spec.securityContext = { runAsNonRoot: true, runAsUser: 65534, seccompProfile: { type: "RuntimeDefault" } };
  await using _pod = await kube.having(pod);
  await kube.ready(space, "strict");
  const look = async () => {
    const { metadata, spec, status } = await kube.get<KubeObject & { spec: unknown; status: Record<string, unknown> }>(
      ...["pod", "strict", "-n", space],
    );
    const { [KEY]: _ours, ...annotations } = metadata.annotations ?? {};
    const others = ["pods", "secrets", "configmaps", "serviceaccounts", "roles", "rolebindings"].join();
    const { items } = await kube.get<{ items: KubeObject[] }>(others, "-n", space);
    return {
      annotations,
      labels: metadata.labels,
      spec,
      containers: [status.containerStatuses, status.ephemeralContainerStatuses],
      objects: items.map(({ kind, metadata: { name } }) => `${kind}/${name}`),
    };
  };
  const before = await look();
  await kube.annotate(space, "strict", { [KEY]: "2" });
  await listening(node, "strict", space);
  const word = token();
  await send("strict", word, "127.0.0.1", space);
  await has(node, "strict", word, space);
  assert.deepEqual(await look(), before);
  await kube.annotate(space, "strict", { [KEY]: null });
  await clean(node, "strict", space);
  assert.deepEqual(await look(), before);
});

Deno.test("a crash loop and a pod that ends at once are captured, and keep their files while they are annotated", async () => {
  const [node] = await kube.workers() as [string];
  const [crash, job] = [token(), token()];
  const annotations = { [KEY]: "2" };
  const crashing = testPod({
    name: "crashing",
    namespace,
    node,
    annotations,
    command: ["sh", "-c", `${sendToken(crash, "127.0.0.1").join(" ")}; exit 1`],
  });
  const jobSpec = testPod({
    name: "x",
    namespace,
    node,
    command: ["sh", "-c", `${sendToken(job, "127.0.0.1").join(" ")}; true`],
    spec: { restartPolicy: "Never" },
  }).spec;
  const batch = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name: "short", namespace },
    spec: { template: { metadata: { annotations }, spec: jobSpec } },
  };
  await using _objects = await kube.having(crashing, batch);
  await has(node, "crashing", crash);
  const pod = await waitFor("the Job's pod to succeed", async () => {
    const { items } = await kube.get<{ items: PodObject[] }>("pods", "-n", namespace, "-l", "job-name=short");
    return items.find((p) => p.status.phase === "Succeeded");
  });
  const { name } = pod.metadata;
  await waitFor("its sandbox to end, and the capture with it", async () => {
    return (await release.processes(node, namespace, name)).length === 0;
  }, { timeoutMs: 90_000 });
  await has(node, name, job);
  await kube.annotate(namespace, name, { [KEY]: null });
  await clean(node, name);
});

Deno.test("files on the node survive a restart of the DaemonSet whole, and the capture goes on next to them", async () => {
  const [node] = await kube.workers() as [string];
  await using _pod = await kube.having(testPod({ name: "kept", namespace, node, annotations: { [KEY]: "5" } }));
  await kube.ready(namespace, "kept");
  await listening(node, "kept");
  const [before, after] = [token(), token()];
  await send("kept", before, "127.0.0.1");
  const dir = `${release.hostPath}/${namespace}/kept`;
  await writtenToken(release, node, dir, before);
  const old = (await release.pod(node)).metadata.uid;
  await kube.kubectl(["rollout", "restart", `daemonset/${release.name}`, "-n", release.namespace]);
  await release.ready();
  await waitFor("another controller", async () => (await release.pod(node)).metadata.uid !== old);
  await listening(node, "kept");
  const [count] = await found(node, "kept", [before]);
  assert.ok(count! > 0, "the packets before the restart were overwritten");
  await send("kept", after, "127.0.0.1");
  await has(node, "kept", after);
  assert.deepEqual(await found(node, "kept", [before]), [count]);
});

Deno.test("what was un-annotated while no controller ran is cleaned up when one does", async () => {
  const [node] = await kube.workers() as [string];
  await using _pod = await kube.having(testPod({ name: "meanwhile", namespace, node, annotations: { [KEY]: "2" } }));
  await kube.ready(namespace, "meanwhile");
  await listening(node, "meanwhile");
  const selector = (value: unknown) =>
    kube.kubectl(["patch", "daemonset", release.name, "-n", release.namespace, "--type=merge", "-p"].concat(
      JSON.stringify({ spec: { template: { spec: { nodeSelector: { "packet-capture.test/nowhere": value } } } } }),
    ));
  await selector("true");
  const pods = ["pods", "-n", release.namespace, "-l", "app.kubernetes.io/name=packet-capture"];
  await waitFor(
    "the controllers to go",
    async () => (await kube.get<{ items: unknown[] }>(...pods)).items.length === 0,
  );
  const dir = `${release.hostPath}/${namespace}/meanwhile`;
  assert.equal(
    (await kube.nodeExec(node, ["test", "-d", dir])).code,
    0,
    "hostPath files are to outlive the controller",
  );
  await kube.annotate(namespace, "meanwhile", { [KEY]: null });
  await selector(null);
  await release.ready();
  await clean(node, "meanwhile");
  assert.notEqual((await kube.nodeExec(node, ["test", "-e", dir])).code, 0);
});

Deno.test("a static pod is captured", async () => {
  const [node] = await kube.workers() as [string];
  const word = token();
  const name = `static-${node}`;
  const manifest = testPod({
    name: "static",
    namespace,
    annotations: { [KEY]: "2" },
    command: ["sh", "-c", `while true; do ${sendToken(word, "127.0.0.1").join(" ")}; sleep 1; done`],
  });
  const config = JSON.parse(await kube.kubectl(["get", "--raw", `/api/v1/nodes/${node}/proxy/configz`]));
  const path = join(config.kubeletconfig.staticPodPath, "packet-capture-test.json");
  const remove = () => kube.nodeExec(node, ["rm", "-f", path]);
  try {
    const write = await kube.nodeExec(node, ["sh", "-c", 'mkdir -p "$(dirname "$1")" && cat >"$1"', "sh", path], {
      input: JSON.stringify(manifest),
    });
    assert.equal(write.code, 0, write.stderr);
    await kube.ready(namespace, name, { timeoutMs: 90_000 });
    await has(node, name, word);
  } finally {
    await remove();
  }
  await clean(node, name);
});
