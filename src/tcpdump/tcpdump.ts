/**
 * One tcpdump process: how it is started, what it says, how it is stopped. Behaviour of tcpdump
 * that this relies on is of 4.99 (measured): it reads its signals only once it says `listening on`, SIGUSR1 prints its counters,
 * SIGTERM loses what the kernel has not handed over yet, which is at most the last second. It writes its file in pieces of 4 KiB,
 * when it begins another one, and when it ends; before that only when it is flushed (tcpdump_buffer.ts).
 */
import { DEFAULT_BUFFER_MB } from "../spec/options.ts";
import { type CaptureRequest, tcpdumpFlags } from "../spec/request.ts";
import { confined, enterNetns, ENV } from "./confine.ts";
import { type Counters, countersIn, isCounter } from "./counters.ts";
import type { Exit } from "./exit.ts";
import { FILTER_MEMORY_MB } from "./filter_limits.ts";
import { SharedNext } from "../base/shared_next.ts";
import { flushBuffer } from "./tcpdump_buffer.ts";
import { pause, settledWithin } from "../base/timeout.ts";
import { CAPTURE_TIMING } from "../timing.ts";

/** How much of what tcpdump says is read at once: it says some lines of some 80 bytes. */
const STDERR_BYTES = 1024;
/** After SIGTERM tcpdump writes its last counters and exits; if it has not by then, it hangs. */
const TERM_TIMEOUT_MS = 5000;
/** A stray that has not exited by then is killed: the controller starts only after that. */
const STRAY_MS = 1000;
/** Megabytes that a capture may map besides what its filter's check took and its kernel buffer (measured: under 2). */
const OWN_MEMORY_MB = 16;
const LINES_KEPT = 8;

export interface TcpdumpOptions {
  /** Path of the tcpdump executable. */
  readonly tcpdump: string;
  /** Path of the nsenter executable. */
  readonly nsenter: string;
  readonly request: CaptureRequest;
  /** The netns to enter; undefined: our own, for pods that use the node's network. */
  readonly netnsPath: string | undefined;
  /** What -w gets: absolute, without the number that tcpdump adds. */
  readonly file: string;
  /** Packets after which it ends by itself (-c). */
  readonly packets?: number;
  /** Whether it writes each packet at once (-U), because it cannot be flushed here. @default false */
  readonly writesThrough?: boolean;
  /** Called with each line of stderr. */
  readonly onLine: (line: string) => void;
}

/**
 * The argument vector for a capture. Once in the netns, tcpdump keeps what opens its socket and what `-Z root` calls, and may take
 * no more memory than its filter's check and its buffer.
 */
export function tcpdumpArgv(options: Omit<TcpdumpOptions, "onLine">): string[] {
  return confined(tcpdumpWords(options), {
    enter: enterNetns(options),
    capabilities: ["cap_net_raw", "cap_setgid", "cap_setuid"],
    memoryMB: FILTER_MEMORY_MB + OWN_MEMORY_MB + Math.ceil(bufferKiB(options.request) * 1024 / 1e6),
  });
}

/** The command itself; a filter is always the one argument behind `--`, whatever it holds. */
export function tcpdumpWords(options: Omit<TcpdumpOptions, "onLine" | "nsenter" | "netnsPath">): string[] {
  const { request } = options;
  return [
    options.tcpdump,
    // Without promiscuous mode: what is not for the pod is not captured.
    ...["-n", "-p"],
    ...["-C", String(request.fileSizeMB), "-W", String(request.files)],
    ...tcpdumpFlags(request),
    ...["-Z", "root", ...(options.writesThrough ? ["-U"] : []), "-B", String(bufferKiB(request))],
    ...(options.packets === undefined ? [] : ["-c", String(options.packets)]),
    ...["-w", options.file],
    ...(request.filter === undefined ? [] : ["--", request.filter]),
  ];
}

/** Returns the KiB of the kernel's buffer (-B), which tcpdump maps: it is the node's memory, not the container's. */
function bufferKiB({ bufferMB = DEFAULT_BUFFER_MB }: CaptureRequest): number {
  return bufferMB * 1024;
}

