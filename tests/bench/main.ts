/**
 * `make bench`: measures, and writes raw samples to tests/bench/benchmarks.json. Of them it makes the table of docs/benchmarks.md, the
 * table of rates in docs/performance.md, and docs/images/loss.svg.
 *
 *     make bench                       everything, half an hour
 *     make bench ONLY=latency,idle     some parts: nothing is written
 *     make bench ONLY=rates WRITE=1    writes these parts, with the commit that they are of
 *     make bench CHECK=1               nothing is written; fails if a figure that is a ratio or a count is over 1.5 × the published one
 *     make bench PEER="command line"   another controller that takes the annotation next to ours, started with KUBECONFIG,
 *                                      NODE_NAME and CAPTURE_DIR
 */
// deno-lint-ignore-file no-console
import { join } from "@std/path";
import { circumstances } from "../faults_report.ts";
import { ROOT } from "../rig/cli.ts";
import { bursts, growth, latency } from "./captures.ts";
import { type Figure, page, regressions, type Report, table, withParts } from "./figures.ts";
import { idle, watch } from "./idle.ts";
import { loss } from "./loss.ts";
import { rates } from "./rates.ts";
import { isMeasured, lossPicture, withRates } from "./rates_page.ts";
import { reading } from "./reading.ts";
import { Stage } from "./stage.ts";
import { image, startUp } from "./start.ts";

export const JSON_FILE = join(ROOT, "tests/bench/benchmarks.json");
export const PAGE = join(ROOT, "docs/benchmarks.md");
export const PERFORMANCE = join(ROOT, "docs/performance.md");
export const PICTURE = join(ROOT, "docs/images/loss.svg");

/** In this order; each with a stage of its own, so that none finds what another has left. */
export const PARTS: Readonly<Record<string, () => Promise<Figure[]>>> = {
  latency: onStage(latency),
  bursts: onStage(bursts),
  idle: onStage(idle),
  growth: onStage(growth),
  watch: onStage(watch),
  loss: onStage(loss),
  rates: onStage(rates),
  "start-up": onStage(startUp),
  reading,
  image,
};

function onStage(part: (stage: Stage) => Promise<Figure[]>): () => Promise<Figure[]> {
  return async () => {
    await using stage = await Stage.start();
    return await part(stage);
  };
}

async function main(): Promise<number> {
  const all = Object.keys(PARTS);
  const only = Deno.env.get("ONLY")?.split(",").map((part) => part.trim()).filter(Boolean) ?? [];
  const unknown = only.find((part) => !all.includes(part));
  if (unknown !== undefined) {
    console.log(`ONLY names no part "${unknown}": ${all.join(", ")} are accepted`);
    return 2;
  }
  const check = Deno.env.get("CHECK") === "1";
  const writes = !check && !Deno.env.get("PEER") && (only.length === 0 || Deno.env.get("WRITE") === "1");
  const { commit, changed, machine } = await circumstances();
  if (writes && changed) {
    console.log(
      "Cannot write figures: src or tests has changes of no commit; commit them first, or set ONLY without WRITE=1",
    );
    return 2;
  }
  const figures: Figure[] = [];
  for (const part of only.length > 0 ? only : all) {
    const started = performance.now();
    const found = await PARTS[part]!();
    figures.push(...found);
    console.log(`\n== ${part}, ${((performance.now() - started) / 1000).toFixed(0)} s\n${table(found)}`);
  }
  if (check) {
    const published: Report = JSON.parse(await Deno.readTextFile(JSON_FILE));
    const worse = regressions(published, figures);
    for (const line of worse) console.log(line);
    console.log(
      worse.length === 0 ? "No figure is much worse than published." : `${worse.length} figures are much worse.`,
    );
    return worse.length === 0 ? 0 : 1;
  }
  if (!writes) return 0;
  const report: Report = only.length === 0
    ? { commit, machine, figures }
    : withParts(JSON.parse(await Deno.readTextFile(JSON_FILE)), figures, { commit, machine }, all);
  await Deno.writeTextFile(JSON_FILE, JSON.stringify(report, null, 1) + "\n");
  await Deno.writeTextFile(PAGE, page(report, all));
  await Deno.writeTextFile(PERFORMANCE, withRates(await Deno.readTextFile(PERFORMANCE), report.figures));
  if (isMeasured(report.figures)) await Deno.writeTextFile(PICTURE, lossPicture(report.figures));
  console.log(`Written: ${[JSON_FILE, PAGE, PERFORMANCE].join(", ")}, and ${PICTURE} if part rates is there`);
  return 0;
}

if (import.meta.main) Deno.exit(await main());
