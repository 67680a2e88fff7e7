/** What the kubelet's probes see of a real controller. */
import { deepStrictEqual as assertEquals, match, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { Hopeless, waitFor } from "../../support/wait.ts";
import { type Controller, IMPATIENT, KEY, NodeRig } from "../../rig/node.ts";

let node: NodeRig;

Deno.test.beforeAll(async () => {
  node = await NodeRig.start();
});

Deno.test.afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

async function start(timing: Record<string, Record<string, number>>, ready = true): Promise<Controller> {
  await node.proxy.calm();
  return await node.startController({ TIMING: JSON.stringify(timing) }, { main: IMPATIENT, ready });
}

/** Waits until a path answers so. */
async function answers(controller: Controller, path: string, status: number, text: RegExp): Promise<void> {
  let last: unknown;
  try {
    await waitFor(`${status} of ${path}`, async () => {
      last = await controller.get(path);
      const [is, says] = last as [number, string];
      return is === status && text.test(says);
    }, { timeoutMs: 40_000 });
  } catch (error) {
    throw new Error(`${(error as Error).message}: ${JSON.stringify(last)}`);
  }
}

/** As the kubelet asks: on a connection of its own. */
async function probe(port: number): Promise<void> {
  const response = await fetch(`http://127.0.0.1:${port}/healthz`, {
    headers: { connection: "close" },
    signal: AbortSignal.timeout(2000),
  });
  await response.body?.cancel();
}

Deno.test("/readyz waits for the first list; /healthz does not mind an API server that is away", async () => {
  await node.proxy.calm();
  await node.proxy.refuse();
  const env = { TIMING: JSON.stringify({ controller: { stalled: 3000 }, watch: { tick: 200 } }) };
  await using controller = await node.startController(env, { main: IMPATIENT, ready: false });
  await answers(controller, "/readyz", 503, /^the pods of this node have not been listed yet\n$/);
  // Longer than a loop that had stalled could hide it. Back-offs reach 5 s and more, in which the loop turns all the same.
  const end = performance.now() + 12_000;
  await waitFor("12 s of failing attempts", async () => {
    assertEquals((await controller.get("/readyz"))[0], 503);
    const [status, text] = await controller.get("/healthz");
    if (status !== 200) throw new Hopeless(`/healthz: ${text}`);
    return performance.now() > end;
  });
  assert(controller.lines.filter((line) => / msg="pod watch ended" reason=network /.test(line)).length >= 3);
  await node.proxy.accept();
  await answers(controller, "/readyz", 200, /^ok\n$/);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("/readyz reports for how long the runtime has not answered, and is well again when it does", async () => {
  await using controller = await start({ controller: { runtimeSilent: 4000 } });
  const pod = await node.startPod("asked-for", { annotations: { [KEY]: "2" } });
  const { pid } = await node.capturing(pod);
  try {
    node.runtime.pauseRuntime();
    await answers(controller, "/readyz", 503, /^the container runtime at \/\S+ has not answered for \d+ s\n$/);
    assertEquals((await controller.get("/healthz"))[0], 200);
  } finally {
    node.runtime.resumeRuntime();
  }
  await answers(controller, "/readyz", 200, /^ok\n$/);
  assertEquals((await node.capturing(pod)).pid, pid);
  await node.deletePod(pod);
  await node.clean(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("/healthz fails when a loop does not turn any more, and names it", async (t) => {
  await t.step("the captures loop, in a pause without an end", async () => {
    await using controller = await start({ controller: { stalled: 6000 }, watch: { tick: 200 } });
    await answers(controller, "/healthz", 200, /^ok\n$/);
    Deno.kill(controller.pid, "SIGUSR2");
    await answers(controller, "/healthz", 503, /^the captures loop has not turned for \d+ s\n$/);
  });
  await t.step("the watch loop, in an attempt without an end", async () => {
    await node.proxy.calm();
    node.proxy.blackhole();
    const env = { TIMING: JSON.stringify({ controller: { stalled: 6000 }, watch: { answer: 1e9 } }) };
    await using controller = await node.startController(env, { main: IMPATIENT, ready: false });
    await answers(controller, "/healthz", 200, /^ok\n$/);
    await answers(controller, "/healthz", 503, /^the watch loop has not turned for \d+ s\n$/);
    await node.proxy.calm();
  });
});

Deno.test("probes that come while there are no file descriptors do not end the controller", async () => {
  await using controller = await start({});
  const pod = await node.startPod("descriptors", { annotations: { [KEY]: "2" } });
  const { pid } = await node.capturing(pod);
  const clients: Deno.Conn[] = [];
  try {
    const open = Array.from(Deno.readDirSync(`/proc/${controller.pid}/fd`)).length;
    await run(["prlimit", `--pid=${controller.pid}`, `--nofile=${open}:`]);
    await waitFor("probes without an answer", async () => {
      // Clients that stay take what is left, if anything is.
      await Deno.connect({ hostname: "127.0.0.1", port: controller.port }).then((c) => clients.push(c), () => {});
      return await probe(controller.port).then(() => false, () => true);
    });
    await controller.says(/msg="cannot accept http connections, will retry"/);
  } finally {
    clients.forEach((client) => client.close());
    await run(["prlimit", `--pid=${controller.pid}`, "--nofile=1024:"]);
  }
  await answers(controller, "/healthz", 200, /^ok\n$/);
  await answers(controller, "/readyz", 200, /^ok\n$/);
  assertEquals((await node.capturing(pod)).pid, pid, "the capture went on");
  await node.deletePod(pod);
  await node.clean(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("a controller whose log nobody reads does its work, and ends in time", async () => {
  await node.proxy.calm();
  const pipe = join(node.dir, "log");
  await run(["mkfifo", pipe]);
  // Full from the start: a write that waits for a reader would wait for ever.
  using reader = await Deno.open(pipe, { read: true, write: true });
  await reader.write(new Uint8Array(65_536));
  await using controller = await node.startController({}, {
    wrap: ["bash", "-c", `exec 2>"$0"; exec "$@"`, pipe],
  });
  const pod = await node.startPod("unheard", { annotations: { [KEY]: "2" } });
  const { pid } = await node.capturing(pod);
  await node.sees(pod, "n");
  for (const n of ["3", "4", "5"]) {
    await node.annotate(pod, { "": n });
    await waitFor(`-W ${n}`, async () => (await node.processOf(pod))?.argv.join(" ").includes(`-W ${n} `));
  }
  assert((await node.capturing(pod)).pid !== pid);
  for (const path of ["/healthz", "/readyz"]) assertEquals(await controller.get(path), [200, "ok\n"]);
  await node.deletePod(pod);
  await node.clean(pod);
  assertEquals((await controller.stop()).code, 0);
  const bytes = new Uint8Array(65_536 + 1);
  assertEquals(await reader.read(bytes), 65_536);
  match(controller.log, /^$/);
});
