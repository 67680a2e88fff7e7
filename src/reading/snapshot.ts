/**
 * The files of a capture as they are at one moment, so that they can be read while tcpdump goes on.
 *
 * All files are listed, opened, set aside by rename (docs/adr/0002), and measured again: these bytes are
 * the snapshot, and wrapping no longer reaches it. The lock of renaming is held meanwhile, otherwise a file
 * that another reader renames would be in no place. The shared lock on `.reading` delays trimming.
 *
 * Files are renamed only where they and N new ones fit into 2N, which is what admission granted. The
 * controller trims within a second after an earlier reader has left, so up to 1.5 s are waited for that.
 * Without room, or on a disk that takes nothing new, files are read without renaming. After each read
 * the file's first bytes are compared, and an overwritten file is dropped from there on. That is reported
 * on stderr, in the file's comments and statistics, and by exit code 1. An ended capture is not renamed.
 *
 * Statistics are tcpdump's counters, at most 5 s old, of the whole run. `isb_ifdrop` and `isb_osdrop` both
 * hold the kernel's drops: Wireshark and capinfos read the first, the format means the second.
 */
import { join } from "@std/path";
import { pause } from "../base/timeout.ts";
import { readManifest } from "../store/manifest_file.ts";
import { keepNames, lastRunNumber, listRing, READING_LOCK, type RingFile, runNumber, setAside } from "../store/ring.ts";
import { mayBeWritten } from "./alive.ts";
import { CaptureFile } from "./capture_file.ts";
import type { Capture } from "./locate.ts";

/** The controller trims a folder within 1 s of its growing too large; after that there is room for a snapshot, or not. */
const ROOM_TIMEOUT_MS = 1500;
const ROOM_POLL_MS = 100;
/** Number of attempts, where a file that was listed had gone. */
const MOST_ATTEMPTS = 10;
/** Errors of a disk that takes nothing new: read-only, full (also of inodes), quota used up. */
const TAKES_NOTHING = ["EROFS", "ENOSPC", "EDQUOT"];
/** The usual reason for `unprotected`. */
export const NO_ROOM = "because there is no room next to another reader's";

export interface Snapshot extends Disposable {
  /** Oldest first. */
  readonly files: readonly CaptureFile[];
  /** Reason why the ring can overtake the reader, in a few words; undefined: it cannot. */
  readonly unprotected: string | undefined;
}

/**
 * Takes a snapshot of a capture: opens its files and sets those of the present ring aside by rename, under a lock
 * that keeps the controller from trimming them. Where they would not fit into the 2N files that a capture may have,
 * or the disk takes nothing new, it is done without the renaming. What tcpdump then overwrites before it has been
 * read is noticed.
 *
 * @throws Deno.errors.NotFound if the folder goes away meanwhile.
 */
export async function takeSnapshot(capture: Capture, signal: AbortSignal): Promise<Snapshot> {
  const deadline = performance.now() + ROOM_TIMEOUT_MS;
  for (let attempt = 1;; attempt++) {
    using held = new DisposableStack();
    const taken = await attemptOne(capture, held, {
      waits: performance.now() < deadline,
      insists: attempt < MOST_ATTEMPTS,
    });
    if (typeof taken === "object") {
      const open = held.move();
      return { ...taken, [Symbol.dispose]: () => open.dispose() };
    }
    signal.throwIfAborted();
    if (taken === "again") continue;
    // Let go meanwhile, because the controller trims only when nobody reads.
    held.dispose();
    await pause(ROOM_POLL_MS);
  }
}

/**
 * @param held gets what has to be let go of at the end.
 * @param options.waits whether `wait` may be the answer, for lack of room.
 * @param options.insists whether `again` may be, because a file has gone.
 */
async function attemptOne(
  { folder, pod, manifest: before }: Capture,
  held: DisposableStack,
  options: { readonly waits: boolean; readonly insists: boolean },
): Promise<Pick<Snapshot, "files" | "unprotected"> | "wait" | "again"> {
  let unprotected = await lockFiles(folder, held);
  // Read now, under the lock: a run may have begun, or ended, after the capture was found.
  const manifest = await readManifest(folder).catch(() => undefined) ?? before;
  const last = manifest?.runs.at(-1);
  // Without a manifest nothing is known of tcpdump, and a rename does no harm.
  const running = manifest === undefined ||
    (manifest.state !== "retained" && last !== undefined && last.endedAt === undefined);
  using names = new DisposableStack();
  if (running) unprotected ??= await tried(async () => void names.use(await keepNames(folder)));
  const listed = await listRing(folder, pod, { blocking: true });
  const current = last?.n ?? Math.max(1, lastRunNumber(listed));
  const ring = last?.request.files ?? manifest?.request?.files;
  // All that is there stays, and tcpdump makes up to N files more while it is read.
  if (running && ring !== undefined && listed.length + ring > 2 * ring) {
    if (options.waits) return "wait";
    unprotected ??= NO_ROOM;
  }
  const opened = openAll(listed, held, current);
  if (opened.length < listed.length && options.insists) return "again";
  const files = opened.map(({ file }) => file);
  if (!running) return { files, unprotected: undefined };
  unprotected ??= await tried(() => setAside(folder, listed, current));
  // What tcpdump began again between the listing and the renaming is its newest file, not the oldest that it was.
  const rewritten = opened.filter(({ file, begunAgain }) => file.refresh() || begunAgain).map(({ file }) => file);
  const ordered = [...files.filter((file) => !rewritten.includes(file)), ...rewritten];
  const newest = ordered.at(-1);
  if (newest) newest.growing = await mayBeWritten(folder, manifest);
  if (unprotected !== undefined) { for (const { file, earlier } of opened) if (!earlier) file.guard(); }
  return { files: ordered, unprotected };
}

/** Keeps the controller from trimming. @returns why that cannot be done. */
async function lockFiles(folder: string, held: DisposableStack): Promise<string | undefined> {
  return await tried(async () => {
    const path = join(folder, READING_LOCK);
    const lock = held.use(await Deno.open(path, { read: true, write: true, create: true, mode: 0o600 }));
    await lock.lock(false);
  });
}

/** @returns why it could not be done, in a few words, if that is no reason to read nothing. */
async function tried(change: () => Promise<void>): Promise<string | undefined> {
  try {
    await change();
    return undefined;
  } catch (error) {
    const { code, message } = error as Error & { readonly code?: string };
    if (error instanceof Deno.errors.TimedOut) return `because others hold its files: ${message}`;
    if (!TAKES_NOTHING.includes(code ?? "")) throw error;
    return `because the disk of captureDir takes nothing new: ${message.replace(/ \(os error.*/, "")}`;
  }
}

/** @returns those that are still there, and whether each had been begun again after it was listed. */
function openAll(listed: readonly RingFile[], held: DisposableStack, current: number) {
  return listed.flatMap(({ path, name, bytes, earlier }) => {
    const opened = openSync(path);
    if (!opened) return [];
    held.use(opened);
    const file = new CaptureFile(opened, name, runNumber({ name }) ?? current);
    return [{ file, earlier, begunAgain: file.bytes < bytes }];
  });
}

/** Opens a file while the thread waits: a hundred in turn take a millisecond so, and ten otherwise. */
function openSync(path: string): Deno.FsFile | undefined {
  try {
    return Deno.openSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
