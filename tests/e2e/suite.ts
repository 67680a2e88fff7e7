/**
 * Runs the end-to-end tests on a local cluster of their own: brings it up, builds the image and loads it, runs all files, or
 * `deno test` with the files and options given here, takes the cluster down. `KEEP_CLUSTER=1` leaves it up, for the next run to be quick; E2E_CLUSTER_DIR
 * is another folder for it:
 *
 *     KEEP_CLUSTER=1 tools/deno run --allow-all tests/e2e/suite.ts tests/e2e/image_test.ts
 */
import { join, resolve } from "node:path";
import { down, loadImage, up } from "../cluster/cluster.ts";
import { runFiles, runProgram, testsIn, testWords, writeReport } from "../driver.ts";
import { ROOT } from "../support/paths.ts";
import { IMAGE_TAR } from "./release.ts";

/** Files whose tests make clusters of their own, or look at the image's file. */
const WITHOUT_CLUSTER = ["local_cluster", "image_tar"];
const DIR = resolve(Deno.env.get("E2E_CLUSTER_DIR") || join(ROOT, ".cache/e2e-cluster"));

async function main(args: string[]): Promise<number> {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => interrupted.abort());
  const own = { env: { CLUSTER_DIR: DIR }, signal: interrupted.signal };
  try {
    const [image, cluster] = await Promise.allSettled([runProgram(["make", "image"], own), up(DIR)]);
    if (cluster.status === "rejected") throw cluster.reason;
    if (image.status === "rejected" || image.value.code !== 0) return 1;
    await loadImage(cluster.value, IMAGE_TAR);
    if (args.some((arg) => !arg.startsWith("-"))) {
      return (await runProgram(testWords(args), own)).code;
    }
    return await runAll(args, own);
  } finally {
    if (Deno.env.get("KEEP_CLUSTER") !== "1") await down(DIR);
  }
}

/** One file after the other on the cluster, where releases share the annotation key; in parallel those that need none. */
async function runAll(args: string[], own: { env: Record<string, string>; signal: AbortSignal }): Promise<number> {
  const files = testsIn("tests/e2e").sort();
  const alone = files.filter((file) => WITHOUT_CLUSTER.some((name) => file.endsWith(`/${name}_test.ts`)));
  const lanes = [files.filter((file) => !alone.includes(file)), alone];
  const ran = await Promise.all(
    lanes.map((files) => runFiles({ files, atOnce: 1, ...own })),
  );
  await writeReport(args, ...ran.map(({ report }) => report));
  return ran.some(({ code }) => code !== 0) ? 1 : 0;
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  Deno.stderr.writeSync(new TextEncoder().encode(`tests/e2e: ${(error as Error).message}\n`));
  Deno.exit(1);
}
