/**
 * The words before a program that take from it what it does not need: its network, capabilities, memory and CPU time. Each
 * program execs the next one, so that the process id and all signals are those of the last.
 */

/** All that a program gets of our environment. */
export const ENV = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C" };

/** capsh takes no program from PATH. */
const PRLIMIT = "/usr/bin/prlimit";

/** The capabilities that a program may keep, by their numbers. */
const CAPABILITIES = { cap_setgid: 6, cap_setuid: 7, cap_net_raw: 13 } as const;
type Capability = keyof typeof CAPABILITIES;

export interface Confinement {
  /** The words that enter a namespace. They come first, since they need SYS_ADMIN. */
  readonly enter: readonly string[];
  /** The capabilities that the program keeps, where we have them: what it says without one is clearer than what capsh says. */
  readonly capabilities: readonly Capability[];
  /** Megabytes (10^6 bytes) of address space. */
  readonly memoryMB: number;
  /** Seconds of CPU time after which the program is ended by SIGXCPU. @default unlimited */
  readonly cpuSeconds?: number;
}

/** Returns the argument vector that runs `argv` confined, with no_new_privs: no program that it starts gains anything again. */
export function confined(argv: readonly string[], confinement: Confinement): string[] {
  const { enter, memoryMB, cpuSeconds } = confinement;
  const kept = confinement.capabilities.filter((name) => (ownCapabilities() >> BigInt(CAPABILITIES[name])) & 1n);
  return [
    ...enter,
    "capsh",
    "--no-new-privs",
    `--caps=${kept.length === 0 ? "" : `${kept.join(",")}=ep`}`,
    `--shell=${PRLIMIT}`,
    "--",
    `--as=${memoryMB * 1_000_000}`,
    // 1 and not 0: the kernel then starts no handler of the node either (core_pattern with a pipe).
    "--core=1",
    // At the hard limit the kernel kills, as it does when memory is short: the soft limit's signal tells them apart.
    ...(cpuSeconds === undefined ? [] : [`--cpu=${cpuSeconds}:${cpuSeconds + 2}`]),
    "--",
    ...argv,
  ];
}

let own: bigint | undefined;

/** Returns our own capabilities as bits. They never change. */
function ownCapabilities(): bigint {
  return own ??= BigInt(`0x${/^CapEff:\s*([0-9a-f]+)$/m.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ?? "0"}`);
}

/** Returns the words before a command that run it in a netns; none for our own. */
export function enterNetns({ nsenter, netnsPath }: { nsenter: string; netnsPath: string | undefined }): string[] {
  return netnsPath === undefined ? [] : [nsenter, `--net=${netnsPath}`, "--"];
}
