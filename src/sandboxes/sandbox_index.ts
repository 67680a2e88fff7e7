/** The sandboxes that the runtime lists as READY, what is known of each, and which one is its pod's. No input or output. */
import { basename } from "@std/path";
import { backoffMs } from "../base/backoff.ts";
import type { PodSandbox } from "./cri_pb.ts";
import type { Sandbox, SandboxOwner } from "./sandbox.ts";

/** The kubelet's labels (kubernetes staging/src/k8s.io/kubelet/pkg/types/labels.go). */
const LABEL = "io.kubernetes.pod.";

/** A sandbox whose network cannot be entered is asked about again after 100 ms, twice that … up to this. Milliseconds. */
const ASK_AGAIN = { firstMs: 100, mostMs: 10_000 };
/** Repetitions after which a line is logged (3 s): every sandbox that ends is in that state for a moment. */
const REFUSALS_WORTH_TELLING = 6;

/** A sandbox that the runtime lists as READY. */
export interface Entry {
  readonly id: string;
  readonly owner: SandboxOwner;
  /** The owner as a key. */
  readonly key: string;
  readonly createdAt: bigint;
  /** Sandbox, while its network can be entered. */
  sandbox: Sandbox | undefined;
  /** Reason why not, by the last look at it; undefined before the first look. */
  refused: string | undefined;
  /** The runtime is being asked about it. */
  asking: boolean;
  refusals: number;
  /** performance.now() from which on the runtime is to be asked about it. */
  askAt: number;
}

export class SandboxIndex {
  readonly #entries = new Map<string, Entry>();
  readonly #chosen = new Map<string, Sandbox>();
  readonly #onChange: (owner: SandboxOwner) => void;

  constructor(onChange: (owner: SandboxOwner) => void) {
    this.#onChange = onChange;
  }

  /** Returns the owner's newest READY sandbox; undefined if there is none, or its network cannot be entered. */
  get(owner: SandboxOwner): Sandbox | undefined {
    return this.#chosen.get(keyOf(owner));
  }

  /** Takes over what the runtime lists as READY. */
  apply(items: readonly PodSandbox[], now: number): void {
    const listed = new Set<string>();
    for (const { id, createdAt, labels } of items) {
      const [namespace, name, uid] = [labels[LABEL + "namespace"], labels[LABEL + "name"], labels[LABEL + "uid"]];
      // Without them, it was not a kubelet that made the sandbox.
      if (!namespace || !name || !uid) continue;
      listed.add(id);
      if (this.#entries.has(id)) continue;
      const unknown = { sandbox: undefined, refused: undefined, asking: false, refusals: 0, askAt: now };
      const owner = { namespace, name, uid };
      this.#entries.set(id, { id, owner, key: keyOf(owner), createdAt, ...unknown });
    }
    const ended = [...this.#entries.values()].filter((entry) => !listed.has(entry.id));
    for (const entry of ended) this.#entries.delete(entry.id);
    for (const entry of ended) this.#choose(entry);
  }

  /** Sandboxes whose network is not known (any more), and about which nobody is asking now. */
  *unsettled(): Generator<Entry> {
    for (const entry of this.#entries.values()) {
      if (entry.sandbox === undefined && !entry.asking) yield entry;
    }
  }

  /** Yields the base names of the netns files of all sandboxes that can be entered. */
  *netnsNames(): Generator<string> {
    for (const { sandbox } of this.#entries.values()) {
      if (sandbox?.netnsPath !== undefined) yield basename(sandbox.netnsPath);
    }
  }

  /** Records that the entry's network can be entered: at `netnsPath`, or, if that is undefined, it is the node's. */
  accept(entry: Entry, netnsPath: string | undefined): void {
    const { id, owner, createdAt } = entry;
    entry.sandbox = { id, owner, createdAt, hostNetwork: netnsPath === undefined, netnsPath };
    entry.refused = undefined;
    this.#choose(entry);
  }

  /**
   * Records that the entry's network cannot be entered; if `lasting`, it never will.
   *
   * @returns whether it is time to log it.
   */
  refuse(entry: Entry, reason: string, { lasting, now }: { lasting: boolean; now: number }): boolean {
    entry.sandbox = undefined;
    entry.refused = reason;
    // Each is looked up alone: no two come at once, and the time until the log line is as long as promised.
    entry.askAt = lasting ? Infinity : now + backoffMs(++entry.refusals, ASK_AGAIN, () => 1);
    this.#choose(entry);
    return (lasting || entry.refusals === REFUSALS_WORTH_TELLING) && this.#entries.get(entry.id) === entry;
  }

  /** Drops the sandbox whose netns file is removed. */
  dropNetns(name: string, now: number): void {
    for (const entry of this.#entries.values()) {
      const path = entry.sandbox?.netnsPath;
      if (path !== undefined && basename(path) === name) {
        this.refuse(entry, `${path} does not exist`, { lasting: false, now });
      }
    }
  }

  /** Settles which sandbox is the owner's: the newest, or an older one as long as nothing is known of the newest. */
  #choose({ owner, key }: Entry): void {
    let newest: Entry | undefined;
    for (const entry of this.#entries.values()) {
      if (entry.key !== key || (entry.sandbox === undefined && entry.refused === undefined)) continue;
      if (newest === undefined || entry.createdAt > newest.createdAt) newest = entry;
    }
    const chosen = newest?.sandbox;
    if (chosen === this.#chosen.get(key)) return;
    if (chosen) this.#chosen.set(key, chosen);
    else this.#chosen.delete(key);
    this.#onChange(owner);
  }
}

/** Returns a key that no two owners share: neither a namespace nor a name has a slash. */
function keyOf({ namespace, name, uid }: SandboxOwner): string {
  return `${namespace}/${name}/${uid}`;
}
