/**
 * Pods come, go, are annotated and un-annotated for a long time (SOAK=10m), on the local cluster if one is up (`make deploy`), else on
 * a test node. What each controller's process takes must be flat, and nothing may be left at the end. Not a part of `make check`.
 *
 *     SOAK=10m tools/deno run -A tests/faults/soak.ts
 */
// deno-lint-ignore-file no-console
import { parseDuration } from "../../src/base/duration.ts";
import { inWords } from "./crowd.ts";
import { since } from "./fault.ts";
import { rise } from "./rise.ts";
import { ClusterGround } from "./soak_cluster.ts";
import { type Ground, NodeGround, type Taken } from "./soak_ground.ts";

const PODS = 20;
const SAY_EVERY_SECONDS = 60;
/** Rounds before what is taken is looked at, at least: what a process takes for good it has taken then. A sixth of the time, too. */
const WARM_UP_ROUNDS = 3;
/** A rise by more than this over the whole time is a leak. (File operations have a pool of threads, which grows with what is done at once.) */
const FLAT = { rssMiB: 8, fds: 2, threads: 10, files: 0 };
/** That pool has 32 at most; V8, the signals and the main loop have the rest. */
const MOST_THREADS = 48;

async function soak(ground: Ground, seconds: number): Promise<boolean> {
  const samples: Record<string, Taken[]> = {};
  const say = (when: string, all: Record<string, Taken>) => {
    for (const [node, taken] of Object.entries(all)) {
      console.log(`${when}, ${node}: ${inWords(taken)}, ${taken.files} files in captureDir`);
    }
  };
  const start = performance.now();
  let rounds = 0;
  for (let said = 0; since(start) < seconds || rounds < 2 * WARM_UP_ROUNDS; rounds++) {
    await ground.round(PODS);
    if (rounds < WARM_UP_ROUNDS || since(start) < seconds / 6) continue;
    const now = await ground.taken();
    if (Object.keys(samples).length === 0) say("start, after the warm-up", now);
    for (const [node, taken] of Object.entries(now)) (samples[node] ??= []).push(taken);
    if (since(start) - said < SAY_EVERY_SECONDS) continue;
    said = since(start);
    say(`${Math.round(said)} s, ${rounds + 1} rounds`, now);
  }
  say(`end, after ${rounds} rounds of ${PODS} pods in ${Math.round(since(start))} s`, await ground.taken());
  let flat = Object.values(samples).flat().every(({ threads }) => threads <= MOST_THREADS);
  for (const [node, taken] of Object.entries(samples)) {
    const rises = (Object.keys(FLAT) as (keyof typeof FLAT)[]).map((key) => {
      const by = rise(taken.map((each) => each[key]));
      if (by > FLAT[key]) flat = false;
      return `${key} ${by.toFixed(1)} (accepted is ${FLAT[key]})`;
    });
    console.log(`rise from the first third of the samples to the last, ${node}: ${rises.join(", ")}`);
  }
  console.log(flat ? "flat" : "NOT flat");
  return flat;
}

const length = Deno.env.get("SOAK") ?? "10m";
const seconds = parseDuration(length);
if (seconds === undefined) {
  console.log(`SOAK is ${JSON.stringify(length)}: it takes a duration such as 90s, 10m or 2h`);
  Deno.exit(2);
}
try {
  await using ground = await (ClusterGround.isThere() ? ClusterGround.start() : NodeGround.start());
  console.log(`${length} on ${ground.name}`);
  if (!await soak(ground, seconds)) Deno.exitCode = 1;
} catch (error) {
  console.log(`soak: ${error instanceof Error ? error.message : error}`);
  Deno.exitCode = 1;
}
