/** Which namespaces' pods are captured. */
import { deepStrictEqual as assertEquals, ok as assert, strictEqual as assertSame } from "node:assert/strict";
import { namespaceProblem } from "../../../src/plan/scope.ts";
import { World } from "../captures/world.ts";

Deno.test("namespaceProblem() reports which list is in the way, and not what else is in it", () => {
  const of = (namespace: string, allow: string[], deny: string[]) => namespaceProblem(namespace, { allow, deny });
  assertSame(of("shop", [], []), undefined);
  assertSame(of("shop", ["bank", "shop"], ["kube-system"]), undefined);
  assertSame(
    of("shop", ["bank"], []),
    'pods of namespace "shop" are not captured: the chart\'s namespaces.allow lacks it; it must be there',
  );
  assertSame(
    of("shop", [], ["bank", "shop"]),
    'pods of namespace "shop" are not captured: the chart\'s namespaces.deny has it; it must not be there',
  );
  // By the whole name, and not by a part of it.
  assertSame(of("shop-2", [], ["shop"]), undefined);
  assert(of("shop-2", ["shop"], []));
});

Deno.test("a pod of a namespace that is not captured is refused, its earlier files kept while it is annotated", async () => {
  const first = await World.start();
  first.sandbox("web");
  first.annotate("web", { "": "3" });
  await first.capturing("web");
  const dir = await first.leave();
  const env = { NAMESPACES_ALLOW: "shop" };
  const before = (world: World) => {
    world.sandbox("web");
    world.annotate("web", { "": "3" });
  };
  await using world = await World.start({ dir, env, before });
  const event = await world.told(/^uid-web CaptureRejected/);
  assert(
    event.includes(
      `Pods of namespace "default" are not captured: the chart's namespaces.allow lacks it; it must be there`,
    ),
  );
  await world.inState("web", "rejected");
  assertEquals([world.processes(), world.files("web").length], [[], 3]);
  world.sandbox("api", "s1", "uid-api", "shop");
  world.annotate("api", { "": "3" }, { namespace: "shop" });
  await world.told(/^uid-api CaptureStarted/);
  // An edit that is wrong in another way, too, and one that only holds, change nothing of it.
  world.annotate("web", { "": "3", hold: "true" });
  world.annotate("web", { "": "none" });
  world.sandbox("web", "s2");
  world.annotate("web", {});
  await world.clean("web");
  assertEquals(world.events.filter((event) => /^uid-web Capture(Started|Restarted)/.test(event)), []);
});
