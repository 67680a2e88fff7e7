/** What a controller takes that has nothing to capture, what the watch costs, and what it asks of the API server. */
import { WATCH_TIMING } from "../../src/pods/watch.ts";
import { type Figure, median, range } from "./figures.ts";
import { cpuSeconds, memoryOf } from "./measures.ts";
import { type Contender, contenders, METADATA_ONLY, type Stage, until, watchPods } from "./stage.ts";

/** V8 gives back what the start took within this time. */
const SETTLE_MS = 20_000;
const CPU_SECONDS = 60;
const UPDATES_PER_SECOND = 10;
const FULL_NODE = 110;
const WATCHED_UPDATES = 50;
const PARSE_ROUNDS = 20;

/** 3 and 8. A node of 110 pods, then 500 and 1,000, none annotated. */
export async function idle(stage: Stage): Promise<Figure[]> {
  const figures: Figure[] = [];
  const [ours] = contenders() as [Contender];
  const steps = [1, FULL_NODE, 500, 1000];
  const anon: number[] = [];
  const rss: number[] = [];
  const ready: number[] = [];
  for (const step of steps) {
    // A full node has as many sandboxes, which are all known ahead of need.
    await stage.addStations(Math.min(step, FULL_NODE));
    await stage.addPods(step);
    const samples = { rss: [] as number[], anon: [] as number[], ready: [] as number[] };
    for (let round = 0; round < 3; round++) {
      const started = performance.now();
      await using running = await stage.run(ours);
      samples.ready.push(performance.now() - started);
      const { pid } = running.controller;
      await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
      const memory = await memoryOf(pid);
      samples.rss.push(memory.rssMiB);
      samples.anon.push(memory.anonMiB);
      if (step === FULL_NODE && round === 0) figures.push(await idleCpu(stage, pid));
    }
    rss.push(median(samples.rss));
    anon.push(median(samples.anon));
    ready.push(median(samples.ready));
    if (step !== FULL_NODE) continue;
    figures.push({
      id: "idle-rss",
      part: "idle",
      what: "RSS of the idle controller, 110 pods with sandboxes",
      value: median(samples.rss),
      unit: "MiB",
      target: { atMost: 64 },
      beside: `${range(samples.rss, "MiB")}, of which the file of the deno executable is the larger part`,
      stable: true,
      better: "lower",
      samples: { "RSS MiB": samples.rss },
    }, {
      id: "idle-anonymous",
      part: "idle",
      what: "anonymous memory of the idle controller, 110 pods with sandboxes",
      value: median(samples.anon),
      unit: "MiB",
      target: { atMost: 28 },
      beside: range(samples.anon, "MiB"),
      stable: true,
      better: "lower",
      samples: { "anonymous MiB": samples.anon },
    });
  }
  const show = (values: readonly number[]) => values.map((value, i) => `${steps[i]}: ${value.toFixed(1)}`).join(", ");
  figures.push({
    id: "idle-growth",
    part: "idle",
    what: "anonymous memory per pod of the node that is not annotated, from 110 to 1,000",
    value: (anon[3]! - anon[1]!) * 1024 / (steps[3]! - steps[1]!),
    unit: "KiB",
    beside: `anonymous MiB at ${show(anon)}; RSS MiB at ${show(rss)}; ready after ms at ${show(ready)}`,
    stable: false,
    better: "lower",
    samples: { pods: steps, "anonymous MiB": anon, "RSS MiB": rss, "ready ms": ready },
  });
  return figures;
}

async function idleCpu(stage: Stage, pid: number): Promise<Figure> {
  const took = async (updatesPerSecond: number) => {
    const start = performance.now();
    const before = await cpuSeconds(pid);
    let sent = 0;
    while (performance.now() - start < CPU_SECONDS * 1000) {
      if (sent < (performance.now() - start) / 1000 * updatesPerSecond) {
        await stage.update(stage.pods[sent++ % stage.pods.length]!);
      } else await new Promise((resolve) => setTimeout(resolve, 10));
    }
    return (await cpuSeconds(pid) - before) / ((performance.now() - start) / 1000) * 100;
  };
  const quiet = await took(0);
  const busy = await took(UPDATES_PER_SECOND);
  return {
    id: "idle-cpu",
    part: "idle",
    what: `CPU of the idle controller, 110 pods, ${UPDATES_PER_SECOND} status updates a second, of one core`,
    value: busy,
    unit: "%",
    target: { atMost: 0.2 },
    beside: `over ${CPU_SECONDS} s; without updates ${quiet.toFixed(2)} %; so ${
      ((busy - quiet) / UPDATES_PER_SECOND * 10_000).toFixed(0)
    } µs an update`,
    stable: false,
    better: "lower",
    samples: { "quiet %": [quiet], "busy %": [busy] },
  };
}

