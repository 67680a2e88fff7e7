import assert from "node:assert/strict";
import { join } from "@std/path";
import { anyOf, readMutants } from "../../../tools/mutants.ts";
import { countsOf, failuresOf, flakyElement, flakyOf, sum, summary } from "../../counts.ts";
import { runFiles, runProgram } from "../../driver.ts";
import { denoArgs, ROOT, run } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";
import { tree } from "../../rig/tree.ts";
import { startOf } from "../../support/daemon.ts";
import { waitFor } from "../../support/wait.ts";

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

Deno.test("failuresOf() names what did not pass, with the first lines of why", () => {
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
    `./tests/a_test.ts: a <b> &amp;: Uncaught Error: it's "wrong"\n        at b`,
    "./tests/a_test.ts: left out: skipped",
    "core-guard: failure",
  ]);
});

Deno.test("a file that fails once and passes when run again is green, and named as flaky; one that fails twice is red", async () => {
  const dir = await Deno.makeTempDir({ prefix: "pc-files-" });
  try {
    const file = async (name: string, body: string) => {
      const path = join(dir, `${name}_test.ts`);
      await Deno.writeTextFile(path, `Deno.test("of ${name}", () => { ${body} });`);
      return path;
    };
    const runs = join(dir, "runs");
    const green = await file("green", "");
    const once = await file(
      "once",
      `const path = ${JSON.stringify(runs)};
      let runs = 1;
      try { runs += Deno.readTextFileSync(path).length } catch {}
      Deno.writeTextFileSync(path, "x".repeat(runs));
      if (runs === 1) throw new Error("first & \\"only\\"");`,
    );
    const flaky = await runFiles({ files: [green, once], atOnce: 2 });
    assert.equal(flaky.code, 0);
    assert.deepEqual(countsOf(flaky.report, flaky.code), { passed: 2, failed: 0, skipped: 0 });
    const [said, ...more] = flakyOf(flaky.report);
    assert.deepEqual(more, []);
    assert.match(said ?? "", /once_test\.ts: of once: Uncaught Error: first & "only"/);
    assert.deepEqual(failuresOf(flaky.report), []);

    const broken = await file("broken", `throw new Error("always")`);
    const red = await runFiles({ files: [green, broken], atOnce: 1 });
    assert.equal(red.code, 1);
    assert.deepEqual(countsOf(red.report, red.code), { passed: 1, failed: 1, skipped: 0 });
    assert.deepEqual(flakyOf(red.report), []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("what the driver runs ends with the process that runs it, and what it has started, too", async () => {
  const script = "sleep 1000 & echo $$ $!; wait";
  const program = `import { runProgram } from "${import.meta.resolve("../../driver.ts")}";
    await runProgram(["bash", "-c", "${script}"], { line: console.log });`;
  await using project = await tree();
  await project.write("main.ts", program);
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArgs("main.ts", project.path),
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  const pids = new TextDecoder().decode((await reader.read()).value).trim().split(" ").map(Number);
  try {
    assert.equal(pids.length, 2);
    for (const pid of pids) assert.ok(startOf(pid), `process ${pid} does not run`);
  } finally {
    child.kill("SIGKILL");
    await reader.cancel();
    await child.status;
  }
  await waitFor("the end of both", () => pids.every((pid) => startOf(pid) === undefined), { timeoutMs: 10_000 });
});

Deno.test("a program that the driver ends because its time is up is late, and one that ends by itself is not", async () => {
  assert.deepEqual(await runProgram(["sleep", "1000"], { seconds: 0.05 }), { code: 124, signal: null, late: true });
  assert.deepEqual(await runProgram(["false"], { seconds: 60 }), { code: 1, signal: null, late: false });
});

Deno.test("flakyOf() gives back what flakyElement() was given", () => {
  for (const said of [`a "b" <c> & 'd' &amp;`, "two\nlines"]) assert.deepEqual(flakyOf(flakyElement(said)), [said]);
});

Deno.test("summary() reports what CI reads, and what was skipped only if something was", () => {
  const counts = sum([{ passed: 1, failed: 2, skipped: 0 }, { passed: 10, failed: 0, skipped: 0 }]);
  assert.equal(summary(counts), "11 passed, 2 failed");
  assert.equal(summary({ ...counts, skipped: 3 }), "11 passed, 2 failed, 3 skipped");
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

Deno.test("anyOf() takes what one of its filters takes, whether it is a text or a pattern", () => {
  const one = new RegExp(anyOf(["a ring (3) never", "/^get|stop$/"]).slice(1, -1));
  const names = ["a ring (3) never has", "a ring 3 never has", "get merges", "they stop", "they stop here"];
  assert.deepEqual(names.filter((name) => one.test(name)), ["a ring (3) never has", "get merges", "they stop"]);
});

/** The texts that a test file writes between quotes: the names of its tests are among them. */
async function textsIn(test: string): Promise<string[]> {
  const source = await Deno.readTextFile(join(ROOT, test));
  return Array.from(source.matchAll(/(["`])((?:(?!\1).)*)\1/g), ([, , text]) => text!);
}

Deno.test("the text of every guard occurs exactly once in its file, and its test is there", async () => {
  const all = await readMutants();
  const wrong: string[] = [];
  for (const { id, file, find, replace, test, filter } of all) {
    const times = (await Deno.readTextFile(join(ROOT, file))).split(find).length - 1;
    if (times !== 1) wrong.push(`${id}: its text occurs ${times} times in ${file}`);
    if (find === replace) wrong.push(`${id}: changes nothing`);
    const texts = await textsIn(test).catch(() => []);
    // Faults write the colon between their ID and their words in one place.
    const name = filter && new RegExp(anyOf([filter.replace(/:$/, "")]).slice(1, -1));
    if (!texts.some((text) => !name || name.test(text))) wrong.push(`${id}: ${test} has no test ${filter ?? ""}`);
  }
  assert.deepEqual(wrong, []);
  assert.equal(new Set(all.map(({ id }) => id)).size, all.length, "IDs are used once");
});
