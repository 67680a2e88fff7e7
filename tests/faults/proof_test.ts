/** What the API server says without proof: whose sandbox it is, and that a pod has gone. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { lasting } from "../support/wait.ts";
import { exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, impatient, shared, since } from "./fault.ts";
import { cleanUp, hears, inItsNetns, startController } from "./node.ts";
import { lost, numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

fault("hash-of-another-pod", async (record) => {
  const node = await rig();
  const { server, runtime: { kubelet } } = node;
  // With these, somebody who claims the right pod would record the whole node.
  await using controller = await startController(node, { ALLOW_HOST_NETWORK_PODS: "true" });
  for (const namespace of ["bank", "tenant-a"]) await server.createNamespace(namespace);
  const ledger = await node.startPod("ledger", { namespace: "bank", annotations: { [KEY]: "3" } });
  await node.capturing(ledger);
  const hash = crypto.randomUUID().replaceAll("-", "");
  const etcd = await kubelet.runPod({ namespace: "kube-system", name: "etcd-node-1", uid: hash, hostNetwork: true });
  const claims: [namespace: string, name: string, hash: string][] = [
    ["tenant-a", "harmless", ledger.uid],
    ["tenant-a", "ledger", ledger.uid],
    ["bank", "harmless", ledger.uid],
    ["tenant-a", etcd.name, hash],
  ];
  const claimants: TestPod[] = [];
  for (const [namespace, name, claimed] of claims) {
    const { metadata } = await server.call("POST", `/api/v1/namespaces/${namespace}/pods`, {
      metadata: {
        name,
        annotations: { [KEY]: "2", "kubernetes.io/config.mirror": claimed, "kubernetes.io/config.hash": claimed },
        finalizers: ["example.org/stays"],
      },
      spec: { nodeName: "node-1", containers: [{ name: "main", image: "localhost/busybox:1" }] },
    });
    claimants.push({ namespace, name, uid: metadata.uid, sandbox: undefined });
  }
  record.happened(`the API took ${claims.length} pods with the hashes of bank/${ledger.name} and ${etcd.name}`);
  const isFree = async (pod: TestPod) => {
    assertEquals(await node.processOf(pod), undefined, `${pod.namespace}/${pod.name} is captured`);
    assert(!await exists(node.folderOf(pod)), `${node.folderOf(pod)} exists`);
  };
  for (const pod of claimants) {
    await controller.says(new RegExp(`capture pending.*uid=${pod.uid} .*config\\.mirror`));
    await isFree(pod);
  }
  // As the kubelet does, which runs no such pod; then the finalizers go.
  for (const { namespace, name } of claimants) await server.deletePod(name, 0, namespace);
  await kubelet.stopPod(ledger.sandbox!);
  await node.startSandbox(ledger);
  const start = performance.now();
  await inItsNetns(node, ledger);
  for (const pod of claimants) {
    await isFree(pod);
    const path = `/api/v1/namespaces/${pod.namespace}/pods/${pod.name}`;
    await server.call("PATCH", path, { metadata: { finalizers: null } });
  }
  await kubelet.stopPod(ledger.sandbox!);
  await node.startSandbox(ledger);
  await inItsNetns(node, ledger);
  const seconds = since(start);
  await hears(node, ledger);
  const packetsLost = await lost(node, ledger);
  await kubelet.removePod(etcd);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [ledger]) });
});

fault("list-lies", async (record) => {
  const node = await rig();
  const { proxy } = node;
  // As by a broken cache: 200, whole, and nothing in it.
  let lies = 0;
  const lie = (url: URL) => {
    if (!url.searchParams.has("fieldSelector")) return;
    if (url.searchParams.has("sendInitialEvents")) lies++;
    url.searchParams.set("fieldSelector", "spec.nodeName=nowhere");
  };
  const hasty = impatient({ watch: { relist: 1_000, relistJitter: 0 } });
  try {
    const first = await startController(node, ...hasty);
    const [stays, ends] = await Promise.all(
      ["stays", "ends"].map((name) => node.startPod(name, { annotations: { [KEY]: "3" } })),
    ) as [TestPod, TestPod];
    const [{ pid }] = await Promise.all([node.capturing(stays), node.capturing(ends)]);
    const traffic = await Traffic.start(node, stays, "lies");
    await traffic.flows();
    proxy.rewrite = lie;
    await lasting("three lists without pods", () => lies >= 3, async () => {
      assertEquals((await node.processOf(stays))?.pid, pid, "the capture has not gone on");
    }, { timeoutMs: 400_000, everyMs: 50 });
    await first.says(/a list lacked a pod that exists.*pod=default\/stays/);
    const { sent, packetsLost } = await traffic.end();
    assertEquals(packetsLost, 0);
    // A DELETED event is proof, and does not come here; a controller that begins with such a list has nothing but its folders.
    await first.end("SIGKILL");
    await node.deletePod(ends);
    lies = 0;
    await using second = await node.startController(...hasty);
    const start = performance.now();
    await Promise.all([node.clean(ends), node.capturing(stays)]);
    const seconds = since(start);
    record.happened(`3 lists, and the first of another controller, were empty with 2 pods there`);
    assert(lies >= 1);
    await second.says(/files deleted.*pod=default\/ends/);
    assertEquals((await numbersOf(node, stays, "lies")).size, sent, "packets that were in its files");
    await hears(node, stays);
    await proxy.calm();
    record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [stays]) });
  } finally {
    await proxy.calm();
  }
});
