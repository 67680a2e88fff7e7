/**
 * The one driver of `deno test`: how it is called, how long it may take, what it says, and its JUnit report. Whatever it runs ends
 * with the process that runs it, however that ends. Test files that run at once are processes of their own, so that none takes
 * others with it; their lines come whole, each with the name of the file that it is of.
 */
// deno-lint-ignore-file no-console
import { dirname, join } from "@std/path";
import { failuresOf, flakyElement } from "./counts.ts";

const root = dirname(import.meta.dirname!);

/** What has been told to end, and does not, is killed then. The local cluster is taken down meanwhile. */
const KILL_AFTER_S = 60;
/** With them timeout(1) says that it ended the command, in vain at first, too. */
const LATE = [124, 137];

/**
 * Returns the words that run a command so that it, with its process group, is told to end when its time is up, and when the
 * process that starts it ends.
 *
 * @param seconds 0: no time is too long.
 */
export function bounded(argv: readonly string[], seconds = 0): string[] {
  return [
    ...["setpriv", "--pdeathsig", "TERM", "--"],
    ...["timeout", `--kill-after=${KILL_AFTER_S}`, String(seconds), ...argv],
  ];
}

export interface ProgramOptions {
  /** The folder that it runs in. @default the project's root */
  readonly tree?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** A program that has not ended by then hangs, and is ended. @default never */
  readonly seconds?: number;
  readonly signal?: AbortSignal | undefined;
  /** Takes its lines, without colours. @default they go where this process's own go */
  readonly line?: (line: string) => void;
}

export interface Ended {
  readonly code: number;
  readonly signal: Deno.Signal | null;
  /** Whether it was ended because its time was up. */
  readonly late: boolean;
}

/** Runs a program to its end. */
export async function runProgram(argv: readonly string[], options: ProgramOptions = {}): Promise<Ended> {
  const { tree = root, env = {}, seconds = 0, signal: stop, line } = options;
  const [program, ...args] = bounded(argv, seconds);
  const output = line ? "piped" : "inherit";
  const child = new Deno.Command(program!, {
    args,
    cwd: tree,
    env: line ? { NO_COLOR: "1", ...env } : { ...env },
    stdin: "null",
    stdout: output,
    stderr: output,
    ...(stop === undefined ? {} : { signal: stop }),
  }).spawn();
  const streams = line ? [child.stdout, child.stderr].map((stream) => pass(stream, line)) : [];
  const [{ code, signal }] = await Promise.all([child.status, ...streams]);
  return { code, signal, late: seconds > 0 && signal === null && LATE.includes(code) };
}

export interface Reported extends Ended {
  /** JUnit's; empty if it wrote none. */
  readonly report: string;
}

/** Runs a program that writes a JUnit report to the file that `--junit-path=FILE` names. */
export async function runReported(argv: readonly string[], options: ProgramOptions = {}): Promise<Reported> {
  const path = await Deno.makeTempFile({ prefix: "packet-capture-", suffix: ".xml" });
  try {
    const ended = await runProgram([...argv, `--junit-path=${path}`], options);
    return { ...ended, report: await Deno.readTextFile(path) };
  } finally {
    await Deno.remove(path);
  }
}

/** Returns the words that run test files, or those of folders; among them may be more options of `deno test`. */
export function testWords(paths: readonly string[], deno = join(root, "tools/deno")): string[] {
  return [deno, "test", "--allow-all", "--no-check", ...paths];
}

/** Runs `deno test` in a tree, with the Deno of that tree. */
export async function denoTest(paths: readonly string[], options: ProgramOptions = {}): Promise<Reported> {
  return await runReported(testWords(paths, join(options.tree ?? root, "tools/deno")), options);
}

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
 * Runs test files, some at once: most of their time they wait for processes. A red file is run again when all others have ended: its
 * second outcome counts, and what failed the first time is named as flaky.
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

interface Ran extends Reported {
  readonly file: string;
}

/** Returns what is appended to the report of a file that passed the second time only. */
function flakyReport({ file, report, code }: Ran): string {
  const failed = failuresOf(report);
  if (failed.length === 0) failed.push(`${file}: outside of a test, with exit code ${code}`);
  return failed.map(flakyElement).join("\n");
}

/** Lists the test files in a folder and those below; all relative to the project's root. */
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
  const begin = performance.now();
  const name = nameOf(file);
  const reported = await denoTest([file], { env, signal: stop, line: (line) => console.log(`${name}: ${line}`) });
  const { code, signal } = reported;
  const how = signal === null ? `ended with ${code}` : `ended by ${signal}`;
  console.log(`${name}: ${how} after ${((performance.now() - begin) / 1000).toFixed(1)} s`);
  return { ...reported, file };
}

/** Passes whole lines on: those of several programs come mixed. */
async function pass(stream: ReadableStream<Uint8Array>, line: (line: string) => void): Promise<void> {
  let rest = "";
  for await (const chunk of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + chunk).split("\n");
    rest = lines.pop() ?? "";
    for (const whole of lines) line(whole);
  }
  if (rest !== "") line(rest);
}

/** Returns the file that `--junit-path=FILE` among the arguments names. */
export function reportPath(args: readonly string[]): string | undefined {
  return args.find((arg) => arg.startsWith("--junit-path="))?.slice("--junit-path=".length);
}

/** Writes the reports where `--junit-path=FILE` among the arguments says. */
export async function writeReport(args: readonly string[], ...reports: string[]): Promise<void> {
  const path = reportPath(args);
  if (path !== undefined) await Deno.writeTextFile(path, reports.join("\n"));
}
