/** Notices when the kernel holds up this container because it is at its CPU limit, and with it every tcpdump in it. */

/** Captures ask so often, each for itself: the file is read once. */
const LOOK_MS = 1000;
/** Packets are found to be dropped so long after they were, at most. */
const RECENT_MS = 10_000;

export class Throttling {
  readonly #root: string;
  /** The file that has the counter; null: there is none. */
  #path: string | null | undefined;
  #count: number | undefined;
  #grewAt = -Infinity;
  #lookedAt = -Infinity;

  /** @param root of the file system. @default "" */
  constructor(root = "") {
    this.#root = root;
  }

  /** Returns whether the counter has grown within the last seconds, as far as the looks tell. */
  get isRecent(): boolean {
    return performance.now() - this.#grewAt < RECENT_MS;
  }

  /** Looks at the counter, unless that was just done; to be called every few seconds. */
  async look(): Promise<void> {
    if (performance.now() - this.#lookedAt < LOOK_MS) return;
    this.#lookedAt = performance.now();
    if (this.#path === undefined) this.#path = await this.#find();
    if (this.#path === null) return;
    const count = await throttledIn(this.#path);
    if (count !== undefined && this.#count !== undefined && count > this.#count) this.#grewAt = performance.now();
    this.#count = count;
  }

  /** Finds the counter of our own cgroup, version 1 or 2; a container may see it where the node has its root. */
  async #find(): Promise<string | null> {
    const own = await Deno.readTextFile(`${this.#root}/proc/self/cgroup`).catch(() => "");
    for (const [, controllers = "", path = ""] of own.matchAll(/^[0-9]+:([^:\n]*):(.*)$/gm)) {
      if (controllers !== "" && !controllers.split(",").includes("cpu")) continue;
      for (const below of [path, ""]) {
        const file = [`${this.#root}/sys/fs/cgroup`, controllers, below, "cpu.stat"].join("/");
        if (await throttledIn(file) !== undefined) return file;
      }
    }
    return null;
  }
}

/** That of this process's own cgroup. */
export const OWN_THROTTLING = new Throttling();

/** Reads the counter from a file, if it has one. */
async function throttledIn(path: string): Promise<number | undefined> {
  const text = await Deno.readTextFile(path).catch(() => "");
  const count = /^nr_throttled ([0-9]+)$/m.exec(text)?.[1];
  return count === undefined ? undefined : Number(count);
}
