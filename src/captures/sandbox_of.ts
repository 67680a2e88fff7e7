/** Whose a sandbox is. */
import type { Pod } from "../pods/pod.ts";
import type { Sandbox, SandboxOwner } from "../sandboxes/sandbox.ts";

/**
 * Returns the sandbox that the runtime's labels prove to be the pod's: by its own UID or, of a static pod's mirror object, by the UID
 * that it names. Namespace and name are the object's own in both cases, so that it can name no UID of another pod's.
 */
export function sandboxOf(
  { namespace, name, uid, staticUid }: Pod,
  sandboxes: { get(owner: SandboxOwner): Sandbox | undefined },
): Sandbox | undefined {
  return sandboxes.get({ namespace, name, uid }) ??
    (staticUid === undefined ? undefined : sandboxes.get({ namespace, name, uid: staticUid }));
}
