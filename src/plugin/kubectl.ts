/**
 * Runs the user's `kubectl`: argv arrays (never a shell), the user's kubeconfig, context and permissions, and a deadline on
 * every call. The only file of the plugin that starts kubectl.
 */
import { Deadline } from "../base/timeout.ts";
import { explain } from "./explain.ts";
import { Failure } from "./failure.ts";

/** Milliseconds that a call which only asks or patches something may take. kubectl itself waits for ever. */
export const CALL_DEADLINE_MS = 30_000;
/** Milliseconds between SIGTERM and SIGKILL for a kubectl that is to end. */
const KILL_AFTER_MS = 2_000;
/** Characters of stderr that are kept (the last ones): an error is at the end. */
const STDERR_KEPT = 16_384;

export interface KubectlOptions {
  /** The executable, looked up in PATH. @default "kubectl" */
  readonly program?: string;
  /** Flags for every call: `--context`, `--kubeconfig`, `--as` … @default [] */
  readonly globalFlags?: readonly string[];
  /** Ends every call. */
  readonly signal: AbortSignal;
}

/** How a kubectl process ended. */
export interface Outcome {
  readonly code: number;
  /** The end of stderr, as it came. */
  readonly stderr: string;
}

/** A kubectl that delivers bytes until it ends. */
export interface Delivery {
  /** Errors if nothing came for the idle time, or the call was aborted. Cancelling it ends kubectl. */
  readonly bytes: ReadableStream<Uint8Array<ArrayBuffer>>;
  /** Settles when kubectl has ended and its stderr was read; never rejects. */
  readonly outcome: Promise<Outcome>;
}

export interface DeliverOptions {
  /** Milliseconds that may pass without a byte while the reader waits for one. @default for ever */
  readonly idleMs?: number;
  /** Ends it early. */
  readonly signal?: AbortSignal;
  /** Given each line of stderr as it comes. */
  readonly onStderr?: (line: string) => void;
  /**
   * Finds in a line of stderr how many bytes there are in all. When so many have come, standard input is closed, for which what delivers
   * them waits.
   */
  readonly total?: (line: string) => number | undefined;
}

/** A delivery has stood still for too long. */
export class Idle extends Failure {
  override readonly name = "Idle";
}

export class Kubectl {
  readonly #program: string;
  readonly #globalFlags: readonly string[];
  readonly signal: AbortSignal;

  constructor(options: KubectlOptions) {
    this.#program = options.program ?? "kubectl";
    this.#globalFlags = options.globalFlags ?? [];
    this.signal = options.signal;
  }

