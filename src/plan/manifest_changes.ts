/**
 * Changes of a manifest: each function returns a new one. A duration and a packet count are counted from the request
 * that names them first (`budget`); what was captured before is not charged to them. Pure.
 */
import { VERSION } from "../version.ts";
import type { Pod } from "../pods/pod.ts";
import type { Budget, ClockStep, Manifest, Run } from "../store/manifest.ts";
import { MANIFEST } from "../store/manifest_file.ts";
import { runNumber } from "../store/ring.ts";
import { type CaptureRequest, fingerprint } from "../spec/request.ts";
import type { Desired } from "./plan.ts";

/** The manifest of a capture that restarts for ever must not grow for ever: sums are kept, the oldest runs' details are not. */
const MOST_RUNS = 200;
/** Number of clock steps of a run that are kept. */
const MOST_CLOCK_STEPS = 20;

export type Counters = Pick<Run, "captured" | "received" | "dropped">;

/** Remainders of a request; undefined where it names no duration or no packet count. */
export interface Left {
  readonly seconds: number | undefined;
  readonly packets: number | undefined;
}

/** Returns what is left of the request's duration and packets. @param seconds of the run in progress. */
export function left(
  manifest: Manifest | undefined,
  { durationSeconds, packets }: CaptureRequest,
  seconds: number,
): Left {
  const { capturedSeconds = 0, capturedPackets = 0 } = manifest ?? {};
  const { secondsBefore, packetsBefore } = manifest ? budgetOf(manifest) : NOTHING_BEFORE;
  return {
    seconds: durationSeconds === undefined ? undefined : durationSeconds - (capturedSeconds + seconds - secondsBefore),
    packets: packets === undefined ? undefined : packets - (capturedPackets - packetsBefore),
  };
}

/** Returns whether the duration or the packet count of the request is used up. @param seconds of the run in progress. */
export function isReached(manifest: Manifest | undefined, request: CaptureRequest, seconds: number): boolean {
  if (!manifest || isCompletedByOther(manifest, request)) return false;
  const rest = left(manifest, request, seconds);
  // The packets of a run in progress are tcpdump's own business (-c).
  return (rest.seconds ?? 1) <= 0 || (rest.packets ?? 1) <= 0;
}

/** Returns whether the duration and the packet count have been counted for another request. */
export function countsOther(manifest: Manifest | undefined, { durationSeconds, packets }: CaptureRequest): boolean {
  if (!manifest) return false;
  const before = budgetOf(manifest);
  return before.durationSeconds !== durationSeconds || before.packets !== packets;
}

/** Counts the duration and the packet count of the request from now, if they differ from before. @param seconds of the run in progress. */
export function recounted(manifest: Manifest, request: CaptureRequest, seconds: number): Manifest {
  if (!countsOther(manifest, request)) return manifest;
  const before = budgetOf(manifest);
  const { durationSeconds, packets } = request;
  return {
    ...manifest,
    budget: {
      ...(durationSeconds === undefined ? {} : { durationSeconds }),
      ...(packets === undefined ? {} : { packets }),
      secondsBefore: before.durationSeconds === durationSeconds
        ? before.secondsBefore
        : manifest.capturedSeconds + seconds,
      packetsBefore: before.packets === packets ? before.packetsBefore : manifest.capturedPackets,
    },
  };
}

/** Returns whether the duration was counted for another one. */
export function countsOtherDuration(manifest: Manifest, { durationSeconds }: CaptureRequest): boolean {
  return budgetOf(manifest).durationSeconds !== durationSeconds;
}

/** Enters a new run, and whose folder it is. */
export function begun(
  before: Manifest | undefined,
  pod: Pod,
  node: string,
  request: CaptureRequest,
  run: Pick<Run, "n" | "sandboxId">,
): Manifest {
  const now = new Date().toISOString();
  const armed = before && isCompletedByOther(before, request) ? rearmed(before) : before;
  const { capturedSeconds = 0, capturedPackets = 0, budget, runs = [] } = armed && recounted(armed, request, 0) || {};
  return {
    version: 1,
    tool: VERSION,
    uid: pod.uid,
    namespace: pod.namespace,
    pod: pod.name,
    node,
    annotations: pod.annotations,
    request,
    state: "capturing",
    reason: "",
    since: now,
    runs: [
      ...runs.slice(-MOST_RUNS),
      { ...run, startedAt: now, request, captured: 0, received: 0, dropped: 0 },
    ],
    capturedSeconds,
    capturedPackets,
    ...(budget ? { budget } : {}),
    updatedAt: now,
  };
}

