/**
 * Runs all tests of faults, sees that each row of tests/faults.json was recorded and that docs/reliability.md is as it was
 * written, or, with --write, writes it. FAULTS=full: every fault as long and as large as its words say, which takes half an hour.
 *
 *     tools/deno run -A tests/faults/suite.ts [--write] [--junit-path=FILE]
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { circumstances, missing, problems, render, REPORT, ROWS } from "../faults_report.ts";
import type { FaultResult } from "./fault.ts";

const root = dirname(dirname(import.meta.dirname!));
const write = Deno.args.includes("--write");
const now = await circumstances();
if (write && now.changed) {
  console.log("docs/reliability.md holds the figures of a commit: commit what is changed in src and tests first");
  Deno.exit(2);
}
const results = await Deno.makeTempFile({ prefix: "packet-capture-faults-", suffix: ".jsonl" });
const wrong: string[] = [];
const junit = Deno.args.find((arg) => arg.startsWith("--junit-path="))?.slice("--junit-path=".length);
let code = 0;
try {
  const files = Array.from(Deno.readDirSync(import.meta.dirname!), ({ name }) => name)
    .filter((name) => name.endsWith("_test.ts")).sort();
  const reports: string[] = [];
  // A process for each file, so that none takes others with it; as many at once as there are cores, for they share them.
  await Promise.all(Array.from({ length: Math.min(navigator.hardwareConcurrency, 4) }, async () => {
    for (let file = files.shift(); file !== undefined; file = files.shift()) {
      const report = await Deno.makeTempFile({ suffix: ".xml" });
      const ended = await runFile(file, report);
      code ||= ended;
      reports.push(await Deno.readTextFile(report));
      await Deno.remove(report);
    }
  }));
  if (junit !== undefined) await Deno.writeTextFile(junit, reports.join("\n"));
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

async function runFile(file: string, report: string): Promise<number> {
  const child = new Deno.Command(join(root, "tools/deno"), {
    args: ["test", "--allow-all", "--no-check", `--junit-path=${report}`, join("tests/faults", file)],
    cwd: root,
    env: { FAULTS_RESULTS: results, NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const name = file.replace("_test.ts", "");
  const [{ code, signal }] = await Promise.all([child.status, pass(child.stdout, name), pass(child.stderr, name)]);
  if (signal !== null) console.log(`${name}: ended by ${signal}`);
  return code;
}

/** Prints whole lines, each with the name of the file that it is of: those of several files come mixed. */
async function pass(stream: ReadableStream<Uint8Array>, name: string): Promise<void> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) console.log(`${name}: ${line}`);
  }
  if (rest !== "") console.log(`${name}: ${rest}`);
}