/** 4. Bytes on the watch for an update of a pod's status, and what 1,000 nodes ask of the API server. */
export async function watch(stage: Stage): Promise<Figure[]> {
  await stage.addPods(110);
  const lean = await bytesPerUpdate(stage, METADATA_ONLY);
  const full = await bytesPerUpdate(stage, "application/json");
  const list = await listBytes(stage);
  // A watch ends after this long at the mean, and the next one lists all pods again; bookmarks come once a minute.
  const everySeconds = (WATCH_TIMING.relist + WATCH_TIMING.relistJitter / 2) / 1000;
  const perSecond = list / everySeconds + lean.bookmark / 60;
  return [
    {
      id: "watch-bytes",
      part: "watch",
      what: "bytes on the watch for an update of a pod's status, metadata only, of those with the full object",
      value: median(lean.sizes) / median(full.sizes) * 100,
      unit: "%",
      target: { atMost: 50 },
      beside: `${median(lean.sizes)} B against ${median(full.sizes)} B; JSON.parse ${
        lean.parse.toFixed(1)
      } µs against ${full.parse.toFixed(1)} µs`,
      stable: true,
      better: "lower",
      samples: { "metadata only B": lean.sizes, "full B": full.sizes },
    },
    {
      id: "watch-fleet",
      part: "watch",
      what: "what 1,000 idle nodes of 110 pods ask of the API server, a second, computed",
      value: perSecond * 1000 / 1e6,
      unit: "MB/s",
      beside: `${(1000 / everySeconds).toFixed(2)} requests a second: each watch is begun anew every ${
        (everySeconds / 60).toFixed(1)
      } min at the mean and lists ${
        (list / 1000).toFixed(0)
      } kB; bookmarks of ${lean.bookmark} B once a minute. Pod updates come on top, ${median(lean.sizes)} B each`,
      stable: true,
      better: "lower",
      samples: { "list B": [list], "bookmark B": [lean.bookmark] },
    },
  ];
}

async function bytesPerUpdate(stage: Stage, accept: string) {
  const { metadata } = await (await stage.node.server.admin.fetch("/api/v1/pods?limit=1")).json();
  const lines: string[] = [];
  const query = `allowWatchBookmarks=true&resourceVersion=${metadata.resourceVersion}`;
  await using _watch = await watchPods(stage, query, accept, (line) => lines.push(line));
  const events = () => lines.filter((line) => line.startsWith('{"type":"MODIFIED"'));
  for (let i = 0; i < WATCHED_UPDATES; i++) await stage.update(stage.pods[i]!);
  await until("all updates on the watch", () => events().length === WATCHED_UPDATES);
  const texts = events();
  const start = performance.now();
  for (let round = 0; round < PARSE_ROUNDS; round++) for (const text of texts) JSON.parse(text);
  const parse = (performance.now() - start) * 1000 / PARSE_ROUNDS / texts.length;
  const bookmark = () => lines.find((line) => line.startsWith('{"type":"BOOKMARK"'));
  await until("a bookmark", () => bookmark() !== undefined, 150_000);
  const bytes = (text: string) => new TextEncoder().encode(text).length + 1;
  return { sizes: texts.map(bytes), parse, bookmark: bytes(bookmark()!) };
}

async function listBytes(stage: Stage): Promise<number> {
  const path = "/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&limit=110";
  const response = await stage.node.server.admin.fetch(path, {
    headers: { Accept: "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io" },
  });
  return (await response.arrayBuffer()).byteLength;
}
