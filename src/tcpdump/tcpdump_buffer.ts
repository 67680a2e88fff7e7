/**
 * Has a tcpdump write to its file what it has buffered. SIGUSR2 does that, but its handler flushes whatever the program was at: a
 * signal that comes while a packet is being written damages the file, and may leave tcpdump hanging in its own lock for ever
 * (measured with 4.99.3: within 27,000 signals at 100,000 packets/s, with -U as without). So the process is stopped for a moment, and gets the
 * signal only if it stands in the system call in which it waits for packets, which is nowhere near the file. It goes on at once.
 */
import { backoffMs } from "../base/backoff.ts";
import { pause } from "../base/timeout.ts";

/** Within this the signal has to be sent and carried out; a reader waits for no longer. */
const TIMEOUT_MS = 900;
/** A process that is told to stop has stopped within microseconds, or when it next gets a CPU; then it is let go on at once. */
const STOP_MS = 20;
const SPIN_MS = 1;
/** Between two attempts at a tcpdump that is at work. */
const PAUSES = { firstMs: 0.5, mostMs: 20 };
/** poll and ppoll, in which libpcap waits for packets (pcap-linux.c), by their numbers. */
const WAITING: Readonly<Record<string, readonly number[]>> = { x86_64: [7, 271], aarch64: [73] };
const SIGUSR2 = 12;

/**
 * Returns once tcpdump has written all that it had processed when this was called. It must listen: before, the signal would end it.
 *
 * @param process.exited resolves when it has ended.
 * @throws if it has ended, or could not be told apart from one that is writing, within 0.9 s.
 */
export async function flushBuffer(process: { readonly pid: number; hasExited(): boolean }): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  const { pid } = process;
  const until = async (isSo: () => boolean | Promise<boolean>) => {
    for (let looks = 1; !await isSo(); looks++) {
      if (process.hasExited()) throw new Error("Cannot flush tcpdump: it has ended");
      if (performance.now() > deadline) {
        throw new Error(`Cannot flush tcpdump: it has been at work for ${TIMEOUT_MS} ms`);
      }
      await pause(backoffMs(looks, PAUSES));
    }
  };
  await until(() => signalIfWaiting(pid));
  // The handler runs before anything else, and is done when tcpdump waits again.
  await until(() => !isPending(pid) && isWaiting(pid));
}

/**
 * Finds out whether children of this process can be flushed here. Not on another processor, nor where the kernel shows no process's
 * system call: it asks for the right to trace it, which Yama may refuse (ptrace_scope of 2 or 3).
 */
export async function canFlush(): Promise<boolean> {
  if (!(Deno.build.arch in WAITING)) return false;
  try {
    const child = new Deno.Command("cat", { stdin: "piped", stdout: "null", stderr: "null" }).spawn();
    try {
      return read(child.pid, "syscall") !== "";
    } finally {
      await child.stdin.close();
      await child.status;
    }
  } catch {
    return false;
  }
}

/** Stops the process, sends SIGUSR2 if it stands where it waits for packets, and lets it go on. @returns whether it was sent. */
async function signalIfWaiting(pid: number): Promise<boolean> {
  Deno.kill(pid, "SIGSTOP");
  try {
    const began = performance.now();
    for (let ms = 0; !hasStopped(pid); ms = performance.now() - began) {
      if (ms > STOP_MS) return false;
      if (ms > SPIN_MS) await pause(1);
    }
    if (!isWaiting(pid)) return false;
    Deno.kill(pid, "SIGUSR2");
    return true;
  } finally {
    Deno.kill(pid, "SIGCONT");
  }
}

function hasStopped(pid: number): boolean {
  const stat = read(pid, "stat");
  return stat.charAt(stat.lastIndexOf(")") + 2) === "T";
}

/** Whether the system call at which the process stands is the one in which it waits; none if it runs in its own code. */
function isWaiting(pid: number): boolean {
  const [number = ""] = read(pid, "syscall").split(" ");
  return WAITING[Deno.build.arch]?.includes(Number.parseInt(number)) === true;
}

function isPending(pid: number): boolean {
  const masks = read(pid, "status").matchAll(/^(?:SigPnd|ShdPnd):\s+([0-9a-f]+)$/gm);
  return [...masks].some(([, mask]) => (BigInt(`0x${mask}`) >> BigInt(SIGUSR2 - 1) & 1n) === 1n);
}

function read(pid: number, name: string): string {
  return Deno.readTextFileSync(`/proc/${pid}/${name}`);
}
