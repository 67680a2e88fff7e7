/**
 * 9. Packets lost at which rate, and the CPU time that a packet takes: ours, tcpdump by hand with its own defaults, and our command with
 * -U, in turns. The packets are numbered UDP datagrams of 64 to 300 bytes (flood.ts).
 */
import { join } from "@std/path";
import { tcpdumpArgv } from "../../src/tcpdump/tcpdump.ts";
import { run } from "../support/run.ts";
import { ByHand, capturedMeanwhile, type Counters, REQUEST } from "./by_hand.ts";
import { type Figure, median, medianOfPairs, noiseOf, range } from "./figures.ts";
import type { Flood, Sent } from "./flood.ts";
import { Cgroup } from "./measures.ts";
import { checkNoGap, numbersIn } from "./numbers.ts";
import { type Contender, contenders, type Stage, type Station } from "./stage.ts";

/** Who captures. Their names are those of the series. */
export const WAYS = ["ours", "by hand", "with -U"] as const;
export type Way = (typeof WAYS)[number];

/** One panel of the picture: how many pods are captured, at which CPU limit, and the rates, in packets a second of all pods. */
export interface Panel {
  readonly id: string;
  readonly captures: number;
  /** Undefined: none. */
  readonly cores: number | undefined;
  readonly perSecond: readonly number[];
  readonly rounds: number;
}

/** 0.5 cores is the chart's default limit. */
export const PANELS: readonly Panel[] = [
  { id: "rates-500m", captures: 1, cores: 0.5, perSecond: thousands(100, 150, 200, 250, 300, 375), rounds: 5 },
  { id: "rates-no-limit", captures: 1, cores: undefined, perSecond: thousands(100, 200, 300, 375), rounds: 3 },
  { id: "rates-20-captures-500m", captures: 20, cores: 0.5, perSecond: thousands(100, 200), rounds: 3 },
];
const SECONDS = 2;
/** The share of the rate that the sender must reach, and how often it may try. */
const REACHED = 0.97;
const ATTEMPTS = 3;
/** Percent lost that count as none: a stall of the machine loses as much. */
export const NONE = 0.1;
/** Of the packets sent, those that may miss the pod, in percent: more, and the generator is what is measured. */
const ASTRAY = 1;
const CPU = { perSecond: 100_000, seconds: 3, rounds: 5, target: 0.45 };
/** How far beyond the rate at which the command with -U begins to lose, ours must lose none. */
const AHEAD = 1.5;

/** What one round gave: percent of the packets that the pods got and tcpdump did not write, and packets sent a second. */
interface Round {
  readonly lost: number;
  readonly perSecond: number;
}

interface Place {
  readonly stage: Stage;
  readonly sender: Station;
  readonly captured: readonly Station[];
  readonly group: Cgroup;
}

export async function rates(stage: Stage, panels = PANELS): Promise<Figure[]> {
  const most = Math.max(...panels.map(({ captures }) => captures));
  await stage.addStations(most + 1);
  const [sender, ...captured] = stage.stations as [Station, ...Station[]];
  using group = await Cgroup.create("cpu");
  const [ours] = contenders() as [Contender];
  await lay(sender, captured);
  await using _running = await stage.run(ours, { wrap: group.wrap, captureDir: stage.node.captureDir });
  const figures = [await cpuPerPacket({ stage, sender, captured: captured.slice(0, 1), group })];
  for (const panel of panels) {
    await group.limitCpu(panel.cores);
    figures.push(await lossAt(panel, { stage, sender, captured: captured.slice(0, panel.captures), group }));
  }
  const ahead = figures.find(({ id }) => id === "rates-500m");
  return ahead ? [...figures, ...aheadOf(pointsOf(ahead.samples))] : figures;
}

/** The target of before -U was left out. No figure where the command with -U loses none: the rates are too low for it. */
function aheadOf(points: readonly Point[]): Figure[] {
  const begins = points.find(({ lost }) => median(lost["with -U"]) >= NONE)?.perSecond;
  const free = losslessUpTo(points, "ours") ?? 0;
  if (begins === undefined) return [];
  return [{
    id: "rates-ahead-500m",
    part: "rates",
    what:
      "highest rate at which ours loses none, CPU limit 500m, against the lowest at which our command with -U loses some",
    value: free / begins,
    unit: "×",
    target: { atLeast: AHEAD },
    beside: `${shownRate(free)} against ${
      shownRate(begins)
    } packets/s, of the rates that were measured; "none" is under ${NONE} %`,
    stable: false,
    better: "higher",
    samples: { "packets/s": [free, begins] },
  }];
}

