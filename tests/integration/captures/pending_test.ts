/** A pod without a sandbox, on a real API server: pending, if it is this node's, and captured once it has one. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../../support/wait.ts";
import { cli } from "../../rig/cli.ts";
import { KEY, NodeRig, type TestPod } from "../../rig/node.ts";

const CREATING = {
  phase: "Pending",
  conditions: [{ type: "PodReadyToStartContainers", status: "False" }],
  containerStatuses: [{
    name: "main",
    image: "localhost/busybox:1",
    imageID: "",
    ready: false,
    restartCount: 0,
    state: { waiting: { reason: "ContainerCreating" } },
  }],
};

Deno.test("pods without a sandbox", async (t) => {
  await using node = await NodeRig.start();
  await using _controller = await node.startController();
  const env = { CAPTURE_DIR: node.captureDir };
  const setStatus = (name: string, status: unknown) =>
    node.server.call("PATCH", `/api/v1/namespaces/default/pods/${name}/status`, { status });
  const rows = async () => {
    const { stdout } = await cli(["list", "-o", "json"], { env });
    return JSON.parse(stdout) as { pod: string; state: string; reason?: string }[];
  };
  const row = async (pod: TestPod) => (await rows()).find((row) => row.pod === pod.name);
  const gets = (name: string) =>
    node.proxy.requests.filter(({ method, url }) => method === "GET" && url.pathname.endsWith(`/pods/${name}`)).length;

  await t.step(
    "one of this node is listed with what it waits for, in 5 s, then captured when its sandbox comes",
    async () => {
      const pod = await node.createPod("waits", { annotations: { [KEY]: "3" } });
      await setStatus("waits", CREATING);
      const { note, type } = await node.hasEvent(pod, "CapturePending");
      const why = "he pod has no running sandbox on this node (phase Pending; PodReadyToStartContainers is False; " +
        "container main waits: ContainerCreating); see: kubectl describe pod -n default waits";
      assertEquals([type, note], ["Normal", `T${why}`]);
      const listed = await waitFor("its row", () => row(pod));
      assertEquals([listed.state, listed.reason], ["pending", `t${why}`]);
      assertEquals(gets("waits"), 1);
      await node.startSandbox(pod);
      await node.capturing(pod);
      await node.sees(pod, "late");
      await node.hasEvent(pod, "CaptureStarted");
      assertEquals((await node.events(pod)).map(({ reason }) => reason), ["CapturePending", "CaptureStarted"]);
      assertEquals(gets("waits"), 1);
      await node.annotate(pod, { "": null });
      await node.clean(pod);
      await node.deletePod(pod);
    },
  );

  await t.step("one that has finished is reported and listed as finished", async () => {
    const pod = await node.createPod("done", { annotations: { [KEY]: "3" } });
    await setStatus("done", { phase: "Succeeded" });
    const { note } = await node.hasEvent(pod, "CaptureStopped");
    const why = "he pod has finished (Succeeded): nothing more is captured, " +
      "and files that are there are kept while the annotation is";
    assertEquals(note, `T${why}`);
    const listed = await waitFor("its row", () => row(pod));
    assertEquals([listed.state, listed.reason], ["finished", `t${why}`]);
    await node.deletePod(pod);
  });

  await t.step(
    "one of another node, which a server shows that ignores the selector, is neither reported nor listed",
    async () => {
      node.proxy.rewrite = (url) => url.searchParams.delete("fieldSelector");
      node.proxy.cutWatches();
      const object = await node.server.createPod({ name: "elsewhere", node: "node-2", annotations: { [KEY]: "3" } });
      const pod = { namespace: "default", name: "elsewhere", uid: object.metadata.uid, sandbox: undefined };
      await waitFor("the question whose it is", () => gets("elsewhere") === 1);
      const own = await node.createPod("own", { annotations: { [KEY]: "3" } });
      await node.hasEvent(own, "CapturePending");
      await waitFor("the own pod's row", () => row(own));
      assertEquals(await row(pod), undefined);
      assertEquals(await node.events(pod), []);
      assert(gets("elsewhere") === 1);
      for (const one of [pod, own]) await node.deletePod(one);
    },
  );
});
