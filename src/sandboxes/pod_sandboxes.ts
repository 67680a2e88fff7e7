/** Finds the sandbox of a pod. */
import type { Sandbox, SandboxOwner } from "./sandbox.ts";

/** The container runtime's sandboxes. */
export interface SandboxSource {
  get(owner: SandboxOwner): Sandbox | undefined;
  refresh(): Promise<void>;
  /** Takes over whether new sandboxes must be known at once. */
  setUrgent(on: boolean): void;
}

/** A pod object. `staticUid` is the UID of the static pod whose mirror it says that it is. */
type Whose = SandboxOwner & { readonly staticUid?: string };

export class PodSandboxes {
  readonly #source: SandboxSource;

  constructor(source: SandboxSource) {
    this.#source = source;
  }

  /**
   * Returns the sandbox that the runtime's labels prove to be the pod's: by its own UID or, of a static pod's mirror object, by the UID
   * that it names. Namespace and name are the object's own in both cases, so that it can name no UID of another pod's.
   */
  of({ namespace, name, uid, staticUid }: Whose): Sandbox | undefined {
    return this.#source.get({ namespace, name, uid }) ??
      (staticUid === undefined ? undefined : this.#source.get({ namespace, name, uid: staticUid }));
  }

  /** Asks the container runtime for all sandboxes. @returns whether it has answered; never rejects. */
  refresh(): Promise<boolean> {
    return this.#source.refresh().then(() => true, () => false);
  }
}
