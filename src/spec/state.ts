/** State of a capture. One word for the log, `list`, metrics (`requests{state}`) and the manifest. */
export type CaptureState =
  /** tcpdump is running. */
  | "capturing"
  /** Wanted, but the pod has no READY sandbox yet. */
  | "pending"
  /** Wanted, but the pod has finished: it never gets a sandbox again, and its files are kept. */
  | "finished"
  /** Queued: the request does not fit within the limits now. */
  | "waiting"
  /** Wanted, but the disk is at its free-space floor. */
  | "paused"
  /** tcpdump failed; the controller retries after a back-off. */
  | "failing"
  /** `hold` is set: stopped and flushed, files kept. */
  | "held"
  /** Duration or packet count reached: files kept. */
  | "completed"
  /** The annotations are invalid, or can never be carried out here; files of earlier runs are kept. */
  | "rejected"
  /** The pod is gone and its files are kept for `retention`. */
  | "retained";
