/**
 * `<captureDir>/.not-capturing.json`: requests that have no folder (rejected, waiting, pending), for `list`.
 *
 * Such a request gets no folder, because no file is made for a pod that is not captured. Readers are
 * other processes, so `list` reads it from this one small file, which is replaced as a whole. An
 * HTTP endpoint would be open to anyone who reaches the port.
 */
import { join } from "@std/path";

export const NOT_CAPTURING = ".not-capturing.json";

/** Replaces the report in one step. @param text a JSON array of {namespace, pod, uid, state, reason, since, request, wanted}. */
export async function writeNotCapturing(directory: string, text: string): Promise<void> {
  const path = join(directory, NOT_CAPTURING);
  const temporary = `${path}.tmp`;
  await Deno.remove(temporary).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  try {
    await Deno.writeTextFile(temporary, text + "\n", { createNew: true, mode: 0o600 });
    await Deno.rename(temporary, path);
  } catch (error) {
    // A full disk takes the file and not what is in it.
    await Deno.remove(temporary).catch(() => {});
    throw error;
  }
}

/** The report, written whenever it has changed, one write after another. */
export class NotCapturingReport {
  readonly #directory: string;
  readonly #rows: () => readonly unknown[];
  readonly #onError: (error: unknown) => void;
  #written = "";
  #isOld = false;
  #writing: Promise<void> | undefined;

  /** @param rows returns what is to be reported now. @param onError is called when it cannot be written. */
  constructor(directory: string, rows: () => readonly unknown[], onError: (error: unknown) => void) {
    this.#directory = directory;
    this.#rows = rows;
    this.#onError = onError;
  }

  /** Set when it could not be written last time. */
  get isOld(): boolean {
    return this.#isOld;
  }

  /** Resolves when nothing is being written. */
  get written(): Promise<void> {
    return this.#writing ?? Promise.resolve();
  }

  /** Writes it; where that is under way, what has changed meanwhile is written too. */
  write(): void {
    if (this.#writing) return;
    this.#isOld = false;
    this.#writing = this.#write().catch((error) => {
      this.#isOld = true;
      this.#onError(error);
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
