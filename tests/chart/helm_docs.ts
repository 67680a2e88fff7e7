/**
 * Makes charts/README.md from its template and the comments of values.yaml: `tools/deno run -A tests/chart/helm_docs.ts`. What
 * comes out is committed; a test makes it again and compares.
 */
import { join } from "@std/path";
import { cacheDir } from "../support/cache.ts";
import { run } from "../support/run.ts";
import { CHART } from "./helm.ts";

const MODULE = "github.com/norwoodj/helm-docs/cmd/helm-docs";
const VERSION = "v1.14.2";

/** Path of the committed README. */
export const README = join(CHART, "README.md");

/** The README as it should be. helm-docs is built from the Go module proxy the first time (a minute or more). */
export async function makeReadme(): Promise<string> {
  const text = await run([await helmDocs(), `--chart-search-root=${CHART}`, "--sort-values-order=file", "--dry-run"]);
  return `${text.trimEnd()}\n`;
}

async function helmDocs(): Promise<string> {
  const folder = join(cacheDir(), `helm-docs-${VERSION}`);
  const path = join(folder, "helm-docs");
  if (await Deno.stat(path).then(() => true, () => false)) return path;
  // Built aside and renamed: a build that is cut short leaves nothing that looks whole.
  await Deno.mkdir(cacheDir(), { recursive: true });
  const aside = await Deno.makeTempDir({ dir: cacheDir(), prefix: ".helm-docs-" });
  const env = { GOBIN: aside, CGO_ENABLED: "0" };
  try {
    await run(["go", "install", `${MODULE}@${VERSION}`], { env, timeoutMs: 600_000 });
    await Deno.mkdir(folder, { recursive: true });
    await Deno.rename(join(aside, "helm-docs"), path);
  } finally {
    await Deno.remove(aside, { recursive: true });
  }
  return path;
}

if (import.meta.main) await Deno.writeTextFile(README, await makeReadme());
