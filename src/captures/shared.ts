/** What all captures of a node share. */
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Settings } from "../settings.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import type { Admissions } from "../limits/admissions.ts";
import type { DiskFloor } from "../limits/disk.ts";
import type { FilterChecks } from "../tcpdump/filter_checks.ts";
import type { PodSandboxes } from "../sandboxes/pod_sandboxes.ts";
import type { Recorder } from "../pods/events.ts";
import type { Retention } from "../limits/retention.ts";
import type { CaptureTiming } from "../timing.ts";

/** State of the node that concerns all captures. */
export class Node {
  /** The first list is complete, and the runtime has said of which pods there is a sandbox. */
  isSynced = false;
  isStopping = false;
  readonly #disk: Pick<DiskFloor, "paused">;

  constructor(disk: Pick<DiskFloor, "paused">) {
    this.#disk = disk;
  }

  /** Why no capture may write now; undefined: they may. */
  get paused(): string | undefined {
    return this.#disk.paused;
  }
}

export interface Shared {
  readonly settings: Settings;
  readonly directory: CaptureDir;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly timing: CaptureTiming;
  readonly filters: FilterChecks;
  readonly admissions: Admissions;
  readonly retention: Retention;
  readonly sandboxes: PodSandboxes;
  readonly node: Readonly<Node>;
  readonly record: Recorder;
  /** Enqueues a capture. */
  enqueue(key: string): void;
}
