/** A READY pod sandbox on this node, as the container runtime describes it. */

/** The pod that a sandbox is of, by the kubelet's labels `io.kubernetes.pod.{namespace,name,uid}`. */
export interface SandboxOwner {
  readonly namespace: string;
  readonly name: string;
  /** UID of the pod; of a static pod the kubelet's own, not its mirror object's. */
  readonly uid: string;
}

export interface Sandbox {
  /** The runtime's id of the sandbox; a re-created sandbox has another. */
  readonly id: string;
  /** Proof of whose it is: only a pod of this namespace, name and UID may be captured in it. */
  readonly owner: SandboxOwner;
  /** Nanoseconds since the epoch, by the runtime's clock: for the newest of several. */
  readonly createdAt: bigint;
  /** The pod uses the node's network (`namespaces.options.network == NODE`): there is no netns of its own. */
  readonly hostNetwork: boolean;
  /** The netns file to enter, already checked and placed under our own netnsDir; undefined for hostNetwork pods. */
  readonly netnsPath: string | undefined;
}
