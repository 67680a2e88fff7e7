/**
 * How much a filter may cost. libpcap's optimizer takes memory by the square and time by the cube of the number of terms
 * (measured: docs/annotations.md), so that a short text can take a node's memory and CPU.
 */
import type { Exit } from "./exit.ts";

/**
 * A check takes so much at most, tcpdump itself included (some 14 MB). Four at once (FILTERS_AT_ONCE) fit beside all captures into
 * the chart's default memory limit.
 */
export const FILTER_MEMORY_MB = 64;
/**
 * CPU time and not wall-clock time, which is also the machine's. Twice what any filter takes that fits into the memory (measured: 10 s), so
 * that a slow or busy machine, on which the same work takes more CPU time, comes to the same verdict.
 */
export const FILTER_CPU_SECONDS = 20;
/** Checks and starts with a filter at a time. */
export const FILTERS_AT_ONCE = 4;
/** So many of these are one namespace's: the others always find a free turn, or one that is soon free. */
export const FILTERS_OF_NAMESPACE = 2;

/**
 * What a compile that exceeds the address-space limit prints: libpcap's optimizer, its parser, and its lexer. The kernel's "Cannot
 * allocate memory" is none of it: so ends a capture whose buffer the kernel has no memory for.
 */
const OUT_OF_MEMORY = /^tcpdump: (?:malloc|out of memory|.*\bout of dynamic memory\b.*)$/;
/** How a program ends that can neither go on nor say so: a stack that cannot grow, an abort of the C library. */
const CRASHES = ["SIGSEGV", "SIGBUS", "SIGABRT"];

/**
 * Returns why a compile has shown that the filter is too complex, as the end of a sentence about it; undefined if it has not. A kill
 * (SIGKILL) shows nothing: so the kernel ends a process when the machine's or the container's memory is short.
 */
export function tooComplex({ code, signal, said }: Exit): string | undefined {
  const exceeded = signal === "SIGXCPU"
    ? `${FILTER_CPU_SECONDS} s of CPU time`
    : (code === 1 && OUT_OF_MEMORY.test(said)) || CRASHES.includes(signal ?? "")
    ? `${FILTER_MEMORY_MB} MB of memory`
    : undefined;
  return exceeded &&
    `is too complex: tcpdump needs more than ${exceeded} to compile it; use fewer terms, net or portrange`;
}
