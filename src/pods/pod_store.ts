/** The pods of this node as last seen, by UID, and the word to those who care when one is new, changed or gone. */
import { type Pod, podKey } from "./pod.ts";

/** The part of a pod object's metadata that is read; everything else in it is dropped with the parsed object. */
export interface ObjectMeta {
  readonly namespace?: string;
  readonly name?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly deletionTimestamp?: string;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** kubernetes pkg/kubelet/types/constants.go: both are set by the kubelet on a mirror object, to the same value. */
const CONFIG_HASH = "kubernetes.io/config.hash";
const CONFIG_MIRROR = "kubernetes.io/config.mirror";

/**
 * Returns the pod that this metadata describes, or undefined when it lacks what every pod object has.
 * @param annotationKey our main annotation; it and `<annotationKey>/…` are kept.
 */
export function podOf(meta: ObjectMeta | undefined, annotationKey: string): Pod | undefined {
  const { namespace, name, uid, resourceVersion } = meta ?? {};
  if (!namespace || !name || !uid || !resourceVersion) return undefined;
  const all = meta?.annotations ?? {};
  const annotations: Record<string, string> = {};
  for (const key in all) {
    if (key === annotationKey || key.startsWith(`${annotationKey}/`)) annotations[key] = all[key]!;
  }
  const mirrored = all[CONFIG_MIRROR];
  return {
    namespace,
    name,
    uid,
    resourceVersion,
    annotations,
    ...(mirrored && mirrored === all[CONFIG_HASH] ? { staticUid: mirrored } : {}),
    terminating: meta?.deletionTimestamp !== undefined,
  };
}

export class PodStore {
  readonly #byUid = new Map<string, Pod>();
  readonly #uidByKey = new Map<string, string>();
  readonly #onPod: (pod: Pod) => void;
  readonly #onGone: (pod: Pod) => void;

  constructor(listeners: { onPod(pod: Pod): void; onGone(pod: Pod): void }) {
    this.#onPod = (pod) => listeners.onPod(pod);
    this.#onGone = (pod) => listeners.onGone(pod);
  }

  get byUid(): ReadonlyMap<string, Pod> {
    return this.#byUid;
  }

  /** Returns the UID of the pod that has this name. */
  uidOf(key: string): string | undefined {
    return this.#uidByKey.get(key);
  }

  /** Stores a pod object as it is now. An earlier one of the same name, whose end was missed, is removed first. */
  put(pod: Pod): void {
    const key = podKey(pod);
    const there = this.#uidByKey.get(key);
    if (there !== undefined && there !== pod.uid) this.remove(there);
    const was = this.#byUid.get(pod.uid);
    this.#byUid.set(pod.uid, pod);
    this.#uidByKey.set(key, pod.uid);
    if (was === undefined || !sameForUs(was, pod)) this.#onPod(pod);
  }

  /** Removes the pod object. @returns false for one that is not stored: nothing happens. */
  remove(uid: string): boolean {
    const pod = this.#byUid.get(uid);
    if (pod === undefined) return false;
    this.#byUid.delete(uid);
    this.#uidByKey.delete(podKey(pod));
    this.#onGone(pod);
    return true;
  }

  /** Removes the pods that a whole list lacks, but for those whose absence must be proven. */
  keepOnly(uids: ReadonlySet<string>, needsProof: (pod: Pod) => boolean = () => false): void {
    for (const pod of [...this.#byUid.values()]) {
      if (!uids.has(pod.uid) && !needsProof(pod)) this.remove(pod.uid);
    }
  }
}

function sameForUs(a: Pod, b: Pod): boolean {
  if (a.staticUid !== b.staticUid || a.terminating !== b.terminating) return false;
  const keys = Object.keys(a.annotations);
  return keys.length === Object.keys(b.annotations).length &&
    keys.every((key) => a.annotations[key] === b.annotations[key]);
}
