/** From the annotation to the packets and back: one pod, many pods at once, and what each capture takes. */
import { join } from "@std/path";
import { tcpdumpWords } from "../../src/tcpdump/tcpdump.ts";
import { KEY } from "../rig/node.ts";
import { type Figure, median, range, spread } from "./figures.ts";
import { Cgroup, memoryOf, pssOf } from "./measures.ts";
import {
  type Contender,
  contenders,
  METADATA_ONLY,
  type Running,
  type Stage,
  type Station,
  until,
  watchPods,
} from "./stage.ts";

const ROUNDS = 100;
const WARM_UP = 3;
const BURSTS = 5;
/** Files that are made and deleted a thousand times a minute slow a disk's file system down, which happens on no node. */
const MEMORY = "/dev/shm/packet-capture-bench";

/** The command that the controller runs for a pod with `"2"`, without the words that confine it: the bare one. */
function bareArgv(netnsPath: string, file: string): string[] {
  const request = { files: 2, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" } as const;
  return ["nsenter", `--net=${netnsPath}`, "--", ...tcpdumpWords({ tcpdump: "tcpdump", request, file })];
}

/** 1. One pod: annotate → socket, un-annotate → nothing left; next to them the bare command. */
export async function latency(stage: Stage): Promise<Figure[]> {
  await stage.addStations(20);
  const series: Record<string, number[]> = {};
  const put = (name: string, value: number) => (series[name] ??= []).push(value);
  const some = contenders();
  const half = Math.ceil(ROUNDS / 2);
  // Each contender has two blocks, in turns, with the bare command in every round.
  for (const contender of [...some, ...some]) {
    await using running = await stage.run(contender);
    for (let round = -WARM_UP; round < half; round++) {
      const station = stage.stations[(round + WARM_UP) % 20]!;
      const times = await annotateAndBack(stage, station, running);
      const bare = await bareStart(stage, station);
      if (round < 0) continue;
      for (const [name, value] of Object.entries(times)) put(`${contender.name} ${name}`, value);
      put("bare start", bare);
    }
  }
  const watch = await watchDelays(stage);
  const of = (name: string) => series[name] ?? [];
  const peer = (name: string) => of(name).length === 0 ? "" : `; peer ${spread(of(name), "ms")}`;
  const start = median(of("ours start"));
  const bare = median(of("bare start"));
  const rest = start - bare - median(watch);
  return [
    {
      id: "start",
      part: "latency",
      what: "annotate → socket in the pod's netns, less the PATCH, p50, against a bare `nsenter … tcpdump`",
      value: start / bare,
      unit: "×",
      target: { atMost: 3 },
      beside: `${spread(of("ours start"), "ms")}; bare ${spread(of("bare start"), "ms")}; PATCH ${
        spread(of("ours patch"), "ms")
      }${peer("peer start")}`,
      stable: true,
      better: "lower",
      samples: series,
    },
    {
      id: "start-where",
      part: "latency",
      what:
        "of that, what is the controller's own: less the bare start and the API server's delay until another watcher knows",
      value: Math.max(0, rest),
      unit: "ms",
      beside: `nsenter and tcpdump ${bare.toFixed(1)} ms, API server → watcher ${
        median(watch).toFixed(1)
      } ms after its answer to the PATCH, CRI 0 ms (looked up before)`,
      stable: false,
      better: "lower",
      samples: { "watch delay": watch },
    },
    {
      id: "stop",
      part: "latency",
      what: "un-annotate (PATCH sent) → no socket, no file, p50",
      value: median(of("ours stop")),
      unit: "ms",
      target: { atMost: 50 },
      beside: `${spread(of("ours stop"), "ms")}${peer("peer stop")}`,
      stable: false,
      better: "lower",
      samples: { "ours stop": of("ours stop"), "peer stop": of("peer stop") },
    },
  ];
}

async function annotateAndBack(stage: Stage, station: Station, running: Running) {
  const { pod } = station;
  const sent = performance.now();
  let answered = 0;
  const patched = stage.node.annotate(pod, { "": "2" }).then(() => answered = performance.now());
  const open = await until("the socket", () => station.isOpen);
  await patched;
  // It is to be a capture that runs, not one that starts.
  await until("a file", () => !running.isClean());
  await new Promise((resolve) => setTimeout(resolve, 100));
  const unSent = performance.now();
  const unPatched = stage.node.annotate(pod, { "": null });
  const gone = await until("the end", () => !station.isOpen && running.isClean());
  await unPatched;
  return { start: open - answered, patch: answered - sent, stop: gone - unSent };
}

async function bareStart(stage: Stage, station: Station): Promise<number> {
  const [command, ...args] = bareArgv(station.netns, join(stage.node.dir, "bare.pcap"));
  const started = performance.now();
  const child = new Deno.Command(command!, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  const open = await until("the bare socket", () => station.isOpen);
  child.kill("SIGKILL");
  await child.status;
  await until("the end of the bare socket", () => !station.isOpen);
  return open - started;
}

/** Milliseconds between the answer to a PATCH and its event at a watcher of the benchmark's own. */
async function watchDelays(stage: Stage): Promise<number[]> {
  const { pod } = stage.stations[0]!;
  const seen = new Map<string, number>();
  await using _watch = await watchPods(stage, "resourceVersion=0", METADATA_ONLY, (line) => {
    const mark = /"bench\.example\/mark":"([0-9]+)"/.exec(line)?.[1];
    if (mark !== undefined && !seen.has(mark)) seen.set(mark, performance.now());
  });
  const delays: number[] = [];
  for (let i = 0; i < 30; i++) {
    const path = `/api/v1/namespaces/default/pods/${pod.name}`;
    await stage.node.server.call("PATCH", path, { metadata: { annotations: { "bench.example/mark": String(i) } } });
    const answered = performance.now();
    await until("the watcher's event", () => seen.has(String(i)));
    delays.push(Math.max(0, seen.get(String(i))! - answered));
  }
  return delays;
}

/** 2. Many pods at once, start and stop; next to them a shell loop of the bare command, and the same PATCHes with nothing to do. */
export async function bursts(stage: Stage): Promise<Figure[]> {
  await Deno.remove(MEMORY, { recursive: true }).catch(() => {}); // of a run that was killed
  await Deno.mkdir(MEMORY);
  try {
    return await burstsInMemory(stage);
  } finally {
    await Deno.remove(MEMORY, { recursive: true });
  }
}

async function burstsInMemory(stage: Stage): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const [count, stopTarget] of [[100, 1.5], [250, 3]] as const) {
    await stage.addStations(count);
    const stations = stage.stations.slice(0, count);
    const series: Record<string, number[]> = {};
    const put = (name: string, value: number) => (series[name] ??= []).push(value / 1000);
    for (const contender of contenders()) {
      await using running = await stage.run(contender, { captureDir: join(MEMORY, `${contender.name}-${count}`) });
      for (let round = -1; round < BURSTS; round++) {
        const bare = await bareBurst(stations, MEMORY);
        const patches = await patchAll(stage, stations, "bench.example/mark", String(round));
        const times = await burst(stage, stations, running);
        if (round < 0) continue;
        put("bare start", bare);
        put("patches alone", patches);
        for (const [name, value] of Object.entries(times)) put(`${contender.name} ${name}`, value);
      }
    }
    const of = (name: string) => series[name] ?? [];
    const peer = (name: string) => of(name).length === 0 ? "" : `; peer ${range(of(name), "s")}`;
    const bare = median(of("bare start"));
    const lessPatches = of("ours start").map((value, i) => value - of("patches alone")[i]!);
    figures.push({
      id: `burst-start-${count}`,
      part: "bursts",
      what:
        `${count} pods annotated at once (first PATCH sent) → all sockets open, against a shell loop of the bare command`,
      value: median(of("ours start")) / bare,
      unit: "×",
      target: { atMost: 1.5 },
      beside: `${range(of("ours start"), "s")}; bare ${
        range(of("bare start"), "s")
      }; as many PATCHes that ask for nothing ${range(of("patches alone"), "s")}${peer("peer start")}`,
      stable: true,
      better: "lower",
      samples: series,
    }, {
      id: `burst-start-${count}-less-patches`,
      part: "bursts",
      what: `the same, less what as many PATCHes take that ask for nothing`,
      value: median(lessPatches) / bare,
      unit: "×",
      beside: range(lessPatches, "s"),
      stable: false,
      better: "lower",
      samples: { "ours start less patches": lessPatches },
    }, {
      id: `burst-stop-${count}`,
      part: "bursts",
      what: `${count} pods un-annotated at once (first PATCH sent) → no socket, no file`,
      value: median(of("ours stop")),
      unit: "s",
      target: { atMost: stopTarget },
      beside: `${range(of("ours stop"), "s")}, of which until the last PATCH was answered ${
        range(of("ours unpatches"), "s")
      }${peer("peer stop")}`,
      stable: false,
      better: "lower",
      samples: { "ours stop": of("ours stop"), "peer stop": of("peer stop") },
    });
  }
  return figures;
}

