/**
 * Many pods annotated and un-annotated at random while faults strike at random, those of the API and those of the node at the same
 * time. The choices come from a seed, which is said: SEED=<that> makes the same ones again.
 */
// deno-lint-ignore-file no-console
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { join } from "@std/path";
import { GrpcCode } from "../../src/sandboxes/grpc.ts";
import { waitFor } from "../support/wait.ts";
import { CriProxy } from "../rig/cri_proxy.ts";
import { type Controller, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { isWatch, statusObject } from "../rig/proxy.ts";
import { allCaptured, each, footprint, inWords, ROOMY, startCrowd } from "./crowd.ts";
import { Disk } from "./disk.ts";
import { bounded, fault, impatient, since } from "./fault.ts";
import { cleanUp, clear, healthy, hears, nothingLeft } from "./node.ts";

const PODS = bounded(40, 200);
const SECONDS = bounded(30, 120);
const CHANGES_A_SECOND = 50;
/** A process that has done all this once may be so much larger: V8 gives memory back when it likes. */
const GROWTH_MIB = 40;
/** Deno's file operations have so many threads at most, which last as long as there is something to do every second. */
const POOL_THREADS = 32;
/** Until all is right at the end: the last bytes of the API server may have been lost on a connection that broke unnoticed. */
const RIGHT_WITHIN_MS = bounded(120_000, 240_000);

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function randomOf(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Does it until it works: the API server may be down. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch {
      await sleep(100);
    }
  }
}

/** All that the changes and the faults have in common. */
interface World {
  readonly node: NodeRig;
  readonly cri: CriProxy;
  readonly disk: Disk;
  readonly pods: TestPod[];
  /** What the annotation of each pod, by its name, is to be in the end; undefined: none. */
  readonly wanted: Map<string, string | undefined>;
  /** Names of pods that are being made again, or annotated, right now: only one at a time may do that. */
  readonly busy: Set<string>;
  /** Undefined while it is being killed and started again. */
  controller: Controller | undefined;
  /** Starts a controller; resolves when it answers. */
  readonly start: () => Promise<Controller>;
}

type Faults = Record<string, () => Promise<unknown> | void>;

/** Faults of the API and the network to it. They end by themselves, or when what they give resolves. */
function apiFaults({ node: { proxy, server } }: World): Faults {
  const answer = (status: number, headers: Record<string, string> = {}) => () => {
    proxy.answerNext(status, { headers, times: 2 });
    proxy.closeWatches();
  };
  return {
    "reset": () => void proxy.resetAll(),
    "cut": () => void proxy.cutWatches(),
    "close": () => void proxy.closeWatches(),
    "half-open": async () => {
      proxy.blackhole();
      await sleep(1000);
      proxy.heal();
    },
    "refuse": async () => {
      await proxy.refuse();
      await sleep(1000);
      await proxy.accept();
    },
    "401": answer(401),
    "403": answer(403),
    "410": answer(410),
    "429": answer(429, { "Retry-After": "1" }),
    "500": answer(500),
    "503": answer(503),
    "ERROR 410": () => void proxy.injectEvent("ERROR", JSON.parse(statusObject(410, "too old"))),
    "ERROR first": () => {
      const body = `{"type":"ERROR","object":${statusObject(500, "etcdserver: leader changed")}}\n`;
      proxy.answerNext(200, { match: isWatch, body });
      proxy.closeWatches();
    },
    "half a line": () => {
      proxy.inject('{"type":"MODIFIED","object":{"metadata":{"na');
      proxy.closeWatches();
    },
    "slow API": async () => {
      proxy.delayMs = 500;
      await sleep(1500);
      proxy.delayMs = 0;
    },
    "API server killed": async () => {
      await server.stopServer("SIGKILL");
      await server.startServer();
    },
  };
}

