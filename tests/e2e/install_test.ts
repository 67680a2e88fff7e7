/** The chart's ways to be installed, each shown by the main job: annotate, packets, un-annotate, nothing left. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { fixture, forThisMachine } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { mainJob } from "./main_job.ts";
import { PING_NODE, sendToken, testPod } from "./pods.ts";
import { hasToken, token } from "./tokens.ts";

const { kube, release, namespace } = fixture("install");
const OUTPUTS = ["capture-files.txt", "capture-output.txt", "capture.pcap", "pod-describe.txt", "pods.txt"];
const KEY = "tcpdump.antrea.io";

async function doesItsJobWith(values: Record<string, unknown>): Promise<void> {
  await release.upgrade(await forThisMachine(kube, values));
  const [node] = await kube.workers();
  const pod = testPod({ name: "pinger", namespace, node: node!, command: PING_NODE });
  await using _pod = await kube.having(pod);
  const outputs = await Deno.makeTempDir({ prefix: "packet-capture-outputs-" });
  try {
    await mainJob(kube, release, await kube.ready(namespace, "pinger"), outputs);
    assert.deepEqual(Array.from(Deno.readDirSync(outputs), ({ name }) => name).sort(), OUTPUTS);
    for (const name of OUTPUTS) assert.ok((await Deno.stat(join(outputs, name))).size > 0, `${name} is empty`);
    assert.match(await run(["capinfos", "-c", join(outputs, "capture.pcap")]), /Number of packets: +[1-9]/);
  } finally {
    await Deno.remove(outputs, { recursive: true });
  }
}

interface Container {
  securityContext: { privileged?: boolean; capabilities?: { add: string[] } };
}

async function container(): Promise<Container> {
  const set = await kube.get<{ spec: { template: { spec: { containers: [Container] } } } }>(
    ...["daemonset", release.name, "-n", release.namespace],
  );
  return set.spec.template.spec.containers[0];
}

/** The present controller has claimed the directory on its node. */
async function keepsFilesOnTheNode(): Promise<void> {
  const [node] = await kube.workers() as [string];
  const held = await release.exec(node, ["sh", "-c", 'echo mine >"$CAPTURE_DIR/.e2e"']);
  assert.equal(held.code, 0, held.stderr);
  const dir = release.hostPath;
  const { code, stderr } = await kube.nodeExec(node, [
    "sh",
    "-c",
    'test -f "$1/.packet-capture" && rm "$1/.e2e"',
    "sh",
    dir,
  ]);
  assert.equal(code, 0, stderr);
}

Deno.test("chart captures with capabilities and emptyDir, its defaults", async () => {
  await doesItsJobWith({});
  const { securityContext } = await container();
  assert.deepEqual(securityContext.capabilities?.add, ["SYS_ADMIN", "NET_RAW", "SETUID", "SETGID"]);
  assert.notEqual(securityContext.privileged, true);
});

Deno.test("chart captures with capabilities and hostPath", async () => {
  await doesItsJobWith({ storage: { type: "hostPath" } });
  await keepsFilesOnTheNode();
});

Deno.test("chart captures when privileged, with emptyDir", async () => {
  await doesItsJobWith({ privilege: { mode: "privileged" } });
  assert.equal((await container()).securityContext.privileged, true);
});

Deno.test("chart captures when privileged, with hostPath", async () => {
  await doesItsJobWith({ privilege: { mode: "privileged" }, storage: { type: "hostPath" } });
  assert.equal((await container()).securityContext.privileged, true);
  await keepsFilesOnTheNode();
});

Deno.test("chart captures with another captureDir and annotationKey", async () => {
  await doesItsJobWith({ captureDir: "/data/pcap", annotationKey: "capture.example.org" });
  assert.equal(await release.setting("CAPTURE_DIR"), "/data/pcap"); // mainJob has used both
  assert.equal(await release.setting("ANNOTATION_KEY"), "capture.example.org");
});

Deno.test("chart captures pods of the host's network when both values allow it, without Events, with an account and a port of the user's", async () => {
  const [node] = await kube.workers() as [string];
  const subject = { kind: "ServiceAccount", name: "sniffer", namespace: release.namespace };
  const name = "e2e-sniffer";
  await using _account = await kube.having(
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: subject.name, namespace: release.namespace } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name },
      rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }],
    } as KubeObject,
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
      subjects: [subject],
    } as KubeObject,
  );
  await doesItsJobWith({
    hostNetwork: true,
    allowHostNetworkPods: true,
    events: { enabled: false },
    metrics: { port: 9191 },
    netnsDir: "/var/run/netns",
    rbac: { create: false },
    serviceAccount: { create: false, name: subject.name },
  });
  const pod = testPod({ name: "on-the-node", namespace, node, spec: { hostNetwork: true } });
  await using _pod = await kube.having(pod);
  const { status } = await kube.ready(namespace, "on-the-node");
  await kube.annotate(namespace, "on-the-node", { [KEY]: "2" });
  const line = await waitFor("its tcpdump", async () => {
    const lines = await release.processes(node, namespace, "on-the-node");
    if (lines.length !== 1) {
      throw new Error(`there are ${JSON.stringify(lines)}; ${await release.logs(node, "--tail=5")}`);
    }
    return lines[0];
  }, { timeoutMs: 30_000 });
  assert.match(line, /^(\S*\/)?tcpdump -n /);
  const word = token();
  await waitFor("the token", async () => {
    await kube.exec(namespace, "on-the-node", sendToken(word, "10.255.255.1"));
    return await hasToken(release, node, namespace, "on-the-node", word, 2000).then(() => true);
  });
  // Its port is the node's, and tells of it.
  const { stdout } = await kube.nodeExec(node, ["ss", "-tlnH", "sport", "=", ":9191"]);
  assert.match(stdout, /:9191\s/);
  const controller = (await release.pod(node)).metadata.name;
  const metrics = await kube.kubectl([
    ...["get", "--raw", `/api/v1/namespaces/${release.namespace}/pods/${controller}:9191/proxy/metrics`],
  ]);
  assert.match(metrics, /^packet_capture_active 1$/m);
  assert.equal((await release.pod(node)).status.podIP, status.podIP);
  await kube.annotate(namespace, "on-the-node", { [KEY]: null });
  await waitFor("its process and files to go", async () => {
    const left = [
      ...await release.processes(node, namespace, "on-the-node"),
      ...await release.files(node, namespace, "on-the-node"),
    ];
    return left.length === 0;
  });
  // Earlier tests of this file have Events of their own pods.
  const events = await kube.events(namespace, "on-the-node");
  assert.deepEqual(events.map(({ reason }) => reason).filter((reason) => reason.startsWith("Capture")), []);
});
