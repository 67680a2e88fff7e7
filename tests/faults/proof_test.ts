/** What the API server says without proof: whose sandbox it is, and that a pod has gone. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, shared, since } from "./fault.ts";
import { cleanUp, hears, inItsNetns, startController } from "./node.ts";
import { lost } from "./traffic.ts";

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
