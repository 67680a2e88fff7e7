/**
 * What the controller takes and asks for: those of `make bench`'s figures that do not hang on the machine's speed, with a margin, so
 * that a change that costs much is noticed here. It is the bundle with the flags that the image gives it.
 */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { memoryOf } from "../../bench/measures.ts";
import { contenders, Stage } from "../../bench/stage.ts";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { ROOT } from "../../rig/cli.ts";

const PODS = 110;
/** The targets of docs/benchmarks.md and a quarter more. */
const MOST = { rssMiB: 64 * 1.25, anonMiB: 28 * 1.25 };

Deno.test("a controller of a full node stays small, and asks the API server for one watch and two Events a capture", async () => {
  await run([join(ROOT, "tools/deno"), "run", "--allow-all", "tools/bundle.ts"], { cwd: ROOT });
  await using stage = await Stage.start();
  const { node } = stage;
  await stage.addStations(1);
  await stage.addPods(PODS);
  await using running = await stage.run(contenders()[0]!, { server: node.proxy.url });
  const { controller } = running;

  // What the start took is given back after a while.
  let took = await memoryOf(controller.pid);
  const isSmall = () => took.rssMiB <= MOST.rssMiB && took.anonMiB <= MOST.anonMiB;
  await waitFor("the memory of an idle controller", async () => {
    took = await memoryOf(controller.pid);
    return isSmall();
  }, { timeoutMs: 30_000, everyMs: 500 }).catch(() => {});
  assert(isSmall(), `it takes ${JSON.stringify(took)}, the most is ${JSON.stringify(MOST)}`);

  const { pod } = stage.stations[0]!;
  for (const other of stage.pods.slice(0, 50)) await stage.update(other);
  await node.annotate(pod, { "": "2" });
  await node.hasEvent(pod, "CaptureStarted");
  await node.annotate(pod, { "": null });
  await node.hasEvent(pod, "CaptureStopped");
  const asked = node.proxy.requests.map(({ method, url }) => `${method} ${url.pathname}`);
  const events = `POST /apis/events.k8s.io/v1/namespaces/${pod.namespace}/events`;
  assertEquals(asked, ["GET /api/v1/pods", events, events]);
});
