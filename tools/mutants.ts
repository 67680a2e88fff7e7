/**
 * Proves that tests can fail. Each guard of tests/mutants/guards.json is a small mistake in what protects data and security. It is
 * put into a copy of the tree, and the test that is named with it has to go red there, after it was green without.
 *
 *     tools/deno run -A tools/mutants.ts [--in-check] [--junit-path=FILE] [ID…]
 *
 * --in-check: only the guards that run in every `make check`. IDs: only these.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { countsOf } from "../tests/counts.ts";
import { denoTest, reportPath } from "../tests/driver.ts";

export interface Mutant {
  readonly id: string;
  /** The file to change, the text in it that occurs exactly once, and what takes its place. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** The test file that has to go red, and the names of its tests (deno test --filter). */
  readonly test: string;
  readonly filter?: string;
  /** Runs in every `make check`. @default false */
  readonly inCheck?: boolean;
}

/** A test that hangs because of a mutant is red, but nobody should wait longer for that. */
const DEADLINE_S = 180;
/** How much is shown of what a test said that should have been green. */
const LINES_SHOWN = 60;

const root = dirname(import.meta.dirname!);

/** Reads all guards of the tree. */
export async function readMutants(): Promise<Mutant[]> {
  return JSON.parse(await Deno.readTextFile(join(root, "tests/mutants/guards.json")));
}

/** Copies what git knows or would add, into a repository of its own; node_modules is shared. */
async function copyTree(to: string): Promise<void> {
  const git = async (cwd: string, ...args: string[]) =>
    new TextDecoder().decode((await new Deno.Command("git", { args, cwd }).output()).stdout);
  const listed = await git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate");
  for (const path of listed.split("\0").filter(Boolean)) {
    const target = join(to, path);
    await Deno.mkdir(dirname(target), { recursive: true });
    await Deno.copyFile(join(root, path), target).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // deleted but not yet committed
    });
  }
  await Deno.symlink(join(root, "node_modules"), join(to, "node_modules"));
  // Some tests ask git which files there are.
  await git(to, "init", "--quiet");
  await git(to, "add", "--all");
  await git(to, "-c", "user.name=mutants", "-c", "user.email=mutants@localhost", "commit", "--quiet", "--message=copy");
}

/** Runs a mutant's test in a tree: green (something ran, nothing failed), red (a test failed), or neither and why. */
async function runTest(tree: string, mutant: Mutant): Promise<{ is: "green" | "red" | string; said: string }> {
  const { test, filter } = mutant;
  const filters = filter === undefined ? [] : [`--filter=${filter}`];
  const lines: string[] = [];
  const { code, signal, late, report } = await denoTest([...filters, test], {
    tree,
    seconds: DEADLINE_S,
    line: (line) => lines.push(line),
  });
  const said = lines.join("\n");
  if (signal !== null || late) return { is: "red", said };
  if (code === 0) return { is: countsOf(report, code).passed > 0 ? "green" : "no test ran", said };
  return { is: /<failure[ >]/.test(report) ? "red" : `no test failed, but the run did: ${said}`, said };
}

/** What `deno test --filter` takes for tests that any of these filters takes: a text to be found, or /a pattern/. */
export function anyOf(filters: readonly string[]): string {
  const pattern = (filter: string) =>
    /^\/.+\/$/.test(filter) ? filter.slice(1, -1) : filter.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return `/${filters.map((filter) => `(?:${pattern(filter)})`).join("|")}/`;
}

/** Returns what has to be green without any mutant: the tests of all chosen ones in this file, in one run. */
function greenTest(mutant: Mutant, chosen: readonly Mutant[]): Mutant {
  const { filter: _own, ...whole } = mutant;
  const filters = chosen.filter(({ test }) => test === mutant.test).map(({ filter }) => filter);
  if (filters.includes(undefined)) return whole;
  return { ...mutant, filter: anyOf([...new Set(filters as string[])]) };
}

/** Undefined if the mutant was caught, else why not. */
async function tryMutant(
  tree: string,
  mutant: Mutant,
  chosen: readonly Mutant[],
  greenBefore: Set<string>,
): Promise<string | undefined> {
  const green = greenTest(mutant, chosen);
  const test = `${green.test} ${green.filter ?? ""}`;
  if (!greenBefore.has(test)) {
    const { is, said } = await runTest(tree, green);
    if (is !== "green") {
      return `${mutant.test} is not green without it: ${is}\n${said.trim().split("\n").slice(-LINES_SHOWN).join("\n")}`;
    }
    greenBefore.add(test);
  }
  const path = join(tree, mutant.file);
  const source = await Deno.readTextFile(path);
  const occurrences = source.split(mutant.find).length - 1;
  if (occurrences !== 1) return `its text occurs ${occurrences} times in ${mutant.file}, it has to be once`;
  await Deno.writeTextFile(path, source.replace(mutant.find, () => mutant.replace));
  try {
    const { is } = await runTest(tree, mutant);
    return is === "red" ? undefined : `${mutant.test} did not go red: ${is}`;
  } finally {
    await Deno.writeTextFile(path, source);
  }
}

async function main(args: readonly string[]): Promise<number> {
  const named = args.filter((arg) => !arg.startsWith("--"));
  const inCheck = args.includes("--in-check");
  const report = reportPath(args);
  const all = await readMutants();
  const unknown = named.find((name) => !all.some(({ id }) => id === name));
  if (unknown !== undefined) {
    console.log(`tools/mutants.ts: tests/mutants/guards.json has no guard "${unknown}"`);
    return 2;
  }
  const chosen = all.filter(({ id, inCheck: always }) => named.length > 0 ? named.includes(id) : always || !inCheck);
  const cases: string[] = [];
  const tree = await Deno.makeTempDir({ prefix: "packet-capture-mutants-" });
  try {
    await copyTree(tree);
    const greenBefore = new Set<string>();
    for (const mutant of chosen) {
      const begin = performance.now();
      const survived = await tryMutant(tree, mutant, chosen, greenBefore);
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      console.log(`${mutant.id} … ${survived === undefined ? "caught" : `SURVIVED: ${survived}`} (${seconds} s)`);
      cases.push(`<testcase name="${mutant.id}">${survived === undefined ? "" : "<failure />"}</testcase>`);
    }
  } finally {
    await Deno.remove(tree, { recursive: true });
  }
  if (report !== undefined) await Deno.writeTextFile(report, `<testsuites>${cases.join("\n")}</testsuites>\n`);
  const survivors = cases.filter((line) => line.includes("<failure")).length;
  console.log(`${chosen.length - survivors} of ${chosen.length} guards caught`);
  return survivors === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