/** Faults of all that is on the node. */
function nodeFaults(world: World, random: () => number): Faults {
  const { node, cri, disk, pods, wanted, busy } = world;
  const { runtime, server } = node;
  const victim = async () => (await node.processes()).at(Math.floor(random() * PODS))?.pid;
  const kill = (pid: number | undefined, signal: Deno.Signal) => {
    try {
      if (pid !== undefined) Deno.kill(pid, signal);
    } catch {
      // It has ended meanwhile.
    }
  };
  const criFor = (what: Parameters<CriProxy["fault"]>[1]) => async () => {
    cri.fault("*", what);
    await sleep(1500);
    cri.fault("*", undefined);
  };
  /** Has one pod for itself: nobody annotates it meanwhile. */
  const alone = async (work: (pod: TestPod) => Promise<unknown>) => {
    const pod = pods[Math.floor(random() * pods.length)]!;
    await waitFor(`${pod.name} for itself`, () => !busy.has(pod.name), { everyMs: 5 });
    busy.add(pod.name);
    await work(pod);
    busy.delete(pod.name);
  };
  return {
    "runtime errors": criFor({ error: { code: GrpcCode.INTERNAL, details: "made by the proxy" } }),
    "runtime silent": criFor({ hang: true }),
    "runtime killed": async () => {
      await runtime.killRuntime();
      await runtime.startRuntime();
    },
    "runtime stopped": async () => {
      runtime.pauseRuntime();
      await sleep(1500);
      runtime.resumeRuntime();
    },
    "tcpdump killed": async () => kill(await victim(), "SIGKILL"),
    "tcpdump stopped": async () => kill(await victim(), "SIGSTOP"),
    "controller killed": async () => {
      const { controller } = world;
      world.controller = undefined;
      await controller?.end("SIGKILL");
      world.controller = await world.start();
    },
    "disk at its floor": async () => {
      await disk.fill(25);
      await sleep(2500);
      await disk.empty();
    },
    "sandbox made anew": () =>
      alone(async (pod) => {
        await runtime.kubelet.stopPod(pod.sandbox!);
        await node.startSandbox(pod);
      }),
    "pod made anew": () =>
      alone(async (pod) => {
        await insist(() => server.deletePod(pod.name, 0).catch(ignore(404)));
        await runtime.kubelet.removePod(pod.sandbox!);
        const files = wanted.get(pod.name);
        const annotations: Record<string, string> = files === undefined ? {} : { [KEY]: files };
        // Its answer may be lost: then it is there already.
        await insist(() => node.createPod(pod.name, { annotations }).catch(ignore(409)));
        const { metadata } = await insist(() => server.call("GET", `/api/v1/namespaces/default/pods/${pod.name}`));
        const anew: TestPod = { ...pod, uid: metadata.uid, sandbox: undefined };
        await node.startSandbox(anew);
        pods[pods.indexOf(pod)] = anew;
      }),
  };
}

function ignore(status: number): (error: Error) => void {
  return (error) => {
    if (!error.message.includes(`: ${status} `)) throw error;
  };
}

/** All of them, again and again, each time in another order. */
function* bag<T>(items: readonly T[], random: () => number): Generator<T, never> {
  for (;;) {
    const left = [...items];
    while (left.length > 0) yield left.splice(Math.floor(random() * left.length), 1)[0]!;
  }
}

