/**
 * The gate: runs every step of `make check`, or the steps named as arguments, prints each one's time, what did not pass, and as the
 * last line `N passed, N failed` (and `, N skipped`). A skipped test fails it as a failed one does. A file of integration, faults or e2e
 * that failed is run again: what passes only then is named as flaky.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { type Counts, countsOf, failuresOf, flakyOf, sum, summary } from "./counts.ts";
import { denoTest, type ProgramOptions, type Reported, runProgram, runReported } from "./driver.ts";

const root = dirname(import.meta.dirname!);
const deno = join(root, "tools/deno");

/** A step that has not ended by then hangs, and is ended. */
const MINUTES = {
  fmt: 2,
  lint: 2,
  types: 5,
  shell: 2,
  unit: 10,
  integration: 20,
  faults: 20,
  chart: 10,
  e2e: 45,
  guards: 10,
};
type Step = keyof typeof MINUTES;

/** In the order in which they run: what is quick to fail comes first. */
const STEPS: Readonly<Record<Step, () => Promise<Counts>>> = {
  fmt: () => command("fmt", [deno, "fmt", "--check"]),
  lint: () => command("lint", [deno, "lint"]),
  types: () => command("types", [deno, "check", "src", "tests", "tools"]),
  shell: async () => command("shell", ["shellcheck", ...await shellScripts()]),
  // Half of a unit test's time is a wait for a process: two files a core.
  unit: () =>
    tests("unit", (options) => {
      const env = { DENO_JOBS: String(2 * navigator.hardwareConcurrency) };
      return denoTest(["--parallel", "tests/unit"], { ...options, env });
    }),
  integration: () => tests("integration", program("tests/integration/suite.ts")),
  faults: () => tests("faults", program("tests/faults/suite.ts")),
  chart: () => tests("chart", (options) => denoTest(["tests/chart"], options)),
  e2e: () => tests("e2e", program("tests/e2e/suite.ts")),
  guards: () => tests("guards", program("tools/mutants.ts", "--in-check")),
};

/** A step that is not made of tests counts as one. */
async function command(step: Step, argv: readonly string[]): Promise<Counts> {
  const { code, signal } = await runProgram(argv, { seconds: MINUTES[step] * 60 });
  const success = code === 0 && signal === null;
  if (!success) failures.push(`${step}: its words are above`);
  return { passed: success ? 1 : 0, failed: success ? 0 : 1, skipped: 0 };
}

type Run = (options: ProgramOptions) => Promise<Reported>;

/** Runs a program of the project that writes a report. */
function program(...words: readonly string[]): Run {
  return (options) => runReported([deno, "run", "--allow-all", ...words], options);
}

/** Counts by the report of what runs. */
async function tests(step: Step, run: Run): Promise<Counts> {
  const { code, signal, report } = await run({ seconds: MINUTES[step] * 60 });
  const counts = countsOf(report, code);
  const named = failuresOf(report);
  if (counts.failed > 0 && named.length === 0) named.push(`outside of a test, with ${signal ?? `exit code ${code}`}`);
  failures.push(...named.map((line) => `${step}: ${line}`));
  flaky.push(...flakyOf(report).map((line) => `flaky, a defect to be mended: ${step}: ${line}`));
  return counts;
}

/** Files that git has, or would add, and whose first line names a shell. */
async function shellScripts(): Promise<string[]> {
  const { stdout } = await new Deno.Command("git", {
    args: ["grep", "--untracked", "-lIE", "-e", "^#!.*[/ ](ba|da)?sh( |$)"],
    cwd: root,
  }).output();
  const found: string[] = [];
  for (const path of new TextDecoder().decode(stdout).split("\n").filter(Boolean)) {
    if ((await Deno.readTextFile(join(root, path))).startsWith("#!")) found.push(path);
  }
  return found;
}

const named = Deno.args.length === 0 ? Object.keys(STEPS) : Deno.args;
const unknown = named.find((name) => !(name in STEPS));
if (unknown !== undefined) {
  console.log(`tests/run.ts: no step "${unknown}": ${Object.keys(STEPS).join(", ")} are accepted`);
  Deno.exit(2);
}

const all: Counts[] = [];
const failures: string[] = [];
/** What failed once, and passed when its file was run again. */
const flaky: string[] = [];
const lines: string[] = [];
for (const step of named as Step[]) {
  console.log(`== ${step}`);
  const begin = performance.now();
  const counts = await STEPS[step]();
  all.push(counts);
  lines.push(`${step}: ${summary(counts)} in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  console.log(lines.at(-1));
}
const total = sum(all);
console.log(["", ...flaky, ...failures, "", ...lines, "", summary(total)].join("\n"));
Deno.exit(total.failed === 0 && total.skipped === 0 ? 0 : 1);
