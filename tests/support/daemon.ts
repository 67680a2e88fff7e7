/**
 * Processes that outlive the command that started them. Each is known by its id *and* start time, so that a process id used
 * again by a stranger is never taken for ours, and carries the cluster's folder in its environment, by which all of a cluster's
 * are found, also when the launcher was killed before it could record one.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { Hopeless, waitFor, type WaitOptions } from "./wait.ts";

const MARK = "PACKET_CAPTURE_CLUSTER_PROCESS";

export interface Daemon {
  readonly name: string;
  readonly pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  readonly start: string;
}

export interface DaemonOptions {
  /** Besides these it sees PATH, HOME and its mark. */
  readonly env?: Record<string, string>;
  /** Whether the kernel kills it when the thread that starts it ends, however that happens. @default false */
  readonly endsWithStarter?: boolean;
}

/** Starts `argv` in a session of its own, its output appended to `<dir>/log/<name>.log`, and records it in `<dir>/pids`. */
export async function startDaemon(
  dir: string,
  name: string,
  argv: readonly string[],
  { env = {}, endsWithStarter = false }: DaemonOptions = {},
): Promise<Daemon> {
  const [program, ...args] = endsWithStarter ? endingWithStarter(argv) : argv;
  await Deno.mkdir(join(dir, "log"), { recursive: true });
  await Deno.mkdir(join(dir, "pids"), { recursive: true });
  const log = openSync(logPath(dir, name), "a");
  try {
    const child = spawn(program!, args, {
      cwd: dir,
      detached: true,
      stdio: ["ignore", log, log],
      env: { PATH: Deno.env.get("PATH")!, HOME: Deno.env.get("HOME") ?? "/root", ...env, [MARK]: dir },
    });
    child.on("error", () => {}); // without a pid it is reported below
    child.unref();
    const start = child.pid === undefined ? undefined : startOf(child.pid);
    if (start === undefined) {
      throw new Error(`Cannot start ${name}: ${argv[0]} ended at once${await logTail(dir, name)}`);
    }
    const daemon = { name, pid: child.pid!, start };
    await Deno.writeTextFile(join(dir, "pids", name), `${daemon.pid} ${start}\n`);
    return daemon;
  } finally {
    closeSync(log);
  }
}

/** The daemon `name` as recorded, or undefined when there is no record. It need not be alive. */
export async function recorded(dir: string, name: string): Promise<Daemon | undefined> {
  const text = await Deno.readTextFile(join(dir, "pids", name)).catch(() => "");
  const [pid, start] = text.trim().split(" ");
  return pid && start ? { name, pid: Number(pid), start } : undefined;
}

export function alive(daemon: Daemon): boolean {
  return startOf(daemon.pid) === daemon.start;
}

/**
 * Every living process of the cluster in `dir`, by its mark. The records are not asked: one may never have been written, and a
 * copy of the folder has those of the original.
 */
export async function daemonsOf(dir: string): Promise<Daemon[]> {
  const found: Daemon[] = [];
  const mark = `${MARK}=${dir}`;
  for await (const { name } of Deno.readDir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const environ = await Deno.readTextFile(`/proc/${name}/environ`).catch(() => "");
    const start = environ.split("\0").includes(mark) ? startOf(Number(name)) : undefined;
    if (start !== undefined) found.push({ name: `process ${name}`, pid: Number(name), start });
  }
  return found;
}

/** Kills each and waits until it has gone. */
export async function endAll(daemons: readonly Daemon[]): Promise<void> {
  for (const daemon of daemons) {
    try {
      if (alive(daemon)) Deno.kill(daemon.pid, "SIGKILL");
    } catch {
      // It went between the two.
    }
  }
  for (const daemon of daemons) {
    await waitFor(`the end of ${daemon.name} (process ${daemon.pid})`, () => !alive(daemon), {
      timeoutMs: 30_000,
      everyMs: 20,
    });
  }
}

/**
 * Waits until `look` gives something, but no longer than all these daemons of `dir` live.
 *
 * @throws {Error} with the ends of their logs.
 */
export async function until<T>(
  what: string,
  dir: string,
  daemons: readonly Daemon[],
  look: () => T | Promise<T>,
  options: WaitOptions = { everyMs: 50 },
): Promise<void> {
  try {
    await waitFor(what, () => {
      const dead = daemons.find((daemon) => !alive(daemon));
      if (dead) throw new Hopeless(`${dead.name} ended`);
      return look();
    }, options);
  } catch (error) {
    const tails = await Promise.all(daemons.map(({ name }) => logTail(dir, name)));
    throw new Error(`${(error as Error).message}${tails.join("")}`);
  }
}

/** Returns the words that run `argv` as a process that the kernel kills when the thread that starts it ends. */
export function endingWithStarter(argv: readonly string[]): string[] {
  return ["setpriv", "--pdeathsig", "KILL", "--", ...argv];
}

/** Finds the process that `unshare --fork` or `nsenter --pid` has started: its only child. */
export async function childOf(pid: number): Promise<number> {
  return await waitFor(`the child of process ${pid}`, async () => {
    const children = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    return Number(children.trim().split(" ")[0]) || undefined;
  }, { timeoutMs: 5000, everyMs: 5 });
}

/** The last lines of a daemon's log, to be put behind a sentence that says what went wrong; empty when there are none. */
export async function logTail(dir: string, name: string, lines = 15): Promise<string> {
  const text = await Deno.readTextFile(logPath(dir, name)).catch(() => "");
  const tail = text.trimEnd().split("\n").slice(-lines).join("\n");
  return tail ? `\n--- end of ${logPath(dir, name)}:\n${tail}` : "";
}

export function logPath(dir: string, name: string): string {
  return join(dir, "log", `${name}.log`);
}

/** Start time of a process that exists and is no zombie: tells it from a later one with the same id. */
export function startOf(pid: number): string | undefined {
  try {
    // The name, in brackets, may hold blanks and brackets of its own: count fields from the last one.
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields[0] === "Z" ? undefined : fields[19];
  } catch {
    return undefined;
  }
}
