/** Changes a pod's annotations: the only file of the plugin that writes to the cluster. */
import { Failure } from "../failure.ts";
import { explain, NotFound } from "./explain.ts";
import type { Kubectl } from "./kubectl.ts";
import type { PodObject } from "./objects.ts";

/** Annotations to set, and (null) to remove. */
export type Changes = Readonly<Record<string, string | null>>;

/** A pod that is known by its UID. */
interface KnownPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/**
 * Sets and removes annotations of exactly that pod in one patch: it carries the UID, so that a pod of the same name that has taken its
 * place meanwhile is left alone.
 *
 * @returns the annotations that the pod has after it, as the API server answers.
 * @throws {Failure} the pod has gone or was replaced, or the user may not (`Forbidden`).
 */
export async function annotate(
  kubectl: Kubectl,
  target: KnownPod,
  changes: Changes,
): Promise<Readonly<Record<string, string>>> {
  const patch = JSON.stringify({ metadata: { uid: target.uid, annotations: changes } });
  const args = ["patch", "pod", "-n", target.namespace, "--type=merge", "-o", "json", "-p", patch, "--", target.name];
  const { code, stdout, stderr } = await kubectl.run(args);
  if (code === 0) return annotationsIn(stdout);
  // The API server's words for a UID that is not the object's (apimachinery, ValidateObjectMetaAccessorUpdate and Preconditions.Check).
  if (/metadata\.uid|UID in precondition/.test(stderr)) throw new Failure("another pod has its name now");
  const failure = explain(stderr, `kubectl patch failed with exit code ${code}`);
  throw failure instanceof NotFound ? new NotFound("the pod was deleted") : failure;
}

function annotationsIn(stdout: string): Readonly<Record<string, string>> {
  try {
    return (JSON.parse(stdout) as PodObject).metadata.annotations ?? {};
  } catch {
    throw new Failure(`kubectl patch returned something that is not JSON: ${stdout.slice(0, 60)}`);
  }
}
