/** Readers that hold files open which the controller deletes: their blocks are free at once. The disk itself says so. */
import { deepStrictEqual as assertEquals, match, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { cliCommand } from "../rig/cli.ts";
import { KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { Disk } from "./disk.ts";
import { fault, shared, since } from "./fault.ts";
import { cleanUp, clear } from "./node.ts";

const rig = shared(() => NodeRig.start());

const MB = 1_000_000;
/** Manifest, locks, directories, and that each file is a packet larger than asked for. */
const SLACK = 1.5 * MB;
/** The controller looks at a folder every second, and a test's machine may be busy. */
const SOON = { timeoutMs: 5000, everyMs: 20 };

/** A `cat` of whose output nobody takes more than the pipe does. */
class SlowReader {
  readonly #child: Deno.ChildProcess;

  constructor(private readonly node: NodeRig, target: string) {
    const argv = ["cat", target, "--capture-dir", node.captureDir];
    // It must not outlive the test, however that ends.
    this.#child = cliCommand(argv).spawn();
  }

  /** Bytes of the capture files that it has open, and how many of them have been deleted. */
  open(): { readonly files: number; readonly deleted: number } {
    const links: string[] = [];
    for (const { name } of Deno.readDirSync(`/proc/${this.#child.pid}/fd`)) {
      try {
        links.push(Deno.readLinkSync(`/proc/${this.#child.pid}/fd/${name}`));
      } catch {
        // Closed meanwhile.
      }
    }
    const files = links.filter((link) => /\.pcap[0-9]*( \(deleted\))?$/.test(link));
    return { files: files.length, deleted: files.filter((link) => link.endsWith(" (deleted)")).length };
  }

  /** Waits until it has opened so many files and waits for its reader. */
  async reads(files: number): Promise<void> {
    await waitFor(`a reader of ${files} files`, () => this.open().files >= files, { timeoutMs: 20_000, everyMs: 20 });
    await waitFor("a reader that waits", async () => {
      // All its threads wait for something; the one that writes, for the pipe.
      const threads = [...Deno.readDirSync(`/proc/${this.#child.pid}/task`)];
      const at = await Promise.all(
        threads.map(({ name }) => Deno.readTextFile(`/proc/${this.#child.pid}/task/${name}/wchan`).catch(() => "")),
      );
      return at.some((where) => /pipe/.test(where));
    }, { timeoutMs: 20_000, everyMs: 20 });
  }

  /** Takes the rest. @returns the exit code, stderr, and whether capinfos can read all of what came. */
  async finish(): Promise<{ code: number; said: string; isWhole: boolean }> {
    const path = join(this.node.dir, `read-${this.#child.pid}.pcapng`);
    const [{ code }, said] = await Promise.all([
      this.#child.status,
      new Response(this.#child.stderr).text(),
      this.#child.stdout.pipeTo((await Deno.open(path, { write: true, create: true })).writable),
    ]);
    const { code: broken } = await attempt(["capinfos", path]);
    await Deno.remove(path);
    return { code, said, isWhole: broken === 0 };
  }
}

/** Sends until the present run's ring is full. */
async function fill(node: NodeRig, pod: TestPod, { files, bytes }: { files: number; bytes: number }): Promise<void> {
  const script = `exec 3<>/dev/udp/127.0.0.1/9
    for i in {1..40}; do dd if=/dev/zero bs=60000 count=1 >&3; done 2>/dev/null`;
  await waitFor("a full ring", async () => {
    await attempt(await node.inNetns(pod, ["bash", "-c", script])); // every other datagram is refused
    const names = (await node.files(pod)).filter((name) => name.startsWith("capture-"));
    const sizes = await Promise.all(
      names.map((name) => Deno.stat(join(node.folderOf(pod), name)).catch(() => undefined)),
    );
    return sizes.filter((info) => (info?.size ?? 0) > bytes - 200_000).length >= files - 1 && names.length === files;
  }, { timeoutMs: 30_000, everyMs: 0 });
}

async function used(disk: Disk): Promise<number> {
  const [blocks, free, size] = (await run(["stat", "-f", "-c", "%b %f %S", disk.path])).split(" ").map(Number);
  return (blocks! - free!) * size!;
}

fault("slow-readers-pin", async (record) => {
  const node = await rig();
  await clear(node);
  await using disk = await Disk.make(node, { megabytes: 160 });
  const env = { MIN_FREE_PERCENT: "1" };
  const first = await node.startController(env);
  const empty = await used(disk);
  /** Waits until the disk holds no more than so much of captures. @returns how long it took. */
  const holds = async (bytes: number, what: string) => {
    const start = performance.now();
    let now = 0;
    await waitFor(what, async () => (now = await used(disk) - empty) <= bytes + SLACK, SOON).catch((error) => {
      throw new Error(`${error.message}: ${(now / MB).toFixed(1)} MB of the disk are used, ${bytes / MB} are claimed`);
    });
    return since(start);
  };
  const took: number[] = [];

  // Eight readers of one capture, with a new run between each and the next.
  const web = await node.startPod("web", { annotations: { [KEY]: "4" } });
  const readers: SlowReader[] = [];
  for (let i = 0; i < 8; i++) {
    await node.capturing(web);
    await fill(node, web, { files: 4, bytes: MB });
    readers.push(new SlowReader(node, "default/web"));
    await readers.at(-1)!.reads(4);
    const before = (await node.processOf(web))?.pid;
    await node.annotate(web, { snaplen: String(65_535 + i) });
    await waitFor("a new run", async () => ![undefined, before].includes((await node.processOf(web))?.pid));
    took.push(await holds(8 * MB, `8 MB after reader ${i + 1}`));
  }
  const open = readers.map((reader) => reader.open());
  const deleted = open.reduce((sum, { deleted }) => sum + deleted, 0);
  assert(deleted >= 20, `${deleted} deleted files are open`);
  record.happened(`8 readers had ${deleted} deleted files of 1 MB open`);
  for (const reader of readers) {
    const { code, said, isWhole } = await reader.finish();
    assert(isWhole, said);
    if (code !== 0) match(said, /was deleted before it was read: \d+ of its \d+ bytes are missing/);
  }
  await node.annotate(web, { "": null });
  await node.clean(web);

  // Rings that a reader does not have in its memory: what is deleted before it was read is missing, and the reader says so.
  const large = async (name: string) => {
    const pod = await node.startPod(name, { annotations: { [KEY]: "3", [`${KEY}/file-size`]: "8" } });
    await node.capturing(pod);
    await fill(node, pod, { files: 3, bytes: 8 * MB });
    const reader = new SlowReader(node, `default/${name}`);
    await reader.reads(3);
    return { pod, reader };
  };
  const missesSome = async (reader: SlowReader) => {
    assert(reader.open().deleted > 0, "none of what it reads has been deleted");
    const { code, said, isWhole } = await reader.finish();
    assertEquals([code, isWhole], [1, true], said);
    match(
      said,
      /^packet-capture: default\/\S+: \S+ was deleted before it was read: \d+ of its \d+ bytes are missing$/m,
    );
  };
  const edited = await large("edited");
  await node.annotate(edited.pod, { "": "1" });
  await waitFor("a deleted file", () => edited.reader.open().deleted > 0, SOON);
  took.push(await holds(16 * MB, "16 MB after an edit of N from 3 to 1"));
  await missesSome(edited.reader);
  await node.deletePod(edited.pod);
  await node.clean(edited.pod);

  const unannotated = await large("unannotated");
  await node.annotate(unannotated.pod, { "": null });
  await node.clean(unannotated.pod);
  took.push(await holds(0, "nothing after the annotation's removal"));
  await missesSome(unannotated.reader);

  const gone = await large("gone");
  await node.deletePod(gone.pod);
  await node.clean(gone.pod);
  took.push(await holds(0, "nothing after the pod's deletion"));
  await missesSome(gone.reader);
  await first.stop();

  await using _second = await node.startController({ ...env, RETENTION_AFTER_POD_DELETION: "3s" });
  const retained = await large("retained");
  await node.deletePod(retained.pod);
  await node.clean(retained.pod);
  assertEquals(retained.reader.open().deleted, 0, "what is retained is deleted");
  await waitFor("a deleted file", () => retained.reader.open().deleted > 0, { timeoutMs: 10_000, everyMs: 20 });
  took.push(await holds(0, "nothing after retention"));
  await missesSome(retained.reader);

  record.right({
    seconds: Math.max(...took),
    leftovers: await cleanUp(node, [web, unannotated.pod]),
  });
});
