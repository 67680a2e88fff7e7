/** The chart on a real cluster: least privilege, two releases, other places of the socket, who may capture. */
import assert from "node:assert/strict";
import type { RunResult } from "../support/run.ts";
import { changedChart } from "./changed_chart.ts";
import { fixture, forThisMachine } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { PING_NODE, testPod } from "./pods.ts";
import { Release } from "./release.ts";

const { kube, release, namespace } = fixture("chart");
const KEY = "tcpdump.antrea.io";
const OTHER_KEY = "capture.example.org";

/** Upgrades to another chart with the values that are there. */
async function upgradeTo(chart: string): Promise<void> {
  await release.helm(["upgrade", release.name, chart, "--reuse-values"], { timeoutMs: 60_000 });
  await release.ready();
}

/** A pod that pings its node, on the first node, gone when the scope ends. */
async function pinger(name: string): Promise<AsyncDisposable & { node: string }> {
  const [node] = await kube.workers();
  const scope = await kube.having(testPod({ name, namespace, node: node!, command: PING_NODE }));
  await kube.ready(namespace, name);
  return { node: node!, [Symbol.asyncDispose]: () => scope[Symbol.asyncDispose]() };
}

/** Waits until a release has files with packets of a pod. */
async function captured(of: Release, node: string, pod: string): Promise<void> {
  await waitFor(`packets of ${pod}`, async () => {
    const { stdout } = await of.read(node, ["packet-capture", "list", "-o", "json"]);
    return stdout.includes(pod) && (await of.files(node, namespace, pod)).some((file) => file.includes(".pcap"));
  }, { timeoutMs: 30_000 });
}

Deno.test("helm test reports that the controllers of all nodes are ready", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const said = await release.helm(["test", release.name, "--logs"], { timeoutMs: 120_000 });
  const nodes = (await kube.workers()).length;
  assert.match(
    said,
    new RegExp(`^${nodes} of ${nodes} controllers of ${release.namespace}/${release.name} are ready$`, "m"),
  );
});

/** A node that no kubelet runs; pods that are made for it stay Pending. */
function lifelessNode(name: string, labels: Record<string, string>): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Node",
    metadata: { name, labels: { "kubernetes.io/os": "linux", "kubernetes.io/hostname": name, ...labels } },
  };
}

Deno.test("nodes that take no pod of a DaemonSet get none", async () => {
  /** The nodes that the DaemonSet has made pods for, by the affinity that it gives to each. */
  const targets = async () => {
    const { items } = await kube.get<{ items: { spec: { affinity?: unknown } }[] }>("pods", "-n", release.namespace);
    return items.map(({ spec }) =>
      /"matchFields":\[{[^}]*"values":\["([^"]*)"/.exec(JSON.stringify(spec.affinity))?.[1]
    );
  };
  await using _nodes = await kube.having(
    lifelessNode("fargate", { "eks.amazonaws.com/compute-type": "fargate" }),
    lifelessNode("virtual", { type: "virtual-kubelet" }),
    // Made last: once the DaemonSet has a pod for it, it has passed over the others.
    lifelessNode("plain", {}),
  );
  await waitFor("a pod for the plain node", async () => (await targets()).includes("plain"));
  const found = await targets();
  assert.ok(!found.includes("fargate") && !found.includes("virtual"), `pods for ${found.join(", ")}`);
});

const CAPABILITIES = ["SYS_ADMIN", "NET_RAW", "SETUID", "SETGID"];

/** Upgrades to a chart whose container lacks one capability of the default set. */
async function without(capability: string): Promise<AsyncDisposable> {
  const chart = await changedChart("templates/daemonset.yaml", {
    [`add: [${CAPABILITIES.join(", ")}]`]: `add: [${CAPABILITIES.filter((one) => one !== capability).join(", ")}]`,
  });
  await upgradeTo(chart.path);
  return chart;
}

Deno.test("without SYS_ADMIN, NET_RAW or SETGID no capture starts, and the Event reports why", async () => {
  const needs: Record<string, RegExp> = {
    SYS_ADMIN: /nsenter: .*Operation not permitted/,
    NET_RAW: /permission to (perform this )?capture|Operation not permitted/,
    SETGID: /Couldn't change to 'root'/,
  };
  for (const [capability, words] of Object.entries(needs)) {
    await using _chart = await without(capability);
    const name = `without-${capability.toLowerCase().replace("_", "-")}`;
    await using pod = await pinger(name);
    await kube.annotate(namespace, name, { [KEY]: "2" });
    const failed = await waitFor(
      `the failure without ${capability}`,
      async () => (await kube.events(namespace, name)).find(({ reason }) => reason === "CaptureFailed"),
      { timeoutMs: 30_000 },
    );
    assert.match(failed.message, words, capability);
    assert.deepEqual(await release.processes(pod.node, namespace, name), []);
  }
});

