/** Finds the folder that a command names by `NS/POD` or a UID, or why there is none. */
import { join } from "@std/path";
import { isDnsLabel, isDnsName, readsAsUid } from "../base/names.ts";
import { podFolder, podFolders, retainedFolderOf, retainedUids } from "../store/layout.ts";
import type { Manifest } from "../store/manifest.ts";
import type { CaptureRequest } from "../spec/request.ts";
import type { CaptureState } from "../spec/state.ts";
import { isRequest, MANIFEST, readManifest } from "../store/manifest_file.ts";
import { NOT_CAPTURING } from "../store/not_capturing.ts";
import { runNumber } from "../store/ring.ts";
import { messageOf } from "../base/errors.ts";
import { quote } from "../base/quote.ts";
import { EXIT } from "../spec/outcome.ts";
import { Refusal } from "./refusal.ts";

/** A request without a folder. */
export interface NotCapturing {
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
  readonly state: CaptureState;
  readonly reason: string;
  /** ISO 8601. */
  readonly since: string;
  /** Hash of the request (`requestHash`); empty in what a former version wrote. */
  readonly request: string;
  /** Request; undefined: it is not valid, or a former version wrote this. */
  readonly wanted: CaptureRequest | undefined;
}

export interface Capture {
  readonly folder: string;
  /** `unknown` for a kept capture whose manifest is missing or damaged; so may be the pod. */
  readonly namespace: string;
  readonly pod: string;
  /** Empty if it is not known. */
  readonly uid: string;
  /** Manifest; undefined if it is missing or damaged: the packets can be read all the same. */
  readonly manifest: Manifest | undefined;
  /** Reason why there is no manifest; empty if there is one. */
  readonly damage: string;
  /** Whether there is a manifest that cannot be read. */
  readonly isDamaged: boolean;
}

/**
 * Returns the capture that `target` names: `NS/POD`, also of a deleted pod if it is the only one kept, or the UID of
 * a kept one.
 *
 * @throws Refusal with a code of outcome.ts: it is not written like that, there is no such capture, or it has no
 * folder yet.
 */
export async function findCapture(captureDir: string, target: string): Promise<Capture> {
  const [namespace = "", pod, ...rest] = target.split("/");
  if (pod === undefined) {
    if (!readsAsUid(target)) throw badTarget(target);
    const found = await openRetained(captureDir, target.toLowerCase());
    if (found) return found;
    throw new Refusal(
      EXIT.notHere,
      `Cannot find a kept capture with the UID ${target}; it must be one that "list" shows`,
    );
  }
  if (rest.length > 0 || !isDnsLabel(namespace) || !isDnsName(pod)) throw badTarget(target);
  const found = await openFolder(podFolder(captureDir, namespace, pod), { namespace, pod });
  if (found) return found;
  const request = (await readNotCapturing(captureDir)).find((r) => r.namespace === namespace && r.pod === pod);
  if (request) {
    const { state, reason } = request;
    throw new Refusal(
      EXIT.nothingYet,
      `Cannot read ${target}: no packet has been captured yet, it is ${state}${reason ? `: ${reason}` : ""}`,
      state,
    );
  }
  const kept = (await retainedCaptures(captureDir)).filter((c) => isOf(c, namespace) && c.pod === pod);
  if (kept.length === 1) return kept[0]!;
  if (kept.length > 1) {
    const uids = kept.map(({ manifest }) => manifest?.uid).join(", ");
    throw new Refusal(
      1,
      `Cannot tell which capture of ${target} is meant: several have this name; give one of the UIDs ${uids}`,
    );
  }
  throw new Refusal(
    EXIT.notHere,
    `Cannot find a capture of ${target} on this node: the pod is not annotated, runs on another node, or does not exist`,
  );
}

function badTarget(target: string): Refusal {
  return new Refusal(
    2,
    `Cannot read ${quote(target, 100)} as a pod: it must be NAMESPACE/POD, or the UID of a kept capture`,
  );
}

