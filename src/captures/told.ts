/** What a user is told on the pod when a capture comes to rest somewhere. Pure. */
import type { PodEvent } from "../pods/events.ts";
import type { Goal } from "./plan.ts";

const KEPT = "its files are kept while the annotation is there";

/**
 * The Event for a new state; undefined where there is nothing to say.
 *
 * @param about.podIsGoing whether the pod is being deleted, or the controller stops.
 * @param about.isAnswer whether nothing has been said of the pod's present request yet.
 */
export function eventFor(
  goal: Goal,
  before: Goal["state"],
  about: { readonly podIsGoing: boolean; readonly isAnswer: boolean },
): PodEvent | undefined {
  const { podIsGoing, isAnswer } = about;
  const sentence = goal.reason.charAt(0).toUpperCase() + goal.reason.slice(1);
  switch (goal.state) {
    case "rejected":
      return {
        type: "Warning",
        reason: "CaptureRejected",
        note: sentence,
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
    case "finished":
      if (podIsGoing) return undefined;
      if (before === "capturing") {
        return { type: "Normal", reason: "CaptureStopped", note: `The pod's sandbox has ended: ${KEPT}` };
      }
      if (!isAnswer) return undefined;
      return goal.state === "finished"
        ? { type: "Normal", reason: "CaptureStopped", note: sentence }
        : { type: "Normal", reason: "CapturePending", note: sentence };
    default:
      return undefined;
  }
}
