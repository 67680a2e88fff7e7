/** What is known of a pod's folder, kept in memory and, as `capture.json`, in the folder. */
import { join } from "@std/path";
import { VERSION } from "../version.ts";
import type { Pod } from "../pods/pod.ts";
import type { Manifest, Run } from "./manifest.ts";
import { MANIFEST, readManifest, writeManifest } from "./manifest_file.ts";
import type { Goal } from "./plan.ts";
import { type CaptureRequest, fingerprint } from "./request.ts";
import { runNumber } from "./ring.ts";

/** The manifest of a capture that restarts for ever must not grow for ever: sums are kept, the oldest runs' details are not. */
const MOST_RUNS = 200;

export class Ledger {
  /** Undefined for a folder whose manifest is damaged, until a capture starts in it. */
  manifest: Manifest | undefined;
  readonly #folder: string;
  readonly #node: string;
  #written: Promise<void> = Promise.resolve();

  constructor(folder: string, node: string) {
    this.#folder = folder;
    this.#node = node;
  }

  /**
   * Reads what an earlier life of the controller left. A manifest that cannot be read, for whatever reason, is set aside.
   *
   * @returns whether that life ended in the middle of a run, and what was wrong with the manifest, if it had to be set aside.
   */
  async adopt(): Promise<{ interrupted: boolean; damage?: string }> {
    try {
      this.manifest = await readManifest(this.#folder);
    } catch (error) {
      const path = join(this.#folder, MANIFEST);
      // If that does not work either, the next run's takes its place.
      await setAside(path, `${path}.damaged`).catch(() => {});
      return { interrupted: true, damage: error instanceof Error ? error.message : String(error) };
    }
    const last = this.manifest?.runs.at(-1);
    if (!this.manifest || !last || last.endedAt !== undefined) return { interrupted: this.manifest === undefined };
    this.#end(last.captured, 0, { endedAt: this.manifest.updatedAt, ended: "the controller was killed" });
    return { interrupted: true };
  }

  /** Resolves when the last write that was asked for has ended, however. */
  get written(): Promise<void> {
    return this.#written;
  }

  get lastRun(): Run | undefined {
    return this.manifest?.runs.at(-1);
  }

  /** Whether the duration or the packet count of the request is used up. @param seconds of the run in progress. */
  reached(request: CaptureRequest, seconds: number): boolean {
    if (!this.manifest || this.#rearms(request)) return false;
    const { capturedSeconds, capturedPackets } = this.manifest;
    return (request.durationSeconds !== undefined && capturedSeconds + seconds >= request.durationSeconds) ||
      // The packets of a run in progress are tcpdump's own business (-c).
      (request.packets !== undefined && capturedPackets >= request.packets);
  }

  /** Enters a new run. @returns what is left of the request's duration and packets. */
  async begin(
    pod: Pod,
    request: CaptureRequest,
    run: Pick<Run, "n" | "sandboxId">,
  ): Promise<{ seconds: number | undefined; packets: number | undefined }> {
    const now = new Date().toISOString();
    const counted = this.#rearms(request) ? undefined : this.manifest;
    const { capturedSeconds = 0, capturedPackets = 0 } = counted ?? {};
    this.manifest = {
      version: 1,
      tool: VERSION,
      uid: pod.uid,
      namespace: pod.namespace,
      pod: pod.name,
      node: this.#node,
      annotations: pod.annotations,
      request,
      state: "capturing",
      reason: "",
      since: now,
      runs: [
        ...(this.manifest?.runs ?? []).slice(-MOST_RUNS),
        { ...run, startedAt: now, request, captured: 0, received: 0, dropped: 0 },
      ],
      capturedSeconds,
      capturedPackets,
      updatedAt: now,
    };
    // Without waiting for the disk: a kill -9 does not lose what the kernel has, and the start must not wait for it.
    await this.save({ durable: false });
    return {
      seconds: request.durationSeconds === undefined ? undefined : request.durationSeconds - capturedSeconds,
      packets: request.packets === undefined ? undefined : request.packets - capturedPackets,
    };
  }

  /** The run of this number was entered, and then could not be started. */
  forget(n: number): void {
    if (this.manifest) this.manifest = { ...this.manifest, runs: this.manifest.runs.filter((run) => run.n !== n) };
  }

  /** Amends the run in progress. */
  amend(change: Partial<Run>): void {
    const { manifest, lastRun } = this;
    if (manifest && lastRun) {
      this.manifest = { ...manifest, runs: [...manifest.runs.slice(0, -1), { ...lastRun, ...change }] };
    }
  }

  /** The run in progress has ended. @param seconds of capturing that it lasted. */
  end(counters: Pick<Run, "captured" | "received" | "dropped">, seconds: number, why: string): void {
    this.#end(counters.captured, seconds, { ...counters, endedAt: new Date().toISOString(), ended: why });
  }

  /** The request is used up. */
  complete(request: CaptureRequest): void {
    if (this.manifest) this.manifest = { ...this.manifest, completed: fingerprint(request) };
  }

  /** The request has been another one meanwhile: what was completed begins anew. */
  rearm(): void {
    if (this.manifest?.completed === undefined) return;
    const { completed: _, ...manifest } = this.manifest;
    this.manifest = { ...manifest, capturedSeconds: 0, capturedPackets: 0 };
  }

  /** Where the capture rests now. */
  rest(pod: Pod, request: CaptureRequest | undefined, goal: Goal, since: Date): void {
    if (!this.manifest || goal.state === "none") return;
    this.manifest = {
      ...this.manifest,
      ...(request ? { request } : {}),
      annotations: pod.annotations,
      state: goal.state,
      reason: goal.reason,
      since: since.toISOString(),
    };
  }

  /** The pod is gone, its files stay for a while. */
  retain(): void {
    if (!this.manifest) return;
    const since = new Date().toISOString();
    this.manifest = { ...this.manifest, state: "retained", reason: "the pod was deleted", since, retainedSeconds: 0 };
  }

  /** Drops the details of runs that have no file any more, but for the last two. */
  keepRunsOf(files: readonly { readonly name: string }[]): void {
    const { manifest } = this;
    if (!manifest || manifest.runs.length < 3) return;
    const there = new Set(files.map(runNumber));
    const runs = manifest.runs.filter((run, i) => i >= manifest.runs.length - 2 || there.has(run.n));
    if (runs.length < manifest.runs.length) this.manifest = { ...manifest, runs };
  }

  /**
   * Writes the manifest.
   *
   * @param options.durable whether to wait until it is on disk. @default true
   * @param options.seconds of the run in progress: only the file gets them, so that a restart goes on from there.
   */
  save({ durable = true, seconds = 0 } = {}): Promise<void> {
    if (!this.manifest) return Promise.resolve();
    this.manifest = { ...this.manifest, updatedAt: new Date().toISOString() };
    const now = { ...this.manifest, capturedSeconds: this.manifest.capturedSeconds + seconds };
    // One after another, in the order of the calls: progress is saved at any time, also while a change of state is.
    const written = this.#written.then(() => writeManifest(this.#folder, now, { durable }));
    this.#written = written.catch(() => {});
    return written;
  }

  /** A completed capture whose values have changed begins to count anew. */
  #rearms(request: CaptureRequest): boolean {
    return this.manifest?.completed !== undefined && this.manifest.completed !== fingerprint(request);
  }

  #end(captured: number, seconds: number, change: Partial<Run>): void {
    this.amend(change);
    if (!this.manifest) return;
    this.manifest = {
      ...this.manifest,
      capturedSeconds: this.manifest.capturedSeconds + seconds,
      capturedPackets: this.manifest.capturedPackets + captured,
    };
  }
}

/** Renames, in place of whatever has that name. */
async function setAside(path: string, aside: string): Promise<void> {
  await Deno.rename(path, aside).catch(async () => {
    await Deno.remove(aside, { recursive: true });
    await Deno.rename(path, aside);
  });
}
