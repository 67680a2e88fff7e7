/** What tcpdump is asked without capturing: whether a filter compiles, and what interfaces there are. */
import { messageOf } from "../base/errors.ts";
import { abortable, Deadline } from "../base/timeout.ts";
import { confined, type Confinement, enterNetns, ENV } from "./confine.ts";
import { filterHint } from "./filter_hints.ts";
import { FILTER_CPU_SECONDS, FILTER_MEMORY_MB, tooComplex } from "./filter_limits.ts";

/** How long a question that needs no filter may take: it needs some 10 ms. */
const ANSWER_TIMEOUT_MS = 2000;
/** A check that has not used up its CPU time by then runs on a machine that has none to give. */
export const CHECK_TIMEOUT_MS = 240_000;

/** What tcpdump 4.99 gives for `any`. */
export const LINK_TYPE_OF_ANY = "LINUX_SLL2";

interface Netns {
  readonly tcpdump: string;
  readonly nsenter: string;
  readonly netnsPath: string | undefined;
}

/**
 * Has tcpdump compile a filter, with no privilege and within the filter's limits: in an empty network namespace of its own, where no
 * resolver answers, so that a host name is an error and not a wait.
 *
 * @param options.timeoutMs after which the machine is too busy. @default CHECK_TIMEOUT_MS
 * @returns undefined if it compiles; otherwise why not, as the end of a sentence about the filter.
 * @throws if that could not be found out, in time or at all.
 */
export async function checkFilter(
  options: {
    tcpdump: string;
    unshare: string;
    filter: string;
    linkType: string;
    signal?: AbortSignal;
    timeoutMs?: number;
  },
): Promise<string | undefined> {
  const { tcpdump, unshare, filter, linkType, signal, timeoutMs = CHECK_TIMEOUT_MS } = options;
  const argv = confined([tcpdump, "-d", "-y", linkType, "--", filter], {
    enter: [unshare, "--net", "--"],
    capabilities: [],
    memoryMB: FILTER_MEMORY_MB,
    cpuSeconds: FILTER_CPU_SECONDS,
  });
  const env = { ...ENV, RES_OPTIONS: "timeout:1 attempts:1" };
  const cannot = (why: string) => new Error(`Cannot check the filter: ${why}`);
  // The program itself is not read: it may be hundreds of kilobytes.
  const output = await outputOf(argv, { env, stdout: "null", timeoutMs, ...(signal ? { signal } : {}) })
    .catch((error) => {
      throw cannot(messageOf(error));
    });
  if (output.success) return undefined;
  const { code, signal: killedBy } = output;
  const said = new TextDecoder().decode(output.stderr).trim().split("\n").at(-1) ?? "";
  const complex = tooComplex({ code, signal: killedBy, said });
  if (complex !== undefined) return complex;
  // Not a word about the filter: the machine is short of something.
  if (killedBy !== null) throw cannot(`tcpdump was ended by ${killedBy}`);
  if (code !== 1 || !said.startsWith("tcpdump: ")) throw cannot(said);
  const why = said.replace(/^tcpdump: /, "");
  // A syntax error is one for every link type.
  const compilesOnEthernet = linkType === LINK_TYPE_OF_ANY && !/syntax error/.test(why) &&
    await checkFilter({ ...options, linkType: "EN10MB" }) === undefined;
  const mustBe = compilesOnEthernet
    ? "any has no Ethernet headers: annotation …/interface must name an Ethernet interface of the pod, such as eth0"
    : filterHint(filter, why) ?? "it must be a pcap filter expression";
  return `does not compile: ${why}; ${mustBe}`;
}

/**
 * The interfaces of a netns with their flags, as `tcpdump -D` prints them (`eth0 [Up, Running, Connected]`); for people.
 *
 * @throws if tcpdump does not say, in time or at all.
 */
export async function listInterfaces(netns: Netns): Promise<string[]> {
  return (await ask(netns, ["-D"], [])).stdout
    .map((line) => line.replace(/^[0-9]+\./, "").trim())
    .filter((line) => /^\S+ .*\[/.test(line) && !/^(any|nflog|nfqueue|bluetooth|usbmon|dbus)/.test(line));
}

/**
 * The pcap link type of an interface by its name (`EN10MB`, `RAW`).
 *
 * @returns undefined if there is no such interface, or it is down.
 */
export async function linkTypeOf(name: string, netns: Netns): Promise<string | undefined> {
  // After a title, the first type is the one that a capture has.
  const { stderr } = await ask(netns, ["-L", "-i", name], ["cap_net_raw"]);
  return stderr.map((line) => /^ +([A-Z0-9_]+) /.exec(line)?.[1]).find((type) => type !== undefined);
}

/** Runs tcpdump in a netns. @returns the lines that it prints. */
async function ask(
  netns: Netns,
  args: readonly string[],
  capabilities: Confinement["capabilities"],
): Promise<{ stdout: string[]; stderr: string[] }> {
  const enter = enterNetns(netns);
  const argv = confined([netns.tcpdump, ...args], { enter, capabilities, memoryMB: FILTER_MEMORY_MB });
  const output = await outputOf(argv, { stdout: "piped", timeoutMs: ANSWER_TIMEOUT_MS });
  const lines = (bytes: Uint8Array) => new TextDecoder().decode(bytes).split("\n");
  return { stdout: lines(output.stdout), stderr: lines(output.stderr) };
}

interface Run {
  readonly env?: Record<string, string>;
  readonly stdout: "piped" | "null";
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

/** Runs a program that ends by itself. @throws if it has not in time, or the signal is aborted; it is killed then. */
async function outputOf(
  [program = "", ...args]: readonly string[],
  { env = ENV, stdout, timeoutMs, signal }: Run,
): Promise<Deno.CommandOutput> {
  signal?.throwIfAborted();
  const options = { args, cwd: "/", clearEnv: true, env, stdin: "null", stdout, stderr: "piped" } as const;
  const child = new Deno.Command(program, options).spawn();
  const late = () => new Error(`the machine is busy: it took longer than ${timeoutMs / 1000} s`);
  using limit = new Deadline(timeoutMs, late, signal);
  limit.signal.addEventListener("abort", () => {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended just now.
    }
  });
  // Not only for its end: a process that waits for a disk cannot even be killed.
  return await abortable(child.output(), limit.signal);
}
