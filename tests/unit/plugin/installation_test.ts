import { deepStrictEqual, strictEqual, throws } from "node:assert";
import { controllerOn, installationsIn } from "../../../src/plugin/installation.ts";
import { controllerPod, daemonSet } from "../../integration/plugin/rig.ts";

type Objects = Parameters<typeof installationsIn>[0];
const found = (...objects: unknown[]) => installationsIn(objects as unknown as Objects);

Deno.test("installationsIn() joins each DaemonSet with its own pods, by node", () => {
  const [first, second, ...others] = found(
    daemonSet(),
    daemonSet("other", "capture.example.org"),
    controllerPod("worker1"),
    controllerPod("worker2"),
    controllerPod("worker1", { release: "other" }),
  );
  deepStrictEqual([...first!.controllers.keys()], ["worker1", "worker2"]);
  strictEqual(first!.annotationKey, "tcpdump.antrea.io");
  strictEqual(second!.annotationKey, "capture.example.org");
  strictEqual(second!.controllers.get("worker1")!.pod, "other-worker1");
  deepStrictEqual(others, []);
});

Deno.test("installationsIn() passes over pods that no DaemonSet owns", () => {
  const [installation] = found(daemonSet(), {
    ...controllerPod("worker1"),
    metadata: { name: "helm-test", uid: "x", namespace: "packet-capture" },
  });
  strictEqual(installation!.controllers.size, 0);
});

Deno.test("installationsIn() takes the ready one of two pods on a node, whatever their order", () => {
  const old = { ...controllerPod("worker1"), metadata: { ...controllerPod("worker1").metadata, name: "old" } };
  const next = {
    ...controllerPod("worker1", { ready: false, waiting: "ContainerCreating" }),
    metadata: { ...controllerPod("worker1").metadata, name: "new", creationTimestamp: "2026-01-01T00:00:00Z" },
  };
  for (const pods of [[old, next], [next, old]]) {
    strictEqual(found(daemonSet(), ...pods)[0]!.controllers.get("worker1")!.pod, "old");
  }
});

Deno.test("controllerOn() says why a node's controller cannot be asked", () => {
  const [installation] = found(daemonSet(), controllerPod("worker1", { ready: false, waiting: "ImagePullBackOff" }));
  throws(() => controllerOn(installation!, "worker1"), {
    message:
      "The controller of node worker1 (pod packet-capture/packet-capture-worker1) is not ready: phase Pending, ImagePullBackOff",
  });
  throws(() => controllerOn(installation!, "worker2"), /^Failure: Node worker2 has no controller/);
});