async function lossAt({ id, captures, cores, perSecond, rounds }: Panel, place: Place): Promise<Figure> {
  const series: Record<string, number[]> = {};
  const put = (name: string, value: number) => (series[name] ??= []).push(value);
  for (const rate of perSecond) {
    let attempts = ATTEMPTS;
    for (let i = 0; i < rounds; i++) {
      put("packets/s asked for", rate);
      for (let turn = 0; turn < WAYS.length; turn++) {
        const way = WAYS[(i + turn) % WAYS.length]!;
        const { lost, perSecond } = await atRate(way, place, rate, attempts);
        // It is more than this machine can send: the figures say which rate it was.
        if (perSecond <= rate * REACHED) attempts = 1;
        put(way, lost);
        put(`${way}, packets/s sent`, perSecond);
      }
    }
  }
  const points = pointsOf(series);
  const worst = points.toSorted((a, b) => (b.more - b.noise) - (a.more - a.noise))[0]!;
  const free = WAYS.map((way) => `${way} ${shownRate(losslessUpTo(points, way))}`).join(", ");
  return {
    id,
    part: "rates",
    what: `packets lost, ${captures === 1 ? "one pod captured" : `${captures} pods captured at once`}, CPU limit ${
      limitText(cores)
    }: ours less tcpdump by hand with its own defaults, median of pairs, at the rate where that is most`,
    value: worst.more,
    unit: "points",
    target: { atMost: 0 },
    tolerance: worst.noise,
    beside: `at ${shownRate(worst.perSecond)} packets/s; most packets/s of which under ${NONE} % are lost: ${free}`,
    stable: false,
    better: "lower",
    samples: series,
  };
}

/** A round in which the sender was kept from its rate is of another rate: it is taken again. */
async function atRate(way: Way, place: Place, rate: number, attempts: number): Promise<Round> {
  for (let attempt = 1;; attempt++) {
    const round = await (way === "ours" ? byController(place, rate) : byHands(way, place, rate));
    if (round.perSecond > rate * REACHED || attempt === attempts) return round;
  }
}

/** What was measured at one rate. */
export interface Point {
  /** Packets that were sent, a second, median of all rounds: what was asked for, unless that is more than can be sent. */
  readonly perSecond: number;
  /** Percent lost, each round. */
  readonly lost: Readonly<Record<Way, readonly number[]>>;
  /** Points that ours lost more than tcpdump by hand, median of pairs, and half of how far apart rounds of the latter are. */
  readonly more: number;
  readonly noise: number;
}

/** The samples of a figure of this part, by rate. */
export function pointsOf(series: Figure["samples"]): Point[] {
  const asked = series["packets/s asked for"]!;
  return [...new Set(asked)].map((rate) => {
    const at = (name: string) => series[name]!.filter((_, i) => asked[i] === rate);
    const lost = Object.fromEntries(WAYS.map((way) => [way, at(way)])) as Record<Way, number[]>;
    return {
      perSecond: median(WAYS.flatMap((way) => at(`${way}, packets/s sent`))),
      lost,
      more: medianOfPairs(lost.ours, lost["by hand"]),
      noise: noiseOf(lost["by hand"]),
    };
  });
}

/** The highest rate up to which none are lost; undefined: some are at the lowest. */
export function losslessUpTo(points: readonly Point[], way: Way): number | undefined {
  let highest: number | undefined;
  for (const { perSecond, lost } of points.toSorted((a, b) => a.perSecond - b.perSecond)) {
    if (median(lost[way]) >= NONE) break;
    highest = perSecond;
  }
  return highest;
}

export function limitText(cores: number | undefined): string {
  return cores === undefined ? "no limit" : `${cores * 1000}m`;
}

function shownRate(perSecond: number | undefined): string {
  return perSecond === undefined ? "not at the lowest rate" : `${Math.round(perSecond / 1000)} thousand`;
}

/** The CPU time of tcpdump, without a limit. */
async function cpuPerPacket(place: Place): Promise<Figure> {
  const series: Record<string, number[]> = {};
  await place.group.limitCpu(undefined);
  for (let i = -1; i < CPU.rounds; i++) {
    for (const way of ["ours", "with -U", "by hand"] as const) {
      await using hands = await Hands.start(way, place);
      await flood(place, CPU.perSecond, CPU.seconds);
      const [counters] = await hands.stop();
      if (i >= 0) (series[way] ??= []).push(counters!.cpuSeconds / counters!.captured * 1e6);
    }
  }
  const { ours, "with -U": unbuffered, "by hand": hand } = series as Record<Way, number[]>;
  return {
    id: "cpu-per-packet",
    part: "rates",
    what: "CPU time of tcpdump per million packets, our command against the same with -U",
    value: median(ours) / median(unbuffered),
    unit: "×",
    target: { atMost: CPU.target },
    beside: `${range(ours, "s")}; with -U ${range(unbuffered, "s")}; by hand with its own defaults ${
      range(hand, "s")
    }; ${CPU.perSecond / 1000} thousand packets/s for ${CPU.seconds} s, one pod captured, no CPU limit`,
    stable: true,
    better: "lower",
    samples: series,
  };
}

/** One tcpdump for each captured pod, started by the benchmark. */
class Hands implements AsyncDisposable {
  /** Where the files of each are. */
  readonly folders: readonly string[];
  readonly #dir: string;
  #running: readonly ByHand[] = [];

  private constructor(dir: string, captured: readonly Station[]) {
    this.#dir = dir;
    this.folders = captured.map(({ pod }) => join(dir, pod.name));
  }

