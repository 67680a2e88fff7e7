/**
 * One `namespace/name`: its folder, its tcpdump, and the carrying out of the plan's steps. All methods that change something
 * are called by the queue, one at a time for a key.
 */
import { join } from "@std/path";
import { count, formatBytes } from "../base/format.ts";
import { type ParsedAnnotations, readAnnotations, requestHash } from "../spec/annotations.ts";
import { formatDuration } from "../base/duration.ts";
import type { PodEvent } from "../pods/events.ts";
import { type Pod, podKey } from "../pods/pod.ts";
import type { PodStatus } from "../pods/status.ts";
import type { Sandbox } from "../sandboxes/sandbox.ts";
import type { Log } from "../log.ts";
import type { Metrics } from "../metrics.ts";
import type { Settings } from "../settings.ts";
import type { Occupant } from "./admission.ts";
import { type Admissions, type Asker, Place } from "./admissions.ts";
import { Backoff } from "./backoff.ts";
import type { CaptureDir } from "../store/capture_dir.ts";
import { withStep } from "./clock_steps.ts";
import { bytesOf, CaptureFiles } from "./files.ts";
import { type FilterChecks, PodFilter } from "./filter_checks.ts";
import type { Finding } from "./health.ts";
import { Ledger } from "./ledger.ts";
import type { ClockStep } from "../store/manifest.ts";
import { type Admission, type Desired, desiredOf, type Observed, plan, type Step } from "./plan.ts";
import { bytesClaimed, type CaptureRequest, describe, fingerprint, processFingerprint } from "../spec/request.ts";
import { PodLook } from "./pod_look.ts";
import { listRing, ringFileBase } from "../store/ring.ts";
import { Run } from "./run.ts";
import { listInterfaces } from "./tcpdump_queries.ts";
import { namespaceProblem } from "./scope.ts";
import { eventFor, noPackets, PACKETS_DROPPED } from "./told.ts";
import { checkRequest, explainFailedStart, type Verdict } from "./verdict.ts";
import { settledWithin } from "../base/timeout.ts";
import { messageOf } from "../base/errors.ts";
import type { CaptureTiming } from "./timing.ts";

/** How long the runtime is waited for where tcpdump has ended by itself; it answers within some milliseconds. */
const RUNTIME_MS = 500;
/** A pod that has had no sandbox for so long may never have one again: it has finished, or cannot be started. */
const SANDBOX_AWAITED_MS = 60_000;
/** The plan never needs more steps to come to rest; more would be a defect, and must not spin. */
const MAX_STEPS = 20;

/** States that are restored after a restart of the controller; the others are found out anew. */
const RESTED = ["held", "completed", "rejected", "waiting", "paused", "finished"] as const;
const GRANTED: Admission = { kind: "granted" };

/** What a capture needs of the rest of the program. */
export interface CaptureContext {
  readonly settings: Settings;
  readonly directory: CaptureDir;
  readonly metrics: Metrics;
  readonly log: Log;
  record(pod: Pod, event: PodEvent, request: string, isAnswer: boolean): void;
  sandboxOf(pod: Pod): Sandbox | undefined;
  /** Asks the API for the pod's status; undefined: there is no such pod. */
  statusOf(pod: Pod): Promise<PodStatus | undefined>;
  readonly timing: CaptureTiming;
  /** Has the runtime asked now; never rejects. */
  lookForSandboxes(): Promise<void>;
  /** The first list is complete, and the runtime has said of which pods there is a sandbox. */
  settled(): boolean;
  stopping(): boolean;
  paused(): string | undefined;
  readonly filters: FilterChecks;
  readonly admissions: Admissions;
  /** Has the key worked on again. */
  again(key: string): void;
  /** A deleted pod's files have been moved to where they are retained. */
  retained(uid: string, files: Occupant): void;
}

export class Capture implements Asker {
  readonly key: string;
  readonly folder: string;
  /** The pod object of this name as the API has it. */
  pod: Pod | undefined;
  asked: ParsedAnnotations = { kind: "nothing" };
  /** What the folder holds; undefined: there is no folder. */
  ledger: Ledger | undefined;
  running: Run | undefined;
  /** Its place within the limits. */
  readonly place: Place;
  readonly files: CaptureFiles;
  /** Packets written and dropped by runs that have ended, since the controller was started. */
  packetsBefore = 0;
  droppedBefore = 0;
  /** Where it rests. */
  goal: Desired = { state: "none", reason: "" };
  goalSince = new Date();
  /** The pod is proven to be this node's: by a READY sandbox here, or by the API's word of its node. */
  isHere = false;

