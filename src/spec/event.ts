/** The part of Events on pods that programs read: their reasons, and the request that they answer. Their notes are for people. */

/** Annotation of an Event: the hash of the request that it answers (`requestHash`). */
export const REQUEST_ANNOTATION = "packet-capture.antrea.io/request";

export type EventReason =
  /** tcpdump listens. */
  | "CaptureStarted"
  /** tcpdump listens again, after an interruption. */
  | "CaptureRestarted"
  /** Nothing is captured any more; the note gives the reason, and what became of the files. */
  | "CaptureStopped"
  /** Duration or packet count reached. */
  | "CaptureCompleted"
  /** The pod has no sandbox yet. */
  | "CapturePending"
  /** The request does not fit within the limits now. */
  | "CaptureWaiting"
  /** The disk is at its free-space floor. */
  | "CapturePaused"
  /** The annotations are invalid, or can never be carried out here. */
  | "CaptureRejected"
  /** The capture failed, and is tried again. */
  | "CaptureFailed"
  /** The kernel dropped packets. */
  | "CapturePacketsDropped"
  /** Nothing was captured for a while. */
  | "CaptureNoPackets";
