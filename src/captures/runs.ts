/** The runs of one capture, one after the other: how each starts, why it has ended, and what is counted over all of them. */
import { join } from "@std/path";
import type { Interrupt } from "../base/interrupt.ts";
import { settledWithin } from "../base/timeout.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { PodEvent } from "../pods/events.ts";
import type { Pod } from "../pods/pod.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";
import type { Settings } from "../settings.ts";
import { type CaptureRequest, processFingerprint } from "../spec/request.ts";
import { ringFileBase } from "../store/ring.ts";
import { type Exit, isClean } from "../tcpdump/exit.ts";
import type { FilterChecks, PodFilter } from "../tcpdump/filter_checks.ts";
import type { Folder } from "./folder.ts";
import { added, NO_PACKETS } from "../tcpdump/counters.ts";
import type { Finding } from "../tcpdump/health.ts";
import type { PodSandboxes } from "../sandboxes/pod_sandboxes.ts";
import { OWN_THROTTLING } from "../tcpdump/throttling.ts";
import { Run, type Stop } from "../tcpdump/run.ts";
import { listInterfaces } from "../tcpdump/tcpdump_queries.ts";
import type { CaptureTiming } from "../timing.ts";
import { noPackets, packetsDropped, started } from "../plan/event_notes.ts";
import { explainFailedStart, type Verdict } from "../tcpdump/verdict.ts";

/** Time that the runtime has to answer when tcpdump has ended by itself; it takes some milliseconds. */
const RUNTIME_MS = 500;

export interface RunsOptions {
  readonly namespace: string;
  readonly name: string;
  readonly settings: Pick<Settings, "tcpdump" | "nsenter" | "annotationKey">;
  readonly metrics: Metrics;
  readonly timing: Pick<CaptureTiming, "health">;
  readonly writesThrough: boolean;
  readonly log: Log;
  readonly folder: Folder;
  readonly filters: Pick<FilterChecks, "turnToStart">;
  readonly interrupt: Interrupt;
  readonly sandboxes: Pick<PodSandboxes, "refresh">;
  /** Called when the process has exited, or its time is up. */
  readonly onEnd: () => void;
  /** Records an Event about a run on its pod. */
  readonly tell: (run: Run, event: PodEvent) => void;
}

/** Parameters of a start. */
export interface Start {
  readonly pod: Pod;
  readonly request: CaptureRequest;
  /** The hash by which answers name the request. */
  readonly hash: string;
  readonly sandbox: Sandbox;
  readonly onListening: (run: Run, linkType: string) => void;
}

/** A run that has ended, and was not killed. */
export interface Ended {
  readonly run: Run;
  readonly exit: Exit;
  readonly stop: Stop | undefined;
}

/** The request and the sandbox of the pod at the moment. */
export interface Present {
  readonly request: CaptureRequest | undefined;
  readonly sandbox: Sandbox | undefined;
}

/** The cause for which a run has ended by itself. */
export type Cause =
  /** The request is used up, or the pod's sandbox has ended. */
  | { readonly is: "over" }
  | { readonly is: "refused"; readonly verdict: Verdict }
  | { readonly is: "failed"; readonly reason: "killed" | "exit"; readonly problem: string };

export class Runs {
  readonly #options: RunsOptions;
  #running: Run | undefined;
  /** Packets of this pod's runs of this controller that have ended. */
  #before = NO_PACKETS;
  /** The reason why the next start is not the first; empty where it is. */
  #restartedBy = "";
  /** Gives back the turn to start with a filter, which it has. */
  #turn: (() => void) | undefined;

  constructor(options: RunsOptions) {
    this.#options = options;
  }

  get running(): Run | undefined {
    return this.#running;
  }

  get hasTurn(): boolean {
    return this.#turn !== undefined;
  }

  /** Notes why there is a further start; the first reason stays. */
  restartedBy(why: string): void {
    this.#restartedBy ||= why;
  }

  /** Counts from zero, for another pod. */
  recount(): void {
    this.#before = NO_PACKETS;
  }

