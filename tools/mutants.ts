/**
 * Proves that tests can fail: each mutant of tests/mutants/*.json is a small mistake put into a copy of the tree, and the test that
 * is named with it has to go red there, after it was green without.
 *
 *     tools/deno run -A tools/mutants.ts [--in-check] [--junit-path=FILE] [ID|FILE…]
 *
 * --in-check: only the mutants that run in every `make check`. IDs, or names of files without .json: only these. Tests of tests/e2e
 * run on one cluster, which stays up from mutant to mutant.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { countsOf } from "../tests/counts.ts";

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
  /** The name of its file of tests/mutants, without .json. */
  readonly area: string;
}

/** A test that hangs because of a mutant is red, but nobody should wait longer for that. */
const DEADLINE_MS = 180_000;
/** The same with bringing up a cluster, building the image and installing it. */
const E2E_DEADLINE_MS = 900_000;
/** How much is shown of what a test said that should have been green. */
const LINES_SHOWN = 60;

const root = dirname(import.meta.dirname!);

/** All mutants of the tree. */
export async function readMutants(): Promise<Mutant[]> {
  const folder = join(root, "tests/mutants");
  const names = Array.from(Deno.readDirSync(folder), ({ name }) => name).filter((name) => name.endsWith(".json"));
  const files = await Promise.all(
    names.sort().map(async (name): Promise<Mutant[]> => {
      const mutants: Omit<Mutant, "area">[] = JSON.parse(await Deno.readTextFile(join(folder, name)));
      return mutants.map((mutant) => ({ ...mutant, area: name.replace(".json", "") }));
    }),
  );
  return files.flat();
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
  // Some tests ask git which files there are, and the image which commit it is of.
  await git(to, "init", "--quiet");
  await git(to, "add", "--all");
  await git(to, "-c", "user.name=mutants", "-c", "user.email=mutants@localhost", "commit", "--quiet", "--message=copy");
}

const isE2e = ({ test }: Mutant) => test.startsWith("tests/e2e/");
const clusterOf = (tree: string) => ({ KEEP_CLUSTER: "1", E2E_CLUSTER_DIR: join(tree, ".cluster") });

/** Runs a mutant's test in a tree: green (something ran, nothing failed), red (a test failed), or neither and why. */
async function runTest(tree: string, mutant: Mutant): Promise<{ is: "green" | "red" | string; said: string }> {
  const junit = join(tree, "junit.xml");
  await Deno.remove(junit).catch(() => {});
  const { test, filter } = mutant;
  const how = isE2e(mutant) ? ["run", "--allow-all", "tests/e2e/suite.ts"] : ["test", "--allow-all", "--no-check"];
  const child = new Deno.Command(join(tree, "tools/deno"), {
    args: [...how, `--junit-path=${junit}`, ...filter === undefined ? [] : [`--filter=${filter}`], test],
    cwd: tree,
    env: { NO_COLOR: "1", ...clusterOf(tree) },
    stdin: "null",
    signal: AbortSignal.timeout(isE2e(mutant) ? E2E_DEADLINE_MS : DEADLINE_MS),
  });
  const { code, signal, stdout, stderr } = await child.output();
  const said = new TextDecoder().decode(stderr) + new TextDecoder().decode(stdout);
  if (signal !== null) return { is: "red", said };
  const report = await Deno.readTextFile(junit).catch(() => "");
  if (code === 0) return { is: countsOf(report, code).passed > 0 ? "green" : "no test ran", said };
  return { is: /<failure[ >]/.test(report) ? "red" : `no test failed, but the run did: ${said}`, said };
}

/** What `deno test --filter` takes for tests that any of these filters takes: a text to be found, or /a pattern/. */
export function anyOf(filters: readonly string[]): string {
  const pattern = (filter: string) =>
    /^\/.+\/$/.test(filter) ? filter.slice(1, -1) : filter.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return `/${filters.map((filter) => `(?:${pattern(filter)})`).join("|")}/`;
}

/** The test that has to be green without the mutant: its own, or on a cluster, where each run costs, all of the file at once. */
function greenTest(mutant: Mutant, chosen: readonly Mutant[]): Mutant {
  if (!isE2e(mutant)) return mutant;
  const { filter: _all, ...all } = mutant;
  const filters = chosen.filter(({ test }) => test === mutant.test).map(({ filter }) => filter);
  if (filters.includes(undefined)) return all;
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
  const report = args.find((arg) => arg.startsWith("--junit-path="))?.slice("--junit-path=".length);
  const all = await readMutants();
  const unknown = named.find((name) => !all.some(({ id, area }) => id === name || area === name));
  if (unknown !== undefined) {
    console.log(`tools/mutants.ts: tests/mutants has no mutant and no file "${unknown}"`);
    return 2;
  }
  const chosen = all.filter(({ id, area, inCheck: always }) =>
    named.length > 0 ? named.includes(id) || named.includes(area) : always || !inCheck
  );
  const cases: string[] = [];
  const tree = await Deno.makeTempDir({ prefix: "packet-capture-mutants-" });
  try {
    await copyTree(tree);
    const greenBefore = new Set<string>();
    for (const mutant of chosen) {
      const survived = await tryMutant(tree, mutant, chosen, greenBefore);
      console.log(`${mutant.id} … ${survived === undefined ? "caught" : `SURVIVED: ${survived}`}`);
      cases.push(`<testcase name="${mutant.id}">${survived === undefined ? "" : "<failure />"}</testcase>`);
    }
  } finally {
    if (chosen.some(isE2e)) {
      const args = ["run", "--allow-all", "tests/cluster/main.ts", "down"];
      const env = { CLUSTER_DIR: clusterOf(tree).E2E_CLUSTER_DIR };
      await new Deno.Command(join(tree, "tools/deno"), { args, cwd: tree, env, stdin: "null" }).output();
    }
    await Deno.remove(tree, { recursive: true });
  }
  if (report !== undefined) await Deno.writeTextFile(report, `<testsuites>${cases.join("\n")}</testsuites>\n`);
  const survivors = cases.filter((line) => line.includes("<failure")).length;
  console.log(`${chosen.length - survivors} of ${chosen.length} mutants caught`);
  return survivors === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
