/** What is begun for one capture every second: a look at its pod, its files, its tcpdump and its counters. */
import type { PodStatus } from "../pods/status.ts";
import type { ClockStep } from "../store/manifest.ts";
import type { Capture } from "./capture.ts";
import type { Shared } from "./shared.ts";

/** A pod that has had no sandbox for so long may never have one again: it has finished, or cannot be started. */
const SANDBOX_AWAITED_MS = 60_000;
/** Every so many ticks tcpdump is asked for its counters, and they are written: at most 5 s old when read. */
const COUNTER_TICKS = 3;

export interface Tick {
  /** How many there were before. */
  readonly n: number;
  /** The step of the wall clock since the last one. */
  readonly clockStep: ClockStep | undefined;
  /** Begins work, unless the same is still under way. */
  readonly begin: (what: string, work: () => Promise<void>) => void;
}

/** Begins what is to be done for a capture now. */
export function tick(capture: Capture, shared: Shared, { n, clockStep, begin }: Tick): void {
  const { folder, runs } = capture;
  const phase = n % COUNTER_TICKS;
  if (needsLook(capture) && !shared.node.isStopping) begin("pod status", () => look(capture, shared));
  if (!runs.running && !folder.hasSurplus) return;
  begin("files", async () => {
    if (phase === 0 || folder.hasSurplus || await folder.hasEarlier()) await capture.measure();
  });
  if (!runs.running) return;
  if (clockStep) folder.noteClockStep(clockStep);
  begin("health", () => runs.watch(phase === 0));
  if (phase === 1) begin("counters", () => runs.countNow());
}

/** Returns whether the runtime is to be asked often: tcpdump runs, or a sandbox is awaited that may come any moment. */
export function needsRuntime({ runs, tracker, sandbox }: Capture): boolean {
  return runs.running !== undefined ||
    (tracker?.request !== undefined && !sandbox && tracker.lacksSandboxMs < SANDBOX_AWAITED_MS);
}

/** Returns whether the API is to be asked for the pod: it has no sandbox, and perhaps is another node's, or waits for something. */
function needsLook({ runs, tracker, sandbox, report }: Capture): boolean {
  return tracker !== undefined && tracker.asked.kind !== "nothing" && !runs.running && !sandbox && tracker.look.isDue &&
    (!report.isHere || report.desired.state === "pending");
}

/** Asks the API for the pod, and enqueues the capture with what was found. */
async function look(capture: Capture, shared: Shared): Promise<void> {
  const { tracker, report, log } = capture;
  if (!tracker) return;
  const { look, pod, uid } = tracker;
  look.begin();
  let status: PodStatus | undefined;
  try {
    status = await shared.statusOf(pod);
    look.saidFailed = false;
  } catch (error) {
    if (shared.node.isStopping) return;
    const say = look.saidFailed ? log.debug : log.warn;
    look.saidFailed = true;
    say("Cannot find out why a pod has no sandbox; it is tried again later", { error });
    return;
  }
  // Of one that is gone, or has a sandbox meanwhile, others tell.
  if (capture.tracker !== tracker || status?.uid !== uid || capture.sandbox) return;
  if (status.nodeName !== shared.settings.nodeName) {
    if (status.nodeName !== undefined) look.end();
    return;
  }
  look.found = status;
  report.found();
  shared.enqueue(capture.key);
}