Deno.test("without SETUID this image's tcpdump captures all the same: it is there for one that is built with libcap-ng", async () => {
  await using _chart = await without("SETUID");
  await using pod = await pinger("without-setuid");
  await kube.annotate(namespace, "without-setuid", { [KEY]: "2" });
  await waitFor("packets of its pings", async () => {
    const { stdout } = await release.read(pod.node, ["packet-capture", "list", "-o", "json"]);
    return JSON.parse(stdout).some((row: { pod: string; packets: number }) => row.packets > 0);
  }, { timeoutMs: 30_000 });
});

/** What can be written in the container, and why it stays so. All other mounts are read-only. */
const WRITABLE: readonly (readonly [mount: RegExp, why: string])[] = [
  [/^\/captures$/, "captureDir"],
  [/^\/dev(\/shm|\/mqueue)?$/, "the runtime's, in memory, of this container or pod alone"],
  [/^\/sys\/fs\/cgroup$/, "the same, where control groups are version 1: what is mounted in it is read-only"],
  [
    /^\/proc\/(interrupts|keys|timer_list|latency_stats|kcore|sched_debug|scsi)$/,
    "hidden by the runtime behind /dev/null",
  ],
  [/^\/(etc\/hosts|dev\/termination-log)$/, "the kubelet's, files of this pod alone"],
  // A read-only mount is that of one file system, and HostToContainer, without which a new network namespace would be an empty
  // file, lets no mount be read-only all the way down: docs/security.md.
  [
    /^\/run\/containerd\/io\.containerd\.[^/]+\//,
    "the runtime's mounts below its own directory, such as other containers' files",
  ],
];

Deno.test("the controller can write nowhere but in captureDir, and in what is listed here with its reason", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const [node] = await kube.workers();
  // Each mount is tried, whatever its options say; what could be made is removed again and reported.
  const script = `while read -r _ path type _; do
    if [ -d "$path" ]; then touch "$path/.written" 2>/dev/null && rm "$path/.written" && echo "w $path" || echo "r $path"
    else (: >>"$path") 2>/dev/null && echo "w $path" || echo "r $path"; fi
  done </proc/self/mounts
  for path in /etc /usr/local/bin /usr/bin /var /tmp /root /run; do
    touch "$path/.written" 2>/dev/null && rm "$path/.written" && echo "w $path" || echo "r $path"
  done`;
  const { code, stdout, stderr } = await release.exec(node!, ["sh", "-c", script]);
  assert.equal(code, 0, stderr);
  const tried = stdout.trim().split("\n").map((line) => line.split(" ") as [string, string]);
  const written = tried.filter(([how]) => how === "w").map(([, path]) => path);
  assert.deepEqual(written.filter((path) => !WRITABLE.some(([mount]) => mount.test(path))), []);
  assert.ok(written.includes("/captures"));
  const refused = tried.filter(([how]) => how === "r").map(([, path]) => path);
  const places = ["/", "/etc", "/usr/local/bin", "/tmp", "/run", "/run/containerd", "/run/netns", "/etc/resolv.conf"];
  const account = "/var/run/secrets/kubernetes.io/serviceaccount";
  assert.deepEqual([...places, account].filter((path) => !refused.includes(path)), []);
});

Deno.test("two releases with two keys capture side by side, each for itself", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const second = Release.of(kube, { name: "second", namespace: release.namespace });
  await using _second = second;
  await second.upgrade(await forThisMachine(kube, { annotationKey: OTHER_KEY, captureDir: "/second" }));
  await using pod = await pinger("shared");
  await kube.annotate(namespace, "shared", { [OTHER_KEY]: "2" });
  await captured(second, pod.node, "shared");
  assert.deepEqual(await release.files(pod.node, namespace, "shared"), []);
  await kube.annotate(namespace, "shared", { [KEY]: "2" });
  await captured(release, pod.node, "shared");
  await kube.annotate(namespace, "shared", { [OTHER_KEY]: null });
  await waitFor(
    "the second's files to go",
    async () => (await second.files(pod.node, namespace, "shared")).length === 0,
  );
  await captured(release, pod.node, "shared");
});

Deno.test("a runtime's socket right in /run is reached", async () => {
  const nodes = await kube.workers();
  for (const node of nodes) await kube.nodeExec(node, ["ln", "-sf", "containerd/containerd.sock", "/run/e2e-cri.sock"]);
  try {
    await release.upgrade(await forThisMachine(kube, { cri: { socket: "/run/e2e-cri.sock" } }));
    await using pod = await pinger("run-socket");
    await kube.annotate(namespace, "run-socket", { [KEY]: "2" });
    await captured(release, pod.node, "run-socket");
  } finally {
    for (const node of nodes) await kube.nodeExec(node, ["rm", "-f", "/run/e2e-cri.sock"]);
  }
});

