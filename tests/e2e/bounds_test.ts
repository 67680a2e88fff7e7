/** What tcpdump may and what a filter may take, on the two-worker cluster with the chart's default resources. */
import assert from "node:assert/strict";
import { fixture, forThisMachine } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { testPod } from "./pods.ts";

const KEY = "tcpdump.antrea.io";
const { kube, release, namespace } = fixture("bounds");
const ports = (n: number) => `port ${Array.from({ length: n }, (_, i) => i + 1).join("||")}`;

const events = (pod: string) => kube.events(namespace, pod);

/** Waits until the pod's tcpdump listens. @returns its process id in the controller's container. */
async function capturing(node: string, pod: string, timeoutMs = 60_000): Promise<number> {
  await waitFor(`the capture of ${pod}`, async () => {
    return (await events(pod)).some(({ reason }) => reason === "CaptureStarted");
  }, { timeoutMs });
  const { stdout } = await release.exec(node, ["ps", "-o", "pid,args"]);
  const line = stdout.split("\n").find((line) => line.includes(`/${namespace}/${pod}/`) && line.includes("tcpdump"));
  return Number(/^ *([0-9]+)/.exec(line ?? "")?.[1]);
}

for (const mode of ["capabilities", "privileged"]) {
  Deno.test(`tcpdump keeps only what it needs with privilege.mode ${mode}`, async () => {
    await release.upgrade(await forThisMachine(kube, { privilege: { mode } }));
    const [node] = await kube.workers() as [string];
    const name = `kept-${mode}`;
    await using _pod = await kube.having(testPod({ name, namespace, node, annotations: { [KEY]: "2" } }));
    const pid = await capturing(node, name);
    const status = (await release.exec(node, ["cat", `/proc/${pid}/status`])).stdout;
    const of = (name: string) => new RegExp(`^${name}:\\s+(\\S+)$`, "m").exec(status)?.[1];
    assert.equal(of("Name"), "tcpdump");
    // SETGID, SETUID, NET_RAW.
    for (const name of ["CapPrm", "CapEff"]) assert.equal(of(name), "00000000000020c0", name);
    for (const name of ["CapInh", "CapAmb"]) assert.equal(of(name), "0000000000000000", name);
    assert.equal(of("NoNewPrivs"), "1");
    // SYS_ADMIN stays in the bounding set, out of reach.
    if (mode === "capabilities") assert.equal(of("CapBnd"), "00000000002020c0");
    const limits = (await release.exec(node, ["cat", `/proc/${pid}/limits`])).stdout;
    assert.match(limits, /^Max address space +85000000 /m);
  });
}

Deno.test("a filter that is too complex is rejected in the user's words, and no other capture of the node notices", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const [node] = await kube.workers() as [string];
  const plain = testPod({ name: "plain", namespace, node, annotations: { [KEY]: "2" } });
  await using _plain = await kube.having(plain);
  const pid = await capturing(node, "plain");
  const annotations = { [KEY]: "2", [`${KEY}/filter`]: ports(1499) };
  await using _complex = await kube.having(testPod({ name: "complex", namespace, node, annotations }));
  const { message } = await waitFor("the rejection", async () => {
    return (await events("complex")).find(({ reason }) => reason === "CaptureRejected");
  }, { timeoutMs: 60_000 });
  assert.match(message, /tcpdump\.antrea\.io\/filter is too complex: tcpdump needs more than 64 MB of memory/);
  assert.match(message, /use fewer terms, net or portrange/);
  const told = (await events("complex")).map(({ reason }) => reason).filter((reason) => reason.startsWith("Capture"));
  assert.deepEqual(told, ["CaptureRejected"]);
  assert.equal(await capturing(node, "plain"), pid);
  const { status } = await release.pod(node);
  assert.deepEqual((status.containerStatuses ?? []).map(({ restartCount }) => restartCount), [0, 0]);
});

Deno.test("a filter of 150 ports in a template of 12 replicas starts on all of them, none begun twice", async () => {
  const [node] = await kube.workers() as [string];
  const labels = { app: "many" };
  const pod = testPod({ name: "many", namespace, node, labels });
  const annotations = { [KEY]: "1", [`${KEY}/filter`]: ports(150) };
  const deployment = {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: { name: "many", namespace },
    spec: {
      replicas: 12,
      selector: { matchLabels: labels },
      template: { metadata: { labels, annotations }, spec: pod.spec },
    },
  } as KubeObject;
  await using _many = await kube.having(deployment);
  const rows = async () => {
    const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
    return (JSON.parse(stdout) as { pod: string; state: string }[]).filter(({ pod }) => pod.startsWith("many-"));
  };
  await waitFor("all captures", async () => {
    const all = await rows();
    return all.length === 12 && all.every(({ state }) => state === "capturing");
  }, { timeoutMs: 120_000 });
  const names = (await rows()).map(({ pod }) => pod);
  await waitFor("all of them to listen", async () => {
    const told = await Promise.all(names.map(events));
    return told.every((list) => list.some(({ reason }) => reason === "CaptureStarted"));
  }, { timeoutMs: 120_000 });
  for (const name of names) {
    assert.deepEqual(
      (await events(name)).map(({ reason }) => reason).filter((reason) => reason === "CaptureFailed"),
      [],
    );
  }
});