/** Amends the last run. */
export function amended(manifest: Manifest, change: Partial<Run>): Manifest {
  const last = manifest.runs.at(-1);
  return last ? { ...manifest, runs: [...manifest.runs.slice(0, -1), { ...last, ...change }] } : manifest;
}

/** Enters a step of the wall clock in the last run. */
export function withClockStep(manifest: Manifest, step: ClockStep): Manifest {
  const { clockSteps = [] } = manifest.runs.at(-1) ?? {};
  return amended(manifest, { clockSteps: [...clockSteps, step].slice(-MOST_CLOCK_STEPS) });
}

/** Ends the last run, and adds what it captured to the sums. @param seconds of capturing that it lasted. */
export function ended(manifest: Manifest, captured: number, seconds: number, change: Partial<Run>): Manifest {
  const budget = budgetOf(manifest);
  // A run that began before the present packet count was asked for has counted none of its packets.
  const isBefore = manifest.runs.at(-1)?.request.packets !== budget.packets;
  return {
    ...amended(manifest, change),
    capturedSeconds: manifest.capturedSeconds + seconds,
    capturedPackets: manifest.capturedPackets + captured,
    ...(isBefore ? { budget: { ...budget, packetsBefore: budget.packetsBefore + captured } } : {}),
  };
}

/** Clears the completion of a request, so that the present one is counted from zero. */
export function rearmed(before: Manifest): Manifest {
  if (before.completed === undefined) return before;
  const { completed: _, budget: __, ...manifest } = before;
  return { ...manifest, capturedSeconds: 0, capturedPackets: 0 };
}

/** Enters where the capture is settled. */
export function settled(
  manifest: Manifest,
  pod: Pod,
  request: CaptureRequest | undefined,
  desired: Desired,
  since: Date,
): Manifest {
  if (desired.state === "none") return manifest;
  return {
    ...manifest,
    ...(request ? { request } : {}),
    annotations: pod.annotations,
    state: desired.state,
    reason: desired.reason,
    since: since.toISOString(),
  };
}

/**
 * Records that the pod is deleted and its files are retained, in a new manifest with a made-up UID if the old one was
 * damaged.
 */
export function retained(
  manifest: Manifest | undefined,
  whose: Pick<Manifest, "namespace" | "pod" | "node">,
): Manifest {
  const since = new Date().toISOString();
  const state = { state: "retained", since, retainedSeconds: 0 } as const;
  if (manifest) return { ...manifest, ...state, reason: "the pod was deleted" };
  return {
    ...{ version: 1, tool: VERSION, uid: crypto.randomUUID(), ...whose, annotations: {}, ...state },
    ...{ reason: `the pod was deleted, and ${MANIFEST} was damaged: the UID is made up` },
    ...{ runs: [], capturedSeconds: 0, capturedPackets: 0, updatedAt: since },
  };
}

/** Ends a run that the controller was killed in, at the last write of the manifest; changes nothing if there is none. */
export function endedByKill(manifest: Manifest): Manifest {
  const { runs, updatedAt } = manifest;
  const last = runs.at(-1);
  if (!last || last.endedAt !== undefined) return manifest;
  return ended(manifest, last.captured, 0, { endedAt: updatedAt, ended: "the controller was killed" });
}

/** Drops the details of runs that have no file any more, but for the last two. */
export function withRunsOf(manifest: Manifest, files: readonly { readonly name: string }[]): Manifest {
  const there = new Set(files.map(runNumber));
  const runs = manifest.runs.filter((run, i) => i >= manifest.runs.length - 2 || there.has(run.n));
  return runs.length < manifest.runs.length ? { ...manifest, runs } : manifest;
}

const NOTHING_BEFORE = { secondsBefore: 0, packetsBefore: 0 } as const;

/** Returns the budget; of a manifest of the first version, which names none, all was captured for the request in it. */
function budgetOf({ budget, request }: Manifest): Budget {
  const { durationSeconds, packets } = request ?? {};
  return budget ?? {
    ...(durationSeconds === undefined ? {} : { durationSeconds }),
    ...(packets === undefined ? {} : { packets }),
    ...NOTHING_BEFORE,
  };
}

/** Returns whether another request has been completed: the present one begins from zero. */
function isCompletedByOther({ completed }: Manifest, request: CaptureRequest): boolean {
  return completed !== undefined && completed !== fingerprint(request);
}
