/** Observes one capture: what the plan's next step depends on, and what the capture takes of the limits. */
import type { Backoff } from "../base/backoff.ts";
import type { Asker, Place } from "../limits/admissions.ts";
import { type Admission, desiredOf, type Observed } from "../plan/plan.ts";
import type { Settings } from "../settings.ts";
import { bytesClaimed, fingerprint, processFingerprint } from "../spec/request.ts";
import type { Run } from "../tcpdump/run.ts";
import type { Folder } from "./folder.ts";
import type { Subject } from "./subject.ts";

/** State of the node that concerns all captures. */
export interface NodeState {
  /** The first list of pods is complete, and the runtime has answered since. */
  readonly isSynced: boolean;
  readonly isStopping: boolean;
  /** The reason why no capture may write now; undefined: they may. */
  readonly paused: string | undefined;
}

export interface ObserverOptions {
  readonly place: Place;
  readonly subject: Subject;
  readonly folder: Folder;
  readonly runs: { readonly running: Run | undefined };
  readonly backoff: Backoff;
  readonly settings: Pick<Settings, "allowHostNetworkPods" | "retentionSeconds">;
  readonly node: () => NodeState;
}

const GRANTED: Admission = { kind: "granted" };

export class Observer implements Asker {
  readonly key: string;
  readonly namespace: string;
  readonly place: Place;
  readonly folder: Folder;
  readonly #options: ObserverOptions;

  constructor(options: ObserverOptions) {
    this.#options = options;
    this.key = options.subject.key;
    this.namespace = options.subject.namespace;
    this.place = options.place;
    this.folder = options.folder;
  }

  /** The UID of the pod, or where none is known, of the one whose folder it is, as far as that is known. */
  get uid(): string | undefined {
    return this.#options.subject.pod?.uid ?? this.folder.manifest?.uid;
  }

  /** Set when it is known whether there is a pod, and whether it has a sandbox. */
  get isKnown(): boolean {
    const { node, subject: { tracker, isGone } } = this.#options;
    return node().isSynced && (tracker !== undefined || isGone);
  }

  observe(admission: Admission): Observed {
    const { node, settings, subject, runs: { running }, folder, backoff } = this.#options;
    const { tracker, sandbox, isGone } = subject;
    const { isStopping, paused } = node();
    const failure = backoff.reason(sandbox?.id);
    const inFolder = folder.observed;
    // Of another pod's folder nothing counts for this one.
    const request = folder.isOf(tracker?.uid) ? tracker?.request : undefined;
    return {
      gone: isGone,
      stopping: isStopping,
      allowHostNetworkPods: settings.allowHostNetworkPods,
      retains: settings.retentionSeconds > 0,
      admission,
      ...(tracker?.observed(sandbox?.id) ?? { removed: false, checked: true }),
      edited: tracker?.isEdited === true || (request !== undefined && folder.countsOther(request)),
      reached: request !== undefined && folder.isReached(request, running?.seconds ?? 0),
      ...(sandbox ? { sandbox } : {}),
      ...(inFolder ? { folder: inFolder } : {}),
      ...(running ? { process: running.observed } : {}),
      ...(paused === undefined ? {} : { paused }),
      ...(failure === undefined ? {} : { backoff: failure }),
    };
  }

  /** Set when the capture asks for a place: all else that it needs is there. */
  get applies(): boolean {
    if (this.#options.runs.running) return true;
    const { state } = desiredOf(this.observe(GRANTED));
    const keepsPlace = this.place.granted !== undefined && (state === "paused" || state === "failing");
    return state === "capturing" || keepsPlace || this.#mayGoOn;
  }

  /** Bytes that it may take at most while it runs. */
  get claim(): number {
    const { subject: { tracker }, folder, runs: { running } } = this.#options;
    const asked = tracker?.request;
    const request = asked ?? (this.#mayGoOn ? folder.manifest?.request : undefined);
    if (!request) return folder.bytes;
    const isRunning = running?.fingerprint === processFingerprint(request);
    const claim = bytesClaimed(request, folder.bytesNotOverwrittenBy(request, isRunning));
    return this.place.capped(claim, asked && tracker ? tracker.fingerprint : fingerprint(request));
  }

  /** Set when nothing is there and nothing is asked for, so that it can be forgotten. */
  get isNothing(): boolean {
    const { runs, subject: { tracker } } = this.#options;
    return !runs.running && !this.folder.exists && (tracker?.asked.kind ?? "nothing") === "nothing";
  }

  /** The row that `list` shows of a request without a folder; undefined: there is a folder, or nothing to show. */
  get row(): unknown {
    return this.folder.manifest || this.folder.bytes > 0 ? undefined : this.#options.subject.row;
  }

  /** Set while it is not yet known whether a capture that ran before the controller was started goes on. */
  get #mayGoOn(): boolean {
    return this.place.ranBefore && !this.isKnown;
  }
}
