import assert from "node:assert/strict";
import { join } from "@std/path";
import { anyOf, readMutants } from "../../../tools/mutants.ts";
import { countsOf, failuresOf, sum, summary } from "../../counts.ts";
import { ROOT, run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";
import { tree } from "../../rig/tree.ts";

Deno.test("countsOf() counts tests, and a run that failed outside any test as one failed", () => {
  const report = (...cases: string[]) =>
    `<testsuites>${cases.map((inner) => `<testcase name="a">${inner}</testcase>`)}</testsuites>`;
  assert.deepEqual(countsOf(report("", ""), 0), { passed: 2, failed: 0, skipped: 0 });
  assert.deepEqual(countsOf(report("", `<failure message="x">y</failure>`, "<skipped/>"), 1), {
    passed: 1,
    failed: 1,
    skipped: 1,
  });
  assert.deepEqual(countsOf(report("", ""), 1), { passed: 2, failed: 1, skipped: 0 });
  assert.deepEqual(countsOf("", 0), { passed: 0, failed: 1, skipped: 0 });
});

Deno.test("failuresOf() names what did not pass, with the first line of why", () => {
  const report = `<testsuites><testsuite name="a">
    <testcase name="a &lt;b&gt; &amp;amp;" classname="./tests/a_test.ts" time="0.1" line="1" col="2">
      <failure message="Uncaught Error: it&apos;s &quot;wrong&quot;\n    at b">stack</failure>
    </testcase>
    <testcase name="fine" classname="./tests/a_test.ts">
    </testcase>
    <testcase name="left out" classname="./tests/a_test.ts">
      <skipped/>
    </testcase>
    <testcase name="core-guard"><failure /></testcase>
  </testsuite></testsuites>`;
  assert.deepEqual(failuresOf(report), [
    `./tests/a_test.ts: a <b> &amp;: Uncaught Error: it's "wrong"`,
    "./tests/a_test.ts: left out: skipped",
    "core-guard: failure",
  ]);
});

Deno.test("summary() says what CI reads, and what was skipped only if something was", () => {
  const counts = sum([{ passed: 1, failed: 2, skipped: 0 }, { passed: 10, failed: 0, skipped: 0 }]);
  assert.equal(summary(counts), "11 passed, 2 failed");
  assert.equal(summary({ ...counts, skipped: 3 }), "11 passed, 2 failed, 3 skipped");
});

/** Runs the gate's steps `args` in a project that has these test files only. */
async function gate(files: Record<string, string>, args: string[]): Promise<Said & { lastLine: string }> {
  await using project = await tree(
    "deno.json",
    "deno.lock",
    "node_modules",
    "tools/deno",
    "tools/offline",
    "tests/run.ts",
    "tests/counts.ts",
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

Deno.test(".ci/run runs make check, and its last line is the sum, also when nothing ran; it fails as make does", async () => {
  for (
    const [make, lastLine, status] of [
      ['[[ $* == check ]] && echo "12 passed, 0 failed"', "12 passed, 0 failed", 0],
      [
        'echo "3 passed, 0 failed, 1 skipped"; echo "make: *** [check] Error 1"; exit 2',
        "3 passed, 0 failed, 1 skipped",
        2,
      ],
      ["exit 2", "0 passed, 1 failed", 2],
    ] as const
  ) {
    await using programs = await standIns({ make });
    const { code, stdout } = await run(join(ROOT, ".ci/run"), [], { env: { PATH: programs.path } });
    assert.equal(stdout.trimEnd().split("\n").at(-1), lastLine);
    assert.equal(code, status);
  }
});

/** Runs the mutants `mutants` of a project with one function and two tests of it. */
async function mutants(mutants: Record<string, unknown>[], args: string[] = []): Promise<Said> {
  await using project = await tree(
    "deno.json",
    "deno.lock",
    "node_modules",
    "tools/deno",
    "tools/offline",
    "tools/mutants.ts",
    "tests/counts.ts",
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

Deno.test("anyOf() takes what one of its filters takes, whether it is a text or a pattern", () => {
  const one = new RegExp(anyOf(["a ring (3) never", "/^get|stop$/"]).slice(1, -1));
  const names = ["a ring (3) never has", "a ring 3 never has", "get merges", "they stop", "they stop here"];
  assert.deepEqual(names.filter((name) => one.test(name)), ["a ring (3) never has", "get merges", "they stop"]);
});

Deno.test("the text of every guard occurs exactly once in its file, and its test file is there", async () => {
  const all = await readMutants();
  const wrong: string[] = [];
  for (const { id, file, find, replace, test } of all) {
    const times = (await Deno.readTextFile(join(ROOT, file))).split(find).length - 1;
    if (times !== 1) wrong.push(`${id}: its text occurs ${times} times in ${file}`);
    if (find === replace) wrong.push(`${id}: changes nothing`);
    if (!await Deno.stat(join(ROOT, test)).then(({ isFile }) => isFile, () => false)) wrong.push(`${id}: no ${test}`);
  }
  assert.deepEqual(wrong, []);
  assert.equal(new Set(all.map(({ id }) => id)).size, all.length, "IDs are used once");
});
