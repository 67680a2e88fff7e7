/** The programs of the version before, from the repository's own history, and those of these sources, as bundles. */
import { join } from "@std/path";
import { cached } from "../support/cache.ts";
import { attempt, run } from "../support/run.ts";
import { ROOT } from "./cli.ts";
import { tree } from "./tree.ts";

/** The last commit that wrote manifests without `size`, `budget` and `clockSteps`, and sentences without a trailer. */
const FORMER = "cba36af883370dfe2958681781dd5296553b1977";

/** The bundles of one version. */
export interface Programs {
  readonly controller: string;
  readonly plugin: string;
}

/** Returns the programs of the version before, built once for each machine. */
export async function formerPrograms(): Promise<Programs> {
  const folder = await cached(`former-${FORMER}`, "the bundles of the version before", async (out) => {
    const git = ["git", "-C", ROOT, "-c", "safe.directory=*"];
    if ((await attempt([...git, "cat-file", "-e", `${FORMER}^{commit}`])).code !== 0) {
      throw new Error(
        `Cannot build the version before: this clone lacks commit ${FORMER.slice(0, 7)}; ` +
          "the clone must be whole (git fetch --unshallow)",
      );
    }
    const archive = join(out, "sources.tar");
    await run([...git, "archive", `--output=${archive}`, FORMER]);
    const sources = join(out, "sources");
    await Deno.mkdir(sources);
    await run(["tar", "-xf", archive, "-C", sources]);
    await bundle(sources);
    await Deno.rename(join(sources, "dist"), join(out, "dist"));
    await Deno.remove(sources, { recursive: true });
    await Deno.remove(archive);
  });
  return programsIn(join(folder, "dist"));
}

/** Builds the programs of these sources into a folder. */
export async function presentPrograms(folder: string): Promise<Programs> {
  await using sources = await tree("deno.json", "deno.lock", "node_modules", "tools", "src");
  await bundle(sources.path);
  const dist = join(folder, "dist");
  await run(["cp", "-a", join(sources.path, "dist"), dist]);
  return programsIn(dist);
}

/** Returns the words that run a bundle, with nothing else to be had. */
export function bundleArgv(bundle: string): string[] {
  return [
    Deno.execPath(),
    "run",
    "--quiet",
    "--no-config",
    "--no-lock",
    "--no-npm",
    "--no-remote",
    "--allow-all",
    bundle,
  ];
}

async function bundle(sources: string): Promise<void> {
  await run([join(sources, "tools/deno"), "run", "-A", "--no-check", "tools/bundle.ts"], {
    cwd: sources,
    timeoutMs: 300_000,
  });
}

function programsIn(dist: string): Programs {
  return { controller: join(dist, "packet-capture.cjs"), plugin: join(dist, "kubectl-packet_capture.js") };
}
