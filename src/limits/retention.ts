/** Deleted pods' files that are kept for a while. Time is counted by the monotonic clock and saved, so that no clock step ends it early. */
import type { Log } from "../log.ts";
import type { Occupant } from "../plan/admission.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import { readManifest, writeManifest } from "../store/manifest_file.ts";
import { join } from "@std/path";

/** Seconds between two saves of the time that has passed: so much is counted again after a crash. */
const SAVE_EVERY_S = 60;

interface Kept extends Occupant {
  /** Seconds for which it has been kept when counting began. */
  before: number;
  /** performance.now() when counting began. */
  since: number;
  saved: number;
  /** performance.now() before which it is not tried again what did not work. */
  notBefore: number;
}

export interface RetentionOptions {
  readonly directory: CaptureDir;
  /** Seconds for which files are kept. */
  readonly seconds: number;
  readonly log: Log;
  /** Handles a folder that was deleted: other captures may be admitted. */
  readonly onLess: () => void;
}

export class Retention {
  readonly #options: RetentionOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  /** All that is retained. */
  get kept(): Iterable<Occupant> {
    return this.#kept.values();
  }

  get count(): number {
    return this.#kept.size;
  }

  /** Takes over what an earlier controller left. */
  async adopt(): Promise<void> {
    const { directory, log } = this.#options;
    for (const uid of await directory.retained()) {
      const folder = directory.retainedFolderOf(uid);
      const manifest = await readManifest(folder).catch(() => undefined);
      const bytes = await bytesIn(folder).catch((error) => {
        log.warn("cannot measure retained files", { uid, error });
        return 0;
      });
      // Here before all that comes.
      this.add(uid, { namespace: manifest?.namespace ?? "", firstSeen: -1, bytes }, manifest?.retainedSeconds);
    }
  }

  /** Adds a folder of retained files. @param before seconds for which it has been there. @default 0 */
  add(uid: string, { namespace, firstSeen, bytes }: Occupant, before = 0): void {
    this.#kept.set(uid, {
      ...{ namespace, firstSeen, bytes },
      ...{ before, since: performance.now(), saved: before, notBefore: 0 },
    });
  }

  /** Deletes what has been kept long enough. */
  async tick(): Promise<void> {
    if (this.#kept.size === 0) return;
    const { directory, log, onLess } = this.#options;
    const now = performance.now();
    const before = this.#kept.size;
    // `packet-capture purge` deletes at the same time.
    const there = new Set(await directory.retained());
    for (const [uid, kept] of this.#kept) {
      // What has come since the look is not in it.
      if (now < kept.notBefore || kept.since >= now) continue;
      const seconds = kept.before + (now - kept.since) / 1000;
      try {
        if (!there.has(uid)) {
          this.#kept.delete(uid);
        } else if (seconds >= this.#options.seconds) {
          await directory.removeRetained(uid);
          this.#kept.delete(uid);
          log.info("retained files deleted", { uid, bytes: kept.bytes });
        } else if (seconds - kept.saved >= SAVE_EVERY_S) {
          kept.saved = seconds;
          const folder = directory.retainedFolderOf(uid);
          const manifest = await readManifest(folder).catch(() => undefined);
          if (manifest) await writeManifest(folder, { ...manifest, retainedSeconds: seconds });
        }
      } catch (error) {
        kept.notBefore = now + SAVE_EVERY_S * 1000;
        log.warn("cannot update retained files", { uid, error, retryInMs: SAVE_EVERY_S * 1000 });
      }
    }
    if (this.#kept.size < before) onLess();
  }
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile) bytes += (await Deno.lstat(join(folder, name))).size;
  }
  return bytes;
}