/** Sends a PATCH of one annotation to each pod, all at once. @returns milliseconds until the last was answered. */
async function patchAll(
  stage: Stage,
  stations: readonly Station[],
  annotation: string,
  value: string | null,
): Promise<number> {
  const sent = performance.now();
  await Promise.all(stations.map(({ pod }) => stage.node.server.annotate(pod.name, { [annotation]: value })));
  return performance.now() - sent;
}

async function burst(stage: Stage, stations: readonly Station[], running: Running) {
  const sent = performance.now();
  const patches = patchAll(stage, stations, KEY, "2");
  const open = await allAre(stations, true);
  await patches;
  if (running.isClean()) throw new Error("No file of a capture is seen in captureDir");
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const unSent = performance.now();
  const unpatches = patchAll(stage, stations, KEY, null);
  await allAre(stations, false);
  const clean = await until("no files", running.isClean);
  return { start: open - sent, stop: clean - unSent, unpatches: await unpatches };
}

/** Waits until all netns have a packet socket, or none. Looks at one that is not so at a time: looking at all takes a core. */
async function allAre(stations: readonly Station[], open: boolean): Promise<number> {
  let done = 0;
  return await until(open ? "all sockets" : "no socket", () => {
    while (stations[done]?.isOpen === open) done++;
    return done === stations.length;
  });
}

