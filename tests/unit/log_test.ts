import assert from "node:assert/strict";
import fc from "fast-check";
import { formatJson, formatLogfmt, type LogLine } from "../../src/log.ts";
import { denoArgs, run } from "../rig/cli.ts";
import { type Tree, tree } from "../rig/tree.ts";

const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)) });
const key = fc.string({ unit: fc.constantFrom(..."abcXYZ019_./-"), minLength: 1 });
const anyLine: fc.Arbitrary<LogLine> = fc.array(
  fc.tuple(key, fc.oneof(anyText, fc.integer(), fc.boolean(), fc.double(), fc.constantFrom(NaN, Infinity, -Infinity))),
  { minLength: 1 },
);

/** Reads a line strictly: `key=bare` or `key="quoted as JSON"`, one blank between them, nothing else. */
function parseLogfmt(line: string): [string, string][] {
  const pairs: [string, string][] = [];
  let rest = line;
  while (true) {
    const match = /^([A-Za-z0-9_./-]+)=("(?:[^"\\]|\\.)*"|[^ "=\\]+)( (?=.)|$)/.exec(rest);
    assert.ok(match, `cannot be read: ${rest}`);
    const [whole, name, value] = match as unknown as [string, string, string];
    pairs.push([name, value.startsWith('"') ? JSON.parse(value) : value]);
    rest = rest.slice(whole.length);
    if (rest === "") return pairs;
  }
}

Deno.test("formatLogfmt() makes one line that reads back to the same keys and values whatever they hold", () => {
  fc.assert(fc.property(anyLine, (line) => {
    const text = formatLogfmt(line);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(text, /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202e]/);
    assert.deepEqual(parseLogfmt(text), line.map(([key, value]) => [key, String(value)]));
  }));
});

Deno.test("formatJson() makes one line that is one JSON object with the same values whatever they hold", () => {
  fc.assert(fc.property(anyLine, (line) => {
    const text = formatJson(line);
    // deno-lint-ignore no-control-regex
    assert.doesNotMatch(text, /[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202e]/);
    const last = Object.fromEntries(line);
    for (const [key, value] of Object.entries(JSON.parse(text))) assert.equal(String(value), String(last[key]), key);
  }));
});

Deno.test("formatLogfmt() makes a key of any text", () => {
  assert.equal(formatLogfmt([["a b=\n", "x"], ["", 1]]), "a_b__=x _=1");
});

/** Lines of code with the log at hand. */
async function program(code: string): Promise<Tree> {
  const project = await tree("deno.json", "node_modules", "src/log.ts", "src/base");
  await project.write("main.ts", `import { getLog, setupLog, stderr } from "./src/log.ts";\n${code}`);
  return project;
}

/** Runs lines of code with the log at hand, in a process of its own, and returns the lines it wrote to stderr. */
async function logOf(code: string): Promise<string[]> {
  await using project = await program(code);
  const { stdout, stderr } = await run(Deno.execPath(), denoArgs("main.ts", project.path), { cwd: project.path });
  assert.equal(stdout, "");
  return stderr.split("\n").slice(0, -1);
}

Deno.test("getLog() writes one line per fact to stderr and leaves stdout alone", async () => {
  const lines = await logOf(`
    const log = getLog("captures");
    log.info("capture\\nstarted", { pod: "default/web-0", uid: undefined, error: new Error("no", { cause: new Error("room") }) });
    log.warn("odd", { big: 12n, none: null, list: [1, 2n], level: "mine", self: globalThis });
    log.debug("not shown");
    log.error("long", { value: "x".repeat(5000) });
  `);
  assert.equal(lines.length, 3);
  assert.match(
    lines[0]!,
    /^level=info msg="capture\\nstarted" pod=default\/web-0 error="no: room" component=captures time=20[-0-9]+T[0-9:.]+Z$/,
  );
  assert.match(
    lines[1]!,
    /^level=warn msg=odd big=12 none=null list="\[1,\\"2\\"\]" level_=mine self=.* component=captures time=/,
  );
  assert.match(lines[2]!, /^level=error msg=long value="x{1000}… \(5000 characters\)" component=/);
});

Deno.test("setupLog() sets level and format of logs handed out before", async () => {
  const lines = await logOf(`
    const log = getLog();
    setupLog({ level: "debug", format: "json" });
    log.debug("shown", { n: 1, t: true, nan: NaN });
    setupLog({ level: "error", format: "logfmt" });
    log.warn("not shown");
    log.error("shown");
  `);
  assert.equal(lines.length, 2);
  const { time, ...rest } = JSON.parse(lines[0]!);
  assert.deepEqual(rest, { level: "debug", msg: "shown", n: 1, t: true, nan: "NaN" });
  assert.ok(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  assert.match(lines[1]!, /^level=error msg=shown time=/);
});

Deno.test("a log that nobody reads stops nothing, and reports how much of it is missing", async () => {
  await using project = await program(`
    const log = getLog();
    for (let i = 0; i < 20_000; i++) log.info("line", { i, text: "x".repeat(100) });
    await new Promise((resolve) => setTimeout(resolve));
    console.log("alive");
    for await (const _ of Deno.stdin.readable);
    log.info("last");
    await stderr.flush(10_000);
    Deno.exit(0);
  `);
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArgs("main.ts", project.path),
    cwd: project.path,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  // Without a reader of its log it may stand still.
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  let log = "";
  try {
    const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    assert.equal((await output.read()).value, "alive\n");
    await output.cancel();
    let closed: Promise<void> | undefined;
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      log += text;
      // All that waited has been read: before that there may be no room for the last line either.
      if (log.includes("lines dropped")) closed ??= child.stdin.close();
    }
    await closed;
  } finally {
    clearTimeout(late);
  }
  assert.equal((await child.status).code, 0);
  const lines = log.trimEnd().split("\n");
  const dropped = lines.flatMap((line) =>
    /log lines dropped: stderr was not read in time" lines=(\d+) /.exec(line)?.[1] ?? []
  );
  assert.equal(dropped.length, 1);
  assert.equal(lines.filter((line) => / msg=line /.test(line)).length + Number(dropped[0]), 20_000);
  assert.match(lines.at(-1)!, / msg=last /);
});