Deno.test("with the admission policy only who may capture can, and controllers go on making annotated pods", async () => {
  await release.upgrade(await forThisMachine(kube, { admissionPolicy: { enabled: true } }));
  await using _rights = await kube.having(
    binding("e2e-editor", "ClusterRole", "edit", "e2e-bob", "e2e-alice"),
    binding("e2e-capture", "ClusterRole", "packet-capture-request", "e2e-alice"),
    // Everything of pods and workloads, in every verb, contains no right to captures.
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "Role",
      metadata: { name: "e2e-star", namespace },
      rules: [{ apiGroups: ["", "apps"], resources: ["*"], verbs: ["*"] }],
    } as KubeObject,
    binding("e2e-star", "Role", "e2e-star", "e2e-bob"),
  );
  const as = (user: string, ...args: string[]) => kube.tryKubectl([...args, "-n", namespace, `--as=${user}`]);
  const template = {
    metadata: { labels: { app: "web" }, annotations: { [KEY]: "2" } },
    spec: testPod({ name: "web", namespace }).spec,
  };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "web", namespace },
    spec: { replicas: 1, selector: { matchLabels: { app: "web" } }, template },
  };
  await kube.remove(deployment); // of a run that was killed half way
  const create = (user: string) =>
    kube.tryKubectl(["create", "-f", "-", `--as=${user}`], { input: JSON.stringify(deployment) });
  // Rights and policy reach the API server's caches in their own time.
  const refused = await waitFor("the policy", async () => {
    const { code, stderr } = await create("e2e-bob");
    if (code === 0) await kube.remove(deployment);
    return stderr.includes("ValidatingAdmissionPolicy") ? stderr : undefined;
  });
  assert.match(refused, /Cannot set, change or remove tcpdump\.antrea\.io: user "e2e-bob" lacks/);
  await waitFor("alice's rights", async () => (await create("e2e-alice")).code === 0);
  try {
    // The built-in controllers carry it on: Deployment to ReplicaSet to pod, also when bob scales.
    assert.equal((await as("e2e-bob", "scale", "deployment/web", "--replicas=2")).code, 0);
    const pods = await waitFor("both pods", async () => {
      const { items } = await kube.get<{ items: KubeObject[] }>("pods", "-n", namespace, "-l", "app=web");
      return items.length === 2 ? items : undefined;
    });
    for (const { metadata } of pods) assert.equal(metadata.annotations?.[KEY], "2");
    const name = pods[0]!.metadata.name;
    const { nodeName } = (await kube.ready(namespace, name)).spec;
    await waitFor("its capture", async () => (await release.processes(nodeName!, namespace, name)).length === 1);
    const { code, stderr } = await as("e2e-bob", "annotate", "pod", name, `${KEY}-`);
    assert.equal(code, 1);
    assert.match(stderr, /Cannot set, change or remove/);
    assert.equal((await as("e2e-alice", "annotate", "pod", name, `${KEY}-`)).code, 0);
  } finally {
    await kube.remove(deployment);
  }
  await noWayByRevision(as);
  // The controller manager has looked for mistakes in the policy's expressions.
  const policy = await kube.get<{ status?: { typeChecking?: { expressionWarnings?: unknown[] } } }>(
    "validatingadmissionpolicy",
    `packet-capture.${release.namespace}.${release.name}`,
  );
  assert.notEqual(policy.status?.typeChecking, undefined);
  assert.deepEqual(policy.status?.typeChecking?.expressionWarnings ?? [], []);
});

/** A StatefulSet makes its pods from the ControllerRevision that its status names: neither is to be had without the right. */
async function noWayByRevision(as: (user: string, ...args: string[]) => Promise<RunResult>): Promise<void> {
  const labels = { app: "stateful" };
  const template = { metadata: { labels }, spec: testPod({ name: "stateful", namespace }).spec };
  const stateful = {
    apiVersion: "apps/v1",
    kind: "StatefulSet",
    metadata: { name: "stateful", namespace },
    spec: { replicas: 1, serviceName: "stateful", selector: { matchLabels: labels }, template },
  };
  await using _set = await kube.having(stateful);
  await kube.ready(namespace, "stateful-0");
  const revision = {
    apiVersion: "apps/v1",
    kind: "ControllerRevision",
    metadata: { name: "stateful-annotated", namespace, labels },
    data: { spec: { template: { ...template, metadata: { labels, annotations: { [KEY]: "2" } } } } },
    revision: 100,
  };
  const input = JSON.stringify(revision);
  const created = await kube.tryKubectl(["create", "-f", "-", "--as=e2e-bob"], { input });
  const patch = ["patch", "statefulset", "stateful", "--subresource=status", "--type=merge"];
  const status = JSON.stringify({ status: { currentRevision: "stateful-annotated" } });
  for (const { code, stderr } of [created, await as("e2e-bob", ...patch, "-p", status)]) {
    assert.equal(code, 1);
    assert.match(stderr, /Cannot set, change or remove .*: user "e2e-bob" lacks the right "create" on captures/);
  }
}

function binding(name: string, kind: string, role: string, ...users: string[]): KubeObject {
  const subjects = users.map((user) => ({ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }));
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: { name, namespace },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name: role },
    subjects,
  } as KubeObject;
}
