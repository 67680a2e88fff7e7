/** Pods that have no sandbox, yet or any more, on the two-worker cluster. */
import assert from "node:assert/strict";
import { fixture } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { testPod } from "./pods.ts";

const KEY = "tcpdump.antrea.io";
const { kube, release, namespace } = fixture("pending");

async function events(pod: string): Promise<string[]> {
  const all = await kube.events(namespace, pod);
  return all.filter(({ reason }) => reason.startsWith("Capture")).map(({ reason, message }) => `${reason}: ${message}`);
}

/** Waits until the pod has as many Events, which are these. Kubernetes lists them by their random names. */
async function reasons(pod: string, expected: readonly string[]): Promise<void> {
  const all = await waitFor(`${expected.length} Events`, async () => {
    const found = await events(pod);
    return found.length >= expected.length && found;
  });
  assert.deepEqual(all.map((event) => event.split(":")[0]).sort(), expected);
}

async function row(node: string, pod: string): Promise<{ state: string; reason?: string } | undefined> {
  const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
  return JSON.parse(stdout).find((row: { pod: string }) => row.pod === pod);
}

Deno.test("a pod that mounts a missing ConfigMap is reported and listed as pending, on its node alone, and captured once it has it", async () => {
  const [node, other] = await kube.workers() as [string, string];
  const config: KubeObject = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "late", namespace } };
  await kube.remove(config);
  const pod = testPod({ name: "waits", namespace, node, annotations: { [KEY]: "2" } });
  Object.assign(pod.spec, { volumes: [{ name: "late", configMap: { name: "late" } }] });
  Object.assign((pod.spec.containers as object[])[0]!, { volumeMounts: [{ name: "late", mountPath: "/late" }] });
  await using _pod = await kube.having(pod);
  const [said] = await waitFor("word that it waits", async () => {
    const all = await events("waits");
    return all.length > 0 && all;
  });
  assert.match(
    said!,
    /^CapturePending: The pod has no running sandbox on this node \(phase Pending; .*ContainerCreating/,
  );
  assert.ok(said!.endsWith(`); see: kubectl describe pod -n ${namespace} waits`), said!);
  const listed = await waitFor("its row", () => row(node, "waits"));
  assert.equal(listed.state, "pending");
  assert.equal(`CapturePending: T${listed.reason?.slice(1)}`, said);
  assert.equal(await row(other, "waits"), undefined);
  await kube.apply(config);
  // The kubelet tries to mount it again within two minutes.
  await waitFor("the capture", async () => (await row(node, "waits"))?.state === "capturing", { timeoutMs: 180_000 });
  await reasons("waits", ["CapturePending", "CaptureStarted"]);
});

Deno.test("a pod that has finished is listed as finished, with its files", async () => {
  const [node] = await kube.workers() as [string];
  const spec = { restartPolicy: "Never" };
  const command = ["sh", "-c", 'ping -c 3 "$NODE_IP"'];
  await using _pod = await kube.having(
    testPod({ name: "job", namespace, node, command, annotations: { [KEY]: "2" }, spec }),
  );
  const listed = await waitFor("the end of it", async () => {
    const one = await row(node, "job");
    return one?.reason?.includes("has finished") && one;
  }, { timeoutMs: 90_000 });
  assert.equal(listed.state, "finished");
  assert.match(
    listed.reason!,
    /^the pod has finished \(Succeeded\): nothing more is captured, and files that are there are kept/,
  );
  await reasons("job", ["CaptureStarted", "CaptureStopped"]);
  assert.ok((await release.files(node, namespace, "job")).length > 0);
});
