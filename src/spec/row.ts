import type { CaptureState } from "./state.ts";

/** A capture, as `-o json` writes it. Times are ISO 8601 in UTC. */
export interface Row {
  readonly namespace: string;
  readonly pod: string;
  /** Empty if unknown. */
  readonly uid: string;
  /** `unknown` if there are files without a manifest that can be read. */
  readonly state: CaptureState | "unknown";
  readonly reason: string;
  readonly since: string | null;
  /** While it runs, files and bytes are of the same moment as the counters: of the call, or at most 5 s before it. */
  readonly files: number;
  readonly bytes: number;
  /** Packets captured since the request, by tcpdump's own count. */
  readonly packets: number;
  /** Packets that the kernel saw and that passed the filter, in the runs of which files are kept. */
  readonly received: number;
  /** Packets that the kernel dropped, in the same runs. */
  readonly dropped: number;
  /** Per cent of the received ones that were dropped. */
  readonly lostPercent: number;
  readonly oldest: string | null;
  readonly newest: string | null;
  readonly filter: string | null;
  /** The other options that are not the default, by the names of their annotations (`optionsOf`). */
  readonly options: Readonly<Record<string, string>>;
  /** Hash of the request that this is the state of (`requestHash`); empty if unknown. */
  readonly request: string;
  /** Whether tcpdump listens: what comes now is captured. */
  readonly listening: boolean;
}

/** Writes a row's options into one cell of a table: `file-size=2 duration=10m`. */
export function optionsCell(options: Row["options"] = {}): string {
  return Object.entries(options).map(([name, value]) => `${name}=${value}`).join(" ") || "-";
}
