/**
 * The directory in which the runtime keeps a file for each network namespace, watched by inotify. The runtime makes the
 * file before it runs CNI, and the sandbox is READY 70 ms to seconds later.
 *
 * Two traits of Deno 2.9.6 shape the code. A watcher that ends takes a newer one of the same path with it, so its end is
 * awaited first. Events are lost when the path leads through /proc/PID/root.
 */
import { basename } from "@std/path";
import { messageOf } from "../base/errors.ts";

export interface NetnsDirEvents {
  /** Handles a netns file that was made: its sandbox will be READY soon. */
  onCreate(name: string): void;
  /** Handles a netns file that was removed, and its sandbox with it. */
  onRemove(name: string): void;
  /** Handles a change of which inotify does not report enough: the whole directory must be read. */
  onUnclear(): void;
}

/** Watches from the first {@linkcode NetnsDir.ensureWatched} on; the directory may come, go and be replaced. */
export class NetnsDir implements Disposable {
  readonly #path: string;
  readonly #events: NetnsDirEvents;
  #watcher: Deno.FsWatcher | undefined;
  #reading = Promise.resolve();
  /** Device and inode of the directory that is watched. */
  #watched = "";

  constructor(path: string, events: NetnsDirEvents) {
    this.#path = path;
    this.#events = events;
  }

  /** Makes sure that it is the directory now at the path that is watched. Gives one sentence if it cannot be, else undefined. */
  async ensureWatched(): Promise<string | undefined> {
    try {
      const { dev, ino } = await Deno.stat(this.#path);
      const found = `${dev}:${ino}`;
      if (this.#watcher !== undefined && this.#watched === found) return undefined;
      this.#stop();
      // Deno drops the path when a watcher has ended, and with it that of a later watcher.
      await this.#reading;
      const watcher = Deno.watchFs(this.#path, { recursive: false });
      this.#watcher = watcher;
      this.#watched = found;
      this.#reading = this.#read(watcher);
      this.#events.onUnclear();
      return undefined;
    } catch (error) {
      this.#stop();
      return `Cannot watch ${this.#path}: ${messageOf(error)}`;
    }
  }

  /** Lists the names of the files in it. @returns undefined if it cannot be read. */
  async names(): Promise<Set<string> | undefined> {
    try {
      const names = new Set<string>();
      for await (const entry of Deno.readDir(this.#path)) names.add(entry.name);
      return names;
    } catch {
      return undefined;
    }
  }

  /**
   * Returns what `path`, a file in the directory, is instead of a network namespace; undefined if it can be entered.
   */
  async refusal(path: string): Promise<string | undefined> {
    try {
      const [dir, file] = await Promise.all([Deno.stat(this.#path), Deno.stat(path)]);
      // A namespace is a file of another file system (nsfs), mounted on an empty file here.
      return file.dev === dir.dev
        ? `${path} is an empty file here (the mount of ${this.#path} needs mountPropagation HostToContainer)`
        : undefined;
    } catch (error) {
      return error instanceof Deno.errors.NotFound ? `${path} does not exist` : String(error);
    }
  }

  [Symbol.dispose](): void {
    this.#stop();
  }

  #stop(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }

  async #read(watcher: Deno.FsWatcher): Promise<void> {
    const events = watcher[Symbol.asyncIterator]();
    for (;;) {
      // A watch that fails ends like one that was closed: the next ensureWatched() makes another.
      const { value, done } = await events.next().catch(() => ({ value: undefined, done: true }));
      if (done || value === undefined) break;
      if (value.flag === "rescan") this.#events.onUnclear();
      for (const path of value.paths) this.#tell(value.kind, path);
    }
    if (this.#watcher === watcher) this.#stop();
  }

  #tell(kind: Deno.FsEvent["kind"], path: string): void {
    if (kind === "access" || kind === "modify") return;
    if (path === this.#path) {
      this.#stop();
      this.#events.onUnclear();
    } else if (kind === "create") {
      this.#events.onCreate(basename(path));
    } else if (kind === "remove") {
      this.#events.onRemove(basename(path));
    } else {
      this.#events.onUnclear();
    }
  }
}
