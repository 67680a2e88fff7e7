/**
 * Outcome of a reading command, for programs: an exit code, and with `--while-stdin` a trailer, one line on stderr.
 * It is the last line, except where nothing is written to stdout: there the sentence that says why comes last. No
 * program needs to read the sentences.
 */
import type { CaptureState } from "./state.ts";

export const EXIT = {
  /** All is written. */
  done: 0,
  /** Something could not be done or read; stderr has the reason. */
  failed: 1,
  /** The command line or a setting cannot be carried out. */
  usage: 2,
  /** There is a capture, or a request for one, without a packet so far. */
  nothingYet: 3,
  /** There is no such capture on this node. */
  notHere: 4,
  /** Ended by SIGTERM, or by the end of standard input: another attempt may do better. */
  ended: 143,
} as const;

export type Outcome = keyof typeof EXIT | "partial";

/** The content of that line, as JSON. */
export interface Trailer {
  /** Version of this format. */
  readonly trailer: 1;
  /** `partial`: written, but not all that was captured. */
  readonly outcome: Outcome;
  /** Bytes on stdout in all. */
  readonly bytes: number;
  /** The capture's, if it is known. */
  readonly state?: CaptureState;
}

/** @param code The command's exit code. @param bytes What it wrote to stdout. */
export function trailerOf(code: number, bytes: number, state: CaptureState | undefined): Trailer {
  const known = (Object.keys(EXIT) as (keyof typeof EXIT)[]).find((name) => EXIT[name] === code) ?? "failed";
  const outcome = known === "failed" && bytes > 0 ? "partial" : known;
  return { trailer: 1, outcome, bytes, ...(state === undefined ? {} : { state }) };
}

/** Returns the exit code with which a command ends that has written this trailer. */
export function codeOf({ outcome }: Trailer): number {
  return outcome === "partial" ? EXIT.failed : EXIT[outcome];
}

/** Reads a line of stderr, without its prefix. @returns undefined if it is not a trailer. */
export function readTrailer(line: string): Trailer | undefined {
  if (!line.startsWith('{"trailer":')) return undefined;
  let value: Trailer;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  return value.trailer === 1 && Number.isSafeInteger(value.bytes) && value.bytes >= 0 ? value : undefined;
}