/**
 * Returns all captures under captureDir, by namespace and pod, kept ones last. A missing captureDir has none.
 *
 * @param only the namespace whose captures are wanted; undefined: all, also kept ones of which it is not known whose they are.
 * @throws Refusal with code 2 if it is no name of a namespace.
 */
export async function allCaptures(captureDir: string, only?: string): Promise<Capture[]> {
  if (only !== undefined && !isDnsLabel(only)) {
    throw new Refusal(2, `Cannot list the namespace ${quote(only, 100)}: it must be a DNS label such as default`);
  }
  const captures: Capture[] = [];
  for (const { namespace, pod } of await podFolders(captureDir, only)) {
    const capture = await openFolder(podFolder(captureDir, namespace, pod), { namespace, pod });
    if (capture) captures.push(capture);
  }
  const kept = await retainedCaptures(captureDir);
  return [...captures, ...only === undefined ? kept : kept.filter((capture) => isOf(capture, only))];
}

/**
 * Returns whether a kept capture is certainly of this namespace, by its manifest. A namespace may be called
 * `unknown`.
 */
function isOf({ manifest }: Capture, namespace: string): boolean {
  return manifest?.namespace === namespace;
}

async function retainedCaptures(captureDir: string): Promise<Capture[]> {
  const captures: Capture[] = [];
  for (const uid of await retainedUids(captureDir)) {
    const capture = await openRetained(captureDir, uid);
    if (capture) captures.push(capture);
  }
  return captures;
}

/** Opens a kept capture. Without a manifest, the names that tcpdump gave its files name the pod. */
async function openRetained(captureDir: string, uid: string): Promise<Capture | undefined> {
  const folder = retainedFolderOf(captureDir, uid);
  const capture = await openFolder(folder);
  if (capture) return capture;
  let pod: string | undefined;
  try {
    for await (const { name } of Deno.readDir(folder)) {
      pod = /^capture-(.+)\.pcap[0-9]*$/.exec(name)?.[1] ??
        (runNumber({ name }) === undefined ? pod : pod ?? "unknown");
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return pod === undefined ? undefined : await openFolder(folder, { namespace: "unknown", pod, uid });
}

/** @returns undefined if the folder is not there, or is nobody's: without manifest, and without a name from its path. */
async function openFolder(
  folder: string,
  name?: { readonly namespace: string; readonly pod: string; readonly uid?: string },
): Promise<Capture | undefined> {
  let damage = `${join(folder, MANIFEST)} is missing`;
  let isDamaged = false;
  try {
    const manifest = await readManifest(folder);
    if (manifest) {
      const { namespace, pod } = name ?? manifest;
      return { folder, namespace, pod, uid: manifest.uid, manifest, damage: "", isDamaged };
    }
  } catch (error) {
    // Whatever it is: the packets can be read all the same, and it must not keep others from being read.
    isDamaged = true;
    damage = error instanceof SyntaxError
      ? error.message
      : `Cannot read ${join(folder, MANIFEST)}: ${messageOf(error)}`;
  }
  const isFolder = await Deno.lstat(folder).then((info) => info.isDirectory).catch(() => false);
  return isFolder && name ? { folder, uid: "", ...name, manifest: undefined, damage, isDamaged } : undefined;
}

/** Requests without a folder; none if the controller has not written any, or what it wrote cannot be read. */
export async function readNotCapturing(captureDir: string): Promise<NotCapturing[]> {
  try {
    const value: unknown = JSON.parse(await Deno.readTextFile(join(captureDir, NOT_CAPTURING)));
    if (!Array.isArray(value)) return [];
    return value.filter((each) =>
      typeof each === "object" && each !== null &&
      ["namespace", "pod", "uid", "state", "reason", "since"].every((key) => typeof each[key] === "string")
    ).map((each) => ({
      ...each,
      request: String(each.request ?? ""),
      wanted: isRequest(each.wanted) ? each.wanted : undefined,
    }));
  } catch {
    // It adds only the requests without a folder.
    return [];
  }
}
