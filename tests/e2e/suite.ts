/**
 * Runs the end-to-end tests on a local cluster of their own: brings it up, builds the image and loads it, runs `deno test` with
 * the arguments given here, takes the cluster down. `KEEP_CLUSTER=1` leaves it up, for the next run to be quick; E2E_CLUSTER_DIR
 * is another folder for it:
 *
 *     KEEP_CLUSTER=1 tools/deno run --allow-all tests/e2e/suite.ts tests/e2e/image_test.ts
 */
import { join, resolve } from "node:path";
import { down, loadImage, up } from "../cluster/cluster.ts";
import { IMAGE_TAR } from "./release.ts";

const ROOT = join(import.meta.dirname!, "../..");
const DIR = resolve(Deno.env.get("E2E_CLUSTER_DIR") || join(ROOT, ".cache/e2e-cluster"));

async function main(args: string[]): Promise<number> {
  const interrupted = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => interrupted.abort());
  const make = async (...argv: string[]) => {
    const command = new Deno.Command(argv[0]!, {
      args: argv.slice(1),
      cwd: ROOT,
      env: { CLUSTER_DIR: DIR },
      stdin: "null",
      signal: interrupted.signal,
    });
    return (await command.spawn().status).code;
  };
  try {
    if (await make("make", "image") !== 0) return 1;
    await loadImage(await up(DIR), IMAGE_TAR);
    const which = args.some((a) => !a.startsWith("-")) ? args : [...args, "tests/e2e"];
    return await make("tools/deno", "test", "--allow-all", "--no-check", ...which);
  } finally {
    if (Deno.env.get("KEEP_CLUSTER") !== "1") await down(DIR);
  }
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  Deno.stderr.writeSync(new TextEncoder().encode(`tests/e2e: ${(error as Error).message}\n`));
  Deno.exit(1);
}
