/** What is known of a pod's folder, kept in memory and, as `capture.json`, in the folder. */
import { messageOf } from "../base/errors.ts";
import { join } from "@std/path";
import { VERSION } from "../version.ts";
import type { Pod } from "../pods/pod.ts";
import type { Budget, Manifest, Run } from "../store/manifest.ts";
import { MANIFEST, readManifest, writeManifest } from "../store/manifest_file.ts";
import type { Desired, Observed } from "./plan.ts";
import { type CaptureRequest, fingerprint } from "../spec/request.ts";
import { runNumber } from "../store/ring.ts";

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
      return { interrupted: true, damage: messageOf(error) };
    }
    const last = this.manifest?.runs.at(-1);
    if (!this.manifest || !last || last.endedAt !== undefined) return { interrupted: this.manifest === undefined };
    this.#end(last.captured, 0, { endedAt: this.manifest.updatedAt, ended: "the controller was killed" });
    return { interrupted: true };
  }

  /** The folder as the plan sees it. */
  get observed(): NonNullable<Observed["folder"]> {
    const { uid, runs = [], completed } = this.manifest ?? {};
    return { uid, hasRun: runs.length > 0, ...(completed ? { completed } : {}) };
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
    const left = this.#left(request, seconds);
    // The packets of a run in progress are tcpdump's own business (-c).
    return (left.seconds ?? 1) <= 0 || (left.packets ?? 1) <= 0;
  }

  /**
   * Has the duration and the packet count of the request count from now, if they are others than so far.
   *
   * @param seconds of the run in progress.
   * @returns whether what is left of the duration is another than before, and how many seconds that is.
   */
  recount(request: CaptureRequest, seconds: number): { readonly seconds: number | undefined } | undefined {
    const { manifest } = this;
    if (!manifest) return undefined;
    const before = budgetOf(manifest);
    const { durationSeconds, packets } = request;
    const sameDuration = before.durationSeconds === durationSeconds, samePackets = before.packets === packets;
    if (sameDuration && samePackets) return undefined;
    const budget: Budget = {
      ...(durationSeconds === undefined ? {} : { durationSeconds }),
      ...(packets === undefined ? {} : { packets }),
      secondsBefore: sameDuration ? before.secondsBefore : manifest.capturedSeconds + seconds,
      packetsBefore: samePackets ? before.packetsBefore : manifest.capturedPackets,
    };
    this.manifest = { ...manifest, budget };
    return sameDuration ? undefined : { seconds: this.#left(request, seconds).seconds };
  }

  /** Returns whether the duration and the packet count have been counted for another request. */
  countsOther({ durationSeconds, packets }: CaptureRequest): boolean {
    if (!this.manifest) return false;
    const before = budgetOf(this.manifest);
    return before.durationSeconds !== durationSeconds || before.packets !== packets;
  }

  /** Enters a new run. @returns what is left of the request's duration and packets. */
  async begin(
    pod: Pod,
    request: CaptureRequest,
    run: Pick<Run, "n" | "sandboxId">,
  ): Promise<{ seconds: number | undefined; packets: number | undefined }> {
    const now = new Date().toISOString();
    if (this.#rearms(request)) this.rearm();
    this.recount(request, 0);
    const { capturedSeconds = 0, capturedPackets = 0, budget } = this.manifest ?? {};
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
      ...(budget ? { budget } : {}),
      updatedAt: now,
    };
    // Without waiting for the disk: a kill -9 does not lose what the kernel has, and the start must not wait for it.
    await this.save({ durable: false });
    return this.#left(request, 0);
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

  /** Enters what the run in progress has counted, and what the files took at that moment. */
  count(counters: Pick<Run, "captured" | "received" | "dropped">, size: NonNullable<Manifest["size"]>): void {
    this.amend(counters);
    if (this.manifest) this.manifest = { ...this.manifest, size };
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
    const { completed: _, budget: __, ...manifest } = this.manifest;
    this.manifest = { ...manifest, capturedSeconds: 0, capturedPackets: 0 };
  }

  /** Where the capture rests now. */
  rest(pod: Pod, request: CaptureRequest | undefined, goal: Desired, since: Date): void {
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

  /**
   * Records that the pod is gone and its files stay for a while. Where the manifest was damaged, a new one takes its place, with a
   * UID of its own: it says whose folder it was, and for how long it has been kept.
   *
   * @returns the UID under which the files are to be retained.
   */
  retain(namespace: string, pod: string): string {
    const since = new Date().toISOString();
    const retained = { state: "retained", since, retainedSeconds: 0 } as const;
    if (this.manifest) {
      this.manifest = { ...this.manifest, ...retained, reason: "the pod was deleted" };
    } else {
      this.manifest = {
        ...{ version: 1, tool: VERSION, uid: crypto.randomUUID(), namespace, pod, node: this.#node, annotations: {} },
        ...{ ...retained, reason: `the pod was deleted, and ${MANIFEST} was damaged: the UID is made up` },
        ...{ runs: [], capturedSeconds: 0, capturedPackets: 0, updatedAt: since },
      };
    }
    return this.manifest.uid;
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

  /** What is left of the request's duration and packets; undefined: it names none. @param seconds of the run in progress. */
  #left(
    { durationSeconds, packets }: CaptureRequest,
    seconds: number,
  ): { seconds: number | undefined; packets: number | undefined } {
    const { capturedSeconds = 0, capturedPackets = 0 } = this.manifest ?? {};
    const { secondsBefore, packetsBefore } = this.manifest ? budgetOf(this.manifest) : NOTHING_BEFORE;
    return {
      seconds: durationSeconds === undefined
        ? undefined
        : durationSeconds - (capturedSeconds + seconds - secondsBefore),
      packets: packets === undefined ? undefined : packets - (capturedPackets - packetsBefore),
    };
  }

  /** A completed capture whose values have changed begins to count anew. */
  #rearms(request: CaptureRequest): boolean {
    return this.manifest?.completed !== undefined && this.manifest.completed !== fingerprint(request);
  }

  #end(captured: number, seconds: number, change: Partial<Run>): void {
    this.amend(change);
    if (!this.manifest) return;
    const budget = budgetOf(this.manifest);
    // A run that began before the present packet count was asked for has counted none of its packets.
    const isBefore = this.lastRun?.request.packets !== budget.packets;
    this.manifest = {
      ...this.manifest,
      capturedSeconds: this.manifest.capturedSeconds + seconds,
      capturedPackets: this.manifest.capturedPackets + captured,
      ...(isBefore ? { budget: { ...budget, packetsBefore: budget.packetsBefore + captured } } : {}),
    };
  }
}

const NOTHING_BEFORE = { secondsBefore: 0, packetsBefore: 0 } as const;

/** Of a manifest that does not say, as those of the first version: all was captured for the request that it names. */
function budgetOf({ budget, request }: Manifest): Budget {
  const { durationSeconds, packets } = request ?? {};
  return budget ?? {
    ...(durationSeconds === undefined ? {} : { durationSeconds }),
    ...(packets === undefined ? {} : { packets }),
    ...NOTHING_BEFORE,
  };
}

/** Renames, in place of whatever has that name. */
async function setAside(path: string, aside: string): Promise<void> {
  await Deno.rename(path, aside).catch(async () => {
    await Deno.remove(aside, { recursive: true });
    await Deno.rename(path, aside);
  });
}
