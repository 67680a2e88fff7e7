/** A controller that may not, or shall not, write Events does everything else. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../../support/wait.ts";
import { KEY, NodeRig } from "../../rig/node.ts";

let node: NodeRig;

Deno.test.beforeAll(async () => {
  node = await NodeRig.start();
});

Deno.test.afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

/** The requests for Events since `from`: method and status. */
function asked(from: number): string[] {
  return node.proxy.requests.slice(from).filter(({ url }) => url.pathname.includes("/events"))
    .map(({ method, status }) => `${method} ${status}`);
}

Deno.test("with EVENTS_ENABLED=false no request for an Event is made", async () => {
  await using controller = await node.startController({ EVENTS_ENABLED: "false" });
  const from = node.proxy.requests.length;
  const pod = await node.startPod("unsung", { annotations: { [KEY]: "2" } });
  await node.capturing(pod);
  await node.annotate(pod, { "": "no number" });
  await node.inState(pod, "rejected");
  await node.annotate(pod, { "": null });
  await node.clean(pod);
  // At its end it would send what waits.
  assertEquals((await controller.stop()).code, 0);
  assertEquals(asked(from), []);
  assertEquals(await node.events(pod), []);
  await node.deletePod(pod);
});

Deno.test("in a namespace that is being deleted each Event is refused once, and captures go on", async () => {
  await using controller = await node.startController();
  await node.server.createNamespace("ending");
  const pod = await node.startPod("last", { namespace: "ending", annotations: { [KEY]: "2" } });
  await node.capturing(pod);
  await node.hasEvent(pod, "CaptureStarted");
  await node.server.terminateNamespace("ending");
  const from = node.proxy.requests.length;
  await node.annotate(pod, { "": "3" });
  await waitFor("the change", async () => (await node.processOf(pod))?.argv.join(" ").includes("-W 3 "));
  await node.capturing(pod);
  await controller.says(/msg="event not sent" pod=ending\/last .*reason=CaptureRestarted error="403 /);
  await node.annotate(pod, { "": null });
  await node.clean(pod);
  await controller.says(/msg="event not sent" pod=ending\/last .*reason=CaptureStopped error="403 /);
  assertEquals((await controller.stop()).code, 0);
  const requests = asked(from);
  assert(requests.length >= 2 && requests.every((request) => request === "POST 403"), String(requests));
  assertEquals(requests.length, controller.lines.filter((line) => line.includes('msg="event not sent"')).length);
  await node.deletePod(pod);
});
