/** 5. Packets lost under load, ours against the same tcpdump by hand, and what capturing costs the pod's own traffic. */
import { join } from "@std/path";
import { tcpdumpArgv } from "../../src/tcpdump/tcpdump.ts";
import { run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { ByHand, capturedMeanwhile, type Counters, REQUEST } from "./by_hand.ts";
import { type Figure, median, medianOfPairs, noiseOf, range, short } from "./figures.ts";
import { Cgroup } from "./measures.ts";
import { type Contender, contenders, program, type Stage, type Station } from "./stage.ts";

const ROUNDS = 5;
const SECONDS = 3;
/** The chart's default limit. */
const LIMIT_CORES = 0.5;

/** iperf3's words for each load. Small packets: what a flood of datagrams of 64 bytes, as many as the sender can make, gives. */
const LOADS = {
  "small packets": ["-u", "-b", "0", "-l", "64"],
  "TCP": [] as string[],
  // Some 50 thousand a second, which a capture at the chart's CPU limit takes without loss: whatever is lost is somebody else's doing.
  "steady small packets": ["-u", "-b", "25M", "-l", "64"],
};
type Load = keyof typeof LOADS;

/** What one round of load gave. */
interface Round {
  /** Percent of the packets that the kernel showed to tcpdump and that it was too slow for. */
  readonly lost: number;
  /** Packets that the kernel showed to tcpdump, a second. */
  readonly perSecond: number;
  /** Gbit/s of payload that arrived at the other pod. */
  readonly gbits: number;
}

/** Two pods, of which the second sends to the first, whose packets are captured. */
class Road {
  constructor(readonly stage: Stage, readonly captured: Station, readonly sender: Station, readonly address: string) {}

  static async between(stage: Stage, captured: Station, sender: Station): Promise<Road> {
    return new Road(stage, captured, sender, await captured.address());
  }

  /** Sends for some seconds. @returns Gbit/s that arrived. */
  async load(load: Load): Promise<number> {
    const server = new Deno.Command("setpriv", {
      args: ["--pdeathsig", "KILL", "--", "nsenter", `--net=${this.captured.netns}`, "--", "iperf3", "-s", "-1"],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
    try {
      await waitFor("iperf3 to listen", async () => {
        const table = await Deno.readTextFile(`/proc/${this.captured.watcher.pid}/net/tcp6`);
        return /:1451 [0-9A-F:]+ 0A/.test(table);
      }, { timeoutMs: 5000, everyMs: 10 });
      const argv = ["iperf3", "-c", this.address, "-t", String(SECONDS), "--json", ...LOADS[load]];
      const text = await run(["nsenter", `--net=${this.sender.netns}`, "--", ...argv], { timeoutMs: 60_000 });
      const { end } = JSON.parse(text);
      const arrived = end.sum_received ?? { bytes: end.sum.bytes * (1 - end.sum.lost_percent / 100), seconds: SECONDS };
      return arrived.bytes * 8 / arrived.seconds / 1e9;
    } finally {
      try {
        server.kill("SIGKILL");
      } catch {
        // It has ended: -1 serves one client.
      }
      await server.status;
    }
  }
}

function roundOf({ received, dropped }: Counters, gbits: number): Round {
  return { lost: received === 0 ? 0 : 100 * dropped / received, perSecond: received / SECONDS, gbits };
}

/** @param options words that take the place of tcpdump's, such as `-B 2048`. */
async function byHand(
  road: Road,
  load: Load,
  group: Cgroup,
  options: Readonly<Record<string, string>> = {},
): Promise<Round> {
  const { captured, stage } = road;
  const dir = await Deno.makeTempDir({ dir: stage.node.dir });
  const argv = tcpdumpArgv({
    tcpdump: "tcpdump",
    nsenter: "nsenter",
    request: REQUEST,
    netnsPath: captured.netns,
    file: join(dir, "by-hand.pcap"),
  });
  for (const [option, value] of Object.entries(options)) argv[argv.indexOf(option) + 1] = value;
  const tcpdump = await ByHand.start(argv, group);
  const gbits = await road.load(load);
  const counters = await tcpdump.stop();
  await Deno.remove(dir, { recursive: true });
  return roundOf(counters, gbits);
}

async function ours(road: Road, load: Load): Promise<Round> {
  const gbits = () => road.load(load);
  return await capturedMeanwhile(road.stage.node, [road.captured.pod], gbits, ([counters], gbits) => {
    return roundOf(counters!, gbits);
  });
}

export async function loss(stage: Stage): Promise<Figure[]> {
  await stage.addStations(2);
  const [captured, sender] = stage.stations as [Station, Station];
  const road = await Road.between(stage, captured, sender);
  using group = await Cgroup.create("cpu");
  const figures: Figure[] = [];
  const [contender] = contenders() as [Contender];
  await using _running = await stage.run(contender, { wrap: group.wrap, captureDir: stage.node.captureDir });
  for (const [limit, cores] of [["500m", LIMIT_CORES], ["no limit", undefined]] as const) {
    for (const load of ["small packets", "TCP"] as const) {
      const rounds = { hand: [] as Round[], ours: [] as Round[], none: [] as number[] };
      for (let i = -1; i < ROUNDS; i++) {
        await group.limitCpu(cores);
        const hand = await byHand(road, load, group);
        const our = await ours(road, load);
        const none = await road.load(load);
        if (i < 0) continue;
        rounds.hand.push(hand);
        rounds.ours.push(our);
        rounds.none.push(none);
      }
      figures.push(...lossFigures(load, limit, rounds));
    }
  }
  figures.push(await catBeside(road, group));
  await group.limitCpu(undefined);
  figures.push(await buffers(road, group));
  return figures;
}

/** Reads the capture again and again, in a cgroup with the reader container's limit, until told to stop. */
class Reader implements AsyncDisposable {
  /** How often the capture was read to its end. */
  reads = 0;
  readonly #stop = new AbortController();
  readonly #group: Cgroup;
  readonly #reading: Promise<void>;

  private constructor(road: Road, group: Cgroup) {
    this.#group = group;
    this.#reading = this.#run(road);
  }

  static async start(road: Road): Promise<Reader> {
    const group = await Cgroup.create("cpu", "reader");
    await group.limitCpu(LIMIT_CORES);
    return new Reader(road, group);
  }

  async #run({ stage, captured: { pod } }: Road): Promise<void> {
    const cat = [...program(), "cat", `${pod.namespace}/${pod.name}`, "--capture-dir", stage.node.captureDir];
    const [command, ...args] = [...this.#group.wrap, ...cat];
    while (!this.#stop.signal.aborted) {
      const child = new Deno.Command(command!, { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
      for await (const _ of child.stdout);
      if ((await child.status).success) this.reads++;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#reading;
    this.#group[Symbol.dispose]();
  }
}

/** What reading a capture costs that capture. */
async function catBeside(road: Road, group: Cgroup): Promise<Figure> {
  const lost: Record<"alone" | "read", number[]> = { alone: [], read: [] };
  const reads: number[] = [];
  await group.limitCpu(LIMIT_CORES);
  for (let i = -1; i < ROUNDS; i++) {
    const alone = await ours(road, "steady small packets");
    let read: Round, count: number;
    {
      await using reader = await Reader.start(road);
      read = await ours(road, "steady small packets");
      count = reader.reads;
    }
    if (i < 0) continue;
    lost.alone.push(alone.lost);
    lost.read.push(read.lost);
    reads.push(count);
  }
  return {
    id: "loss-cat-beside",
    part: "loss",
    what:
      "packets lost by a capture at CPU limit 500m while cat reads it again and again, less those while nobody does",
    value: medianOfPairs(lost.read, lost.alone),
    unit: "points",
    target: { atMost: 0 },
    beside: `read ${range(lost.read, "%")}, not read ${range(lost.alone, "%")} of some 50 thousand packets/s; ` +
      `${range(reads, "reads")} in ${SECONDS} s by a reader with a limit of 500m of its own`,
    stable: false,
    better: "lower",
    samples: { "read %": lost.read, "not read %": lost.alone, reads },
  };
}

function lossFigures(
  load: Load,
  limit: string,
  rounds: { hand: readonly Round[]; ours: readonly Round[]; none: readonly number[] },
): Figure[] {
  const lost = { hand: rounds.hand.map((r) => r.lost), ours: rounds.ours.map((r) => r.lost) };
  const gbits = { hand: rounds.hand.map((r) => r.gbits), ours: rounds.ours.map((r) => r.gbits), none: rounds.none };
  const id = `${load.replaceAll(" ", "-").toLowerCase()}-${limit.replaceAll(" ", "-")}`;
  const thousands = (all: readonly Round[]) => range(all.map((r) => r.perSecond / 1000), "thousand packets/s");
  return [
    {
      id: `loss-${id}`,
      part: "loss",
      what:
        `packets lost, ${load} through a captured pod, CPU limit ${limit}: ours less the same tcpdump by hand, median of pairs`,
      value: medianOfPairs(lost.ours, lost.hand),
      unit: "points",
      target: { atMost: 0 },
      tolerance: noiseOf(lost.hand),
      beside: `ours ${range(lost.ours, "%")} of ${thousands(rounds.ours)}; by hand ${range(lost.hand, "%")} of ${
        thousands(rounds.hand)
      }`,
      stable: false,
      better: "lower",
      samples: { "ours %": lost.ours, "by hand %": lost.hand },
    },
    {
      id: `throughput-${id}`,
      part: "loss",
      what: `the pod's own throughput while it is captured, ${load}, CPU limit ${limit}, against none captured`,
      value: 100 * median(gbits.ours) / median(gbits.none),
      unit: "%",
      beside: `captured by us ${range(gbits.ours, "Gbit/s")}, by hand ${range(gbits.hand, "Gbit/s")}, not ${
        range(gbits.none, "Gbit/s")
      }; sender, receiver and tcpdump share this machine's cores`,
      stable: false,
      better: "higher",
      samples: { "ours Gbit/s": gbits.ours, "by hand Gbit/s": gbits.hand, "not captured Gbit/s": gbits.none },
    },
  ];
}

/** Which -B and -s lose how much, by hand, without a limit. */
async function buffers(road: Road, group: Cgroup): Promise<Figure> {
  const settings: Readonly<Record<string, Record<string, string>>> = {
    "-B 2048": { "-B": "2048" },
    "-B 4096": { "-B": "4096" },
    "-B 16384": { "-B": "16384" },
    "-B 4096 -s 128": { "-B": "4096", "-s": "128" },
  };
  const lost: Record<string, number[]> = {};
  for (let i = -1; i < ROUNDS; i++) {
    for (const [name, options] of Object.entries(settings)) {
      const round = await byHand(road, "small packets", group, options);
      if (i >= 0) (lost[name] ??= []).push(round.lost);
    }
  }
  return {
    id: "loss-buffer",
    part: "loss",
    what:
      "packets lost of a flood of small ones with our -B 4096, by hand, less those with tcpdump's own 2048, median of pairs",
    value: medianOfPairs(lost["-B 4096"]!, lost["-B 2048"]!),
    unit: "points",
    beside: Object.entries(lost).map(([name, values]) => `${name}: ${short(median(values))} %`).join(", "),
    stable: false,
    better: "lower",
    samples: lost,
  };
}
