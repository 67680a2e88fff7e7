/** The gate and the guards, run whole in small projects. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { ROOT, run, type Said } from "../../rig/cli.ts";
import { tree } from "../../rig/tree.ts";

/** What a project needs for its own Deno. */
const DENO = ["deno.json", "deno.lock", "node_modules", "tools/deno", "tools/offline"];

/** What runs tests and counts them. */
const DRIVER = ["tests/driver.ts", "tests/counts.ts"];

/** Runs the gate's steps `args` in a project that has these test files only. */
async function gate(files: Record<string, string>, args: string[]): Promise<Said & { lastLine: string }> {
  await using project = await tree(
    ...DENO,
    "tests/run.ts",
    ...DRIVER,
  );
  for (const [file, text] of Object.entries(files)) await project.write(file, text);
  const said = await run(`${project.path}/tools/deno`, ["run", "-A", "--no-check", "tests/run.ts", ...args], {
    cwd: project.path,
  });
  return { ...said, lastLine: said.stdout.trimEnd().split("\n").at(-1)! };
}

const green = `Deno.test("a", () => {}); Deno.test("b", async (t) => { await t.step("c", () => {}); });`;

Deno.test("the gate adds up suites, and ends with the sum and exit 0 when all is green", async () => {
  const { code, lastLine, stdout } = await gate({ "tests/unit/a_test.ts": green, "tests/chart/a_test.ts": green }, [
    "unit",
    "chart",
  ]);
  assert.equal(lastLine, "6 passed, 0 failed");
  assert.match(stdout, /^unit: 3 passed, 0 failed in [0-9.]+ s$/m);
  assert.equal(code, 0);
});

Deno.test("the gate fails on a failed test, a skipped test, a test file that does not load, and a suite without tests", async () => {
  const file = "./tests/unit/b_test.ts";
  const cases: [string, RegExp, string][] = [
    [`Deno.test("x", () => { throw new Error("y"); });`, /^1 passed, 1 failed$/, `${file}: x: Uncaught Error: y`],
    [`Deno.test.ignore("x", () => {});`, /^1 passed, 0 failed, 1 skipped$/, `${file}: x: skipped`],
    [
      `throw new Error("cannot load");`,
      /^1 passed, 1 failed$/,
      "outside of a test, with exit code 1",
    ],
    [`Deno.kill(Deno.pid, "SIGKILL");`, /^0 passed, 1 failed$/, "outside of a test, with SIGKILL"],
  ];
  for (const [code, lastLine, failure] of cases) {
    const said = await gate({ "tests/unit/a_test.ts": `Deno.test("a", () => {});`, "tests/unit/b_test.ts": code }, [
      "unit",
    ]);
    assert.match(said.lastLine, lastLine);
    assert.ok(said.stdout.split("\n").includes(`unit: ${failure}`), said.stdout);
    assert.equal(said.code, 1, code);
  }
  const empty = await gate({}, ["unit"]);
  assert.equal(empty.lastLine, "0 passed, 1 failed");
  assert.equal(empty.code, 1);
});

Deno.test("the gate refuses a step that it does not have", async () => {
  const { code, stdout } = await gate({}, ["units"]);
  assert.equal(code, 2);
  // These are all, and `make check` runs all.
  const steps = "fmt, lint, types, shell, unit, integration, faults, chart, e2e, guards";
  assert.ok(stdout.includes(`tests/run.ts: no step "units": ${steps} are accepted\n`), stdout);
  const makefile = await Deno.readTextFile(join(ROOT, "Makefile"));
  assert.match(makefile, /^check: install\n\t@tools\/deno run --allow-all tests\/run\.ts$/m);
});

Deno.test("test files run in processes of their own, the longest first: one that dies takes none with it", async () => {
  await using project = await tree(
    ...DENO,
    ...DRIVER,
  );
  await project.write("tests/suite/a_test.ts", `Deno.test("first", () => {});`);
  await project.write(
    "tests/suite/below/dies_test.ts",
    `Deno.test("dies", () => { Deno.kill(Deno.pid, "SIGKILL"); });`,
  );
  await project.write("tests/suite/long_test.ts", `Deno.test("last", () => {});`);
  await project.write(
    "main.ts",
    `import { runFiles, testsIn } from "./tests/driver.ts";
    const { code, report } = await runFiles({ files: testsIn("tests/suite"), atOnce: 1, longest: ["suite/long"] });
    console.log(code, report.match(/testcase name="[a-z]+"/g).join());`,
  );
  const { stdout } = await run(`${project.path}/tools/deno`, ["run", "-A", "--no-check", "main.ts"], {
    cwd: project.path,
  });
  assert.deepEqual(stdout.match(/^suite\/\S+: ended .*(?= after)/gm), [
    "suite/long: ended with 0",
    "suite/a: ended with 0",
    "suite/below/dies: ended by SIGKILL",
    // It is run again, and counts as red then.
    "suite/below/dies: ended by SIGKILL",
  ]);
  assert.match(stdout, /^137 testcase name="last",testcase name="first"$/m);
});

