/** Whose sandbox it is: proven by the runtime's labels, whatever a pod's annotations claim. All sandboxes here are in the node's network. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { waitFor } from "../../support/wait.ts";
import { World } from "./world.ts";

/** Starts a world in which bank/ledger is captured. */
async function bank(): Promise<World> {
  const world = await World.start();
  world.sandbox("ledger", "s1", "uid-ledger", "bank");
  world.annotate("ledger", { "": "3" }, { namespace: "bank" });
  await world.told(/^uid-ledger CaptureStarted/);
  return world;
}

/** Waits until the pod's capture is settled as pending. @returns the reason. */
async function pending(world: World, key: string): Promise<string> {
  const line = await waitFor(
    `${key} to be pending`,
    () => world.lines.find((line) => line.startsWith("capture pending") && line.includes(`"${key}"`)),
    { everyMs: 5 },
  );
  return JSON.parse(line.slice(line.indexOf("{"))).reason;
}

Deno.test("a pod that claims to be the mirror of another's UID is pending with a reason, and the other's capture follows its sandbox", async () => {
  await using world = await bank();
  const claim = { namespace: "tenant-a", staticUid: "uid-ledger" };
  world.annotate("harmless", { "": "2" }, claim);
  assert((await pending(world, "tenant-a/harmless")).includes("kubernetes.io/config.mirror"));
  await waitFor("it in the list", async () => (await world.listed()).includes("harmless:pending"), { everyMs: 5 });
  assertEquals(world.processes().length, 1);
  // Neither its changes nor its end concern the other.
  world.annotate("harmless", { "": "4" }, claim);
  world.captures.podDeleted(world.pod("harmless", {}, claim));
  world.sandbox("ledger", "s2", "uid-ledger", "bank");
  await world.told(/^uid-ledger CaptureRestarted: .*sandbox re-created/);
  world.noSandbox("ledger", "uid-ledger", "bank");
  await world.told(/^uid-ledger CaptureStopped/);
  assertEquals(world.processes(), []);
  assertEquals(world.events.filter((event) => !event.startsWith("uid-ledger ")), []);
});

Deno.test("of two pods that name one static pod, the one with its namespace and name is captured", async () => {
  await using world = await World.start();
  const sandbox = (id: string) => world.sandbox("etcd-node-1", id, "hash", "kube-system");
  sandbox("s1");
  world.annotate("etcd-node-1", { "": "3" }, { namespace: "tenant-a", staticUid: "hash", uid: "uid-a" });
  world.annotate("etcd-node-1", { "": "3" }, { namespace: "kube-system", staticUid: "hash", uid: "uid-mirror" });
  world.annotate("harmless", { "": "3" }, { namespace: "kube-system", staticUid: "hash" });
  await world.told(/^uid-mirror CaptureStarted/);
  for (const key of ["tenant-a/etcd-node-1", "kube-system/harmless"]) await pending(world, key);
  sandbox("s2");
  await world.told(/^uid-mirror CaptureRestarted: .*sandbox re-created/);
  assertEquals(world.processes().length, 1);
  assertEquals(world.events.filter((event) => !event.startsWith("uid-mirror ")), []);
});

Deno.test("a pod whose UID is on another pod's sandbox is not captured in it", async () => {
  await using world = await World.start();
  world.sandbox("other", "s1", "uid-web");
  world.annotate("web", { "": "3" });
  assertEquals(await pending(world, "default/web"), "the pod has no running sandbox on this node");
  assertEquals(world.processes(), []);
});

Deno.test("a pod with a sandbox of its own UID is captured there, whatever mirror it claims to be", async () => {
  await using world = await World.start();
  world.sandbox("web", "s-earlier", "uid-earlier");
  world.sandbox("web", "s-own");
  world.annotate("web", { "": "3" }, { staticUid: "uid-earlier" });
  await world.told(/^uid-web CaptureStarted/);
  assertEquals((await world.manifest("web"))?.runs.map(({ sandboxId }) => sandboxId), ["s-own"]);
});
