/** Namespaces whose pods are not captured: the controller itself keeps to that. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { KEY, NodeRig } from "../../rig/node.ts";

Deno.test("a namespace that is denied gets no capture, and what it had stays while it is annotated", async () => {
  await using node = await NodeRig.start();
  await node.server.createNamespace("shop");
  const annotations = { [KEY]: "3" };
  const web = await node.startPod("web", { annotations });
  {
    await using controller = await node.startController();
    await node.capturing(web);
    await controller.stop();
  }
  const files = await node.files(web);
  assert(files.length > 0);
  await using _controller = await node.startController({ NAMESPACES_DENY: "kube-system,default" });
  const { type, note } = await node.hasEvent(web, "CaptureRejected");
  assertEquals(type, "Warning");
  assert(note.includes("the chart's namespaces.deny has it"), note);
  await node.inState(web, "rejected");
  const api = await node.startPod("api", { namespace: "shop", annotations });
  await node.capturing(api);
  assertEquals([await node.processOf(web), (await node.files(web)).length], [undefined, files.length]);
  await node.annotate(web, { "": null });
  await node.clean(web);
});
