/**
 * Shows what the unit tests do not notice: StrykerJS makes mistakes in the lines of src/ that a change touches, runs the unit
 * test that belongs to the file, and lists the mistakes that survived. Nothing is stored, and a survivor fails nothing: read each, and
 * write the test that is missing, or leave it if it changes nothing that anybody can see (docs/mutants.md).
 *
 *     tools/deno run -A tools/mutate.ts [--least=PERCENT] [SINCE | FILE… | FOLDER…]
 *
 * SINCE: a commit; the lines changed since then, uncommitted ones too. FILE: a file of src/, whole. FOLDER: all files of a folder of
 * src/, one after the other. Default: origin/main, else HEAD. PERCENT: exits with 1 if fewer mutants of a run
 * are noticed. DENO_JOBS: mutants at once. Default: one for each core.
 */
// deno-lint-ignore-file no-console
import { dirname, join, relative } from "@std/path";
import { bounded, testWords } from "../tests/driver.ts";

/** Runs on the Deno that runs this. */
const STRYKER = "@stryker-mutator/core@10.1.1";
/** A mutant that takes so much longer than the test without it hangs. */
const TIMEOUT_MS = 20_000;
/** Ends a test that hangs: Stryker gives up waiting for it, but leaves it running. */
const TEST_S = 60;