  readonly namespace: string;
  readonly name: string;
  readonly #context: CaptureContext;
  /** The request and its fingerprint, if `asked` is valid. */
  #wish: CaptureRequest | undefined;
  #print = "";
  /** performance.now() when the present wish was first seen; undefined once it has been carried out. */
  #wishedAt: number | undefined = performance.now();
  /** It is proven that there is no pod. */
  #isGone = false;
  /** The annotation was removed, and is perhaps there again: what it had comes to its end first. */
  #removed = false;
  /** The request has been another one meanwhile: it does not count as completed. */
  #changed = false;
  /** What tcpdump says of the request. With a sandbox: it was said of an interface there. */
  #refused: Verdict & { request: string } | undefined;
  readonly #filter: PodFilter;
  /** Gives back the turn to start with a filter, which it has. */
  #turn: (() => void) | undefined;
  readonly #backoff: Backoff;
  readonly #look: PodLook;
  /** What is to be said once it is known that the pod is really on this node. */
  #untold: { readonly event: PodEvent; readonly request: string } | undefined;
  /** Hash of the pod's annotations as last seen. */
  #hash = requestHash({});
  /** The hash for which something was said last. */
  #answered = "";
  /** The hash for which it was said that the pod has no sandbox: that is no answer yet, and holds back none. */
  #pendingToldFor = "";
  /** The hash with which it came to rest last. */
  #restedFor = "";
  /** Ends the wait that the work on this key is in, if what it waits for may be of no use any more. */
  #interrupt: (() => void) | undefined;
  /** The last run was killed since its files were to go: its last record may be torn. */
  #isTorn = false;
  /** What is reported elsewhere about it may differ though it rests where it did. */
  #isNews = false;
  #lacksSandboxSince: number | undefined;
  /** Why the next start is not the first. */
  #restartedBy = "";

  constructor(context: CaptureContext, namespace: string, name: string, firstSeen: number) {
    this.#context = context;
    this.namespace = namespace;
    this.name = name;
    this.place = new Place(firstSeen);
    this.key = podKey({ namespace, name });
    this.folder = context.directory.folderOf(namespace, name);
    this.files = new CaptureFiles(this.folder, name);
    this.#filter = new PodFilter(context.filters, namespace);
    this.#look = new PodLook(context.timing.look);
    this.#backoff = new Backoff(() => context.again(this.key), context.timing.retry);
  }

