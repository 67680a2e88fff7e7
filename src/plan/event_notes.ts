/** The Events on the pod when a capture settles in a state, or its run does not go well. Pure. */
import { count, formatBytes } from "../base/format.ts";
import type { PodEvent } from "../pods/events.ts";
import { type CaptureRequest, describe } from "../spec/request.ts";
import type { Desired } from "./plan.ts";

const KEPT = "its files are kept while the annotation is there";

/**
 * Returns the Event for a new state; undefined where there is nothing to report.
 *
 * @param about.podIsGoing whether the pod is being deleted, or the controller stops.
 * @param about.isAnswer whether no Event has answered the pod's present request yet.
 */
export function eventFor(
  desired: Desired,
  before: Desired["state"],
  about: { readonly podIsGoing: boolean; readonly isAnswer: boolean },
): PodEvent | undefined {
  const { podIsGoing, isAnswer } = about;
  const sentence = desired.reason.charAt(0).toUpperCase() + desired.reason.slice(1);
  switch (desired.state) {
    case "rejected":
      return {
        type: "Warning",
        reason: "CaptureRejected",
        note: sentence,
      };
    case "waiting":
      return { type: "Warning", reason: "CaptureWaiting", note: `Queued: ${desired.reason}` };
    case "paused":
      return { type: "Warning", reason: "CapturePaused", note: `Paused: ${desired.reason}; it resumes by itself` };
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
      return desired.state === "finished"
        ? { type: "Normal", reason: "CaptureStopped", note: sentence }
        : { type: "Normal", reason: "CapturePending", note: sentence };
    default:
      return undefined;
  }
}

/** Returns the Event for a run that listens. @param last when the run before ended; undefined: it is the first. */
export function started(request: CaptureRequest, last: string | undefined, restartedBy: string): PodEvent {
  const what = describe(request);
  return last === undefined ? { type: "Normal", reason: "CaptureStarted", note: `Capturing: ${what}` } : {
    type: "Normal",
    reason: "CaptureRestarted",
    note: `Capturing again (${what}): ${restartedBy}; not captured since ${last}`,
  };
}

/** Returns the Event for a further request that the tcpdump of the one before serves too. */
export function servedOn(request: CaptureRequest): PodEvent {
  return {
    type: "Normal",
    reason: "CaptureStarted",
    note: `Capturing: ${describe(request)}; tcpdump goes on as it is`,
  };
}

/** Returns the Event for a failure that may pass. */
export function failed(problem: string): PodEvent {
  return { type: "Warning", reason: "CaptureFailed", note: `${problem}; the controller retries` };
}

/** Returns the Event for the end of a capture whose files go with it. */
export function filesDeleted(files: number, bytes: number): PodEvent {
  const note = `Annotation removed: deleted ${count(files, "file")} (${formatBytes(bytes)})`;
  return { type: "Normal", reason: "CaptureStopped", note };
}

/**
 * Returns the Event for dropped packets. Its note has no numbers: Events with the same note are counted, and leave room for others.
 *
 * @param about.isSteady it goes on for longer than a burst.
 * @param about.isThrottled the container was at its CPU limit meanwhile.
 */
export function packetsDropped(about: { readonly isSteady: boolean; readonly isThrottled: boolean }): PodEvent {
  const why = about.isThrottled
    ? "because the controller is at its CPU limit (packet-capture list shows how many): " +
      "a filter, a smaller snaplen or a higher limit (resources.limits.cpu of the chart) helps"
    : about.isSteady
    ? "because more come than tcpdump can write (packet-capture list shows how many): " +
      "a filter or a smaller snaplen helps"
    : "in a burst (packet-capture list shows how many): a larger buffer-size helps";
  return { type: "Warning", reason: "CapturePacketsDropped", note: `The kernel dropped packets ${why}` };
}

/** Returns the Event for a run without packets. @param interfaces those of the pod; none where they could not be listed. */
export function noPackets(request: CaptureRequest, seconds: number, interfaces: readonly string[]): PodEvent {
  return {
    type: "Normal",
    reason: "CaptureNoPackets",
    note: `No packets came in the first ${Math.floor(seconds)} s on interface ${request.interface}` +
      (request.filter === undefined ? "" : ` with filter ${request.filter}`) +
      // There is a loopback everywhere.
      (interfaces.length === 0 ? "" : `; the pod has ${interfaces.join(", ")}`),
  };
}
