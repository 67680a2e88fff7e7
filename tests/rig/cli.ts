/** Runs the command line from its sources, or any other program, and waits for what it says. */
import { resolve } from "@std/path";
import { ROOT } from "../support/paths.ts";
import { attempt, type RunResult } from "../support/run.ts";

export { ROOT };

export type Said = RunResult;

export interface RunOptions {
  /** Besides these the program sees PATH, HOME and where Deno's caches are. */
  readonly env?: Record<string, string>;
  readonly cwd?: string;
  /** @default 60_000 */
  readonly deadlineMs?: number;
}

/**
 * The arguments with which Deno runs a module of ours: with this test's import map, without a lock file to change, and with the
 * packages that are in node_modules as they are. (Without a lock file it would ask npm which there are.)
 *
 * @param module relative to `root`, or absolute.
 */
export function denoArgs(module: string, root = ROOT): string[] {
  const map = Deno.env.get("PACKET_CAPTURE_IMPORT_MAP");
  const options = map === undefined ? [] : [`--import-map=${map}`];
  return [
    "run",
    "--allow-all",
    "--no-check",
    "--no-lock",
    "--node-modules-dir=manual",
    ...options,
    resolve(root, module),
  ];
}

/** A command to run `packet-capture` from its sources in `root`. */
export function cliCommand(
  args: readonly string[],
  { env = {}, cwd = "/" }: RunOptions = {},
  root = ROOT,
): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...denoArgs("src/main.ts", root), ...args],
    cwd,
    clearEnv: true,
    env: { ...basics(), NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs `packet-capture` from its sources. */
export async function cli(args: readonly string[], options: RunOptions = {}): Promise<Said> {
  return said(await cliCommand(args, options).output());
}

/** Runs a program to its end. */
export async function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Said> {
  return await attempt([program, ...args], {
    clearEnv: true,
    env: { ...basics(), ...options.env },
    cwd: options.cwd ?? "/",
    timeoutMs: options.deadlineMs ?? 60_000,
  });
}

/** What any program, and Deno for finding what it has downloaded, needs of this process's environment. */
function basics(): Record<string, string> {
  const names = ["PATH", "HOME", "XDG_CACHE_HOME", "DENO_DIR", "JSR_URL"];
  return Object.fromEntries(names.flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  }));
}

function said({ code, stdout, stderr }: Deno.CommandOutput): Said {
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}
