/**
 * Runs test files, each in a process of its own, so that none takes others with it, and some at once: most of their time they wait
 * for processes. Prints whole lines, each with the name of the file that it is of, and writes one JUnit report.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { failuresOf, flakyElement } from "./counts.ts";

const root = dirname(import.meta.dirname!);

export interface FilesOptions {
  /** Relative to the project's root. */
  readonly files: readonly string[];
  /** How many run at once. */
  readonly atOnce: number;
  /** What the longest are called, longest first: they begin first, so that none is left over at the end. */
  readonly longest?: readonly string[];
  readonly env?: Record<string, string>;
  readonly signal?: AbortSignal;
}

/** With more red files than that something is broken, and to run them again would only take time. */
const AGAIN_AT_MOST = 3;

/**
 * A red file is run again when all others have ended: its second outcome counts, and what failed the first time is named as flaky.
 *
 * @returns the exit code, 0 if all passed, and the JUnit reports.
 */
export async function runFiles(options: FilesOptions): Promise<{ code: number; report: string }> {
  const { files, atOnce, longest = [] } = options;
  const place = (file: string) => {
    const at = longest.findIndex((name) => file.endsWith(`/${name}_test.ts`));
    return at < 0 ? longest.length : at;
  };
  const order = files.toSorted((a, b) => place(a) - place(b) || (a < b ? -1 : 1));
  const ran: Ran[] = [];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let file = order.shift(); file !== undefined; file = order.shift()) ran.push(await runFile(file, options));
  }));
  const red = ran.filter(({ code }) => code !== 0);
  if (red.length <= AGAIN_AT_MOST && !options.signal?.aborted) {
    for (const first of red) {
      console.log(`${nameOf(first.file)}: failed; it is run again`);
      const second = await runFile(first.file, options);
      if (second.code !== 0) continue;
      ran[ran.indexOf(first)] = { ...second, report: second.report + flakyReport(first) };
    }
  }
  return { code: ran.find(({ code }) => code !== 0)?.code ?? 0, report: ran.map(({ report }) => report).join("\n") };
}

interface Ran {
  readonly file: string;
  readonly code: number;
  /** JUnit's. */
  readonly report: string;
}

/** What is appended to the report of a file that passed the second time only. */
function flakyReport({ file, report, code }: Ran): string {
  const failed = failuresOf(report);
  if (failed.length === 0) failed.push(`${file}: outside of a test, with exit code ${code}`);
  return failed.map(flakyElement).join("\n");
}

/** The test files in a folder and those below; all relative to the project's root. */
export function testsIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(join(root, folder))).flatMap(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? testsIn(path) : name.endsWith("_test.ts") ? [path] : [];
  });
}

function nameOf(file: string): string {
  return file.replace(/^tests\/|_test\.ts$/g, "");
}

async function runFile(file: string, { env = {}, signal: stop }: FilesOptions): Promise<Ran> {
  const report = await Deno.makeTempFile({ prefix: "packet-capture-", suffix: ".xml" });
  const begin = performance.now();
  const child = new Deno.Command(join(root, "tools/deno"), {
    args: ["test", "--allow-all", "--no-check", `--junit-path=${report}`, file],
    cwd: root,
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(stop === undefined ? {} : { signal: stop }),
  }).spawn();
  const name = nameOf(file);
  const [{ code, signal }] = await Promise.all([child.status, pass(child.stdout, name), pass(child.stderr, name)]);
  const how = signal === null ? `ended with ${code}` : `ended by ${signal}`;
  console.log(`${name}: ${how} after ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  const text = await Deno.readTextFile(report);
  await Deno.remove(report);
  return { file, code, report: text };
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

/** Writes the reports where `--junit-path=FILE` among the arguments says. */
export async function writeReport(args: readonly string[], ...reports: string[]): Promise<void> {
  const path = args.find((arg) => arg.startsWith("--junit-path="))?.slice("--junit-path=".length);
  if (path !== undefined) await Deno.writeTextFile(path, reports.join("\n"));
}
