/** Folders whose pod the first list lacks: they stay and keep their room until the pod is proven to be gone. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { exists, World, type WorldOptions } from "./world.ts";

/** Starts a world with a capture of default/a from an earlier one, which the first list lacks. */
async function doubted(options: WorldOptions = {}): Promise<World> {
  const first = await World.start(options);
  first.sandbox("a");
  first.annotate("a", { "": "3" });
  await first.capturing("a");
  return await World.start({ ...options, dir: await first.leave(), proves: false });
}

Deno.test("a folder whose pod the list lacks stays until that pod is proven to be gone, or to want no capture", async (t) => {
  await t.step("gone", async () => {
    await using world = await doubted();
    assertEquals([...world.captures.kept()], [{ namespace: "default", name: "a", uid: "uid-a" }]);
    world.gone("a", "another");
    world.sandbox("b");
    world.annotate("b", { "": "3" });
    await world.capturing("b");
    assertEquals(world.files("a").length, 3);
    world.gone("a");
    await world.clean("a");
  });
  await t.step("there, without the annotation", async () => {
    await using world = await doubted();
    world.annotate("a", {});
    await world.clean("a");
  });
  await t.step("there, with the annotation", async () => {
    await using world = await doubted();
    world.sandbox("a");
    world.annotate("a", { "": "3" });
    await world.told(/^uid-a CaptureRestarted: .*the controller was restarted/);
    assertEquals((await world.manifest("a"))?.runs.length, 2);
  });
  await t.step("of an unknown pod", async () => {
    const first = await World.start();
    first.sandbox("a");
    first.annotate("a", { "": "3" });
    await first.capturing("a");
    const manifest = `${first.folder("a")}/capture.json`;
    const dir = await first.leave();
    await Deno.writeTextFile(manifest, "{");
    await using world = await World.start({ dir, proves: false });
    const [kept] = world.captures.kept();
    assertEquals(kept, { namespace: "default", name: "a", uid: undefined });
    world.gone("a", "another");
    world.captures.podDeleted(kept!);
    await world.clean("a");
  });
});

Deno.test("no other capture takes the room of one that ran before a restart while its pod is in doubt", async () => {
  await using world = await doubted({ env: { DISK_BUDGET_MB: "10", DISK_BUDGET_MB_PER_NAMESPACE: "10" } });
  world.sandbox("b");
  world.annotate("b", { "": "3" });
  await world.inState("b", "waiting");
  // The loop has looked at the captures after the runtime's answer: each tick looks.
  await world.turns(1);
  await world.inState("b", "waiting");
  world.gone("a");
  await world.capturing("b");
  assertEquals(exists(world.folder("a")), false);
});
