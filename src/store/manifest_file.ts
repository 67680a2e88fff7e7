/**
 * Reads and writes `capture.json`: written whole or not at all, and checked when read.
 *
 * The file is written next to its place and renamed. It is synced to the disk (fsync) only when a capture settles:
 * completed, stopped or retained. Losing that would start a completed capture again. It is not synced when a run
 * begins or counters are saved: tcpdump listens milliseconds after the sandbox exists, and an fsync can take seconds.
 * A crash of the machine can then lose the entry of a run whose packets are in the same page cache, and seconds of
 * counters. The folder is not synced either: at worst a manifest is older than its files, which then count as those
 * of a run cut off.
 */
import { join } from "@std/path";
import { OPTIONS } from "../spec/options.ts";
import type { CaptureRequest } from "../spec/request.ts";
import type { Manifest } from "./manifest.ts";
import { isUid } from "../base/names.ts";

export const MANIFEST = "capture.json";
/** The newest version of the manifest that this program can read. */
export const MANIFEST_VERSION = 1;

/**
 * Reads a folder's manifest.
 *
 * @returns undefined if there is none.
 * @throws SyntaxError if it is damaged or of a version this program does not know.
 */
export async function readManifest(folder: string): Promise<Manifest | undefined> {
  const path = join(folder, MANIFEST);
  let text: string;
  try {
    if (!(await Deno.lstat(path)).isFile) throw new SyntaxError(`Cannot read ${path}: it is not a regular file`);
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  let value: Partial<Manifest> & { version?: number };
  try {
    value = JSON.parse(text);
  } catch {
    throw new SyntaxError(`Cannot read ${path}: it is damaged (not JSON)`);
  }
  if (value === null || !Number.isInteger(value.version)) {
    throw new SyntaxError(`Cannot read ${path}: it is damaged (no version)`);
  }
  if (value.version !== MANIFEST_VERSION) {
    throw new SyntaxError(
      `Cannot read ${path}: it has version ${value.version}; it must have version ${MANIFEST_VERSION}`,
    );
  }
  if (!isWhole(value)) throw new SyntaxError(`Cannot read ${path}: it is damaged (a field is missing or wrong)`);
  return value as Manifest;
}

/** Reads a folder's manifest, and sets aside one that cannot be read. @param onProblem is called with the reason. */
export async function readOrSetAside(
  folder: string,
  onProblem: (error: unknown) => void,
): Promise<Manifest | undefined> {
  try {
    return await readManifest(folder);
  } catch (error) {
    const path = join(folder, MANIFEST);
    // If that fails too, the next run's manifest takes its place.
    await setAside(path, `${path}.damaged`).catch(() => {});
    onProblem(error);
    return undefined;
  }
}

/** Renames, in place of whatever has that name. */
async function setAside(path: string, aside: string): Promise<void> {
  await Deno.rename(path, aside).catch(async () => {
    await Deno.remove(aside, { recursive: true });
    await Deno.rename(path, aside);
  });
}

/** Returns whether all that the program relies on is there; the UID becomes part of a path. */
function isWhole(value: Partial<Manifest>): boolean {
  const { uid, namespace, pod, node, state, reason, since, annotations, request, runs, retainedSeconds = 0 } = value;
  return [uid, namespace, pod, node, state, reason, since].every(isText) && isUid(String(uid)) &&
    !Number.isNaN(Date.parse(String(since))) && isObject(annotations) && Object.values(annotations).every(isText) &&
    (request === undefined || isRequest(request)) &&
    Array.isArray(runs) &&
    runs.every((run: unknown) =>
      isObject(run) && Number.isSafeInteger(run["n"]) && isRequest(run["request"]) && isText(run["startedAt"]) &&
      ["endedAt", "ended", "linkType"].every((key) => run[key] === undefined || isText(run[key])) &&
      ["captured", "received", "dropped"].every((key) => isAmount(run[key])) &&
      (run["clockSteps"] === undefined || areClockSteps(run["clockSteps"]))
    ) &&
    isAmount(value.capturedSeconds) && isAmount(value.capturedPackets) && isAmount(retainedSeconds) &&
    (value.budget === undefined || isBudget(value.budget)) && (value.size === undefined || isSize(value.size));
}

function isSize(value: unknown): boolean {
  return isObject(value) && ["files", "bytes"].every((key) => isAmount(value[key]));
}

function isBudget(value: unknown): boolean {
  return isObject(value) && ["secondsBefore", "packetsBefore"].every((key) => isAmount(value[key])) &&
    ["durationSeconds", "packets"].every((key) => value[key] === undefined || isAmount(value[key]));
}

/** Returns whether a value that was read from a file is a request. */
export function isRequest(value: unknown): value is CaptureRequest {
  return isObject(value) && isAmount(value["files"]) &&
    Object.values(OPTIONS).every(({ field, initial, type }) =>
      value[field] === undefined
        ? initial === undefined
        : type === "text"
        ? isText(value[field])
        : isAmount(value[field])
    );
}

function areClockSteps(value: unknown): boolean {
  return Array.isArray(value) &&
    value.every((step: unknown) =>
      isObject(step) && isText(step["at"]) && !Number.isNaN(Date.parse(String(step["at"]))) &&
      Number.isFinite(step["seconds"])
    );
}

function isText(value: unknown): boolean {
  return typeof value === "string";
}

function isAmount(value: unknown): boolean {
  return Number.isFinite(value) && Number(value) >= 0;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}

/**
 * Replaces a folder's manifest in one step, so that a reader and a crash see the old or the new one.
 *
 * @param options.durable whether to wait until it is on disk (a change of state) or not (counters).
 */
export async function writeManifest(folder: string, manifest: Manifest, { durable = true } = {}): Promise<void> {
  const path = join(folder, MANIFEST);
  const temporary = `${path}.tmp`;
  // A leftover, or a symlink that somebody planted, is removed rather than written through.
  await Deno.remove(temporary).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  {
    using file = await Deno.open(temporary, { write: true, createNew: true, mode: 0o600 });
    const bytes = new TextEncoder().encode(JSON.stringify(manifest) + "\n");
    for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    if (durable) await file.sync();
  }
  await Deno.rename(temporary, path);
}
