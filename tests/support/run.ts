/** Runs one command to its end: argv only, a deadline always, and its last words in the error. */

export interface RunOptions {
  /** Milliseconds. @default 30_000 */
  timeoutMs?: number;
  cwd?: string;
  env?: Record<string, string>;
  /** Whether it sees `env` alone, and nothing of this process's environment. @default false */
  clearEnv?: boolean;
  /** Given to its standard input, which is closed otherwise. */
  input?: string | Uint8Array;
  /** Ends the command early. */
  signal?: AbortSignal;
}

export interface RunResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** The command could not be run, was too slow, or exited with another code than 0. */
export class CommandError extends Error {
  override name = "CommandError";
  constructor(message: string, readonly result?: RunResult) {
    super(message);
  }
}

/** Runs `argv` and gives its code and output, whatever the code is; throws `CommandError` when it is missing or too slow. */
export async function attempt(argv: readonly string[], options: RunOptions = {}): Promise<RunResult> {
  const [program, ...args] = argv;
  const timeoutMs = options.timeoutMs ?? 30_000;
  // Not AbortSignal.timeout: once listened to it keeps the process alive until its time is up.
  const late = new AbortController();
  const signal = options.signal ? AbortSignal.any([late.signal, options.signal]) : late.signal;
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program!, {
      args,
      stdin: options.input === undefined ? "null" : "piped",
      stdout: "piped",
      stderr: "piped",
      ...(options.cwd ? { cwd: options.cwd } : {}),
      ...(options.env ? { env: options.env } : {}),
      clearEnv: options.clearEnv ?? false,
    }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new CommandError(`Cannot run ${program}: it is not installed (tools/install installs it)`);
    }
    throw error;
  }
  const timer = setTimeout(() => late.abort(new Error("too slow")), timeoutMs);
  try {
    if (options.input !== undefined) {
      const bytes = typeof options.input === "string" ? new TextEncoder().encode(options.input) : options.input;
      const writer = child.stdin.getWriter();
      writer.write(bytes).then(() => writer.close()).catch(() => {}); // not awaited: it may end, or want to be read, before it reads
    }
    // Raced, since a grandchild may hold the pipes open after the child has been killed.
    const { code, stdout, stderr } = await Promise.race([child.output(), aborted(signal)]);
    return { code, stdout: decode(stdout), stderr: decode(stderr) };
  } catch (error) {
    if (!signal.aborted) throw error;
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    options.signal?.throwIfAborted();
    throw new CommandError(`${argv.join(" ")} took longer than ${timeoutMs / 1000} s`);
  } finally {
    clearTimeout(timer);
  }
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  });
}

/** Runs `argv` and gives its standard output; throws `CommandError` unless it exits with 0. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await attempt(argv, options);
  if (result.code !== 0) {
    throw new CommandError(`${argv.join(" ")} exited with ${result.code}${lastWords(result)}`, result);
  }
  return result.stdout;
}

function decode(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function lastWords(result: RunResult): string {
  const said = (result.stderr.trim() || result.stdout.trim()).split("\n").slice(-12).join("\n");
  return said ? `:\n${said}` : "";
}
