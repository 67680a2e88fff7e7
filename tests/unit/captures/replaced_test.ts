/** Another pod, or another request, that takes the place of one in the middle of a step: the outcome is not its own. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { waitFor } from "../../support/wait.ts";
import { requestHash } from "../../../src/spec/annotations.ts";
import { World } from "./world.ts";

/** Gives the name `web` to another pod. */
function replace(world: World): void {
  world.gone("web");
  world.sandbox("web", "s2", "uid-other");
  world.annotate("web", { "": "3" }, { uid: "uid-other" });
}

const eventsOf = (world: World, uid: string) =>
  world.events.filter((event) => event.startsWith(`${uid} `)).map((event) => event.split(" ")[1]);

/** Captures `web` and removes its annotation. @returns once the deletion of its folder has begun, which goes on when `go` is called. */
async function removing(world: World): Promise<{ readonly go: () => void }> {
  const { directory } = world;
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await world.capturing("web");
  const begun = Promise.withResolvers<void>(), held = Promise.withResolvers<void>();
  const removeFolder = directory.removeFolder.bind(directory);
  directory.removeFolder = async (namespace, pod) => {
    begun.resolve();
    await held.promise;
    await removeFolder(namespace, pod);
  };
  world.annotate("web", {});
  await begun.promise;
  return { go: held.resolve };
}

Deno.test("a pod that takes the name while files are deleted gets no Event about them", async () => {
  await using world = await World.start();
  const removal = await removing(world);
  replace(world);
  removal.go();
  await world.told(/^uid-other CaptureStarted/);
  assertEquals(eventsOf(world, "uid-other"), ["CaptureStarted:"]);
});

Deno.test("an annotation that is back while files are deleted gets an answer of its own", async () => {
  await using world = await World.start();
  const removal = await removing(world);
  world.annotate("web", { "": "4" });
  removal.go();
  await world.capturing("web", 2);
  const [, stopped = "", started = ""] = world.answers;
  const hashOf = (annotations: Record<string, string>) => requestHash(world.pod("web", annotations).annotations);
  assertEquals([stopped, started], [
    `CaptureStopped ${hashOf({})} first`,
    `CaptureStarted ${hashOf({ "": "4" })} first`,
  ]);
});

Deno.test("a pod that takes the name while a start fails is captured at once, and gets no Event about the failure", async () => {
  // The back-off is longer than the test.
  await using world = await World.start({ timing: { retry: { first: 600_000, most: 600_000 } } });
  const { directory } = world;
  const making = Promise.withResolvers<void>(), go = Promise.withResolvers<void>();
  const makeFolder = directory.makeFolder.bind(directory);
  directory.makeFolder = async () => {
    directory.makeFolder = makeFolder;
    making.resolve();
    await go.promise;
    throw new Error("Input/output error (os error 5)");
  };
  world.sandbox("web");
  world.annotate("web", { "": "3" });
  await making.promise;
  replace(world);
  go.resolve();
  await waitFor("the start", () => world.calls("starts") === 1, { everyMs: 5, timeoutMs: 5000 });
  await world.told(/^uid-other CaptureStarted/);
  assertEquals(eventsOf(world, "uid-other"), ["CaptureStarted:"]);
  assertEquals(eventsOf(world, "uid-web"), []);
});
