/** Gathers what the plan's next step depends on, from the parts of one capture. */
import type { Sandbox } from "../sandboxes/sandbox.ts";
import type { Backoff } from "../base/backoff.ts";
import type { Folder } from "./folder.ts";
import type { Admission, Observed } from "../plan/plan.ts";
import type { RequestTracker } from "./request_tracker.ts";
import type { Run } from "../tcpdump/run.ts";
import type { Shared } from "./shared.ts";

/** The parts of a capture, each as it is at the moment of the look. */
export interface Parts {
  readonly shared: Pick<Shared, "settings" | "node">;
  readonly tracker: RequestTracker | undefined;
  readonly folder: Folder;
  readonly running: Run | undefined;
  readonly sandbox: Sandbox | undefined;
  readonly backoff: Backoff;
  /** It is proven that there is no pod. */
  readonly isGone: boolean;
}

/** Returns whether it is known that there is a pod, or none, and whether it has a sandbox. */
export function isKnown({ shared: { node }, tracker, isGone }: Parts): boolean {
  return node.isSynced && (tracker !== undefined || isGone);
}

export function observe(parts: Parts, admission: Admission): Observed {
  const { shared: { settings, node }, tracker, folder, running, sandbox, isGone } = parts;
  const backoff = parts.backoff.reason(sandbox?.id);
  const inFolder = folder.observed;
  // Of another pod's folder nothing counts for this one.
  const request = folder.isOf(tracker?.uid) ? tracker?.request : undefined;
  return {
    gone: isGone,
    stopping: node.isStopping,
    allowHostNetworkPods: settings.allowHostNetworkPods,
    retains: settings.retentionSeconds > 0,
    admission,
    ...(tracker?.observed(sandbox?.id) ?? { removed: false, checked: true }),
    edited: tracker?.isEdited === true || (request !== undefined && folder.countsOther(request)),
    reached: request !== undefined && folder.isReached(request, running?.seconds ?? 0),
    ...(sandbox ? { sandbox } : {}),
    ...(inFolder ? { folder: inFolder } : {}),
    ...(running ? { process: running.observed } : {}),
    ...(node.paused === undefined ? {} : { paused: node.paused }),
    ...(backoff === undefined ? {} : { backoff }),
  };
}
