/**
 * The files of a capture: their names, their order in time, and the two things that are done to them while tcpdump runs.
 *
 *     capture-<pod>.pcap0 … pcap4      the ring of the present run, named by tcpdump -C -W, overwritten in a circle
 *     run-000003-000001.pcap           an earlier file: of an earlier run, or set aside for a reader
 *
 * tcpdump truncates in place when the ring wraps, so neither an open descriptor nor a hard link protects what is read. A
 * renamed file keeps its bytes: tcpdump opens by name, goes on writing to the renamed file only until its next rotation, and
 * then makes a new one. So a run's files are set aside ("promoted") by rename, both before a new run and for a reader.
 *
 * The names of the present run are a circle, so one must know which file is the newest. Modification
 * times mislead when the clock is set back: the file being written then looks oldest and is trimmed.
 * Sizes show it instead. tcpdump changes files when the present one exceeds `-C`, and checks before it
 * writes a packet. So every finished file exceeds a multiple of a million bytes by less than a packet,
 * and the file being written does not. If several look unfinished, the last in the circle is the newest.
 * If none does (the newest is exactly full), a gap in the names decides, and only then the times.
 * `/proc/PID/fd` would be exact, but takes a walk over all processes ten times a second.
 */
import { join } from "@std/path";
import { ignoreGone } from "../base/ignore_gone.ts";
import { pause } from "../base/timeout.ts";
import { deleteFile } from "./delete_file.ts";

/** A pcap file without packets is this long: the global header alone (pcap-savefile(5)). */
const HEADER_BYTES = 24;

/**
 * A file name may have 255 bytes (NAME_MAX), a pod name 253: the longest are cut. The folder is the pod's alone, so no two meet.
 */
const MAX_POD_NAME_IN_FILE = 230;

/** Held shared by readers of a snapshot: until it is free the earlier files are not trimmed to N. */
export const READING_LOCK = ".reading";
/** Held exclusively for the moment in which files are set aside, so that two never pick the same name. */
const PROMOTING_LOCK = ".promoting";
/**
 * Milliseconds to wait for the lock. Its work takes a few: a process that holds it for longer was stopped, and would
 * block all others.
 */
const PROMOTING_TIMEOUT_MS = 5000;
const PROMOTING_POLL_MS = 10;
/** Bytes in the unit of -C. */
const FILE_SIZE_UNIT = 1_000_000;
/** Number of listings of a folder, where files were renamed meanwhile. */
const MOST_LISTINGS = 20;

/**
 * Files of a folder that are looked at together: each waits in one of the runtime's 32 threads, which a hanging disk must not take
 * all. One after the other takes a quarter more CPU.
 */
const STATS_AT_ONCE = 4;

export interface RingFile {
  readonly name: string;
  readonly path: string;
  readonly bytes: number;
  /** Milliseconds since the epoch. */
  readonly mtime: number;
  /** Whether it is of an earlier run, or set aside: tcpdump will not open it again by name. */
  readonly earlier: boolean;
}

/**
 * Returns the name tcpdump gives to the file with this index, as its MakeFilename and getWflagChars do: -W 1 adds
 * nothing, otherwise the index is padded to as many digits as W−1 has.
 */
export function ringFileName(pod: string, index: number, files: number): string {
  const base = ringFileBase(pod);
  return files === 1 ? base : base + String(index).padStart(String(files - 1).length, "0");
}

/** Returns the argument of tcpdump's -w: the name to which it adds an index. */
export function ringFileBase(pod: string): string {
  return `capture-${pod.slice(0, MAX_POD_NAME_IN_FILE)}.pcap`;
}

/** Returns whether this is a name that tcpdump may have made for this pod's ring, whatever N was then. Exact: no prefix matches. */
function isCurrentName(pod: string, name: string): boolean {
  const base = ringFileBase(pod);
  return name.startsWith(base) && /^[0-9]{0,6}$/.test(name.slice(base.length));
}

/** Names of earlier files. At most 15 digits, which a number holds exactly: a name with more is none of ours. */
const EARLIER = /^run-([0-9]{6,15})-([0-9]{6,15})\.pcap$/;

/**
 * Lists all capture files of a folder, oldest first: earlier ones by their numbers, then the present ring in the
 * order in which tcpdump has written it, whatever the clock did.
 *
 * @param options.blocking whether the thread waits for the disk: the sizes are then of nearly one moment, at a third
 * of the CPU. For readers, which are processes of their own. On a disk that hangs the controller would answer nobody.
 * @default false
 * @throws Deno.errors.NotFound if the folder does not exist.
 */
