/** A READY pod sandbox on this node, as the container runtime describes it. */
export interface Sandbox {
  /** The runtime's id of the sandbox; a re-created sandbox has another. */
  readonly id: string;
  /** Label `io.kubernetes.pod.uid`. */
  readonly podUid: string;
  /** Nanoseconds since the epoch, by the runtime's clock: tells the newest of several. */
  readonly createdAt: bigint;
  /** The pod uses the node's network (`namespaces.options.network == NODE`): there is no netns of its own. */
  readonly hostNetwork: boolean;
  /** The netns file to enter, already checked and placed under our own netnsDir; undefined for hostNetwork pods. */
  readonly netnsPath: string | undefined;
}
