/** A small disk of its own for a node's capture directory: ext4 on a loop device, mounted for the test and for the controller. */
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import type { NodeRig } from "../rig/node.ts";

export interface Space {
  /** Bytes in all, and of those that may be written. */
  readonly bytes: number;
  readonly free: number;
  readonly freePercent: number;
  readonly freeInodes: number;
}

export class Disk implements AsyncDisposable {
  readonly #node: NodeRig;
  readonly #image: string;
  #device = "";

  private constructor(node: NodeRig, image: string) {
    this.#node = node;
    this.#image = image;
  }

  /** Where it is mounted. */
  get path(): string {
    return this.#node.captureDir;
  }

  /** @param options.megabytes its size. @param options.inodes how many files fit. */
  static async make(node: NodeRig, { megabytes = 48, inodes = 2048 } = {}): Promise<Disk> {
    const image = join(node.dir, `disk-${crypto.randomUUID()}`);
    await using file = await Deno.open(image, { write: true, createNew: true });
    await file.truncate(megabytes * 1024 * 1024);
    await run(["mkfs.ext4", "-q", "-m", "0", "-N", String(inodes), image]);
    await Deno.mkdir(node.captureDir);
    const disk = new Disk(node, image);
    await disk.mount();
    return disk;
  }

  async mount(): Promise<void> {
    this.#device = (await run(["losetup", "--find", "--show", this.#image])).trim();
    const argv = ["mount", "-o", "errors=remount-ro", this.#device, this.path];
    await run(argv);
    await run(this.#node.runtime.enter(argv));
  }

  /** Whoever writes to it has to have ended. */
  async unmount(): Promise<void> {
    await run(this.#node.runtime.enter(["umount", this.path]));
    await run(["umount", this.path]);
    await run(["losetup", "--detach", this.#device]);
  }

  /** Mends what an error has left, as a technician does, and mounts it again. */
  async mend(): Promise<void> {
    await this.unmount();
    const { code } = await attempt(["e2fsck", "-f", "-y", this.#image]);
    if (code > 2) throw new Error(`e2fsck could not mend the disk: ${code}`);
    await this.mount();
  }

  async space(): Promise<Space> {
    const [bytes, free, block, freeInodes] = (await run(["stat", "-f", "-c", "%b %a %S %d", this.path])).split(" ").map(
      Number,
    ) as [number, number, number, number];
    return { bytes: bytes * block, free: free * block, freePercent: 100 * free / bytes, freeInodes };
  }

  /** Writes a file until this share of the disk is free; 0: until nothing more can be written. */
  async fill(freePercent: number): Promise<void> {
    const { bytes } = await this.space();
    await this.leave(bytes * freePercent / 100);
  }

  /** Writes a file until so many bytes are free; 0: until nothing more can be written. */
  async leave(bytes: number): Promise<void> {
    const { free } = await this.space();
    const size = Math.ceil(free - bytes);
    if (size <= 0) return;
    const file = join(this.path, `.fill-${crypto.randomUUID()}`);
    if (bytes === 0) await attempt(["dd", "if=/dev/zero", `of=${file}`, "bs=1K"]);
    else await run(["fallocate", "-l", String(size), file]);
  }

  /** Makes empty files until no more can be made. */
  async fillInodes(): Promise<void> {
    for (let i = 0;; i++) {
      try {
        await Deno.writeTextFile(join(this.path, `.fill-${i}`), "", { createNew: true });
      } catch {
        return;
      }
    }
  }

  /** Removes what was written to fill it. */
  async empty(): Promise<void> {
    for await (const { name } of Deno.readDir(this.path)) {
      if (name.startsWith(".fill-")) await Deno.remove(join(this.path, name));
    }
  }

  /** Every write waits until {@linkcode Disk.thaw}, or the end of the scope. A process that waits for the disk does not even end before. */
  async freeze(): Promise<AsyncDisposable> {
    await run(["fsfreeze", "--freeze", this.path]);
    return { [Symbol.asyncDispose]: async () => void await attempt(["fsfreeze", "--unfreeze", this.path]) };
  }

  async thaw(): Promise<void> {
    await run(["fsfreeze", "--unfreeze", this.path]);
  }

  /**
   * Nothing can be opened for writing below it, nor made, nor removed, until {@linkcode Disk.writable}: a read-only mount over it,
   * where the controller sees it. (The kernel makes no file system read-only while a file of it is open for writing.)
   */
  async readOnly(): Promise<void> {
    await run(this.#node.runtime.enter(["mount", "--bind", this.path, this.path]));
    await run(this.#node.runtime.enter(["mount", "-o", "remount,bind,ro", this.path]));
  }

  async writable(): Promise<void> {
    await run(this.#node.runtime.enter(["umount", this.path]));
  }

  /** An error in the file system's structures: the kernel allows no more writes, to open files neither. */
  async breakDown(): Promise<void> {
    const device = this.#device.split("/").at(-1);
    await Deno.writeTextFile(`/sys/fs/ext4/${device}/trigger_fs_error`, "1");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await attempt(["fsfreeze", "--unfreeze", this.path]);
    for (const { pid } of await this.#node.processes()) {
      try {
        Deno.kill(pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
    }
    await attempt(this.#node.runtime.enter(["umount", "--lazy", this.path]));
    await attempt(["umount", "--lazy", this.path]);
    await attempt(["losetup", "--detach", this.#device]);
    await Deno.remove(this.#image);
  }
}
