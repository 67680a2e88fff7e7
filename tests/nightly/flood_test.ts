/** A pod of another namespace floods the controller's HTTP port: captures go on, and the kubelet restarts nothing. */
import assert from "node:assert/strict";
import { fixture } from "../e2e/fixture.ts";
import { type KubeObject, type PodObject, waitFor } from "../e2e/kube.ts";
import { sendToken, testPod } from "../e2e/pods.ts";
import { hasToken, token } from "../e2e/tokens.ts";

const KEY = "tcpdump.antrea.io";
const CONNECTIONS = 500;
/** More than three liveness probes in turn, with their patience: the kubelet would have restarted a container that is silent. */
const FLOOD_MS = 75_000;

const { kube, release, namespace } = fixture("flood");

Deno.test("500 connections that pipeline GET /metrics restart no container and end no capture", async () => {
  const [node] = await kube.workers() as [string];
  const strangers = `${namespace}-strangers`;
  const space: KubeObject = { apiVersion: "v1", kind: "Namespace", metadata: { name: strangers } };
  await using _space = await kube.having(space);
  await kube.serviceAccount(strangers);
  const captured = testPod({ name: "captured", namespace, node, annotations: { [KEY]: "5" } });
  await using _pods = await kube.having(captured);
  await kube.ready(namespace, "captured");
  const tcpdump = await waitFor("its tcpdump", async () => {
    const running = await release.processes(node, namespace, "captured");
    return running.length === 1 ? running : undefined;
  });
  const sent: string[] = [];
  const send = async () => {
    sent.push(token());
    await kube.exec(namespace, "captured", sendToken(sent.at(-1)!, "127.0.0.1"));
  };
  await send();
  await hasToken(release, node, namespace, "captured", sent[0]!);

  const before = await release.pod(node);
  const address = before.status.podIP!;
  // 32 KB of requests for each connection, sent again when it is closed.
  const script = `yes "$(printf 'GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r')" | head -n 2700 >/tmp/requests
    for i in $(seq ${CONNECTIONS}); do
      while :; do printf . >>/tmp/opened; nc ${address} 9090 </tmp/requests >/dev/null 2>&1; sleep 0.5; done &
    done
    wait`;
  const flooder = testPod({ name: "flooder", namespace: strangers, node, command: ["sh", "-c", script] });
  await using _flooder = await kube.having(flooder);
  await kube.ready(strangers, "flooder", { timeoutMs: 60_000 });
  // How many connections it has opened so far, and how many are there now: nc closes its own half when it has sent all.
  const floods = async () => {
    const look = "wc -c </tmp/opened; grep -c ':2382 0[1-5] ' /proc/net/tcp";
    const { stdout } = await kube.exec(strangers, "flooder", ["sh", "-c", look]);
    const [opened, there] = stdout.trim().split("\n").map(Number) as [number, number];
    return opened >= CONNECTIONS && there > 0;
  };
  await waitFor("the flood", floods, { timeoutMs: 60_000 });
  const start = performance.now();
  while (performance.now() - start < FLOOD_MS) {
    await send();
    await new Promise((resolve) => setTimeout(resolve, 3000));
  }
  await waitFor("the flood, that was not over before its time", floods, { timeoutMs: 10_000 });
  const after: PodObject = await kube.pod(release.namespace, before.metadata.name);
  const restarts = (pod: PodObject) => pod.status.containerStatuses!.map(({ restartCount }) => restartCount);
  assert.deepEqual(restarts(after), restarts(before), "containers were restarted");
  assert.equal(after.metadata.uid, before.metadata.uid);
  await kube.remove(flooder);
  assert.deepEqual(await release.processes(node, namespace, "captured"), tcpdump);
  const { runs } = JSON.parse(
    (await release.exec(node, ["cat", `/captures/${namespace}/captured/capture.json`])).stdout,
  );
  assert.equal(runs.length, 1, "the capture was interrupted");
  await send();
  for (const word of sent) await hasToken(release, node, namespace, "captured", word);
});