const root = dirname(import.meta.dirname!);
const cache = join(Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME") ?? "/tmp", ".cache"), "packet-capture");

/**
 * Reads which lines of src/ a diff adds or changes.
 *
 * @param diff of `git diff --unified=0`.
 * @returns `file:first-last` for each place.
 */
export function changedLines(diff: string): string[] {
  const found: string[] = [];
  let file: string | undefined;
  for (const line of diff.split("\n")) {
    const name = /^\+\+\+ (?:b\/(.+)|\/dev\/null)$/.exec(line);
    if (name) file = name[1];
    const [, first, count = "1"] = /^@@ -\S+ \+(\d+)(?:,(\d+))? @@/.exec(line) ?? [];
    if (first === undefined || count === "0" || !file?.startsWith("src/") || !file.endsWith(".ts")) continue;
    found.push(`${file}:${first}-${Number(first) + Number(count) - 1}`);
  }
  return found;
}

/** Returns the unit tests of a file of src/: its own, or all of its folder's. */
async function testsOf(file: string): Promise<string> {
  const own = file.replace(/^src/, "tests/unit").replace(/\.ts$/, "_test.ts");
  const isThere = await Deno.stat(join(root, own)).then(() => true, () => false);
  return isThere ? own : dirname(own);
}

async function output(command: string, args: readonly string[], cwd = root): Promise<string> {
  const child = new Deno.Command(command, { args: [...args], cwd, stderr: "inherit", stdin: "null" });
  const { code, stdout } = await child.output();
  if (code !== 0) throw new Error(`Cannot run ${command} ${args.join(" ")}: it ended with code ${code}`);
  return new TextDecoder().decode(stdout);
}

/** Installs Stryker, once. @returns the folder that it is in. */
async function stryker(): Promise<string> {
  const folder = join(cache, STRYKER.replaceAll(/[/@]+/g, "-").replace(/^-/, ""));
  if (await Deno.stat(folder).then(() => true, () => false)) return folder;
  console.log(`installing ${STRYKER} from npm`);
  await Deno.mkdir(cache, { recursive: true });
  const half = await Deno.makeTempDir({ dir: cache, prefix: ".stryker-" });
  await Deno.writeTextFile(join(half, "deno.json"), JSON.stringify({ nodeModulesDir: "auto" }));
  await output(Deno.execPath(), ["install", "--quiet", `npm:${STRYKER}`], half);
  await Deno.rename(half, folder);
  return folder;
}

/** What is read of Stryker's report. */
interface Report {
  readonly files: Readonly<Record<string, { readonly mutants: readonly { readonly status: string }[] }>>;
}

/** What became of the mutants of one run. */
interface Tally {
  readonly targets: readonly string[];
  readonly noticed: number;
  readonly all: number;
  readonly seconds: number;
}

/** Runs Stryker over what one test, or one folder of tests, belongs to. */
async function mutate(strykerFolder: string, test: string, targets: readonly string[]): Promise<Tally> {
  console.log(`\n== ${test}: ${targets.join(" ")}`);
  const folder = await Deno.makeTempDir({ prefix: "packet-capture-mutate-" });
  const start = performance.now();
  try {
    const config = join(folder, "stryker.json");
    const report = join(folder, "report.json");
    await Deno.writeTextFile(
      config,
      JSON.stringify({
        testRunner: "command",
        commandRunner: {
          command: bounded(
            testWords(["--quiet", "--fail-fast", "--preload=tools/mutate_hits.ts", test], "tools/deno"),
            TEST_S,
          ).join(" "),
        },
        mutate: targets,
        timeoutMS: TIMEOUT_MS,
        concurrency: Number(Deno.env.get("DENO_JOBS") ?? navigator.hardwareConcurrency),
        reporters: ["clear-text", "json"],
        jsonReporter: { fileName: report },
        clearTextReporter: { allowColor: false, logTests: false, reportTests: false },
        tempDirName: join(folder, "trees"),
        plugins: [],
        checkers: [],
      }),
    );
    const program = join(strykerFolder, "node_modules/@stryker-mutator/core/bin/stryker.js");
    await new Deno.Command(Deno.execPath(), {
      args: ["run", "--allow-all", `--config=${join(strykerFolder, "deno.json")}`, program, "run", config],
      cwd: root,
      env: { MUTATE_HITS: join(folder, "hits.json") },
      stdin: "null",
    }).spawn().status;
    const { files } = JSON.parse(await Deno.readTextFile(report)) as Report;
    const statuses = Object.values(files).flatMap(({ mutants }) => mutants.map(({ status }) => status));
    const noticed = statuses.filter((status) => status === "Killed" || status === "Timeout").length;
    const seconds = Math.round((performance.now() - start) / 1000);
    return { targets, noticed, all: statuses.length, seconds };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Lists the files of src/ that are named, also by their folder. */
async function filesOf(names: readonly string[]): Promise<string[]> {
  const files: string[] = [];
  for (const name of names.map((name) => relative(root, join(root, name)))) {
    if (name.endsWith(".ts")) files.push(name);
    else for await (const entry of Deno.readDir(join(root, name))) files.push(join(name, entry.name));
  }
  return files.filter((name) => name.endsWith(".ts")).sort();
}

/** Returns what to mutate in each run: a named file by itself, so that its survivors and its time are its own. */
async function runsOf(args: readonly string[]): Promise<[test: string, targets: string[]][]> {
  if (args.length > 0 && args.every((arg) => arg.startsWith("src/"))) {
    const files = await filesOf(args);
    return await Promise.all(files.map(async (file): Promise<[string, string[]]> => [await testsOf(file), [file]]));
  }
  const since = args[0] ??
    (await output("git", ["rev-parse", "--verify", "--quiet", "origin/main"]).then(
      (text) => text.trim(),
      () => "HEAD",
    ));
  const diff = await output("git", ["diff", "--unified=0", "--no-color", "--no-ext-diff", since, "--", "src"]);
  const targets = new Map<string, string[]>();
  for (const place of changedLines(diff)) {
    const test = await testsOf(place.replace(/:.*/, ""));
    targets.set(test, [...targets.get(test) ?? [], place]);
  }
  return [...targets];
}

if (import.meta.main) {
  const least = Number(Deno.args.find((arg) => arg.startsWith("--least="))?.replace("--least=", "") ?? 0);
  const runs = await runsOf(Deno.args.filter((arg) => !arg.startsWith("--")));
  if (runs.length === 0) console.log("no line of src/ has changed");
  else {
    const folder = await stryker();
    const tallies: Tally[] = [];
    for (const [test, targets] of runs) tallies.push(await mutate(folder, test, targets));
    for (const { targets, noticed, all, seconds } of tallies) {
      const tooFew = 100 * noticed < least * all;
      if (tooFew) Deno.exitCode = 1;
      console.log(
        `${noticed} of ${all} noticed in ${seconds} s: ${targets.join(" ")}${tooFew ? ` (less than ${least} %)` : ""}`,
      );
    }
  }
}