  /** Forgets why it was ended: nothing is left of it. */
  forget(): void {
    this.#restartedBy = "";
  }

  /** Waits for the turn to start with a filter, but no longer than until it is interrupted. */
  async takeTurn(): Promise<void> {
    const { filters, interrupt, namespace } = this.#options;
    const abort = new AbortController();
    const taking = filters.turnToStart(namespace, abort.signal);
    this.#turn = await interrupt.race(taking);
    if (this.#turn) return;
    abort.abort(new Error("the request has changed"));
    // It may have come at that moment.
    taking.then((giveBack) => giveBack(), () => {});
  }

  giveTurnBack(): void {
    this.#turn?.();
    this.#turn = undefined;
  }

  /** Starts tcpdump. @throws if that fails; the folder is then as it was. */
  async start({ pod, request, hash, sandbox, onListening }: Start): Promise<void> {
    const { settings, metrics, timing, log, folder, name, onEnd, writesThrough } = this.#options;
    // The filter is compiled once tcpdump listens, or has ended.
    const giveTurnBack = this.#turn;
    this.#turn = undefined;
    let n = 0;
    try {
      n = await folder.prepare();
      // The manifest is there before tcpdump is, so that a kill -9 leaves no file whose pod is unknown.
      const left = await folder.begin(pod, request, { n, sandboxId: sandbox.id });
      const run = new Run({
        uid: pod.uid,
        fingerprint: processFingerprint(request),
        requestHash: hash,
        sandboxId: sandbox.id,
        remainingSeconds: left.seconds,
        tcpdump: {
          tcpdump: settings.tcpdump,
          nsenter: settings.nsenter,
          request,
          netnsPath: sandbox.netnsPath,
          file: join(folder.path, ringFileBase(name)),
          ...(left.packets === undefined ? { writesThrough } : { writesThrough, packets: left.packets }),
          onLine: (line) => log.info("tcpdump", { said: line }),
        },
        ...{ timing, onListening, onEnd },
      });
      this.#running = run;
      if (giveTurnBack) void run.begun.then(giveTurnBack);
      metrics.starts.inc();
    } catch (error) {
      giveTurnBack?.();
      folder.forget(n);
      throw error;
    }
  }

  /** Enters that the run listens. @returns the Event for it. */
  listens(run: Run, linkType: string): PodEvent {
    const { folder, log } = this.#options;
    const event = started(run.request, folder.manifest?.runs.at(-2)?.endedAt, this.#restartedBy);
    this.#restartedBy = "";
    folder.amend({ linkType });
    // Nothing waits for it, but list shows at once that it listens.
    void this.saveProgress();
    log.info("capture listening", { pid: run.pid, run: folder.lastRun?.n });
    return event;
  }

  /**
   * Accounts for the end of the process.
   *
   * @param uid of the pod that has the name now.
   * @param isDiskFull any file may be torn, not only the one that was written to.
   * @returns undefined if there is nothing to account for, or its files go with it.
   */
  async reap(uid: string | undefined, isDiskFull: boolean): Promise<Ended | undefined> {
    const run = this.#running;
    if (run?.phase.is !== "exited") return undefined;
    const { folder } = this.#options;
    const { exit, stop } = run.phase;
    const why = stop && stop.by !== "health" ? stop.why : exit.said || "tcpdump ended";
    this.#drop(run, why, uid);
    if (stop && stop.by !== "health") this.restartedBy(why);
    if (stop?.by === "kill") {
      // If the files stay after all (the annotation is there again, or the controller stops), they are repaired later.
      folder.markTorn();
      return undefined;
    }
    if (!isClean(exit) || (stop?.by === "flush" && isDiskFull)) await folder.cutTorn({ all: isDiskFull });
    return { run, exit, stop };
  }

  /** Finds out why a run has ended that nobody ended. @param present returns what is asked for at the moment of the call. */
  async causeOf({ run, exit, stop }: Ended, filter: PodFilter, present: () => Present): Promise<Cause> {
    const { settings, folder, interrupt, sandboxes } = this.#options;
    const { request } = present();
    if (isClean(exit) && request && folder.isReached(request, 0)) {
      this.restartedBy("completed");
      return { is: "over" };
    }
    // A pod's interfaces go with its sandbox: no failure, if the runtime no longer lists it. Without an answer nothing changes.
    await interrupt.race(settledWithin(RUNTIME_MS, sandboxes.refresh()));
    if (present().sandbox?.id !== run.sandboxId) {
      this.restartedBy("sandbox ended");
      return { is: "over" };
    }
    const how = stop
      ? `was ended: ${stop.why}`
      : exit.signal
      ? `ended by ${exit.signal}`
      : `ended with code ${exit.code}${exit.said ? `: ${exit.said}` : ""}`;
    this.restartedBy(`tcpdump ${how}`);
    const explained = run.seconds === 0
      ? await interrupt.race(explainFailedStart(run, exit, filter, settings))
      : undefined;
    const now = present().request;
    if (explained && "verdict" in explained && now && processFingerprint(now) === run.fingerprint) {
      return { is: "refused", verdict: explained.verdict };
    }
    const problem = explained && "failure" in explained ? explained.failure : `tcpdump ${how}`;
    return { is: "failed", reason: exit.signal ? "killed" : "exit", problem };
  }

  /** Looks at the run: updates its series, and acts on what is wrong with it. @param ask whether tcpdump is about to be asked for its counters. */
  async watch(ask: boolean): Promise<void> {
    const run = this.#running;
    if (run && ask) await OWN_THROTTLING.look();
    const findings = await run?.health.look(run, ask);
    // It has ended meanwhile, and its series are removed: set now, they would stay for ever.
    if (!run || !findings || this.#running !== run) return;
    const { counters } = run;
    if (counters && !findings.some(({ is }) => is === "hopeless")) {
      const { metrics, namespace, name, folder } = this.#options;
      metrics.setCapture({ namespace, name }, { ...added(this.#before, counters), ringBytes: folder.bytes });
    }
    for (const finding of findings) this.#found(run, finding);
  }

  /** Writes what is counted and what the files take now, if tcpdump answers. @param flushed whether it writes its buffer first. */
  async countNow(flushed: boolean): Promise<void> {
    const run = this.#running;
    if (await run?.countNow(flushed) && run?.counters) {
      await this.#options.folder.count(run.counters, () => this.#running === run);
    }
    await this.saveProgress();
  }

  /** Writes how long the run has lasted, and all else that is known of it. */
  async saveProgress(): Promise<void> {
    if (this.#running) await this.#options.folder.trySave({ durable: false, seconds: this.#running.seconds });
  }

  /** Enters the end of the process. */
  #drop(run: Run, why: string, uid: string | undefined): void {
    const { metrics, namespace, name, folder } = this.#options;
    const counters = run.counters ?? NO_PACKETS;
    this.#running = undefined;
    metrics.removeCapture({ namespace, name });
    folder.end(counters, run.seconds, why);
    if (run.uid === uid) this.#before = added(this.#before, counters);
  }

  #found(run: Run, finding: Finding): void {
    const { log, tell } = this.#options;
    switch (finding.is) {
      case "hopeless":
        log.warn("tcpdump killed", { pid: run.pid, why: finding.why });
        void run.kill(finding.why, "health");
        break;
      case "dropping": {
        const { more, dropped, received, isSteady } = finding;
        log.warn("packets dropped", { more, dropped, received });
        tell(run, packetsDropped({ isSteady, isThrottled: OWN_THROTTLING.isRecent }));
        break;
      }
      case "silent":
        // Nothing waits for it: other captures come next.
        void this.#tellNoPackets(run, finding.seconds);
    }
  }

  async #tellNoPackets(run: Run, seconds: number): Promise<void> {
    const { request, netnsPath } = run;
    const { settings: { tcpdump, nsenter }, tell } = this.#options;
    const interfaces = await listInterfaces({ tcpdump, nsenter, netnsPath }).catch(() => []);
    if (this.#running === run && run.health.isSilent(run)) tell(run, noPackets(request, seconds, interfaces));
  }
}
