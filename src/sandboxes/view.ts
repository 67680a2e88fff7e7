/** The sandboxes that the runtime lists as READY, what is known of each, and which one is its pod's. No input or output. */
import { basename } from "@std/path";
import type { PodSandbox } from "./cri_pb.ts";
import type { Sandbox } from "./sandbox.ts";

/** The kubelet's label for the pod's UID (kubernetes staging/src/k8s.io/kubelet/pkg/types/labels.go). */
const POD_UID_LABEL = "io.kubernetes.pod.uid";

/** A sandbox whose network cannot be entered is asked about again after 100 ms, twice that … up to this. Milliseconds. */
const FIRST_ASK_AGAIN_MS = 100;
const LAST_ASK_AGAIN_MS = 10_000;
/** It is worth a line in the log when that has been done so often (3 s): every sandbox that ends is in that state for a moment. */
const REFUSALS_WORTH_TELLING = 6;

/** A sandbox that the runtime lists as READY. */
export interface Entry {
  readonly id: string;
  readonly podUid: string;
  readonly createdAt: bigint;
  /** Set while its network can be entered. */
  sandbox: Sandbox | undefined;
  /** Why not, by the last look at it; undefined if it was not looked at yet. */
  refused: string | undefined;
  /** The runtime is being asked about it. */
  asking: boolean;
  refusals: number;
  /** performance.now() from which on the runtime is to be asked about it. */
  askAt: number;
}

export class SandboxView {
  readonly #entries = new Map<string, Entry>();
  readonly #chosen = new Map<string, Sandbox>();
  readonly #onChange: (podUid: string) => void;

  constructor(onChange: (podUid: string) => void) {
    this.#onChange = onChange;
  }

  /** The pod's newest READY sandbox; undefined if there is none, or its network cannot be entered. */
  get(podUid: string): Sandbox | undefined {
    return this.#chosen.get(podUid);
  }

  /** Takes over what the runtime lists as READY. */
  apply(items: readonly PodSandbox[], now: number): void {
    const listed = new Set<string>();
    for (const { id, createdAt, labels } of items) {
      const podUid = labels[POD_UID_LABEL];
      // Without it, it was not a kubelet that made the sandbox.
      if (!podUid) continue;
      listed.add(id);
      if (this.#entries.has(id)) continue;
      const unknown = { sandbox: undefined, refused: undefined, asking: false, refusals: 0, askAt: now };
      this.#entries.set(id, { id, podUid, createdAt, ...unknown });
    }
    const ended = [...this.#entries.values()].filter((entry) => !listed.has(entry.id));
    for (const entry of ended) this.#entries.delete(entry.id);
    for (const entry of ended) this.#choose(entry.podUid);
  }

  /** Sandboxes whose network is not known (any more), and about which nobody is asking now. */
  *unsettled(): Generator<Entry> {
    for (const entry of this.#entries.values()) {
      if (entry.sandbox === undefined && !entry.asking) yield entry;
    }
  }

  /** Base names of the netns files of all sandboxes that can be entered. */
  *netnsNames(): Generator<string> {
    for (const { sandbox } of this.#entries.values()) {
      if (sandbox?.netnsPath !== undefined) yield basename(sandbox.netnsPath);
    }
  }

  /** The entry's network can be entered: at `netnsPath`, or, if that is undefined, it is the node's. */
  accept(entry: Entry, netnsPath: string | undefined): void {
    const { id, podUid, createdAt } = entry;
    entry.sandbox = { id, podUid, createdAt, hostNetwork: netnsPath === undefined, netnsPath };
    entry.refused = undefined;
    this.#choose(podUid);
  }

  /** The entry's network cannot be entered; if `lasting`, it never will. True: it is time to tell people. */
  refuse(entry: Entry, reason: string, { lasting, now }: { lasting: boolean; now: number }): boolean {
    entry.sandbox = undefined;
    entry.refused = reason;
    entry.askAt = lasting ? Infinity : now + Math.min(FIRST_ASK_AGAIN_MS * 2 ** entry.refusals++, LAST_ASK_AGAIN_MS);
    this.#choose(entry.podUid);
    return (lasting || entry.refusals === REFUSALS_WORTH_TELLING) && this.#entries.get(entry.id) === entry;
  }

  /** A netns file has gone, and with it the sandbox it belongs to. */
  dropNetns(name: string, now: number): void {
    for (const entry of this.#entries.values()) {
      const path = entry.sandbox?.netnsPath;
      if (path !== undefined && basename(path) === name) {
        this.refuse(entry, `${path} does not exist`, { lasting: false, now });
      }
    }
  }

  /** Settles which sandbox is the pod's: the newest, or an older one as long as nothing is known of the newest. */
  #choose(podUid: string): void {
    let newest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.podUid !== podUid || (entry.sandbox === undefined && entry.refused === undefined)) continue;
      if (newest === undefined || entry.createdAt > newest.createdAt) newest = entry;
    }
    const chosen = newest?.sandbox;
    if (chosen === this.#chosen.get(podUid)) return;
    if (chosen) this.#chosen.set(podUid, chosen);
    else this.#chosen.delete(podUid);
    this.#onChange(podUid);
  }
}
