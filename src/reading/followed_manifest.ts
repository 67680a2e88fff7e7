/** A capture's manifest while it is followed: whether the capture goes on, and why nothing comes. */
import type { CaptureState } from "../spec/state.ts";
import type { Manifest } from "../store/manifest.ts";
import { readManifest } from "../store/manifest_file.ts";
import { mayBeWritten } from "./alive.ts";
import type { Capture } from "./locate.ts";

/** Milliseconds between two reads of the manifest, which records whether the capture has ended. */
const MANIFEST_MS = 1000;
/** States in which nothing comes any more. */
const ENDED_STATES: readonly string[] = ["finished", "completed", "retained"] satisfies CaptureState[];

export class FollowedManifest {
  /** Manifest as it was last read. */
  manifest: Manifest | undefined;
  /** Somebody may be writing to the newest file. */
  isWritten = true;
  /** The folder is of another pod by now. */
  isAnother = false;
  readonly #folder: string;
  readonly #uid: string | undefined;
  readonly #say: (line: string) => void;
  #readAt = performance.now();
  /** The state that was last noted. */
  #state: CaptureState = "capturing";

  /** @param say prints why nothing comes, and that packets come again. */
  constructor({ folder, manifest }: Capture, say: (line: string) => void) {
    this.#folder = folder;
    this.#uid = manifest?.uid;
    this.#say = say;
    this.manifest = manifest;
    this.#reportState();
  }

  /** Returns whether nothing comes any more, by a manifest that is not old. */
  async hasEnded(): Promise<boolean> {
    if (performance.now() - this.#readAt > MANIFEST_MS) await this.read();
    return this.isAnother || ENDED_STATES.includes(this.manifest?.state ?? "");
  }

  /** Reads it again. One that is missing or damaged changes nothing. */
  async read(): Promise<void> {
    const manifest = await readManifest(this.#folder).catch(() => undefined);
    this.#readAt = performance.now();
    if (manifest && this.#uid !== undefined && manifest.uid !== this.#uid) this.isAnother = true;
    else if (manifest) this.manifest = manifest;
    this.isWritten = await mayBeWritten(this.#folder, this.manifest);
    this.#reportState();
  }

  /** Returns when tcpdump did not run between the last packet of one run and the first of another, one sentence a time. */
  restarts(from: number, to: number): string[] {
    const runs = this.manifest?.runs.filter(({ n }) => n >= from && n <= to) ?? [];
    const restarts = runs.slice(1).map(({ startedAt }, i) => {
      const { endedAt = "an unknown time", ended } = runs[i]!;
      return `not captured from ${endedAt} to ${startedAt}${ended ? `: ${ended}` : ""}`;
    });
    return restarts.length > 0 ? restarts : [`capturing was started again before this: run ${to} follows run ${from}`];
  }

  #reportState(): void {
    const { state = "capturing", reason = "" } = this.manifest ?? {};
    if (state === this.#state || ENDED_STATES.includes(state)) return;
    this.#state = state;
    this.#say(
      state === "capturing"
        ? "packets are captured again"
        : `nothing is captured: it is ${state}${reason && `: ${reason}`}`,
    );
  }
}