export async function listRing(folder: string, pod: string, { blocking = false } = {}): Promise<RingFile[]> {
  let listed = await listOnce(folder, pod, blocking);
  // A file that was renamed between two system calls is missing, though it is there.
  for (let again = 1; !listed.whole && again < MOST_LISTINGS; again++) listed = await listOnce(folder, pod, blocking);
  const earlier = listed.files.filter((file) => file.earlier);
  earlier.sort((a, b) => a.numbers[0] - b.numbers[0] || a.numbers[1] - b.numbers[1]);
  const present = listed.files.filter((file) => !file.earlier).sort((a, b) => a.numbers[0] - b.numbers[0]);
  const newest = newestOf(present);
  return [...earlier, ...present.slice(newest + 1), ...present.slice(0, newest + 1)]
    .map(({ numbers: _numbers, ...file }) => file);
}

interface Numbered extends RingFile {
  /** Run and sequence number of an earlier file; index in the ring of a present one. */
  readonly numbers: readonly [number, number];
}

/** @returns the files in no order, and whether none went away meanwhile. */
async function listOnce(
  folder: string,
  pod: string,
  blocking: boolean,
): Promise<{ files: Numbered[]; whole: boolean }> {
  const named: { name: string; path: string; numbers: RegExpExecArray | null }[] = [];
  for await (const { name, isFile } of Deno.readDir(folder)) {
    const numbers = EARLIER.exec(name);
    if (isFile && (numbers || isCurrentName(pod, name))) named.push({ name, path: join(folder, name), numbers });
  }
  const files: Numbered[] = [];
  let whole = true;
  for (let i = 0; i < named.length; i += STATS_AT_ONCE) {
    const some = named.slice(i, i + STATS_AT_ONCE);
    const infos = blocking ? some.map(lstatSync) : await Promise.all(some.map(lstat));
    for (const [j, { name, path, numbers }] of some.entries()) {
      const info = infos[j];
      if (!info) whole = false;
      if (!info?.isFile) continue;
      files.push({
        name,
        path,
        bytes: info.size,
        mtime: info.mtime?.getTime() ?? 0,
        earlier: numbers !== null,
        numbers: numbers ? [Number(numbers[1]), Number(numbers[2])] : [Number(name.slice(ringFileBase(pod).length)), 0],
      });
    }
  }
  return { files, whole };
}

/**
 * Finds, in the files of a ring by their index, the one that tcpdump has begun last: after it, in a circle, comes the
 * oldest.
 * @returns -1 if nothing shows it: then it is taken for the last.
 *
 * A file is finished once it is larger than -C says, so the one that is not is the newest. Only between the last
 * packet that it takes and the next one are all finished. Then a gap shows it, if the ring has not gone around since
 * its files were set aside, and last the modification times, which may mislead if the clock has been set back.
 */
function newestOf(files: readonly Numbered[]): number {
  const last = files.length - 1;
  const next = (i: number) => files[i === last ? 0 : i + 1]!;
  // The largest is finished, unless there is but one, and goes beyond by a packet at most, which is smaller than the unit.
  const most = files.reduce((max, { bytes }) => Math.max(max, bytes), 0);
  const fileSize = Math.floor((most - 1) / FILE_SIZE_UNIT) * FILE_SIZE_UNIT;
  // Several are unfinished if tcpdump has gone on to the next one while they were looked at: then that is the newest.
  const unfinished = files.flatMap((file, i) => file.bytes <= fileSize && next(i).bytes > fileSize ? [i] : []);
  if (unfinished.length === 1) return unfinished[0]!;
  const gaps = files.flatMap((file, i) => i < last && next(i).numbers[0] !== file.numbers[0] + 1 ? [i] : []);
  if (gaps.length === 1) return gaps[0]!;
  if (gaps.length === 0 && files[0]?.numbers[0] !== 0) return last;
  // Times of a coarse clock may be equal.
  const time = files.reduce((max, { mtime }) => Math.max(max, mtime), -Infinity);
  return files.findLastIndex((file, i) => file.mtime === time && next(i).mtime < time);
}

/** Returns the highest run number among the earlier files; 0 if there are none. */
export function lastRunNumber(files: readonly RingFile[]): number {
  return files.reduce((n, file) => Math.max(n, Number(EARLIER.exec(file.name)?.[1] ?? 0)), 0);
}

/** Returns the run number in an earlier file's name; undefined for a file of the present ring. */
export function runNumber(file: { readonly name: string }): number | undefined {
  const match = EARLIER.exec(file.name);
  return match ? Number(match[1]) : undefined;
}