/** Runs the mutants `mutants` of a project with one function and two tests of it. */
async function mutants(mutants: Record<string, unknown>[], args: string[] = []): Promise<Said> {
  await using project = await tree(
    ...DENO,
    "tools/mutants.ts",
    ...DRIVER,
  );
  await project.write("src/add.ts", `export function add(a: number, b: number) {\n  return a + b;\n}\n`);
  await project.write(
    "tests/add_test.ts",
    `import { add } from "../src/add.ts";
    Deno.test("strict", () => { if (add(1, 1) !== 2 || add(1, 2) !== 3) throw new Error(); });
    Deno.test("blind", () => { add(1, 2); });`,
  );
  await project.write("tests/red_test.ts", `Deno.test("red", () => { throw new Error(); });`);
  await project.write("tests/mutants/guards.json", JSON.stringify(mutants));
  await project.write(".gitignore", "node_modules\n");
  await run("git", ["init", "-q"], { cwd: project.path });
  const said = await run(`${project.path}/tools/deno`, ["run", "-A", "--no-check", "tools/mutants.ts", ...args], {
    cwd: project.path,
  });
  return { ...said, stdout: said.stdout.replace(/ \([0-9.]+ s\)$/gm, "") };
}

const mutant = { file: "src/add.ts", find: "a + b", replace: "a * b", test: "tests/add_test.ts" };

Deno.test("mutants: one that a test notices is caught, and the sources stay as they are", async () => {
  const { code, stdout } = await mutants([{ id: "times", ...mutant }, {
    id: "minus",
    ...mutant,
    replace: "a - b",
    filter: "strict",
  }]);
  assert.match(stdout, /^times … caught\nminus … caught\n2 of 2 guards caught$/m);
  assert.equal(code, 0);
});

Deno.test("mutants: one that no test notices survives, and so does one that breaks the run without a test failing", async () => {
  const { code, stdout } = await mutants([
    { id: "blind", ...mutant, filter: "blind" },
    { id: "no-such-test", ...mutant, filter: "nothing" },
    { id: "does-not-load", ...mutant, find: "export function", replace: "function" },
    { id: "gone", ...mutant, find: "a ** b" },
    { id: "twice", ...mutant, find: "a" },
  ]);
  assert.match(stdout, /^blind … SURVIVED: tests\/add_test\.ts did not go red: green$/m);
  assert.match(stdout, /^no-such-test … SURVIVED: tests\/add_test\.ts did not go red: no test ran$/m);
  assert.match(
    stdout,
    /^does-not-load … SURVIVED: tests\/add_test\.ts did not go red: no test failed, but the run did:/m,
  );
  assert.match(stdout, /^gone … SURVIVED: its text occurs 0 times in src\/add\.ts, it has to be once$/m);
  assert.match(stdout, /^twice … SURVIVED: its text occurs \d+ times/m);
  assert.match(stdout, /^0 of 5 guards caught$/m);
  assert.equal(code, 1);
});

Deno.test("mutants: --in-check takes only those meant for it", async () => {
  const { code, stdout } = await mutants([{ id: "often", ...mutant, inCheck: true }, {
    id: "blind",
    ...mutant,
    filter: "blind",
  }], ["--in-check"]);
  assert.match(stdout, /^often … caught\n1 of 1 guards caught$/m);
  assert.equal(code, 0);
});

Deno.test("mutants: a test that is not green without any mutant proves nothing", async () => {
  const { code, stdout } = await mutants([{ id: "red-before", ...mutant, test: "tests/red_test.ts" }]);
  assert.match(stdout, /^red-before … SURVIVED: tests\/red_test\.ts is not green without it: red$/m);
  assert.equal(code, 1);
});

Deno.test("mutants: IDs choose, and what is none is refused", async () => {
  const all = [{ id: "times", ...mutant }, { id: "minus", ...mutant, replace: "a - b" }];
  assert.match((await mutants(all, ["minus"])).stdout, /^minus … caught\n1 of 1 guards caught$/m);
  const { code, stdout } = await mutants(all, ["plus"]);
  assert.match(stdout, /^tools\/mutants\.ts: tests\/mutants\/guards\.json has no guard "plus"$/m);
  assert.equal(code, 2);
});