  static async start(way: Way, { stage, captured, group }: Place): Promise<Hands> {
    const hands = new Hands(await Deno.makeTempDir({ dir: stage.node.dir }), captured);
    hands.#running = await Promise.all(captured.map(async ({ netns }, i) => {
      const folder = hands.folders[i]!;
      await Deno.mkdir(folder);
      return await ByHand.start(argvOf(way, netns, join(folder, "by-hand.pcap")), group);
    }));
    return hands;
  }

  async stop(): Promise<Awaited<ReturnType<ByHand["stop"]>>[]> {
    const stopped = await Promise.all(this.#running.map((tcpdump) => tcpdump.stop()));
    this.#running = [];
    return stopped;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Deno.remove(this.#dir, { recursive: true });
  }
}

function argvOf(way: Way, netns: string, file: string): string[] {
  if (way === "by hand") {
    const words = ["tcpdump", "-C", "1", "-W", String(REQUEST.files), "-i", "any", "-Z", "root", "-w", file];
    return ["nsenter", `--net=${netns}`, "--", ...words];
  }
  const argv = tcpdumpArgv({ tcpdump: "tcpdump", nsenter: "nsenter", request: REQUEST, netnsPath: netns, file });
  if (way === "with -U" && !argv.includes("-U")) argv.splice(argv.lastIndexOf("-w"), 0, "-U");
  return argv;
}

async function byHands(way: Way, place: Place, rate: number): Promise<Round> {
  await using hands = await Hands.start(way, place);
  const flooded = await flood(place, rate, SECONDS);
  return await roundOf(await hands.stop(), hands.folders, flooded);
}

async function byController(place: Place, rate: number): Promise<Round> {
  const { stage: { node }, captured } = place;
  const pods = captured.map(({ pod }) => pod);
  return await capturedMeanwhile(node, pods, () => flood(place, rate, SECONDS), (counters, flooded) => {
    return roundOf(counters, pods.map((pod) => node.folderOf(pod)), flooded);
  });
}

/** Addresses of each wire's end in a captured pod: each has a wire of its own. */
const FAR_END = { mac: "02:00:00:00:00:02", address: "10.255.255.2" };

/** Lays a wire from the sender to each captured pod. The bridge between pods takes more time for a packet than sending and capturing it do. */
async function lay(sender: Station, captured: readonly Station[]): Promise<void> {
  for (const [i, { netns, watcher }] of captured.entries()) {
    const ends = [
      `wire${i}`,
      "netns",
      `${sender.watcher.pid}`,
      "type",
      "veth",
      "peer",
      "wire",
      "netns",
      `${watcher.pid}`,
    ];
    await run(["ip", "link", "add", ...ends]);
    await run(["nsenter", `--net=${sender.netns}`, "--", "ip", "link", "set", `wire${i}`, "up"]);
    const inPod = ["nsenter", `--net=${netns}`, "--", "ip"];
    await run([...inPod, "link", "set", "wire", "address", FAR_END.mac, "up"]);
    await run([...inPod, "addr", "add", `${FAR_END.address}/24`, "dev", "wire"]);
  }
}

interface Flooded {
  /** Packets that were sent, a second. */
  readonly perSecond: number;
  /** Packets that all pods got. */
  readonly got: number;
}

/** Of the packets that the pods' interfaces got. Where none is lost by tcpdump's count, the numbers in the files must agree. */
async function roundOf(
  counters: readonly Counters[],
  folders: readonly string[],
  { perSecond, got }: Flooded,
): Promise<Round> {
  for (const [i, { dropped }] of counters.entries()) if (dropped === 0) checkNoGap(await numbersIn(folders[i]!));
  const captured = counters.reduce((sum, { captured }) => sum + captured, 0);
  return { lost: Math.max(0, 100 * (1 - captured / got)), perSecond };
}

async function flood({ sender, captured }: Place, perSecond: number, seconds: number): Promise<Flooded> {
  const to = captured.map(({ netns }, i) => ({ netns, wire: `wire${i}`, ...FAR_END }));
  const words: Flood = { from: sender.netns, to, perSecond, seconds };
  const before = await gotBy(captured);
  const program = new URL("flood.ts", import.meta.url).pathname;
  const text = await run([Deno.execPath(), "run", "--quiet", "--no-check", "-A", program, JSON.stringify(words)]);
  const { sent, seconds: took }: Sent = JSON.parse(text);
  const got = await gotBy(captured) - before;
  if (got < sent * (1 - ASTRAY / 100)) throw new Error(`${sent} packets were sent, the pods got ${got}`);
  return { perSecond: sent / took, got };
}

/** Packets that the pods' interfaces have received so far. */
async function gotBy(stations: readonly Station[]): Promise<number> {
  const each = await Promise.all(stations.map(async ({ watcher }) => {
    const table = await Deno.readTextFile(`/proc/${watcher.pid}/net/dev`);
    return Number(/^\s*wire:\s*[0-9]+\s+([0-9]+)/m.exec(table)?.[1]);
  }));
  return each.reduce((sum, packets) => sum + packets, 0);
}

function thousands(...values: number[]): number[] {
  return values.map((value) => value * 1000);
}
