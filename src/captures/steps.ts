/** Steps of the plan that concern several parts of a capture at once. */
import type { Admissions, Place } from "../limits/admissions.ts";
import { isKnown, type Parts } from "./observation.ts";
import type { Desired } from "../plan/plan.ts";
import type { Report } from "./report.ts";
import { servedOn } from "../plan/told.ts";

export interface Settling extends Parts {
  readonly shared: Parts["shared"] & { readonly admissions: Admissions };
  readonly report: Report;
  readonly place: Place;
  /** Looks at the files. */
  measure(): Promise<void>;
}

/** Says, once, that a capture is where it ought to be: in its manifest, in the log and as an Event. */
export async function settle(parts: Settling, desired: Desired): Promise<void> {
  const { shared: { admissions, node }, tracker, report, folder, place, running, isGone } = parts;
  const pod = tracker?.pod, hash = tracker?.hash ?? "", request = tracker?.request;
  const hasLeft = place.settle(desired, running !== undefined, isKnown(parts));
  await folder.repair();
  const { news, isFound } = report.settle(desired, hash, pod !== undefined || isGone, pod);
  if (!news) {
    if (hasLeft || isFound) admissions.changed();
    return;
  }
  if (pod && folder.isOf(pod.uid)) {
    folder.settle(pod, request, desired, report.since);
    await folder.trySave();
  }
  await parts.measure();
  const isSaid = report.say(news, hash, pod, pod?.terminating === true || node.isStopping);
  // The tcpdump that runs serves another request too, of which it need not know what is new.
  if (!isSaid && desired.state === "capturing" && running && running.requestHash !== hash) {
    running.requestHash = hash;
    // Before it listens there is nothing to say; then it is said.
    if (running.phase.is === "listening" && request) report.tell(pod, hash, servedOn(request));
  }
  admissions.changed();
}

/** Counts for the present request from now, and forgets a removed annotation, whose capture is gone as far as it can go. */
export function rearm({ tracker, report, folder, running }: Parts & { readonly report: Report }): void {
  if (!tracker) return;
  if (tracker.isRemoved) report.forgetState();
  if (tracker.isEdited) folder.rearm();
  tracker.rearm();
  if (!tracker.request || !folder.isOf(tracker.uid)) return;
  // tcpdump need not know of the duration.
  const left = folder.recount(tracker.request, running?.seconds ?? 0);
  if (left) running?.endAfter(left.seconds);
}
