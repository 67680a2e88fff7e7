/** Begins the work of one second for one capture: looks at its pod, its files, its tcpdump and its counters. */
import type { ClockStep } from "../store/manifest.ts";
import type { Capture } from "./capture.ts";
import type { PodLooks } from "./pod_looks.ts";

/** Time after which a pod without a sandbox may never have one again: it has finished, or cannot be started. */
const SANDBOX_AWAITED_MS = 60_000;
/** Ticks from one question for tcpdump's counters, which are then written, to the next: at most 5 s old when read. */
const COUNTER_TICKS = 3;

export interface Tick {
  /** Number of ticks before this one. */
  readonly n: number;
  /** The step of the wall clock since the last one. */
  readonly clockStep: ClockStep | undefined;
  /** Begins work, unless the same is still under way. */
  readonly begin: (what: string, work: () => Promise<void>) => void;
}

/** Begins what is to be done for a capture now. */
export function tick(capture: Capture, looks: PodLooks, { n, clockStep, begin }: Tick): void {
  const { folder, runs, subject } = capture;
  const phase = n % COUNTER_TICKS;
  if (!runs.running && looks.isDue(subject)) begin("pod look-up", () => looks.look(subject));
  if (!runs.running && !folder.hasSurplus) return;
  begin("file check", async () => {
    if (phase === 0 || folder.hasSurplus || await folder.hasEarlier()) await capture.measure();
  });
  if (!runs.running) return;
  if (clockStep) folder.noteClockStep(clockStep);
  begin("health check", () => runs.watch(phase === 0));
  if (phase === 1) begin("counter update", () => runs.countNow(false));
}

/** Returns whether the runtime is to be asked often: tcpdump runs, or a sandbox is awaited that may come any moment. */
export function needsRuntime({ runs, subject: { tracker, sandbox } }: Capture): boolean {
  return runs.running !== undefined ||
    (tracker?.request !== undefined && !sandbox && tracker.lacksSandboxMs < SANDBOX_AWAITED_MS);
}
