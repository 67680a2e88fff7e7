/** A pod as the API gives it: the part of its metadata that a capture depends on. */

/** The names under which a pod is known; `uid` is its identity, the other two can be used again by a later pod. */
export interface PodRef {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** A pod object on this node, as last seen. All other metadata is dropped as soon as it is read, to keep memory flat. */
export interface Pod extends PodRef {
  readonly resourceVersion: string;
  /** Annotations that are ours: the main key and its sub-keys (`<key>/<name>`), values as they are. */
  readonly annotations: Readonly<Record<string, string>>;
  /**
   * A hint, because anybody can write it: the object claims to be the mirror of the static pod that the runtime knows
   * by this UID (annotations `kubernetes.io/config.mirror` and `config.hash`, kubernetes
   * pkg/kubelet/types/constants.go).
   */
  readonly staticUid?: string;
  /** The pod has a deletionTimestamp: it is captured until its sandbox goes. */
  readonly terminating: boolean;
}

/** Returns `namespace/name`, the key under which work is serial, because pods that share it share a folder. */
export function podKey(pod: { readonly namespace: string; readonly name: string }): string {
  return `${pod.namespace}/${pod.name}`;
}
