/**
 * The folder of one `namespace/name`: its manifest, in memory and on disk, and its capture files. All that waits for a disk is here.
 * A folder outlives its pod where files are retained or the controller was restarted; `uid` names its pod.
 */
import { formatDuration } from "../base/duration.ts";
import { messageOf } from "../base/errors.ts";
import type { Log } from "../log.ts";
import type { Pod } from "../pods/pod.ts";
import { type CaptureRequest, fingerprint } from "../spec/request.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import type { ClockStep, Manifest, Run } from "../store/manifest.ts";
import { readOrSetAside, writeManifest } from "../store/manifest_file.ts";
import { CaptureFiles } from "./files.ts";
import * as changes from "../plan/manifest_changes.ts";
import type { Counters, Left } from "../plan/manifest_changes.ts";
import type { Desired, Observed } from "../plan/plan.ts";

export interface FolderOptions {
  readonly directory: Pick<CaptureDir, "folderOf" | "makeFolder" | "removeFolder" | "retainFolder">;
  readonly namespace: string;
  readonly name: string;
  /** The node's name. */
  readonly node: string;
  readonly log: Log;
}

/** Files that were deleted or retained, as of that moment. */
export interface Retired {
  /** The UID of the pod whose they were; undefined: it is not known. */
  readonly uid: string | undefined;
  readonly files: number;
  readonly bytes: number;
  readonly isRetained: boolean;
}

export class Folder {
  readonly path: string;
  readonly #options: FolderOptions;
  readonly #files: CaptureFiles;
  /** One object from when the folder is made until it is deleted or moved; undefined: there is no folder. */
  #life: object | undefined;
  /** The manifest; undefined also for a folder whose manifest is damaged, until a capture starts in it. */
  #manifest: Manifest | undefined;
  /** The last write that was asked for. */
  #written: Promise<void> = Promise.resolve();
  /** Set when the last run was killed because its files were to go: its last record may be torn. */
  #isTorn = false;

  constructor(options: FolderOptions) {
    this.#options = options;
    this.path = options.directory.folderOf(options.namespace, options.name);
    this.#files = new CaptureFiles(this.path, options.name);
  }

  get exists(): boolean {
    return this.#life !== undefined;
  }

  get manifest(): Manifest | undefined {
    return this.#manifest;
  }

  get lastRun(): Run | undefined {
    return this.#manifest?.runs.at(-1);
  }

  /** Bytes of all files, as of the last look. */
  get bytes(): number {
    return this.#files.bytes;
  }

  /** Set while there are more files than N because a reader has them open: they are trimmed as soon as it has not. */
  get hasSurplus(): boolean {
    return this.#files.hasSurplus;
  }

  /** Returns whether the folder is this pod's, or there is neither. */
  isOf(uid: string | undefined): boolean {
    return this.#manifest?.uid === uid;
  }

