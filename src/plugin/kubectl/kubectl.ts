/**
 * Runs the user's `kubectl`: argv arrays (never a shell), the user's kubeconfig, context and permissions, and a deadline on
 * every call. The only file of the plugin that starts kubectl.
 */
import { printable } from "../../base/printable.ts";
import { Failure } from "../failure.ts";
import type { Terminal } from "../terminal.ts";
import { explain, tooLate } from "./explain.ts";
import { handOn, Login } from "./login.ts";
import { type Listeners, textOf } from "./text_of.ts";

/** Milliseconds that a call which only asks or patches something may take. kubectl itself waits for ever. */
export const CALL_DEADLINE_MS = 30_000;
/** Milliseconds for a call in which the user is asked for a login. */
const LOGIN_DEADLINE_MS = 10 * 60_000;
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
  /** @default Nobody is asked for a login. */
  readonly login?: Login;
}

/** End of a kubectl process. */
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

/** Total of a delivery. */
export interface Total {
  readonly bytes: number;
  /** The exit code that comes after it; undefined: it is not known yet. */
  readonly code: number | undefined;
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
  readonly total?: (line: string) => Total | undefined;
}

/** A delivery has stood still for too long. */
export class Idle extends Failure {
  override readonly name = "Idle";
}

export interface RunOptions {
  /** @default 30_000 */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

export interface Answered extends Outcome {
  readonly stdout: string;
}

export class Kubectl {
  readonly #program: string;
  readonly #globalFlags: readonly string[];
  readonly signal: AbortSignal;
  readonly #login: Login;

  constructor(options: KubectlOptions) {
    this.#program = options.program ?? "kubectl";
    this.#globalFlags = options.globalFlags ?? [];
    this.signal = options.signal;
    this.#login = options.login ?? new Login();
  }

  /** Returns the same kubectl, whose calls another signal ends too. */
  until(signal: AbortSignal): Kubectl {
    const both = AbortSignal.any([this.signal, signal]);
    return new Kubectl({ program: this.#program, globalFlags: this.#globalFlags, signal: both, login: this.#login });
  }

  /**
   * Runs kubectl to its end.
   *
   * @throws {Failure} kubectl is not installed, or did not answer within `deadlineMs`.
   * @throws the signal's reason, when aborted.
   */
  async run(args: readonly string[], options: RunOptions = {}): Promise<Answered> {
    return await this.#login.call((terminal) => this.#runOnce(args, options, terminal));
  }

  /** @param terminal Where a credential plugin may ask; the deadline is then one for people. */
  async #runOnce(
    args: readonly string[],
    { deadlineMs = CALL_DEADLINE_MS, signal }: RunOptions,
    terminal?: Terminal,
  ): Promise<Answered> {
    const late = new AbortController();
    const endAfter = (ms: number) =>
      setTimeout(() => late.abort(new Failure(`${this.#say(args)} gave no answer in ${ms / 1000} s`)), ms);
    let isOver = false;
    let timer = terminal === undefined ? endAfter(deadlineMs) : setTimeout(async () => {
      const plugin = await this.#credentialPlugin();
      if (plugin === undefined) timer = endAfter(0);
      else ask(`Waiting for ${printable(plugin)}, the credential plugin of kubectl: log in, or press Ctrl-C\n`);
    }, deadlineMs);
    const ask = (text: string) => {
      if (isOver) return;
      clearTimeout(timer);
      timer = endAfter(LOGIN_DEADLINE_MS);
      terminal?.ask(text);
    };
    const signals = [this.signal, late.signal, ...(signal ? [signal] : [])];
    try {
      const child = this.#spawn(args, AbortSignal.any(signals), {
        stdin: terminal?.canAnswer ? "inherit" : "null",
        onText: terminal && handOn(ask),
      });
      const [stdout, { code, stderr }] = await Promise.all([textOf(child.stdout, Infinity), child.outcome]);
      // A call that was ended by us must not pass for one that has ended by itself.
      if (late.signal.aborted) throw tooLate(late.signal.reason, stderr);
      for (const signal of signals) signal.throwIfAborted();
      return { code, stdout, stderr };
    } finally {
      isOver = true;
      clearTimeout(timer);
    }
  }

  /** Finds the program that gets the user's credentials; undefined: there is none, or the kubeconfig cannot be read. */
  async #credentialPlugin(): Promise<string | undefined> {
    const args = ["config", "view", "--minify", "-o", "jsonpath={.users[*].user.exec.command}"];
    const { stdout } = await this.#runOnce(args, { deadlineMs: 5_000 }).catch(() => ({ stdout: "" }));
    return stdout.trim() || undefined;
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

  /** Returns what `kubectl … -o json` prints, parsed; undefined if it printed nothing (`--ignore-not-found`). */
  async json(args: readonly string[], options: { readonly deadlineMs?: number } = {}): Promise<unknown> {
    const [command = "", ...rest] = args;
    const text = await this.text([command, "-o", "json", ...rest], options);
    if (text.trim() === "") return undefined;
    try {
      return JSON.parse(text);
    } catch {
      throw new Failure(`${this.#say(args)} returned something that is not JSON: ${text.slice(0, 60)}`);
    }
  }

  /**
   * Starts kubectl and hands on what it delivers. Its standard input stays open and empty until all has come, if a
   * trailer gives the total, or it ends. There is no deadline for the whole, because a capture may be large; `idleMs`
   * is the time that may pass without a byte while the reader waits for one.
   *
   * @throws {Failure} kubectl is not installed.
   */
  deliver(
    args: readonly string[],
    options: DeliverOptions = {},
  ): Delivery {
    const end = new AbortController();
    const signal = AbortSignal.any([this.signal, end.signal, ...(options.signal ? [options.signal] : [])]);
    const terminal = this.#login.needed;
    let total: Total | undefined, read = 0;
    const acknowledge = () => {
      // Without a byte the command waits for nothing, and its reason comes after the trailer.
      if (total !== undefined && total.bytes > 0 && read >= total.bytes) child.endInput(total.code);
    };
    const onStderr = (line: string) => {
      const found = options.total?.(line);
      if (found === undefined) return options.onStderr?.(line);
      total = found;
      acknowledge();
    };
    const child = this.#spawn(args, signal, {
      onLine: onStderr,
      onText: terminal && handOn((text) => terminal.ask(text)),
      stdin: terminal ? "inherit" : "piped",
    });
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
    { stdin, ...on }: { readonly stdin: "null" | "piped" | "inherit" } & Listeners,
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
    let code: number | undefined;
    const endInput = (codeAfterwards?: number) => {
      if (stdin === "piped") child.stdin.close().catch(() => {});
      if (stdin !== "inherit" || codeAfterwards === undefined || code !== undefined) return;
      // The terminal cannot be closed, but all has come.
      code = codeAfterwards;
      kill();
    };
    const outcome = Promise.all([child.status, textOf(stderr, STDERR_KEPT, on)]).then(([status, stderr]) => {
      signal.removeEventListener("abort", kill);
      clearTimeout(timer);
      endInput();
      return { code: code ?? status.code, stderr };
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
