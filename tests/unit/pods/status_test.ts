import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { type PodObject, statusOf } from "../../../src/pods/status.ts";

const metadata = { namespace: "shop", name: "web-0", uid: "u1" };
const SEE = "see: kubectl describe pod -n shop web-0";
const why = (status: PodObject["status"], more: Partial<PodObject["metadata"]> = {}) =>
  statusOf({ metadata: { ...metadata, ...more }, spec: { nodeName: "n1" }, ...(status ? { status } : {}) }).why;

Deno.test("statusOf() reports whose the pod is, and whether it has finished", () => {
  assertEquals(statusOf({ metadata, spec: { nodeName: "n1" }, status: { phase: "Succeeded" } }), {
    uid: "u1",
    nodeName: "n1",
    hasFinished: true,
    why: "the pod has finished (Succeeded): nothing more is captured, and files that are there are kept while the " +
      "annotation is",
  });
  assertEquals(statusOf({ metadata, spec: {}, status: { phase: "Pending" } }).nodeName, undefined);
  assert(
    why({ phase: "Failed", reason: "Evicted", message: "low on disk" }).includes("(Failed: Evicted: low on disk)"),
  );
});

Deno.test("statusOf() reports what a pod without a sandbox waits for, and ends with what to type", () => {
  // As a kubelet 1.33 has it of a pod that mounts a missing ConfigMap.
  const creating = { name: "main", state: { waiting: { reason: "ContainerCreating" } } };
  const unready = { status: "False", reason: "ContainersNotReady", message: "containers with unready status: [main]" };
  assertEquals(
    why({
      phase: "Pending",
      conditions: [{ type: "PodReadyToStartContainers", status: "False" }, { type: "Ready", ...unready }],
      containerStatuses: [creating],
    }),
    "the pod has no running sandbox on this node (phase Pending; PodReadyToStartContainers is False; " +
      `container main waits: ContainerCreating); ${SEE}`,
  );
  assertEquals(
    why({ phase: "Pending", conditions: [{ type: "Ready", ...unready }] }),
    `the pod has no running sandbox on this node (phase Pending; not ready: containers with unready status: [main]); ${SEE}`,
  );
  assertEquals(why(undefined), `the pod has no running sandbox on this node (phase unknown); ${SEE}`);
  assertEquals(why({ phase: "Running" }, { deletionTimestamp: "2026-11-27T00:00:00Z" }), "the pod is being deleted");
});

Deno.test("statusOf() names the containers with the most telling reasons, few of them, and cuts what others wrote", () => {
  const waiting = (name: string, reason: string, message?: string) => ({
    name,
    state: { waiting: { reason, ...(message ? { message } : {}) } },
  });
  const sentence = why({
    phase: "Pending",
    initContainerStatuses: [waiting("init", "ImagePullBackOff", `Back-off pulling image "${"x".repeat(5000)}"`)],
    containerStatuses: [
      waiting("a", "PodInitializing"),
      waiting("b", "CreateContainerConfigError", "\u00e9".repeat(5000)),
      waiting("c", "PodInitializing"),
    ],
  });
  assert(
    /phase Pending; container init waits: ImagePullBackOff: Back-off pulling image "x+…; /.test(sentence),
    sentence,
  );
  assert(/container b waits: CreateContainerConfigError: é+…; 2 more wait\); see: /.test(sentence), sentence);
  assert(new TextEncoder().encode(sentence).length < 1024 - 253 - 63, sentence);
});