async function bareBurst(stations: readonly Station[], below: string): Promise<number> {
  const dir = await Deno.makeTempDir({ dir: below });
  const loop = `trap 'kill -9 $(jobs -p)' TERM; dir=$1; shift; i=0
    for netns in "$@"; do nsenter --net="$netns" -- ${
    bareArgv("NETNS", "FILE").slice(3, -2).join(" ")
  } -w "$dir/$((i++)).pcap" 2>/dev/null & done; wait; wait`;
  const started = performance.now();
  const child = new Deno.Command("bash", {
    args: ["-c", loop, "bash", dir, ...stations.map(({ netns }) => netns)],
    stdin: "null",
    stderr: "null",
  }).spawn();
  const open = await allAre(stations, true);
  child.kill("SIGTERM");
  await child.status;
  await allAre(stations, false);
  await Deno.remove(dir, { recursive: true });
  return open - started;
}

/** 3 and 8. What each running capture takes, from 1 to 250. */
export async function growth(stage: Stage): Promise<Figure[]> {
  await stage.addStations(250);
  using group = await Cgroup.create("memory");
  const [ours] = contenders() as [Contender];
  await using running = await stage.run(ours, { wrap: group.wrap });
  const steps = [0, 1, 50, 100, 150, 200, 250];
  const rss: number[] = [];
  const anon: number[] = [];
  const whole: number[] = [];
  const seconds: number[] = [];
  let each = 0;
  for (const [i, step] of steps.entries()) {
    const more = stage.stations.slice(steps[i - 1] ?? 0, step);
    const started = performance.now();
    await Promise.all(more.map(({ pod }) => stage.node.annotate(pod, { "": "2" })));
    const open = await allAre(more, true);
    if (more.length > 0) seconds.push((open - started) / 1000 / more.length);
    await new Promise((resolve) => setTimeout(resolve, 8000)); // counters of all have been asked for twice, garbage is collected
    const memory = await memoryOf(running.controller.pid);
    rss.push(memory.rssMiB);
    anon.push(memory.anonMiB);
    whole.push(await group.workingSetMiB());
    if (step === 1) each = await pssOf((await tcpdumpOf(running.captureDir))!);
  }
  await Promise.all(stage.stations.map(({ pod }) => stage.node.annotate(pod, { "": null })));
  await allAre(stage.stations, false);
  const last = steps.length - 1;
  const perCapture = (from: number, to: number, values: readonly number[]) =>
    (values[to]! - values[from]!) / (steps[to]! - steps[from]!);
  const capture = perCapture(1, last, whole);
  const show = (values: readonly number[]) => values.map((value, i) => `${steps[i]}: ${value.toFixed(0)}`).join(", ");
  return [
    {
      id: "growth-memory",
      part: "growth",
      what: "controller's anonymous memory per running capture, from 1 to 250",
      value: perCapture(1, last, anon) * 1024,
      unit: "KiB",
      target: { atMost: 100 },
      beside: `anonymous MiB at ${show(anon)}; RSS MiB at ${show(rss)}; first half ${
        (perCapture(1, 3, anon) * 1024).toFixed(0)
      }, second half ${(perCapture(3, last, anon) * 1024).toFixed(0)} KiB`,
      stable: false,
      better: "lower",
      samples: { captures: steps, "anonymous MiB": anon, "RSS MiB": rss },
    },
    {
      id: "capture-memory",
      part: "growth",
      what:
        "memory of the whole cgroup per running capture: tcpdump and the controller's share, without the kernel's packet buffer, which is in no cgroup",
      value: capture,
      unit: "MiB",
      beside: `working set MiB at ${show(whole)}; one tcpdump's share (PSS) ${each.toFixed(1)} MiB; ${
        Math.floor((512 - whole[0]!) / capture)
      } captures fit into 512 Mi`,
      stable: true,
      better: "lower",
      samples: { captures: steps, "working set MiB": whole },
    },
    {
      id: "growth-time",
      part: "growth",
      what: "time per pod to start 50 more captures, the last 50 of 250 against the second 50",
      value: seconds[last - 1]! / seconds[2]!,
      unit: "×",
      beside: `ms per pod at ${seconds.map((value, i) => `${steps[i + 1]}: ${(value * 1000).toFixed(0)}`).join(", ")}`,
      stable: true,
      better: "lower",
      samples: { captures: steps.slice(1), "seconds per pod": seconds },
    },
  ];
}

async function tcpdumpOf(captureDir: string): Promise<number | undefined> {
  for await (const { name } of Deno.readDir("/proc")) {
    const line = await Deno.readTextFile(`/proc/${name}/cmdline`).catch(() => "");
    if (/^[0-9]+$/.test(name) && line.includes(`-w\0${captureDir}/`)) return Number(name);
  }
  return undefined;
}
