/**
 * `capture.json`, the file in a capture's folder that describes what the folder holds. The controller is its only
 * writer; `list`, `cat` and `stream`, which run as other processes in the same container, read it.
 */
import type { CaptureRequest } from "../spec/request.ts";
import type { CaptureState } from "../spec/state.ts";

/** A moment at which the wall clock was set, as the controller noticed it within a second. */
export interface ClockStep {
  /** ISO 8601, UTC, by the clock after it was set. */
  readonly at: string;
  /** Seconds by which it was set forward; less than 0: back. */
  readonly seconds: number;
}

/** One tcpdump process. Counters are tcpdump's own, updated every few seconds. */
export interface Run {
  /** Number of the run in the folder, from 1; earlier runs' files are `run-<n>-<seq>.pcap`. */
  readonly n: number;
  /** ISO 8601, UTC. */
  readonly startedAt: string;
  readonly endedAt?: string;
  /** Reason why it ended: one word or sentence for people. */
  readonly ended?: string;
  readonly sandboxId: string;
  readonly request: CaptureRequest;
  /** The pcap link type by name as tcpdump printed it (`LINUX_SLL2`, `EN10MB`). */
  readonly linkType?: string;
  /** The last ones in this run. */
  readonly clockSteps?: readonly ClockStep[];
  /** Packets that tcpdump has processed. */
  readonly captured: number;
  /** Packets that the kernel saw and that passed the filter. */
  readonly received: number;
  /** Packets that the kernel dropped because tcpdump was too slow. */
  readonly dropped: number;
}

/** Duration and packet count count from the request that names them: what was captured before is not charged to them. */
export interface Budget {
  readonly durationSeconds?: number;
  readonly packets?: number;
  readonly secondsBefore: number;
  readonly packetsBefore: number;
}

export interface Manifest {
  readonly version: 1;
  /** Version of the tool that wrote it. */
  readonly tool: string;
  readonly uid: string;
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  /** The annotations as they were read: main key and sub-keys. */
  readonly annotations: Readonly<Record<string, string>>;
  /** Request; undefined while the annotations are invalid and never were valid. */
  readonly request?: CaptureRequest;
  readonly state: CaptureState;
  /** One sentence for people: why it is in that state; empty when there is no more than the state. */
  readonly reason: string;
  /** ISO 8601: when that state began. */
  readonly since: string;
  /** Oldest first. Runs whose files are all gone are dropped; their sums stay in the fields below. */
  readonly runs: readonly Run[];
  /** Seconds of capturing since the capture was last (re-)armed, by the monotonic clock. */
  readonly capturedSeconds: number;
  /** Packets of runs that ended since the capture was last (re-)armed. */
  readonly capturedPackets: number;
  /** Sizes of the files at the moment that the counters of the run in progress are of. */
  readonly size?: { readonly files: number; readonly bytes: number };
  /** Values of `capturedSeconds` and `capturedPackets` when the present duration and packet count were first asked for. */
  readonly budget?: Budget;
  /** Fingerprint of the request that is completed, so that a restart does not start it again. */
  readonly completed?: string;
  /** Seconds for which a retained folder has been kept so far, by the monotonic clock. */
  readonly retainedSeconds?: number;
  /** ISO 8601: when this file was written. */
  readonly updatedAt: string;
}
