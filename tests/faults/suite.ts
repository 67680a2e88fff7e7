/**
 * Runs all tests of faults, sees that each row of tests/faults.json was recorded and that docs/reliability.md is as it was
 * written, or, with --write, writes it. FAULTS=full: every fault as long and as large as its words say, which takes half an hour.
 *
 *     tools/deno run -A tests/faults/suite.ts [--write] [--junit-path=FILE]
 */
// deno-lint-ignore-file no-console
import { circumstances, missing, problems, render, REPORT, ROWS } from "../faults_report.ts";
import { runFiles, testsIn, writeReport } from "../driver.ts";
import type { FaultResult } from "./fault.ts";

const write = Deno.args.includes("--write");
const now = await circumstances();
if (write && now.changed) {
  console.log("docs/reliability.md holds the figures of a commit: commit what is changed in src and tests first");
  Deno.exit(2);
}
const results = await Deno.makeTempFile({ prefix: "packet-capture-faults-", suffix: ".jsonl" });
const wrong: string[] = [];
let code = 0;
try {
  // Their own figures are seconds, and they share the cores.
  const ran = await runFiles({
    files: testsIn("tests/faults"),
    atOnce: Math.min(navigator.hardwareConcurrency, 4),
    env: { FAULTS_RESULTS: results },
  });
  code = ran.code;
  await writeReport(Deno.args, ran.report);
  const recorded: FaultResult[] = (await Deno.readTextFile(results)).split("\n").filter(Boolean).map((line) =>
    JSON.parse(line)
  );
  wrong.push(...missing(ROWS, recorded));
  if (!write) {
    wrong.push(...await problems(ROWS, await Deno.readTextFile(REPORT).catch(() => "")));
  } else if (code === 0 && wrong.length === 0) {
    await Deno.writeTextFile(REPORT, await render(ROWS, recorded, now));
  }
} finally {
  await Deno.remove(results);
}
for (const line of wrong) console.log(line);
Deno.exit(code === 0 && wrong.length === 0 ? 0 : 1);
