/**
 * Times that the captures wait of their own accord. The controller waits as long as this page states; tests hand in
 * less.
 */
export interface CaptureTiming {
  /** Milliseconds from one turn of the loop to the next: the disk, the rings and the processes are looked at. */
  readonly tick: number;
  /** Milliseconds within which libpcap hands a block of packets over (to_ms in tcpdump.c: 1 s): then all is in the file. */
  readonly block: number;
  /** Back-off after a failure, in milliseconds: later and later, as long as it fails in the same sandbox. */
  readonly retry: { readonly first: number; readonly most: number };
  /** Times at which a pod without a sandbox is looked up in the API, in milliseconds. */
  readonly look: {
    /** Time without a sandbox after which a pod is looked up: most have one by then. */
    readonly first: number;
    /** Time between one look and the next, at first and at most. */
    readonly again: number;
    readonly most: number;
  };
  /** Times after which the findings of a run are reported. */
  readonly health: {
    /** Seconds of silence from the start of a run after which it is a finding. */
    readonly silence: number;
    /** Milliseconds after which more dropped packets are another finding. */
    readonly droppedAgain: number;
  };
}

export const CAPTURE_TIMING: CaptureTiming = {
  tick: 1000,
  block: 1100,
  retry: { first: 250, most: 30_000 },
  look: { first: 3000, again: 30_000, most: 240_000 },
  health: { silence: 60, droppedAgain: 60_000 },
};
