/** The controller killed in the middle of what it does, at each of the calls that it is made of. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../support/wait.ts";
import { exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, shared, since } from "./fault.ts";
import { cleanUp, clear, hears, nothingLeft } from "./node.ts";
import { numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());
const MAIN = new URL("hooks/kill_at.ts", import.meta.url).pathname;

interface Point {
  readonly call: string;
  readonly path: string;
  readonly nth?: number;
  readonly when: "before" | "half" | "after";
}

/** Starts a controller that kills itself at the point, has `work` bring it there, and waits for its death. */
async function killedAt(node: NodeRig, point: Point, work: () => Promise<unknown>, env: Record<string, string> = {}) {
  await using controller = await startAgain(node, { KILL_AT: JSON.stringify({ nth: 1, ...point }), ...env }, MAIN);
  await work();
  const { signal } = await ended(controller.exited, `${point.when} ${point.call} ${point.path}`);
  assertEquals(signal, "SIGKILL");
}

async function ended(exited: Promise<Deno.CommandStatus>, where: string): Promise<Deno.CommandStatus> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`the controller did not come to its death ${where}`)), 20_000);
  try {
    return await Promise.race([exited, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

async function startAgain(node: NodeRig, env: Record<string, string>, main: string) {
  return await node.startController(env, { main, ready: false });
}

async function longest(times: AsyncIterable<number>): Promise<number> {
  let most = 0;
  for await (const seconds of times) most = Math.max(most, seconds);
  return most;
}

fault("killed-half-way-start", async (record) => {
  const node = await rig();
  // With the pod still there when the next controller comes, or gone.
  const points: (Point & { gone: boolean })[] = [
    { call: "mkdir", path: "captures/default$", when: "after", gone: false },
    { call: "mkdir", path: "captures/default/.*", when: "after", gone: true },
    { call: "open", path: "capture\\.json\\.tmp", when: "after", gone: false },
    { call: "rename", path: "capture\\.json\\.tmp", when: "after", gone: true },
    { call: "spawn", path: "nsenter.* -w ", when: "before", gone: false },
    { call: "spawn", path: "nsenter.* -w ", when: "after", gone: true },
    { call: "spawn", path: "nsenter.* -w ", when: "after", gone: false },
  ];
  const times = async function* () {
    for (const [i, { gone, ...point }] of points.entries()) {
      let pod!: TestPod;
      await killedAt(node, point, async () => pod = await node.startPod(`start-${i}`, { annotations: { [KEY]: "5" } }));
      if (gone) await node.deletePod(pod);
      const start = performance.now();
      await using _controller = await node.startController();
      if (gone) {
        await nothingLeft(node);
      } else {
        await node.capturing(pod);
        await hears(node, pod);
      }
      yield since(start);
      if (!gone) await cleanUp(node, [pod]);
    }
  };
  await clear(node);
  const seconds = await longest(times());
  record.happened(
    `SIGKILL at ${points.length} points from the first folder to the running tcpdump, in some the pod had gone afterwards`,
  );
  record.right({ seconds, leftovers: await nothingLeft(node) });
});

fault("killed-half-way-stop", async (record) => {
  const node = await rig();
  const points: (Point & { asked: "removed" | "deleted" | "edited" })[] = [
    { call: "remove", path: "capture-.*pcap", when: "before", asked: "removed" },
    { call: "remove", path: "capture-.*pcap", when: "after", asked: "removed" },
    { call: "remove", path: "capture\\.json$", when: "after", asked: "removed" },
    { call: "remove", path: "default/stop-[0-9]*$", when: "after", asked: "removed" },
    { call: "rename", path: "default/stop-[0-9]*$", when: "before", asked: "deleted" },
    { call: "rename", path: "default/stop-[0-9]*$", when: "after", asked: "deleted" },
    { call: "kill", path: "SIGTERM", when: "before", asked: "edited" },
    { call: "kill", path: "SIGTERM", when: "after", asked: "edited" },
  ];
  let [counted, packetsLost] = [0, 0];
  const times = async function* () {
    for (const [i, { asked, ...point }] of points.entries()) {
      const pod = await node.createPod(`stop-${i}`, { annotations: { [KEY]: "5" } });
      let sent = 0;
      const retention = { RETENTION_AFTER_POD_DELETION: asked === "deleted" ? "1s" : "0s" };
      await killedAt(node, point, async () => {
        await node.startSandbox(pod);
        await node.capturing(pod);
        if (asked === "edited") {
          const traffic = await Traffic.start(node, pod, "stop");
          await traffic.flows();
          sent = (await traffic.end()).sent;
        } else {
          await hears(node, pod);
        }
        if (asked === "deleted") await node.deletePod(pod);
        else await node.annotate(pod, { "": asked === "edited" ? "3" : null });
      }, retention);
      const start = performance.now();
      await using _controller = await node.startController(retention);
      if (asked === "edited") {
        assert(/-W 3 /.test((await node.capturing(pod)).argv.join(" ")));
        counted += sent;
        packetsLost += sent - (await numbersOf(node, pod, "stop")).size;
        yield since(start);
        await node.annotate(pod, { "": null });
        await nothingLeft(node);
      } else {
        await nothingLeft(node);
        yield since(start);
      }
      if (asked !== "deleted") await node.deletePod(pod);
    }
  };
  await clear(node);
  const seconds = await longest(times());
  record.happened(
    `SIGKILL at ${points.length} points: the end of tcpdump for an edit, the move to what is retained, and from the first to the last deletion`,
  );
  assert(counted > 0);
  assertEquals(packetsLost, 0, "packets that an edit has to keep");
  record.right({ seconds, packetsLost, leftovers: await nothingLeft(node) });
});

fault("killed-half-way-rename", async (record) => {
  const node = await rig();
  await clear(node);
  const pod = await node.startPod("rename", { annotations: { [KEY]: "5", [`${KEY}/file-size`]: "1" } });
  await using first = await node.startController();
  await node.capturing(pod);
  const traffic = await Traffic.start(node, pod, "ren");
  await traffic.flows(30);
  const { sent } = await traffic.end();
  await first.stop();
  // Three files in the ring, each with packets of its own, so that a promotion has three renames.
  const folder = node.folderOf(pod);
  const bytes = await Deno.readFile(join(folder, "capture-rename.pcap0"));
  for (const [i, letter] of ["m", "o"].entries()) {
    const other = bytes.slice();
    for (let at = 0; at < other.length; at++) {
      if ("ren-".split("").every((c, j) => bytes[at + j] === c.charCodeAt(0))) other[at + 2] = letter.charCodeAt(0);
    }
    await Deno.writeFile(join(folder, `capture-rename.pcap${i + 1}`), other);
  }
  const points: Point[] = [
    { call: "rename", path: "pcap0$", when: "before" },
    { call: "rename", path: "pcap0$", when: "after" },
    { call: "rename", path: "pcap1$", when: "after" },
    { call: "rename", path: "pcap2$", when: "after" },
  ];
  for (const point of points) await killedAt(node, point, () => Promise.resolve());
  record.happened(`SIGKILL at ${points.length} points between the first and the last rename of a ring's files`);
  const start = performance.now();
  await using _controller = await node.startController();
  await node.capturing(pod);
  await hears(node, pod);
  const seconds = since(start);
  let packetsLost = 3 * sent;
  for (const token of ["ren", "rem", "reo"]) packetsLost -= (await numbersOf(node, pod, token)).size;
  assertEquals(packetsLost, 0);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});

fault("killed-half-way-manifest", async (record) => {
  const node = await rig();
  await clear(node);
  const pod = await node.startPod("manifest", { annotations: { [KEY]: "5" } });
  const points: Point[] = [
    { call: "open", path: "capture\\.json\\.tmp", nth: 2, when: "after" },
    { call: "write", path: "capture\\.json\\.tmp", nth: 2, when: "half" },
    { call: "rename", path: "capture\\.json\\.tmp", nth: 2, when: "before" },
    { call: "rename", path: "capture\\.json\\.tmp", nth: 2, when: "after" },
  ];
  let sent: number;
  {
    await using _first = await node.startController();
    await node.capturing(pod);
    const traffic = await Traffic.start(node, pod, "kept");
    await traffic.flows();
    ({ sent } = await traffic.end());
  }
  let last = 1;
  for (const point of points) {
    await killedAt(node, point, () => Promise.resolve());
    const manifest = await node.manifest(pod);
    assertEquals(manifest.uid, pod.uid);
    const { n } = manifest.runs.at(-1);
    assert(n >= last, "an earlier run is forgotten");
    last = n;
  }
  record.happened(`SIGKILL at ${points.length} points between the opening and the renaming of capture.json.tmp`);
  const start = performance.now();
  await using _controller = await node.startController();
  await node.capturing(pod);
  await hears(node, pod);
  const seconds = since(start);
  assert(!await exists(join(node.folderOf(pod), "capture.json.damaged")), "a manifest was found damaged");
  await waitFor("the temporary file's end", async () => !await exists(join(node.folderOf(pod), "capture.json.tmp")));
  const packetsLost = sent - (await numbersOf(node, pod, "kept")).size;
  assertEquals(packetsLost, 0, "packets that were in its files");
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
});
