/**
 * The gate: runs every step of `make check`, or the steps named as arguments, prints each one's time, what did not pass, and as the
 * last line `N passed, N failed` (and `, N skipped`). A skipped test fails it as a failed one does. A file of integration, faults or e2e
 * that failed is run again: what passes only then is named as flaky.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { type Counts, countsOf, failuresOf, flakyOf, sum, summary } from "./counts.ts";

const root = dirname(import.meta.dirname!);
const deno = join(root, "tools/deno");

/** A step that has not ended by then hangs. */
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
  unit: () => suite("unit", ["--parallel"], { DENO_JOBS: String(2 * navigator.hardwareConcurrency) }),
  integration: () => tests("integration", [deno, "run", "--allow-all", "tests/integration/suite.ts"]),
  faults: () => tests("faults", [deno, "run", "--allow-all", "tests/faults/suite.ts"]),
  chart: () => suite("chart", []),
  e2e: () => tests("e2e", [deno, "run", "--allow-all", "tests/e2e/suite.ts"]),
  guards: () => tests("guards", [deno, "run", "--allow-all", "tools/mutants.ts", "--in-check"]),
};

/** A step that is not made of tests counts as one. */
async function command(step: Step, argv: readonly string[]): Promise<Counts> {
  const { success } = await run(step, argv);
  if (!success) failures.push(`${step}: its words are above`);
  return { passed: success ? 1 : 0, failed: success ? 0 : 1, skipped: 0 };
}

function suite(step: Step, options: readonly string[], env: Record<string, string> = {}): Promise<Counts> {
  return tests(step, [deno, "test", "--allow-all", "--no-check", ...options, `tests/${step}`], env);
}

/** Runs what writes a JUnit report to the file named by --junit-path, and counts by that. */
async function tests(step: Step, argv: readonly string[], env: Record<string, string> = {}): Promise<Counts> {
  const report = await Deno.makeTempFile({ prefix: "packet-capture-", suffix: ".xml" });
  try {
    const { code, signal } = await run(step, [...argv, `--junit-path=${report}`], env);
    const text = await Deno.readTextFile(report);
    const counts = countsOf(text, code);
    const named = failuresOf(text);
    if (counts.failed > 0 && named.length === 0) named.push(`outside of a test, with ${signal ?? `exit code ${code}`}`);
    failures.push(...named.map((line) => `${step}: ${line}`));
    flaky.push(...flakyOf(text).map((line) => `flaky, a defect to be mended: ${step}: ${line}`));
    return counts;
  } finally {
    await Deno.remove(report);
  }
}

async function run(
  step: Step,
  [program, ...args]: readonly string[],
  env: Record<string, string> = {},
): Promise<Deno.CommandStatus> {
  try {
    return await new Deno.Command(program!, {
      args,
      cwd: root,
      env,
      stdin: "null",
      stdout: "inherit",
      stderr: "inherit",
      signal: AbortSignal.timeout(MINUTES[step] * 60_000),
    }).spawn().status;
  } catch (error) {
    console.log(`Cannot run ${program}: ${error instanceof Error ? error.message : error}`);
    return { success: false, code: 1, signal: null };
  }
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
