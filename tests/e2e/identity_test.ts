/** Whose sandbox it is, on the two-worker cluster: the kubelet's labels say so, and no annotation of a tenant's. */
import assert from "node:assert/strict";
import { fixture } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { sendToken, testPod } from "./pods.ts";
import { hasToken, token, tokensIn } from "./tokens.ts";

const KEY = "tcpdump.antrea.io";
const TENANT = "e2e-tenant";
const { kube, release, namespace: bank } = fixture("identity");

Deno.test("a tenant's pod that claims another's hash is not captured, and the other's capture follows its sandbox", async () => {
  const [node] = await kube.workers() as [string];
  const tenantA = `${bank}-tenant-a`;
  await using _space = await kube.having({ apiVersion: "v1", kind: "Namespace", metadata: { name: tenantA } });
  await using _rights = await kube.having(
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name: TENANT, namespace: tenantA },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "edit" },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: TENANT }],
    } as KubeObject,
  );
  await using _ledger = await kube.having(
    testPod({ name: "ledger", namespace: bank, node, annotations: { [KEY]: "3" } }),
  );
  const { uid } = (await kube.ready(bank, "ledger")).metadata;
  const send = (word: string) => kube.exec(bank, "ledger", sendToken(word, "127.0.0.1"));
  await waitFor("the capture", async () => (await release.processes(node, bank, "ledger")).length === 1);

  const { code } = await kube.tryKubectl(["get", "pod", "ledger", "-n", bank, `--as=${TENANT}`]);
  assert.equal(code, 1, "the tenant has more than its own rights");
  const annotations = { [KEY]: "2", "kubernetes.io/config.mirror": uid!, "kubernetes.io/config.hash": uid! };
  const harmless = testPod({ name: "harmless", namespace: tenantA, annotations, spec: { nodeName: node } });
  const input = JSON.stringify({ ...harmless, metadata: { ...harmless.metadata, finalizers: ["example.org/stays"] } });
  // Rights reach the API server's caches in their own time.
  await waitFor("the tenant's pod", async () => {
    const { code, stderr } = await kube.tryKubectl(["create", "-f", "-", `--as=${TENANT}`], { input });
    if (code !== 0) throw new Error(stderr);
    return true;
  });
  const letGo = () =>
    kube.tryKubectl([
      ...["patch", "pod", "harmless", "-n", tenantA, "--type=merge", "-p", '{"metadata":{"finalizers":null}}'],
    ]);
  try {
    const line = await waitFor("its capture to be pending", async () => {
      return new RegExp(`.*capture pending.*pod=${tenantA}/harmless .*`).exec(await release.logs(node))?.[0];
    });
    assert.match(line, /reason="no static pod of this namespace and name .*kubernetes\.io\/config\.mirror names"/);
    // The kubelet, which runs no such pod, deletes the object; the finalizer keeps it.
    await waitFor(
      "the kubelet to delete it",
      async () => (await kube.pod(tenantA, "harmless")).metadata.deletionTimestamp,
    );
    assert.deepEqual(await release.processes(node, tenantA, "harmless"), []);
    assert.deepEqual(await release.files(node, tenantA, "harmless"), []);
  } finally {
    await letGo();
  }
  await waitFor("the end of the object", async () => {
    return (await kube.tryKubectl(["get", "pod", "harmless", "-n", tenantA])).stderr.includes("NotFound");
  });

  const word = token();
  await send(word);
  await hasToken(release, node, bank, "ledger", word);
  // All processes of the pod, its sandbox's too, by the host name that they alone have: the kubelet makes another sandbox.
  const kill = 'for p in /proc/[0-9]*; do [ "$(nsenter -t "${p#/proc/}" -u hostname 2>/dev/null)" != ledger ] || ' +
    'kill -9 "${p#/proc/}"; done';
  const { podIP } = (await kube.pod(bank, "ledger")).status;
  await kube.nodeExec(node, ["sh", "-c", kill]);
  await waitFor("another sandbox", async () => {
    const { status } = await kube.pod(bank, "ledger");
    return status.podIP !== podIP && status.containerStatuses?.[0]?.ready;
  });
  const again = token();
  await waitFor("packets of the new sandbox", async () => {
    await send(again);
    return ((await tokensIn(release, node, bank, "ledger", [again]))[0] ?? 0) > 0;
  });
  assert.equal((await release.processes(node, bank, "ledger")).length, 1);
  assert.deepEqual(await release.files(node, tenantA, "harmless"), []);
});