/** A running tcpdump. It must be ended by `kill` or `flush`, or end by itself: `exited` then resolves. */
export class Tcpdump {
  readonly pid: number;
  /** The pcap link type's name once it listens; rejects with what tcpdump said if it ends before. */
  readonly listening: Promise<string>;
  readonly exited: Promise<Exit>;
  /** Whether `listening` has resolved. */
  isListening = false;
  /** `flushBuffer` is at it, which stops the process for moments. */
  isFlushing = false;
  /** Undefined until tcpdump has answered the first time. */
  counters: Counters | undefined;
  /** performance.now() of the oldest SIGUSR1 that has no answer yet. */
  unansweredSince: number | undefined;

  readonly #child: Deno.ChildProcess;
  readonly #writesThrough: boolean;
  readonly #lines: string[] = [];
  #hasExited = false;
  /** Pending while some SIGUSR1 has no answer yet. */
  #answer: PromiseWithResolvers<void> | undefined;
  readonly #flushing = new SharedNext(async () => {
    this.isFlushing = true;
    await flushBuffer({ pid: this.pid, hasExited: () => this.#hasExited }).finally(() => this.isFlushing = false);
  });

  /** @throws Deno.errors.NotFound and the like if the program cannot be started. */
  constructor(options: TcpdumpOptions) {
    const [command = options.tcpdump, ...args] = tcpdumpArgv(options);
    const child = new Deno.Command(command, {
      args,
      cwd: "/",
      clearEnv: true,
      env: ENV,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#child = child;
    this.#writesThrough = options.writesThrough === true;
    this.pid = child.pid;
    const listening = Promise.withResolvers<string>();
    this.listening = listening.promise;
    this.listening.catch(() => {});
    const said = this.#read(options.onLine, (linkType) => {
      this.isListening = true;
      listening.resolve(linkType);
    });
    this.exited = (async () => {
      const { code, signal } = await child.status;
      this.#hasExited = true;
      await said;
      this.#answer?.resolve();
      listening.reject(new Error(this.#lines.at(-1) ?? `tcpdump ended with code ${code}`));
      return { code, signal, said: this.#lines.filter((line) => !isCounter(line)).at(-1) ?? "" };
    })();
  }

  /** Asks for counters (SIGUSR1): they appear in `counters` a moment later. Does nothing before tcpdump listens: it would die. */
  askCounters(): void {
    if (!this.isListening || this.#hasExited) return;
    this.unansweredSince ??= performance.now();
    this.#answer ??= Promise.withResolvers();
    this.#signal("SIGUSR1");
  }

  /**
   * Asks for counters, and returns once they are there, no older than the call, or tcpdump has ended. It may hang.
   *
   * @param flushed whether the file is to hold what they count, too.
   */
  async countNow(flushed = false): Promise<void> {
    // One that is always at work, which is why this fails, fills its buffer many times a second.
    if (flushed) await this.flushBuffer().catch(() => {});
    // An answer that is on its way may be of before.
    await this.#answer?.promise;
    if (!this.#answer) this.askCounters();
    await this.#answer?.promise;
  }

  /**
   * Has it write what it has buffered. Before it listens there is nothing, and the signal would end it.
   *
   * @throws if that has not come about within 0.9 s.
   */
  flushBuffer(): Promise<void> {
    if (!this.isListening) return Promise.reject(new Error("Cannot flush tcpdump: it does not listen yet"));
    return this.#writesThrough ? Promise.resolve() : this.#flushing.run();
  }

  /** Ends it at once. What the kernel still holds is lost. */
  async kill(): Promise<Exit> {
    this.#signal("SIGKILL");
    return await this.exited;
  }

  /**
   * Stops it with all packets that came before the call: waits until the kernel has handed them over, then ends it. Takes
   * 1.1 s, or up to 6.1 s if tcpdump hangs. @param blockMs see {@linkcode CaptureTiming.block}
   */
  async flush(blockMs = CAPTURE_TIMING.block): Promise<Exit> {
    if (this.isListening) await settledWithin(blockMs, this.exited);
    if (this.#hasExited) return await this.exited;
    this.#signal("SIGTERM");
    if (!await settledWithin(TERM_TIMEOUT_MS, this.exited)) this.#signal("SIGKILL");
    return await this.exited;
  }

  #signal(signal: Deno.Signal): void {
    if (this.#hasExited) return;
    try {
      this.#child.kill(signal);
    } catch {
      // It has ended between the check and the call, which is what `exited` tells.
    }
  }

  async #read(onLine: (line: string) => void, onListening: (linkType: string) => void): Promise<void> {
    let rest = "";
    const take = (line: string) => {
      if (line === "") return;
      this.#lines.push(line);
      if (this.#lines.length > LINES_KEPT) this.#lines.shift();
      const listening = /listening on .*?, link-type (\S+)/.exec(line);
      if (listening) onListening(listening[1] ?? "");
      if (isCounter(line)) this.#count(line);
      else onLine(line);
    };
    // Otherwise Deno sets 64 KiB aside for each read that waits, and one waits for each capture.
    const reader = this.#child.stderr.getReader({ mode: "byob" });
    const decoder = new TextDecoder();
    let buffer = new Uint8Array(STDERR_BYTES);
    for (;;) {
      const { value, done } = await reader.read(buffer);
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = (lines.pop() ?? "").slice(-4096);
      lines.forEach(take);
      buffer = new Uint8Array(value.buffer);
    }
    take(rest);
  }

  #count(line: string): void {
    this.counters = countersIn(line, this.counters);
    this.unansweredSince = undefined;
    this.#answer?.resolve();
    this.#answer = undefined;
  }
}

/**
 * Ends processes that an earlier controller left and that still write below `directory`, which is ours alone while its lock
 * is held.
 *
 * @param directory absolute, without symbolic links.
 * @returns the ids of the processes that were ended.
 */
export async function endStrays(directory: string, signal: AbortSignal): Promise<number[]> {
  const ended: number[] = [];
  for await (const entry of Deno.readDir("/proc")) {
    const pid = Number(entry.name);
    if (!Number.isInteger(pid) || pid === Deno.pid) continue;
    if (!await writesBelow(pid, directory)) continue;
    // On SIGTERM it writes what it has buffered; SIGCONT is for one that its controller has left stopped.
    if (signalStray(pid, "SIGTERM") && signalStray(pid, "SIGCONT")) ended.push(pid);
  }
  // One that has ended is gone, or a zombie without a command line; not our child, so that we can only look.
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(TERM_TIMEOUT_MS)]);
  const began = performance.now();
  for (const pid of ended) {
    for (let isKilled = false; await writesBelow(pid, directory);) {
      deadline.throwIfAborted();
      if (!isKilled && performance.now() - began > STRAY_MS) isKilled = signalStray(pid, "SIGKILL");
      await pause(5);
    }
  }
  return ended;
}

/** Sends a signal. @returns false if the process is gone. */
function signalStray(pid: number, signal: Deno.Signal): boolean {
  try {
    Deno.kill(pid, signal);
    return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return false;
  }
}

/** Whether the process is a tcpdump (or a word before it that becomes one) whose -w is below the directory. */
async function writesBelow(pid: number, directory: string): Promise<boolean> {
  const argv = (await Deno.readTextFile(`/proc/${pid}/cmdline`).catch(() => "")).split("\0");
  const target = argv[argv.indexOf("-w") + 1];
  return argv.indexOf("-w") > 0 && argv.includes("-W") && target !== undefined && target.startsWith(`${directory}/`);
}

/** Whether the process is stopped by a signal (SIGSTOP): it will never answer, nor end on SIGTERM. */
export async function isStopped(pid: number): Promise<boolean> {
  const stat = await Deno.readTextFile(`/proc/${pid}/stat`).catch(() => "");
  return /^[Tt]$/.test(stat.slice(stat.lastIndexOf(")") + 2).charAt(0));
}

/** Whether the process has a file of this folder open that has been deleted: the kernel marks its name so. */
export async function hasDeletedFile(pid: number, folder: string): Promise<boolean> {
  try {
    for await (const { name } of Deno.readDir(`/proc/${pid}/fd`)) {
      const target = await Deno.readLink(`/proc/${pid}/fd/${name}`).catch(() => "");
      if (target.startsWith(`${folder}/`) && target.endsWith(" (deleted)")) return true;
    }
  } catch {
    // It has ended.
  }
  return false;
}