fault("chaos", async (record) => {
  const seed = record.seed = Number(Deno.env.get("SEED") ?? crypto.getRandomValues(new Uint32Array(1))[0]);
  console.log(`SEED=${seed}`);
  await using node = await NodeRig.start();
  const socket = join(node.dir, "cri.sock");
  await using cri = await CriProxy.start(socket, node.runtime.socket);
  await clear(node);
  await using disk = await Disk.make(node, { megabytes: 256, inodes: 16_384 });
  const [env, options] = impatient({ watch: { answer: 3_000, idle: 4_000, tick: 500 } });
  const settings = { ...ROOMY, ...env, CRI_SOCKET: socket, LOG_LEVEL: "info", MIN_FREE_PERCENT: "30" };
  let last: Controller | undefined;
  await using _last = { [Symbol.asyncDispose]: async () => await last?.[Symbol.asyncDispose]() };
  const start = async () => {
    const controller = last = await insist(() => node.startController(settings, { ...options, ready: false }));
    await waitFor("its answer", () => controller.get("/healthz"), { everyMs: 50 });
    return controller;
  };
  const world: World = {
    node,
    cri,
    disk,
    pods: [],
    wanted: new Map(),
    busy: new Set(),
    controller: await start(),
    start,
  };
  await last?.ready();
  world.pods.push(...await startCrowd(node, PODS));
  const { pods, wanted, busy } = world;
  // All of them once, so that what a process takes for good it has taken.
  await each(pods, (pod) => node.annotate(pod, { "": "2" }));
  await allCaptured(node, new Map(pods.map((pod) => [pod, "2"])), 120_000);
  await each(pods, (pod) => node.annotate(pod, { "": null }));
  await nothingLeft(node, 60_000);
  const before = await footprint(world.controller!);

  // Streams of choices of their own, so that the pods' do not hang on how long the faults take.
  const [forPods, forApi, forNode] = [randomOf(seed), randomOf(seed ^ 0x5eed), randomOf(seed ^ 0x0de5)];
  const begun = performance.now();
  const over = () => since(begun) >= SECONDS;
  const happened = new Map<string, number>();
  const strike = async (faults: Faults, random: () => number) => {
    for (const [name, play] of bag(Object.entries(faults), random)) {
      if (over()) return;
      await play();
      happened.set(name, (happened.get(name) ?? 0) + 1);
      const { controller } = world;
      if (controller) {
        await healthy(controller).catch((error) => {
          // The other half of the faults may be killing it.
          if (controller === world.controller) throw new Error(`after ${name}: ${error.message}`, { cause: error });
        });
      }
      await onceEach(node, pods);
      await sleep(200 + random() * 600);
    }
  };
  let changes = 0;
  const change = async () => {
    while (!over()) {
      const pod = pods[Math.floor(forPods() * pods.length)]!;
      const files = forPods() < 0.5 ? undefined : String(2 + Math.floor(forPods() * 3));
      if (busy.has(pod.name)) continue;
      busy.add(pod.name);
      await insist(() => node.annotate(pod, { "": files ?? null }));
      busy.delete(pod.name);
      wanted.set(pod.name, files);
      changes++;
      await sleep(Math.max(0, changes * 1000 / CHANGES_A_SECOND - (performance.now() - begun)));
    }
  };
  await Promise.all([strike(apiFaults(world), forApi), strike(nodeFaults(world, forNode), forNode), change()]);
  await node.proxy.calm();
  const end = performance.now();
  const list = [...happened].map(([name, times]) => `${times} ${name}`).join(", ");
  record.happened(`${changes} changes of ${PODS} pods and ${sum(happened)} faults in ${SECONDS} s: ${list}`);

  // A last word of the API server to the controller may have been lost, and a stopped tcpdump takes a while to be noticed.
  const captured = pods.filter(({ name }) => wanted.get(name) !== undefined);
  await allCaptured(node, new Map(captured.map((pod) => [pod, wanted.get(pod.name)!])), RIGHT_WITHIN_MS);
  await each(captured, async (pod) => {
    const { ino } = await Deno.stat(await node.netnsPath(pod));
    await waitFor(`${pod.name} in its namespace`, async () => (await node.processOf(pod))?.netns === `net:[${ino}]`);
  });
  const seconds = since(end);
  await each(captured.slice(0, 5), (pod) => hears(node, pod, 30_000));
  await each(pods, (pod) => node.annotate(pod, { "": null }));
  await nothingLeft(node, 60_000);
  const controller = world.controller!;
  let after = await footprint(controller);
  await waitFor("no more threads, files and memory than before", async () => {
    after = await footprint(controller);
    return after.threads <= Math.min(before.threads, 16) + POOL_THREADS && after.fds <= before.fds + 10 &&
      after.rssMiB <= before.rssMiB + GROWTH_MIB;
  }, { timeoutMs: 30_000 }).catch((error: Error) => {
    throw new Error(`${error.message}: from ${inWords(before)} to ${inWords(after)}`);
  });
  console.log(`${list}; ${inWords(before)} → ${inWords(after)}`);
  record.happened(`the controller took ${inWords(before)} before and ${inWords(after)} after`);
  const [, metrics] = await controller.get("/metrics");
  assertEquals(metrics.split("\n").filter((line) => /[{,]pod="/.test(line)), [], "series of captures that have ended");
  const leftovers = await nothingLeft(node);
  await each(pods, (pod) => node.deletePod(pod));
  assertEquals(await cleanUp(node, [], 60_000), 0);
  assertEquals((await controller.stop()).code, 0);
  record.right({ seconds, leftovers });
});

/** Fails if a pod has two tcpdump. */
async function onceEach(node: NodeRig, pods: readonly TestPod[]): Promise<void> {
  const folders = (await node.processes()).map(({ folder }) => folder);
  const twice = pods.filter((pod) => folders.filter((folder) => folder === node.folderOf(pod)).length > 1);
  for (const pod of twice) await node.processOf(pod);
}

function sum(counts: ReadonlyMap<string, number>): number {
  return [...counts.values()].reduce((a, b) => a + b, 0);
}