/**
 * Returns the files that tcpdump may have been writing to when a run ended: the present ring's, and the last one set
 * aside in this run. tcpdump goes on with that one until its next rotation. @param run undefined if it is not known.
 */
export function lastWritten(files: readonly RingFile[], run: number | undefined): RingFile[] {
  const aside = files.findLast((file) => file.earlier);
  return files.filter((file) => !file.earlier || (file === aside && (run === undefined || runNumber(file) === run)));
}

/**
 * Sets the present ring's files aside as `run-<run>-<seq>.pcap`, in time order, after any that this run already has
 * there. Files that hold no packet are deleted instead when `dropEmpty` is set, lest they push out packets when the
 * ring is trimmed. Never set it while tcpdump runs, because it would go on writing to the deleted file. Can be
 * interrupted anywhere and called again.
 *
 * @throws Deno.errors.TimedOut if another process has held them for too long.
 */
export async function promote(folder: string, pod: string, run: number, { dropEmpty = false } = {}): Promise<void> {
  using _names = await keepNames(folder);
  await setAside(folder, await listRing(folder, pod), run, { dropEmpty });
}

/**
 * Keeps all others from setting files aside while it is held: what was listed is found under its name.
 *
 * @throws as `promote` does.
 */
export async function keepNames(folder: string): Promise<Disposable> {
  const lock = await Deno.open(join(folder, PROMOTING_LOCK), { write: true, create: true, mode: 0o600 });
  try {
    for (const deadline = performance.now() + PROMOTING_TIMEOUT_MS; !await lock.tryLock(true);) {
      if (performance.now() > deadline) {
        throw new Deno.errors.TimedOut(
          `Cannot set files aside in ${folder}: another process has held them for ${PROMOTING_TIMEOUT_MS / 1000} s`,
        );
      }
      await pause(PROMOTING_POLL_MS);
    }
  } catch (error) {
    lock.close();
    throw error;
  }
  return lock;
}

/** Sets aside, as `promote` does, files that have been listed under `keepNames`. */
export async function setAside(
  folder: string,
  files: readonly RingFile[],
  run: number,
  { dropEmpty = false } = {},
): Promise<void> {
  let seq = files.reduce((last, { name }) => {
    const match = EARLIER.exec(name);
    return match && Number(match[1]) === run ? Math.max(last, Number(match[2])) : last;
  }, -1);
  const begunAgain: string[] = [];
  for (const file of files) {
    if (file.earlier) continue;
    if (dropEmpty && file.bytes <= HEADER_BYTES) {
      await Deno.remove(file.path).catch(ignoreGone);
      continue;
    }
    const path = join(folder, earlierName(run, ++seq));
    await Deno.rename(file.path, path).catch(ignoreGone);
    const renamed = await Deno.lstat(path).catch(ignoreGone);
    if (renamed && renamed.size < file.bytes) begunAgain.push(path);
  }
  // tcpdump has begun these again between the listing and the renaming: they are the newest now, not the oldest.
  for (const path of begunAgain) await Deno.rename(path, join(folder, earlierName(run, ++seq))).catch(ignoreGone);
}

function earlierName(run: number, seq: number): string {
  return `run-${String(run).padStart(6, "0")}-${String(seq).padStart(6, "0")}.pcap`;
}

/**
 * Deletes the oldest earlier files until the folder holds at most `files` in all. While a reader holds a snapshot, it
 * is twice as many, which admission has reserved for the capture.
 *
 * @returns what is left, oldest first.
 */
export async function trim(folder: string, pod: string, files: number): Promise<RingFile[]> {
  const ring = await listRing(folder, pod);
  let surplus = ring.length - files;
  if (surplus > 0 && await isBeingRead(folder)) surplus = ring.length - 2 * files;
  const doomed = ring.filter((file) => file.earlier).slice(0, Math.max(0, surplus));
  for (const file of doomed) await deleteFile(file.path).catch(ignoreGone);
  return ring.filter((file) => !doomed.includes(file));
}

async function isBeingRead(folder: string): Promise<boolean> {
  const lock = await Deno.open(join(folder, READING_LOCK), { write: true }).catch(ignoreGone);
  if (!lock) return false;
  using held = lock;
  return !await held.tryLock(true);
}

async function lstat({ path }: { path: string }): Promise<Deno.FileInfo | undefined> {
  return await Deno.lstat(path).catch(ignoreGone);
}

function lstatSync({ path }: { path: string }): Deno.FileInfo | undefined {
  try {
    return Deno.lstatSync(path);
  } catch (error) {
    return ignoreGone(error);
  }
}