  /** The folder as the plan sees it. */
  get observed(): NonNullable<Observed["folder"]> | undefined {
    if (!this.#life) return undefined;
    const { uid, runs = [], completed } = this.#manifest ?? {};
    return { uid, hasRun: runs.length > 0, ...(completed ? { completed } : {}) };
  }

  /**
   * Takes over a folder that a former controller left. A manifest that cannot be read is set aside. Where that controller ended in
   * the middle of a run, the run is ended and its last record repaired.
   */
  async adopt(): Promise<void> {
    this.#life = {};
    const found = await readOrSetAside(this.path, (error) => {
      this.#options.log.warn("manifest set aside", { problem: messageOf(error) });
    });
    this.#manifest = found && changes.endedByKill(found);
    if (!found || this.#manifest !== found) await this.cutTorn();
    await this.measure(this.#manifest?.request?.files);
  }

  /** Makes the folder ready for a run: the files of the last one are set aside. @returns the run's number. */
  async prepare(): Promise<number> {
    const { directory, namespace, name } = this.#options;
    // Before it is made, so that whatever comes of it, what is made of it is known to be there.
    this.#life ??= {};
    await directory.makeFolder(namespace, name);
    if (this.#isTorn) await this.cutTorn();
    return await this.#files.makeRoomForRun(this.lastRun?.n ?? 0);
  }

  /** Enters a new run. @returns what is left of the request's duration and packets. */
  async begin(pod: Pod, request: CaptureRequest, run: Pick<Run, "n" | "sandboxId">): Promise<Left> {
    this.#manifest = changes.begun(this.#manifest, pod, this.#options.node, request, run);
    // Without waiting for the disk: a kill -9 does not lose what the kernel has, and the start must not wait for it.
    await this.save({ durable: false });
    return changes.left(this.#manifest, request, 0);
  }

  /** Forgets a run that was entered and then could not be started. */
  forget(n: number): void {
    this.#change((manifest) => ({ ...manifest, runs: manifest.runs.filter((run) => run.n !== n) }));
  }

  /** Amends the run in progress. */
  amend(change: Partial<Run>): void {
    this.#change((manifest) => changes.amended(manifest, change));
  }

  /** Enters a step of the wall clock in the run in progress. */
  noteClockStep(step: ClockStep): void {
    this.#change((manifest) => changes.withClockStep(manifest, step));
  }

  /** Enters what the run in progress has counted, and what the files take now. @param isCurrent whether it still runs. */
  async count(counters: Counters, isCurrent: () => boolean): Promise<void> {
    const size = await this.#files.size().catch(() => undefined);
    if (!size || !isCurrent()) return;
    this.amend(counters);
    this.#change((manifest) => ({ ...manifest, size }));
    this.#files.bytes = size.bytes;
  }

  /** Ends the run in progress. @param seconds of capturing that it lasted. */
  end(counters: Counters, seconds: number, why: string): void {
    const end = { ...counters, endedAt: new Date().toISOString(), ended: why };
    this.#change((manifest) => changes.ended(manifest, counters.captured, seconds, end));
  }

  /** Returns whether the duration or the packet count of the request is used up. @param seconds of the run in progress. */
  isReached(request: CaptureRequest, seconds: number): boolean {
    return changes.isReached(this.#manifest, request, seconds);
  }

  /** Returns whether the duration and the packet count have been counted for another request. */
  countsOther(request: CaptureRequest): boolean {
    return changes.countsOther(this.#manifest, request);
  }

  /**
   * Counts the duration and the packet count of the request from now, if they differ from before.
   *
   * @param seconds of the run in progress.
   * @returns how many seconds are left, if the duration differs.
   */
  recount(request: CaptureRequest, seconds: number): Pick<Left, "seconds"> | undefined {
    const before = this.#manifest;
    if (!before) return undefined;
    const after = changes.recounted(before, request, seconds);
    this.#manifest = after;
    if (!changes.countsOtherDuration(before, request)) return undefined;
    return { seconds: changes.left(after, request, seconds).seconds };
  }

  /** Records that the request is used up. */
  complete(request: CaptureRequest): void {
    this.#change((manifest) => ({ ...manifest, completed: fingerprint(request) }));
  }

  /** Forgets that a request was completed, because it has been edited since. */
  rearm(): void {
    this.#change(changes.rearmed);
  }

  /** Enters where the capture is settled. */
  settle(pod: Pod, request: CaptureRequest | undefined, desired: Desired, since: Date): void {
    this.#change((manifest) => changes.settled(manifest, pod, request, desired, since));
  }

  /**
   * Writes the manifest, after all writes that were asked for before.
   *
   * @param options.durable whether to wait until it is on disk. @default true
   * @param options.seconds of the run in progress: only the file gets them, so that a restart goes on from there.
   */
  save({ durable = true, seconds = 0 } = {}): Promise<void> {
    if (!this.#manifest) return Promise.resolve();
    this.#manifest = { ...this.#manifest, updatedAt: new Date().toISOString() };
    const now = { ...this.#manifest, capturedSeconds: this.#manifest.capturedSeconds + seconds };
    const written = this.#written.then(() => writeManifest(this.path, now, { durable }));
    this.#written = written.catch(() => {});
    return written;
  }

  /** Writes the manifest as far as the disk allows: here it is a report, and must not stop the work. */
  async trySave(options?: { durable?: boolean; seconds?: number }): Promise<void> {
    await this.save(options).catch((error) => this.#options.log.warn("cannot write manifest", { error }));
  }

  /** Looks at the files, and trims them to N, whether tcpdump runs or not. @param n undefined: not known, all are kept. */
  async measure(n: number | undefined): Promise<void> {
    const life = this.#life;
    if (!life) return;
    const files = await this.#files.look(n);
    // It may have been deleted or moved meanwhile.
    if (!files || this.#life !== life) return;
    this.#files.count(files, n);
    this.#change((manifest) => changes.withRunsOf(manifest, files));
  }

  /** Returns bytes of the newest N files that a run of the request does not overwrite. @param isRunning tcpdump writes for it now. */
  bytesNotOverwrittenBy(request: CaptureRequest, isRunning: boolean): number {
    return this.#files.notOverwrittenBy(request, isRunning);
  }

  /** Returns whether there are files of earlier runs, or set aside for a reader: they may have to be trimmed. */
  hasEarlier(): Promise<boolean> {
    return this.#files.haveEarlier();
  }

  /** Notes that a run was killed: if its files stay after all, they are repaired before they are used. */
  markTorn(): void {
    this.#isTorn = true;
  }

  /** Repairs files that a killed run left. */
  async repair(): Promise<void> {
    if (!this.#isTorn || !this.#life) return;
    await this.cutTorn();
    await this.trySave();
  }

  /** Cuts a torn last record off the file that the last run wrote to, or off all that it wrote. */
  async cutTorn({ all = false } = {}): Promise<void> {
    this.#isTorn = false;
    await this.#files.cutTorn(this.lastRun?.n, all, (message, fields) => this.#options.log.warn(message, fields));
  }

  /** Deletes the folder, or moves it to where it is retained. @param retainSeconds how long a deleted pod's files are kept; 0: not at all. */
  async retire(podGone: boolean, retainSeconds: number): Promise<Retired> {
    const { directory, namespace, name, node, log } = this.#options;
    const listed = await this.#files.size().catch((error) => log.warn("cannot list files", { error }));
    // A folder that cannot be listed may hold packets: it counts as large as it was last.
    const found = listed ?? { files: 0, bytes: this.bytes };
    let uid = this.#manifest?.uid;
    const isRetained = podGone && retainSeconds > 0 && this.#life !== undefined && (!listed || listed.files > 0);
    // Counters that are being written would find the folder gone, or another pod's in its place.
    await this.#written;
    if (isRetained) {
      if (this.#isTorn) await this.cutTorn();
      this.#manifest = changes.retained(this.#manifest, { namespace, pod: name, node });
      uid = this.#manifest.uid;
      await this.trySave();
      await directory.retainFolder(namespace, name, uid);
      log.info("files retained", { uid, ...found, for: formatDuration(retainSeconds) });
    } else {
      await directory.removeFolder(namespace, name);
      log.info("files deleted", { uid, ...found, why: podGone ? "the pod was deleted" : "annotation removed" });
    }
    this.#life = this.#manifest = undefined;
    this.#isTorn = false;
    this.#files.count([], undefined);
    return { uid, ...found, isRetained };
  }

  #change(change: (manifest: Manifest) => Manifest): void {
    if (this.#manifest) this.#manifest = change(this.#manifest);
  }
}
