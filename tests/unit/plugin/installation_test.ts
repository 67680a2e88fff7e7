import { deepStrictEqual, match, strictEqual, throws } from "node:assert";
import { controllerOn, installationFrom, releaseIn } from "../../../src/plugin/installation.ts";
import type { ObjectMeta, PodObject } from "../../../src/plugin/kubectl/objects.ts";
import { clusterRole, controllerPod } from "../../integration/plugin/rig.ts";

const RELEASE = { namespace: "packet-capture", name: "packet-capture", annotationKey: "tcpdump.antrea.io" };
const joined = (pods: readonly unknown[], options = {}) => installationFrom(RELEASE, pods as PodObject[], options);

Deno.test("releaseIn() reads a release from its ClusterRole", () => {
  deepStrictEqual(releaseIn(clusterRole({ release: "pc", key: "capture.example.org", namespace: "net" }).metadata), {
    namespace: "net",
    name: "pc",
    annotationKey: "capture.example.org",
  });
});

Deno.test("releaseIn() passes over ClusterRoles that are not, or do not have, what they must", () => {
  const { metadata } = clusterRole();
  const others: ObjectMeta[] = [
    { ...metadata, name: "packet-capture-read-headers" },
    { ...metadata, name: "other-read" },
    { ...metadata, labels: { ...metadata.labels, "app.kubernetes.io/name": "other" } },
    { name: metadata.name, uid: "x", labels: metadata.labels },
    { name: metadata.name, uid: "x", annotations: metadata.annotations },
    ...["", "-n", "kube system", "../x", "a/b"].map((namespace) => clusterRole({ namespace }).metadata),
    ...["", "a/b", "--x", "a".repeat(64)].map((key) => clusterRole({ key }).metadata),
  ];
  for (const each of others) strictEqual(releaseIn(each), undefined, JSON.stringify(each));
});

Deno.test("installationFrom() joins a release with its pods by node, and their settings", () => {
  const { controllers, env, warning } = joined([controllerPod("worker1"), controllerPod("worker2")]);
  deepStrictEqual([...controllers.keys()], ["worker1", "worker2"]);
  strictEqual(controllers.get("worker1")!.container, "reader");
  deepStrictEqual([env, warning], [{ ANNOTATION_KEY: "tcpdump.antrea.io" }, undefined]);
});

Deno.test("installationFrom() passes over pods that another namespace's, kind's or release's controller has made, or nobody", () => {
  const { metadata, ...rest } = controllerPod("worker1");
  const [owner] = metadata.ownerReferences;
  const owned = (change: object) => ({
    ...rest,
    metadata: { ...metadata, ownerReferences: [{ ...owner, ...change }] },
  });
  const pods = [
    controllerPod("worker1", { namespace: "tenant" }),
    controllerPod("worker1", { release: "other" }),
    owned({ apiVersion: "made.up/v1" }),
    owned({ kind: "ReplicaSet" }),
    owned({ controller: false }),
    owned({ controller: undefined }),
    { ...rest, metadata: { ...metadata, ownerReferences: undefined } },
  ];
  for (const pod of pods) strictEqual(joined([pod]).controllers.size, 0, JSON.stringify(pod.metadata));
});

Deno.test("installationFrom() takes the ready one of two pods on a node, whatever their order", () => {
  const old = { ...controllerPod("worker1"), metadata: { ...controllerPod("worker1").metadata, name: "old" } };
  const next = {
    ...controllerPod("worker1", { ready: false, waiting: "ContainerCreating" }),
    metadata: { ...controllerPod("worker1").metadata, name: "new", creationTimestamp: "2026-01-01T00:00:00Z" },
  };
  for (const pods of [[old, next], [next, old]]) {
    strictEqual(joined(pods).controllers.get("worker1")!.pod, "old");
  }
});

Deno.test("installationFrom() reads in an older chart's pod only in the namespace that the user has named, and reports it", () => {
  const pods = [controllerPod("worker1", { containers: ["packet-capture"] })];
  throws(() => controllerOn(joined(pods), "worker1"), {
    message:
      "Cannot read captures of node worker1: pod packet-capture/packet-capture-worker1 has no container reader; upgrade the chart, " +
      "or give --controller-namespace packet-capture to read as its administrator",
  });
  const named = joined(pods, { controllerNamespace: "packet-capture" });
  strictEqual(controllerOn(named, "worker1").container, "packet-capture");
  match(named.warning!, /^The chart of release packet-capture\/packet-capture is older than this plugin: .* worker1 /);
});

Deno.test("controllerOn() reports why a node's controller cannot be asked", () => {
  const installation = joined([controllerPod("worker1", { ready: false, waiting: "ImagePullBackOff" })]);
  throws(() => controllerOn(installation, "worker1"), {
    message:
      "The controller of node worker1 (pod packet-capture/packet-capture-worker1) is not ready: phase Pending, ImagePullBackOff",
  });
  throws(() => controllerOn(installation, "worker2"), /^Failure: Node worker2 has no controller/);
});
