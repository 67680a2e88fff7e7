/** Readers get what tcpdump had processed when they began, although it buffers what it writes (here it has no -U). */
import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { Tcpdump } from "../../../src/tcpdump/tcpdump.ts";
import { KEY, NodeRig, numbersIn as tokensIn, type TestPod } from "../../rig/node.ts";
import { Netns, numbersIn, readingCommand, save, Sender } from "../reading/rig.ts";

/** A tcpdump that does without the -U which the controller gives it. */
async function buffering(dir: string): Promise<string> {
  const path = join(dir, "tcpdump");
  const script =
    `#!/bin/bash\nargs=()\nfor arg; do [ "$arg" = -U ] || args+=("$arg"); done\nexec tcpdump "\${args[@]}"\n`;
  await Deno.writeTextFile(path, script, { mode: 0o755 });
  return path;
}

async function capture(netns: Netns, dir: string, files: number): Promise<Tcpdump> {
  const tcpdump = new Tcpdump({
    tcpdump: await buffering(dir),
    nsenter: "nsenter",
    request: { files, fileSizeMB: 20, snaplen: 262_144, interface: "lo", direction: "inout", filter: "udp port 9" },
    netnsPath: netns.path,
    file: join(dir, "x"),
    onLine() {},
  });
  await tcpdump.listening;
  return tcpdump;
}

/** Waits until tcpdump reports that it has processed so many packets. */
async function processed(tcpdump: Tcpdump, packets: number): Promise<void> {
  await waitFor(`${packets} packets`, () => {
    tcpdump.askCounters();
    return (tcpdump.counters?.captured ?? 0) >= packets;
  }, { timeoutMs: 20_000 });
}

Deno.test("Tcpdump.flushBuffer() has all in the file that tcpdump had processed, for all who ask at once", async () => {
  const dir = await Deno.makeTempDir();
  await using netns = await Netns.create();
  const tcpdump = await capture(netns, dir, 1);
  try {
    for (let round = 1; round <= 5; round++) {
      await new Sender(netns, { count: 20, perSecond: 1000, size: 50 }).done();
      await processed(tcpdump, 20 * round);
      const before = (await Deno.stat(join(dir, "x"))).size;
      // A machine that does not let tcpdump come to rest within 0.9 s says so, and can be asked again.
      await waitFor("a flush", async () => {
        await Promise.all(Array.from({ length: 5 }, () => tcpdump.flushBuffer()));
        return true;
      });
      const { size } = await Deno.stat(join(dir, "x"));
      assert(before < size, `${before} bytes were there before, ${size} after`);
      assertEquals((await numbersIn(join(dir, "x"))).length, 20 * round);
    }
  } finally {
    await tcpdump.kill();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("Tcpdump.flushBuffer() damages nothing, however often it is called under load", async () => {
  const dir = await Deno.makeTempDir();
  await using netns = await Netns.create();
  const tcpdump = await capture(netns, dir, 20);
  try {
    let over = false;
    const sent = Promise.all(
      [1, 2].map(() => new Sender(netns, { count: 60_000, perSecond: 12_000, size: 150 }).done()),
    ).finally(() => over = true);
    let flushed = 0;
    // One that is at work all the time is left alone.
    while (!over) await tcpdump.flushBuffer().then(() => flushed++, () => {});
    const [first, second] = await sent;
    await tcpdump.flush();
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) => name.startsWith("x")).sort();
    let found = 0;
    for (const name of names) found += (await numbersIn(join(dir, name))).length;
    same(found, first! + second!);
    for (const name of names) await run(["capinfos", "-M", "-c", join(dir, name)]);
    assert(flushed > 100, `only ${flushed} flushes`);
  } finally {
    await tcpdump.kill();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("cat and stream hold what tcpdump had processed, and the socket is the controller's", async () => {
  const dir = await Deno.makeTempDir();
  await using node = await NodeRig.start();
  const socket = join(node.captureDir, ".control");
  const env = { TCPDUMP: await buffering(dir) };
  const pod = await node.startPod("web-0", { annotations: { [KEY]: "5" } });
  // Each is recorded twice, on loopback. Few enough to stay in tcpdump's 4 KiB, with what IPv6 says of itself in a new namespace.
  const sent = 10;
  const sendUnseen = async (token: string) => {
    const before = (await node.manifest(pod))?.runs.at(-1).captured;
    await node.send(pod, token, sent);
    await waitFor(
      "tcpdump to process them",
      async () => (await node.manifest(pod))?.runs.at(-1).captured >= before + 2 * sent,
      {
        timeoutMs: 20_000,
      },
    );
    same((await node.received(pod, token)).length, 0, "tcpdump has written them by itself: nothing is shown");
  };
  {
    await using controller = await node.startController(env);
    await node.capturing(pod);
    same((await Deno.lstat(socket)).mode! & 0o777, 0o600);
    await sendUnseen("first");
    same(await told(await written(node, pod, dir), "first"), sent);
    // After a kill the socket's file stays.
    await controller.end("SIGKILL");
    await Deno.lstat(socket);
  }
  await using controller = await node.startController(env);
  await node.capturing(pod);
  await sendUnseen("again");
  same(await told(await written(node, pod, dir), "again"), sent);
  const live = join(dir, "live.pcapng");
  const child = readingCommand(["stream", `default/${pod.name}`, "--capture-dir", node.captureDir]).spawn();
  const saved = save(child.stdout, live);
  await waitFor("the stream's beginning", async () => await told(live, "again") === sent);
  const started = performance.now();
  await node.send(pod, "live", 20);
  await waitFor("the stream", async () => await told(live, "live") === 20);
  const took = performance.now() - started;
  assert(took < 5000, `${took} ms`);
  child.kill("SIGTERM");
  await Promise.all([saved, child.stderr.cancel(), child.status]);
  await node.annotate(pod, { "": null });
  await node.clean(pod);
  same((await controller.stop()).code, 0);
  assertEquals([...Deno.readDirSync(node.captureDir)], []);
  await node.deletePod(pod);
  await Deno.remove(dir, { recursive: true });
});

/** Returns how many numbers sent with a token are in a file. */
async function told(path: string, token: string): Promise<number> {
  return new Set(await tokensIn(path, token)).size;
}

/** Writes the output of cat to a file. */
async function written(node: NodeRig, pod: TestPod, dir: string): Promise<string> {
  const { code, stdout, stderr } = await readingCommand([
    ...["cat", `default/${pod.name}`, "--capture-dir", node.captureDir],
  ]).output();
  same(code, 0, new TextDecoder().decode(stderr));
  const path = join(dir, "out.pcapng");
  await Deno.writeFile(path, stdout);
  return path;
}