  /** What an earlier life of the controller left here. */
  async adopt(): Promise<void> {
    this.#restartedBy = "the controller was restarted";
    this.ledger = new Ledger(this.folder, this.#context.settings.nodeName);
    const { interrupted, damage } = await this.ledger.adopt();
    if (damage !== undefined) this.#context.log.warn("manifest set aside", { ...this.fields(), problem: damage });
    const { manifest } = this.ledger;
    const rested = RESTED.find((state) => state === manifest?.state);
    this.place.ranBefore = rested === undefined || rested === "paused";
    if (manifest && rested) {
      // It was told and noted then; a restart is no news.
      this.goal = { state: rested, reason: manifest.reason };
      this.goalSince = new Date(manifest.since);
      this.#answered = this.#restedFor = requestHash(manifest.annotations);
    }
    if (manifest?.state === "pending") this.#pendingToldFor = requestHash(manifest.annotations);
    if (interrupted) await this.#cutTorn();
    await this.measure();
  }

  /** The pod object was seen, or has changed. */
  seen(pod: Pod): void {
    const isAnother = (this.pod?.uid ?? this.ledger?.manifest?.uid) !== pod.uid;
    if (isAnother) {
      // Nothing that was said, found or counted was of this one.
      this.isHere = false;
      this.#pendingToldFor = "";
      this.#look.clear();
      this.#untold = undefined;
      this.goal = { state: "none", reason: "" };
      this.#wishedAt = performance.now();
      this.packetsBefore = this.droppedBefore = 0;
      this.#backoff.clear();
    }
    const known = this.pod?.uid === pod.uid;
    this.pod = pod;
    this.#hash = requestHash(pod.annotations);
    this.#isGone = false;
    const asked = this.#read(pod);
    const asksAnew = JSON.stringify(asked) !== JSON.stringify(this.asked);
    if (asksAnew) {
      const before = this.#print;
      this.#ask(asked);
      if (known && asked.kind === "nothing") this.#removed = true;
      if (known && this.#print !== before) this.#changed = true;
      this.#wishedAt = performance.now();
      this.#backoff.clear();
      this.#look.soon();
      // Ahead of need: where a sandbox is still to come, what tcpdump says of the filter is there before it.
      if (asked.kind === "valid") void this.#filter.problemOf(asked.request).catch(() => {});
    }
    if (isAnother || asksAnew) this.#interrupt?.();
  }

  /** Reads what the pod asks for; a request in a namespace whose pods are not captured is refused. */
  #read({ namespace, annotations }: Pod): ParsedAnnotations {
    const { annotationKey, limits, namespaces } = this.#context.settings;
    const asked = readAnnotations(annotations, annotationKey, limits);
    const problem = asked.kind === "nothing" ? undefined : namespaceProblem(namespace, namespaces);
    return problem === undefined ? asked : { kind: "invalid", problem };
  }

  /** It is proven that the pod object is gone. @param uid undefined where nobody knows whose the folder is. */
  gone(uid: string | undefined): void {
    if (uid !== (this.pod ? this.pod.uid : this.ledger?.manifest?.uid)) return;
    this.pod = undefined;
    this.#isGone = true;
    this.#ask({ kind: "nothing" });
    this.#interrupt?.();
  }

  #ask(asked: ParsedAnnotations): void {
    this.asked = asked;
    this.#wish = asked.kind === "valid" ? asked.request : undefined;
    this.#print = this.#wish ? fingerprint(this.#wish) : "";
    this.#lacksSandboxSince = undefined;
    if (!this.#wish) this.#filter.drop();
  }

  get uid(): string | undefined {
    return this.pod?.uid;
  }

  /** Bytes of its files, as of the last look. */
  get bytes(): number {
    return this.files.bytes;
  }

  get sandbox(): Sandbox | undefined {
    return this.pod && this.#context.sandboxOf(this.pod);
  }

  /** Whether the runtime is to be asked often about it: it runs, or waits for a sandbox that may come any moment. */
  get needsRuntime(): boolean {
    return this.running !== undefined || (this.#wish !== undefined && !this.sandbox &&
      performance.now() - (this.#lacksSandboxSince ?? performance.now()) < SANDBOX_AWAITED_MS);
  }

  /** Whether the API is to be asked for the pod: it has no sandbox, and perhaps is another node's, or waits for something. */
  get needsLook(): boolean {
    return this.pod !== undefined && this.asked.kind !== "nothing" && !this.running && !this.sandbox &&
      this.#look.isDue && (!this.isHere || this.goal.state === "pending");
  }

  /** Asks the API for the pod, and enqueues it with what was found. */
  async look(): Promise<void> {
    const { pod } = this;
    const { settings, log } = this.#context;
    if (!pod) return;
    this.#look.begin();
    let status: PodStatus | undefined;
    try {
      status = await this.#context.statusOf(pod);
      this.#look.saidFailed = false;
    } catch (error) {
      if (this.#context.stopping()) return;
      const say = this.#look.saidFailed ? log.debug : log.warn;
      this.#look.saidFailed = true;
      say("Cannot find out why a pod has no sandbox; it is tried again later", { ...this.fields(), error });
      return;
    }
    // Of one that is gone, or has a sandbox meanwhile, others tell.
    if (this.pod?.uid !== pod.uid || status?.uid !== pod.uid || this.sandbox) return;
    if (status.nodeName !== settings.nodeName) {
      if (status.nodeName !== undefined) this.#look.end();
      return;
    }
    this.#look.found = status;
    if (!this.isHere) this.isHere = this.#isNews = true;
    this.#context.again(this.key);
  }

  /** Whether it asks for a place within the limits: all else that it needs is there. */
  get applies(): boolean {
    if (this.running) return true;
    const { state } = desiredOf(this.#observed(GRANTED));
    return state === "capturing" || (this.place.granted !== undefined && (state === "paused" || state === "failing")) ||
      this.#mayGoOn;
  }

  /** It ran before the controller was started, and it is not yet known whether it will again: nobody may take its place. */
  get #mayGoOn(): boolean {
    return this.place.ranBefore && !this.#isSettled;
  }

  /** It is known whether its pod is there, and whether that has a sandbox. */
  get #isSettled(): boolean {
    return this.#context.settled() && (this.pod !== undefined || this.#isGone);
  }

  /** Bytes that it may take while it runs. Once it has its place, it claims no more for the same request. */
  get claim(): number {
    const wish = this.#wish ?? (this.#mayGoOn ? this.ledger?.manifest?.request : undefined);
    if (!wish) return this.files.bytes;
    const print = wish === this.#wish ? this.#print : fingerprint(wish);
    const claim = bytesClaimed(
      wish,
      this.files.notOverwrittenBy(wish, this.running?.fingerprint === processFingerprint(wish)),
    );
    return this.place.capped(claim, print);
  }

  /** Nothing is there and nothing is asked: it can be forgotten. */
  get isNothing(): boolean {
    return !this.running && !this.ledger && this.asked.kind === "nothing";
  }

  /** Observes, asks the plan and carries out its step, until the capture is settled. */
  async reconcile(): Promise<void> {
    for (let steps = 0; steps < MAX_STEPS;) {
      const step = plan(this.#observe());
      if (step.do !== "start") this.#giveTurnBack();
      // An edit interrupts what waits for the request before it: then all begins again, however many edits there are.
      steps = await this.#carryOut(step) === "interrupted" ? 0 : steps + 1;
      if (step.do === "settle") return;
    }
    throw new Error(`Cannot settle ${this.key} in ${MAX_STEPS} steps`);
  }

  async #carryOut(step: Step): Promise<"interrupted" | void> {
    const { running } = this;
    switch (step.do) {
      case "reap":
        return running && await this.#reap(running);
      case "kill":
        await running?.kill(step.why);
        return;
      case "flush": {
        const exit = running?.flush(step.why, this.#context.timing.block);
        return exit && await this.#unlessInterrupted(exit) === undefined ? "interrupted" : undefined;
      }
      case "retire":
        return await this.#retire(step.podGone);
      case "rearm":
        return this.#rearm();
      case "check":
        return await this.#check(step.request);
      case "complete":
        this.ledger?.complete(step.request);
        return await this.#save();
      case "start":
        // Much may have changed while it waited for its turn: the plan is asked again.
        if (step.request.filter !== undefined && !this.#turn) return await this.#takeTurn();
        this.#take();
        return await this.#start(step.request);
      case "settle":
        return await this.#settle(step.desired);
    }
  }

  /** Counts for the present request from now, and forgets a removed annotation, whose capture is gone as far as it can go. */
  #rearm(): void {
    if (this.#removed) this.goal = { state: "none", reason: "" };
    if (this.#changed) this.ledger?.rearm();
    this.#removed = this.#changed = false;
    if (!this.#wish || !this.#isOwn) return;
    // tcpdump need not know of the duration.
    const left = this.ledger?.recount(this.#wish, this.running?.seconds ?? 0);
    if (left) this.running?.endAfter(left.seconds);
  }

  /** The folder is the present pod's. */
  get #isOwn(): boolean {
    return this.ledger?.manifest?.uid === this.pod?.uid;
  }

  #observe(): Observed {
    if (this.sandbox) {
      this.#lacksSandboxSince = undefined;
      this.#look.clear();
      if (!this.isHere) this.isHere = this.#isNews = true;
    } else {
      this.#lacksSandboxSince ??= performance.now();
      this.#look.lacksSandbox();
    }
    return this.#observed(this.#context.admissions.ask(this));
  }

  #observed(admission: Admission): Observed {
    const { pod, running, ledger, asked, sandbox } = this;
    const paused = this.#context.paused();
    const backoff = this.#backoff.reason(sandbox?.id);
    const wish = this.#isOwn ? this.#wish : undefined;
    // What was found of another request says nothing of this one.
    const refused = this.#wish && this.#isChecked ? this.#refused?.problem : undefined;
    return {
      gone: this.#isGone,
      stopping: this.#context.stopping(),
      allowHostNetworkPods: this.#context.settings.allowHostNetworkPods,
      retains: this.#context.settings.retentionSeconds > 0,
      removed: this.#removed,
      edited: this.#changed || (wish !== undefined && ledger?.countsOther(wish) === true),
      checked: this.#isChecked,
      reached: wish !== undefined && ledger?.reached(wish, running?.seconds ?? 0) === true,
      admission,
      ...(pod ? { pod: { uid: pod.uid, asked, isMirror: pod.staticUid !== undefined } } : {}),
      ...(sandbox ? { sandbox } : {}),
      ...(this.#look.found ? { awaits: this.#look.found.why, hasFinished: this.#look.found.hasFinished } : {}),
      ...(ledger ? { folder: ledger.observed } : {}),
      ...(running ? { process: running.observed } : {}),
      ...(paused === undefined ? {} : { paused }),
      ...(refused === undefined ? {} : { refused }),
      ...(backoff === undefined ? {} : { backoff }),
    };
  }

  /** Whether it is known what tcpdump says of the present request. */
  get #isChecked(): boolean {
    const { sandbox } = this;
    return (this.#refused === undefined && this.#wish?.filter === undefined) ||
      this.#refused !== undefined && this.#refused.request === this.#print &&
        (this.#refused.sandboxId === undefined || !sandbox || this.#refused.sandboxId === sandbox.id);
  }

  /** Has the filter of a new request compiled once, before anything starts. */
  async #check(wish: CaptureRequest): Promise<"interrupted" | undefined> {
    const print = this.#print, hash = this.#hash;
    const { sandbox } = this;
    if (!sandbox) return;
    const placed = { request: wish, sandboxId: sandbox.id, netnsPath: sandbox.netnsPath };
    const found = await this.#unlessInterrupted(
      checkRequest(placed, this.#filter, this.#context.settings).catch((error) => ({ failure: messageOf(error) })),
    );
    if (this.#context.stopping()) return;
    if (!found || this.#print !== print) return "interrupted";
    if ("failure" in found) {
      this.#failed(hash, "check", found.failure, 0);
      return;
    }
    this.#refused = { request: print, ...found };
  }

  /** Waits for the turn to start with a filter, but no longer than until the pod's wish changes. */
  async #takeTurn(): Promise<void> {
    const abort = new AbortController();
    const taking = this.#context.filters.turnToStart(this.namespace, abort.signal);
    this.#turn = await this.#unlessInterrupted(taking);
    if (this.#turn) return;
    abort.abort(new Error("the request has changed"));
    // It may have come at that moment.
    taking.then((giveBack) => giveBack(), () => {});
  }

  #giveTurnBack(): void {
    this.#turn?.();
    this.#turn = undefined;
  }

  /** Waits for something, but no longer than until the pod's wish changes. @returns undefined then. */
  async #unlessInterrupted<T>(promise: Promise<T>): Promise<T | undefined> {
    const interrupted = Promise.withResolvers<undefined>();
    this.#interrupt = () => interrupted.resolve(undefined);
    try {
      return await Promise.race([promise, interrupted.promise]);
    } finally {
      this.#interrupt = undefined;
    }
  }

  async #start(request: CaptureRequest): Promise<void> {
    const { pod, sandbox } = this;
    if (!pod || !sandbox) return;
    const { settings, directory, log } = this.#context;
    // The filter is compiled once tcpdump listens, or has ended.
    const giveTurnBack = this.#turn;
    this.#turn = undefined;
    const hash = this.#hash;
    let n = 0;
    try {
      // Before there is a folder: whatever comes of it, what is made of it is known to be there.
      this.ledger ??= new Ledger(this.folder, settings.nodeName);
      await directory.makeFolder(this.namespace, this.name);
      if (this.#isTorn) await this.#cutTorn();
      n = await this.files.makeRoomForRun(this.ledger.lastRun?.n ?? 0);
      // The manifest is there before tcpdump is, so that a kill -9 leaves no file whose pod is unknown.
      const left = await this.ledger.begin(pod, request, { n, sandboxId: sandbox.id });
      this.running = new Run({
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
          file: join(this.folder, ringFileBase(this.name)),
          ...(left.packets === undefined ? {} : { packets: left.packets }),
          onLine: (line) => log.info("tcpdump", { ...this.fields(), said: line }),
        },
        onListening: (running, linkType) => this.#listening(running, request, linkType),
        onEnd: () => this.#context.again(this.key),
      });
      if (giveTurnBack) void this.running.begun.then(giveTurnBack);
      this.#context.metrics.starts.inc();
    } catch (error) {
      giveTurnBack?.();
      this.ledger?.forget(n);
      this.#failed(hash, "start", messageOf(error), 0);
    }
  }

  #listening(running: Run, request: CaptureRequest, linkType: string): void {
    const { pod, ledger } = this;
    if (!ledger || this.running !== running || pod?.uid !== running.uid) return;
    // Only what was asked for: a start after a pause or in another sandbox has no such beginning.
    if (this.#wishedAt !== undefined) {
      this.#context.metrics.startDuration.observe((performance.now() - this.#wishedAt) / 1000);
    }
    this.#wishedAt = undefined;
    const what = describe(request);
    const last = ledger.manifest?.runs.at(-2);
    this.#tell(
      running.requestHash,
      last
        ? {
          type: "Normal",
          reason: "CaptureRestarted",
          note: `Capturing again (${what}): ${this.#restartedBy}; not captured since ${last.endedAt}`,
        }
        : { type: "Normal", reason: "CaptureStarted", note: `Capturing: ${what}` },
    );
    this.#restartedBy = "";
    ledger.amend({ linkType });
    // Not waited for: list is to know at once that it listens.
    this.saveProgress().catch((error) => {
      this.#context.log.warn("manifest not written", { ...this.fields(), error });
    });
    this.#context.log.info("capture listening", { ...this.fields(), pid: running.pid, run: ledger.lastRun?.n });
    this.#context.again(this.key);
  }

  /** Accounts for the end of the process. */
  async #reap(running: Run): Promise<void> {
    const { pod } = this;
    const { phase } = running;
    if (phase.is !== "exited") return;
    const { exit, stop } = phase;
    if (stop?.by === "kill") return this.#forget(stop.why);
    if (stop?.by === "flush") return await this.#endFlushed(running, stop.why);
    const why = exit.said || "tcpdump ended";
    const clean = exit.code === 0 && exit.signal === null;
    await this.#endRun(running, why, !clean);
    if (clean && this.#wish && this.ledger?.reached(this.#wish, 0)) {
      this.#restartedBy ||= "completed";
      return;
    }
    // A pod that goes takes its interfaces with it: no failure, if the runtime says so too. If it does not answer, what is known stays.
    await this.#unlessInterrupted(settledWithin(RUNTIME_MS, this.#context.lookForSandboxes()));
    if (!pod || this.sandbox?.id !== running.sandboxId) {
      this.#restartedBy ||= "sandbox ended";
      return;
    }
    const how = stop
      ? `was ended: ${stop.why}`
      : exit.signal
      ? `ended by ${exit.signal}`
      : `ended with code ${exit.code}${exit.said ? `: ${exit.said}` : ""}`;
    this.#restartedBy ||= `tcpdump ${how}`;
    const explained = running.seconds === 0
      ? await this.#unlessInterrupted(explainFailedStart(running, exit, this.#filter, this.#context.settings))
      : undefined;
    const isPresent = this.#wish !== undefined && processFingerprint(this.#wish) === running.fingerprint;
    if (explained && "verdict" in explained && isPresent) {
      this.#refused = { request: this.#print, ...explained.verdict };
      return;
    }
    const problem = explained && "failure" in explained ? explained.failure : `tcpdump ${how}`;
    this.#failed(running.requestHash, exit.signal ? "killed" : "exit", problem, running.seconds * 1000);
  }

  async #endFlushed(running: Run, why: string): Promise<void> {
    const { exit } = running;
    const unclean = exit?.signal !== null || exit.code !== 0 || this.#context.paused() !== undefined;
    await this.#endRun(running, why, unclean);
    this.#restartedBy ||= why;
  }

  /** Its run has ended, and its files stay. */
  async #endRun(running: Run, why: string, unclean: boolean): Promise<void> {
    if (this.running !== running) return;
    this.#drop(running, why);
    // A full disk tears any file, another end only the one that was written to.
    if (unclean) await this.#cutTorn({ all: this.#context.paused() !== undefined });
    await this.measure();
    await this.#save();
  }

