/** 7. The image's size, and how soon a controller that has just been started is of use. */
import { join } from "@std/path";
import { run } from "../support/run.ts";
import { ROOT } from "../rig/cli.ts";
import { type Figure, median, range, short, spread } from "./figures.ts";
import { type Contender, contenders, program, type Stage, until } from "./stage.ts";

const ROUNDS = 15;
const LARGEST_SHOWN = 5;

/** What `make image` has built, by the sizes of its files. */
export async function image(): Promise<Figure[]> {
  const tar = join(ROOT, "dist/image.tar");
  await run([join(ROOT, "tools/image")], { timeoutMs: 1_200_000 });
  const [{ Layers: layers }] = JSON.parse(await run(["tar", "-xOf", tar, "manifest.json"])) as [{ Layers: string[] }];
  const files: { name: string; bytes: number }[] = [];
  for (const layer of layers) {
    const list = await run(["bash", "-c", 'tar -xOf "$1" "$2" | tar -tvf -', "bash", tar, layer]);
    for (const line of list.split("\n")) {
      const match = /^-\S+\s+\S+\s+([0-9]+)\s+\S+\s+\S+\s+(.+)$/.exec(line);
      if (match) files.push({ name: match[2]!, bytes: Number(match[1]) });
    }
  }
  const megabytes = files.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6;
  const largest = files.sort((a, b) => b.bytes - a.bytes).slice(0, LARGEST_SHOWN)
    .map(({ name, bytes }) => `/${name} ${(bytes / 1e6).toFixed(1)}`).join(", ");
  const compiled = !files.some(({ name }) => name.endsWith("/deno"));
  return [{
    id: "image",
    part: "image",
    what: "the image, unpacked",
    value: megabytes,
    unit: "MB",
    target: { atMost: 150 },
    beside: `${files.length} files, largest ${largest} MB; ${
      compiled
        ? "one executable by deno compile"
        : "the deno executable with the bundle: deno compile's runtime could not be had here"
    }`,
    stable: true,
    better: "lower",
    samples: { MB: [megabytes] },
  }];
}

/** From the start of the process: ready, and capturing what was annotated before. */
export async function startUp(stage: Stage): Promise<Figure[]> {
  await stage.addStations(1);
  await stage.addPods(110);
  const [ours] = contenders() as [Contender];
  const station = stage.stations[0]!;
  const series = { ready: [] as number[], capturing: [] as number[], version: [] as number[], empty: [] as number[] };
  const empty = join(stage.node.dir, "empty.cjs");
  await Deno.writeTextFile(empty, "");
  const timed = async (argv: readonly string[]) => {
    const started = performance.now();
    await run(argv);
    return performance.now() - started;
  };
  await stage.node.annotate(station.pod, { "": "2" });
  for (let round = -1; round < ROUNDS; round++) {
    const version = await timed([...program(), "version"]);
    const bare = await timed([...program().slice(0, -1), empty]);
    const started = performance.now();
    await using running = await stage.run(ours, { ready: false });
    let ready = 0;
    const becoming = running.controller.ready().then(() => ready = performance.now());
    const open = await until("the first socket", () => station.isOpen);
    await becoming;
    if (round < 0) continue;
    series.version.push(version);
    series.empty.push(bare);
    series.ready.push(ready - started);
    series.capturing.push(open - started);
  }
  await stage.node.annotate(station.pod, { "": null });
  const beside = `an empty program in the same deno ${range(series.empty, "ms")}, packet-capture version ${
    range(series.version, "ms")
  }`;
  const common = { part: "start-up", unit: "ms", stable: false, better: "lower" } as const;
  return [
    {
      ...common,
      id: "start-up-ready",
      what: "process started → /readyz says yes (looked at every 20 ms), 110 pods on the node",
      value: median(series.ready),
      beside: `${spread(series.ready, "ms")}; ${beside}`,
      samples: series,
    },
    {
      ...common,
      id: "start-up-capturing",
      what: "process started → socket in the netns of a pod that was annotated before",
      value: median(series.capturing),
      beside: `${spread(series.capturing, "ms")}; ${
        short(median(series.capturing) / median(series.empty))
      } times an empty program`,
      samples: { capturing: series.capturing },
    },
  ];
}