  /** The same kubectl, whose calls another signal ends too. */
  until(signal: AbortSignal): Kubectl {
    const both = AbortSignal.any([this.signal, signal]);
    return new Kubectl({ program: this.#program, globalFlags: this.#globalFlags, signal: both });
  }

  /**
   * Runs kubectl to its end.
   *
   * @throws {Failure} kubectl is not installed, or did not answer within `deadlineMs`.
   * @throws the signal's reason, when aborted.
   */
  async run(
    args: readonly string[],
    options: { readonly deadlineMs?: number; readonly signal?: AbortSignal } = {},
  ): Promise<Outcome & { readonly stdout: string }> {
    const deadlineMs = options.deadlineMs ?? CALL_DEADLINE_MS;
    const late = () => new Failure(`${this.#say(args)} gave no answer in ${deadlineMs / 1000} s`);
    using limit = new Deadline(deadlineMs, late, this.signal, options.signal);
    const child = this.#spawn(args, limit.signal);
    const [stdout, { code, stderr }] = await Promise.all([textOf(child.stdout, Infinity), child.outcome]);
    // A call that was ended by us must not pass for one that has ended by itself.
    limit.signal.throwIfAborted();
    return { code, stdout, stderr };
  }

  /**
   * Like `run`, for calls whose failure has nothing to add to kubectl's own words.
   *
   * @throws {Failure} as `run`, and when kubectl ends with an error: its error, explained.
   */
  async text(args: readonly string[], options: { readonly deadlineMs?: number } = {}): Promise<string> {
    const { code, stdout, stderr } = await this.run(args, options);
    if (code !== 0) throw explain(stderr, `${this.#say(args)} failed with exit code ${code}`);
    return stdout;
  }

  /** The JSON that `kubectl … -o json` prints, or undefined if it printed nothing (`--ignore-not-found`). */
  async json(args: readonly string[], options: { readonly deadlineMs?: number } = {}): Promise<unknown> {
    const [command = "", ...rest] = args;
    const text = await this.text([command, "-o", "json", ...rest], options);
    if (text.trim() === "") return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new Failure(`${this.#say(args)} answered something that is not JSON: ${text.slice(0, 60)}`);
    }
  }

  /**
   * Starts kubectl and hands on what it delivers. Its standard input stays open and empty until all has come, if that is told, or it ends. There is no deadline for
   * the whole, since a capture may be large; `idleMs` is the time that may pass without a byte while the reader waits for one.
   *
   * @throws {Failure} kubectl is not installed.
   */
  deliver(
    args: readonly string[],
    options: DeliverOptions = {},
  ): Delivery {
    const end = new AbortController();
    const signal = AbortSignal.any([this.signal, end.signal, ...(options.signal ? [options.signal] : [])]);
    let total: number | undefined, read = 0;
    const acknowledge = () => {
      if (total !== undefined && read >= total) child.endInput();
    };
    const onStderr = (line: string) => {
      const found = options.total?.(line);
      if (found === undefined) return options.onStderr?.(line);
      total = found;
      acknowledge();
    };
    const child = this.#spawn(args, signal, { onStderr, stdin: "piped" });
    const { stdout: reader } = child;
    const { idleMs } = options;
    const bytes = new ReadableStream<Uint8Array<ArrayBuffer>>({
      pull: async (controller) => {
        const timer = idleMs === undefined ? undefined : setTimeout(
          () => end.abort(new Idle(`nothing came for ${idleMs / 1000} s`)),
          idleMs,
        );
        try {
          const { value, done } = await reader.read();
          signal.throwIfAborted();
          if (done) return controller.close();
          controller.enqueue(value);
          read += value.length;
          acknowledge();
        } finally {
          clearTimeout(timer);
        }
      },
      cancel: async () => {
        end.abort(new Failure("The download was cancelled"));
        await reader.cancel();
        await child.outcome;
      },
    }, { highWaterMark: 0 });
    return { bytes, outcome: child.outcome };
  }

  #spawn(
    args: readonly string[],
    signal: AbortSignal,
    { onStderr, stdin = "null" }: { onStderr?: ((line: string) => void) | undefined; stdin?: "null" | "piped" } = {},
  ) {
    signal.throwIfAborted();
    let child: Deno.ChildProcess;
    try {
      child = new Deno.Command(this.#program, {
        args: [...args.slice(0, 1), ...this.#globalFlags, ...args.slice(1)],
        stdin,
        stdout: "piped",
        stderr: "piped",
      }).spawn();
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) {
        throw new Failure(
          `Cannot find ${this.#program} in PATH: the plugin works through it, so install kubectl first`,
        );
      }
      throw error;
    }
    const stdout = child.stdout.getReader();
    const stderr = child.stderr.getReader();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const kill = () => {
      endProcess(child, "SIGTERM");
      timer = setTimeout(() => {
        endProcess(child, "SIGKILL");
        // A credential plugin that kubectl started may outlive it and hold the pipes open: nobody waits for it.
        stdout.cancel();
        stderr.cancel();
      }, KILL_AFTER_MS);
    };
    signal.addEventListener("abort", kill, { once: true });
    const endInput = () => {
      if (stdin === "piped") child.stdin.close().catch(() => {});
    };
    const outcome = Promise.all([child.status, textOf(stderr, STDERR_KEPT, onStderr)]).then(([status, stderr]) => {
      signal.removeEventListener("abort", kill);
      clearTimeout(timer);
      endInput();
      return { code: status.code, stderr };
    });
    return { stdout, outcome, endInput };
  }

  #say(args: readonly string[]): string {
    const words = args.slice(0, 3).filter((word) => !word.startsWith("-"));
    return ["kubectl", ...words].join(" ");
  }
}

function endProcess(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch { /* It has ended meanwhile. */ }
}

/** Reads to the end; keeps the last `kept` characters, and hands each line on. */
async function textOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  kept: number,
  onLine?: (line: string) => void,
): Promise<string> {
  const decoder = new TextDecoder();
  let text = "", line = "";
  while (true) {
    const { value, done } = await reader.read();
    const chunk = decoder.decode(value, { stream: !done });
    text += chunk;
    if (text.length > kept) text = text.slice(-kept);
    if (onLine !== undefined) {
      const lines = (line + chunk).split("\n");
      line = (lines.pop() ?? "").slice(-kept);
      lines.forEach(onLine);
    }
    if (done) return text;
  }
}
