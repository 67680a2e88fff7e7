/** What a user is told on the pod when a capture comes to rest somewhere. Pure. */
import type { PodEvent } from "../pods/events.ts";
import type { Goal } from "./plan.ts";

const KEPT = "its files are kept while the annotation is there";

/**
 * The Event for a new state; undefined where there is nothing to say.
 *
 * @param isAnswer whether nothing has been said of the pod's present request yet.
 */
export function eventFor(
  goal: Goal,
  before: Goal["state"],
  podIsGoing: boolean,
  isAnswer: boolean,
): PodEvent | undefined {
  switch (goal.state) {
    case "rejected":
      return {
        type: "Warning",
        reason: "CaptureRejected",
        note: goal.reason.charAt(0).toUpperCase() + goal.reason.slice(1),
      };
    case "waiting":
      return { type: "Warning", reason: "CaptureWaiting", note: `Waiting for room: ${goal.reason}` };
    case "paused":
      return { type: "Warning", reason: "CapturePaused", note: `Paused: ${goal.reason}; it resumes by itself` };
    case "completed":
      return { type: "Normal", reason: "CaptureCompleted", note: `Duration or packet count reached: ${KEPT}` };
    case "held":
      return before === "capturing" || isAnswer
        ? { type: "Normal", reason: "CaptureStopped", note: `Held: stopped and flushed, ${KEPT}` }
        : undefined;
    case "pending":
      return before === "capturing" && !podIsGoing
        ? { type: "Normal", reason: "CaptureStopped", note: `The pod's sandbox has ended: ${KEPT}` }
        : undefined;
    default:
      return undefined;
  }
}
