/** Writes, for `list`, what is asked for and has no folder to say so. */
import type { Log } from "../log.ts";
import { writeNotCapturing } from "../store/not_capturing.ts";
import type { Capture } from "./capture.ts";

/** Returns the row of a capture that has no folder to say what is asked for; undefined: it has one, or nothing is asked. */
export function rowOf({ tracker, folder, report }: Capture): unknown {
  const { desired, since, isHere } = report;
  if ((folder.manifest ?? folder.bytes > 0) || !tracker || desired.state === "none") return undefined;
  const { pod, asked, hash: request } = tracker;
  // A server that ignores the field selector shows others' pods too; a mirror without its static pod is to be seen.
  if (!isHere && pod.staticUid === undefined) return undefined;
  const { namespace, name, uid } = pod;
  const wanted = asked.kind === "valid" ? { wanted: asked.request } : {};
  return { namespace, pod: name, uid, ...desired, since: since.toISOString(), request, ...wanted };
}

export class NotCapturingReport {
  readonly #directory: string;
  readonly #log: Log;
  readonly #rows: () => readonly unknown[];
  #written = "";
  #isOld = false;
  #writing: Promise<void> | undefined;

  /** @param rows returns what is to be reported now. */
  constructor(directory: string, log: Log, rows: () => readonly unknown[]) {
    this.#directory = directory;
    this.#log = log;
    this.#rows = rows;
  }

  /** Whether it could not be written last time. */
  get isOld(): boolean {
    return this.#isOld;
  }

  /** Resolves when nothing is being written. */
  get written(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  /** Writes it, unless it is being written: then what has changed is written too. */
  write(): void {
    if (this.#writing) return;
    this.#isOld = false;
    this.#writing = this.#write().catch((error) => {
      this.#isOld = true;
      this.#log.warn("report not written", { error });
    }).finally(() => this.#writing = undefined);
  }

  async #write(): Promise<void> {
    for (;;) {
      const text = JSON.stringify(this.#rows());
      if (text === this.#written) return;
      await writeNotCapturing(this.#directory, text);
      this.#written = text;
    }
  }
}