  /** It was killed, since its files go. If they stay after all (the annotation is there again, we stop), they are mended later. */
  #forget(why: string): void {
    if (!this.running) return;
    this.#drop(this.running, why);
    this.#isTorn = true;
    this.#restartedBy ||= why;
  }

  /** Enters the end of the process, which has ended. */
  #drop(running: Run, why: string): void {
    const counters = running.counters ?? { captured: 0, received: 0, dropped: 0 };
    this.running = undefined;
    this.#context.metrics.removeCapture(this);
    this.ledger?.end(counters, running.seconds, why);
    if (running.uid !== this.pod?.uid) return;
    this.packetsBefore += counters.captured;
    this.droppedBefore += counters.dropped;
  }

  /** The file that the last run wrote to, or all that it wrote, ends with a whole record again. */
  async #cutTorn({ all = false } = {}): Promise<void> {
    this.#isTorn = false;
    await this.files.cutTorn(this.ledger?.lastRun?.n, all, (message, fields) => {
      this.#context.log.warn(message, { ...this.fields(), ...fields });
    });
  }

  async #retire(podGone: boolean): Promise<void> {
    const { directory, settings, log } = this.#context;
    const { ledger } = this;
    let uid = ledger?.manifest?.uid;
    const request = this.#hash;
    const files = await listRing(this.folder, this.name).catch(() => []);
    const what = { files: files.length, bytes: bytesOf(files) };
    // Counters that are being written would find the folder gone, or another pod's in its place.
    await ledger?.written;
    if (ledger && podGone && settings.retentionSeconds > 0 && files.length > 0) {
      if (this.#isTorn) await this.#cutTorn();
      uid = ledger.retain(this.namespace, this.name);
      await this.#save();
      await directory.retainFolder(this.namespace, this.name, uid);
      this.#context.retained(uid, { namespace: this.namespace, firstSeen: this.place.firstSeen, bytes: what.bytes });
      log.info("files retained", { ...this.fields(), uid, ...what, for: formatDuration(settings.retentionSeconds) });
    } else {
      await directory.removeFolder(this.namespace, this.name);
      const why = podGone ? "the pod was deleted" : "annotation removed";
      log.info("files deleted", { ...this.fields(), uid, ...what, why });
    }
    if (!podGone && (uid !== undefined || files.length > 0)) {
      const note = `Annotation removed: deleted ${count(what.files, "file")} (${formatBytes(what.bytes)})`;
      this.#tell(request, { type: "Normal", reason: "CaptureStopped", note });
    }
    this.ledger = undefined;
    this.place.ranBefore = false;
    this.#isTorn = false;
    this.#restartedBy = "";
    this.files.count([], undefined);
  }

  /** Something did not work that may work later. */
  #failed(request: string, reason: string, problem: string, livedMs: number): void {
    const ms = this.#backoff.failed(this.sandbox?.id, problem, livedMs);
    this.#context.metrics.failures.inc({ reason });
    this.#context.log.warn("capture failed", { ...this.fields(), problem, retryInMs: Math.round(ms) });
    this.#tell(request, { type: "Warning", reason: "CaptureFailed", note: `${problem}; it is tried again` });
  }

  /** It is where it ought to be: say so once. */
  async #settle(goal: Desired): Promise<void> {
    const isNews = this.#isNews;
    this.#isNews = false;
    const request = this.#hash;
    const isPending = goal.state === "pending";
    const isAnswer = this.#answered !== request &&
      !(isPending && (!this.isHere || this.#pendingToldFor === request));
    // Of a pod that was not seen yet, nor proven to be gone, all that was noted stays.
    const isUnknown = !this.pod && !this.#isGone;
    const isAnother = this.#restedFor !== request;
    if (!isUnknown) this.#restedFor = request;
    const gaveUp = this.place.settle(goal, this.running !== undefined, this.#isSettled);
    if (this.#isTorn && this.ledger) {
      await this.#cutTorn();
      await this.#save();
    }
    if (this.#untold) this.#tell(this.#untold.request, this.#untold.event);
    const isFound = isNews && isPending && isAnswer;
    const isSame = goal.state === this.goal.state && goal.reason === this.goal.reason && !isAnother && !isFound;
    if (isUnknown || isSame) {
      if (gaveUp || isNews) this.#context.admissions.changed();
      return;
    }
    const before = this.goal;
    // A pod that waits does so since it began, whatever is found out about it.
    if (goal.state !== before.state || (goal.reason !== before.reason && !isPending)) this.goalSince = new Date();
    this.goal = goal;
    if (this.pod && this.pod.uid === this.ledger?.manifest?.uid) {
      const request = this.asked.kind === "valid" ? this.asked.request : undefined;
      this.ledger.rest(this.pod, request, goal, this.goalSince);
      await this.#save();
    }
    await this.measure();
    const line = { ...this.fields(), state: goal.state, ...(goal.reason ? { reason: goal.reason } : {}) };
    if (goal.state === "rejected") this.#context.log.warn("capture rejected", line);
    else if (goal.state !== "none") this.#context.log.info(`capture ${goal.state}`, line);
    // Other reasons for the same state are numbers that have changed: no news, but for what is wrong with a request.
    const news = goal.state !== before.state || goal.state === "rejected" || isAnswer;
    const about = {
      podIsGoing: this.pod?.terminating === true || this.#context.stopping(),
      isAnswer,
    };
    const event = news ? eventFor(goal, before.state, about) : undefined;
    this.#untold = undefined;
    if (event) this.#tell(request, event);
    else if (isAnswer && goal.state === "capturing" && this.running) this.#serve(this.running, request);
    this.#context.admissions.changed();
  }

  /** Has the tcpdump that runs serve another request too, of which it need not know what is new. */
  #serve(running: Run, hash: string): void {
    const isNew = running.requestHash !== hash;
    running.requestHash = hash;
    // Before it listens there is nothing to say; then it is said.
    if (!isNew || running.phase.is !== "listening" || this.asked.kind !== "valid") return;
    const note = `Capturing: ${describe(this.asked.request)}; tcpdump goes on as it is`;
    this.#tell(hash, { type: "Normal", reason: "CaptureStarted", note });
  }

  /** An Event, once the pod is known to be on this node: a server that ignores the field selector shows others' pods too. */
  #tell(request: string, event: PodEvent): void {
    this.#untold = this.isHere ? undefined : { event, request };
    if (!this.pod || !this.isHere) return;
    this.#context.record(this.pod, event, request, this.#answered !== request);
    if (event.reason === "CapturePending") this.#pendingToldFor = request;
    else this.#answered = request;
  }

  /** Looks at the files: how much they take, and no more of them than N, whether it runs or not. */
  async measure(): Promise<void> {
    const { ledger } = this;
    if (!ledger) return;
    const n = (this.#wish ?? ledger.manifest?.request)?.files;
    const files = await this.files.look(n);
    // It may have been taken away meanwhile.
    if (!files || this.ledger !== ledger) return;
    this.files.count(files, n);
    ledger.keepRunsOf(files);
    // What an earlier, larger request has left may be gone.
    if (this.place.isFor(this.#print)) this.#take();
  }

  /** Takes its place as large as its claim is now. What it had beyond that may be another's. */
  #take(): void {
    if (this.place.take(this.claim, this.#print)) this.#context.admissions.changed();
  }

  /** Looks at the run, and does what follows from what is found. @param ask whether to ask tcpdump for its counters. */
  async watch(ask: boolean): Promise<void> {
    const { running } = this;
    const findings = await running?.health.look(running, ask);
    // Ended meanwhile, and perhaps forgotten, with its series: nobody would take them away again.
    if (!running || !findings || this.running !== running) return;
    const { counters } = running;
    if (counters && !findings.some(({ is }) => is === "hopeless")) {
      const packets = this.packetsBefore + counters.captured, dropped = this.droppedBefore + counters.dropped;
      this.#context.metrics.setCapture(this, { packets, dropped, ringBytes: this.bytes });
    }
    for (const finding of findings) this.#found(running, finding);
  }

  #found(running: Run, finding: Finding): void {
    const { log } = this.#context;
    switch (finding.is) {
      case "hopeless":
        log.warn("tcpdump killed", { ...this.fields(), pid: running.pid, why: finding.why });
        void running.kill(finding.why, "health");
        break;
      case "dropping": {
        const { more, dropped, received } = finding;
        log.warn("packets dropped", { ...this.fields(), more, dropped, received });
        this.#tellOfRun(running, PACKETS_DROPPED);
        break;
      }
      case "silent":
        // Not waited for: other captures are to be looked after.
        void this.#tellNoPackets(running, finding.seconds);
    }
  }

  async #tellNoPackets(running: Run, seconds: number): Promise<void> {
    const { request, netnsPath } = running;
    const { tcpdump, nsenter } = this.#context.settings;
    const interfaces = await listInterfaces({ tcpdump, nsenter, netnsPath }).catch(() => []);
    if (this.running !== running || !running.health.isSilent(running)) return;
    this.#tellOfRun(running, noPackets(request, seconds, interfaces));
  }

  /** Tells it on the pod that the run is of, not on a later one of its name. */
  #tellOfRun(running: Run, event: PodEvent): void {
    if (this.pod?.uid === running.uid) this.#context.record(this.pod, event, running.requestHash, false);
  }

  /** The wall clock has been set: noted in the run, for readers that count time back (src/reading/cat.ts). */
  noteClockStep(step: ClockStep): void {
    this.ledger?.amend({ clockSteps: withStep(this.ledger.lastRun?.clockSteps, step) });
  }

  /** Writes what tcpdump has counted and what the files take, both of now; as they were before where it does not answer. */
  async countNow(): Promise<void> {
    const { running, ledger, files } = this;
    const size = await running?.countNow() ? await files.size() : undefined;
    if (size && running?.counters && this.running === running) {
      ledger?.count(running.counters, size);
      files.bytes = size.bytes;
    }
    await this.saveProgress();
  }

  /** Writes how long the run has lasted, and all else that is known of it. */
  async saveProgress(): Promise<void> {
    const { running, ledger } = this;
    if (!running || !ledger) return;
    await ledger.save({ durable: false, seconds: running.seconds });
  }

  /** Here the manifest is a report: a disk that takes none must not stop the work. */
  async #save(): Promise<void> {
    await this.ledger?.save().catch((error) => {
      this.#context.log.warn("manifest not written", { ...this.fields(), error });
    });
  }

  /** What every log line about this capture says. */
  fields(): Record<string, unknown> {
    return { pod: this.key, uid: this.pod?.uid ?? this.ledger?.manifest?.uid };
  }

  /** We stop, and the queue has no turn for it: ends what still runs, with its last packets. */
  async end(): Promise<void> {
    const { running } = this;
    if (!running) return;
    const why = "the controller is stopping";
    await running.flush(why, this.#context.timing.block);
    await this.#endFlushed(running, why);
  }

  close(): void {
    this.#filter.drop();
    this.#giveTurnBack();
    this.#backoff.clear();
  }
}
