/** Captures of pods that are gone, which the controller keeps for a while (`retention.afterPodDeletion`). */
import { readsAsUid } from "../../base/names.ts";
import { UsageFailure } from "../failure.ts";
import type { Installation } from "../installation.ts";
import { NotFound } from "../kubectl/explain.ts";
import type { Kubectl } from "../kubectl/kubectl.ts";
import { contextNamespace } from "../kubectl/namespace.ts";
import type { Target, TargetOptions } from "../targets.ts";
import { everyNode, findCaptures } from "./captures.ts";

/**
 * Returns the kept capture that is meant by the name of a pod that is not there, or by its UID; undefined if there is
 * none.
 *
 * @throws {UsageFailure} several pods of that name have left one.
 * @throws {NotFound} none is found, but some controller could not be asked.
 */
export async function findKept(
  kubectl: Kubectl,
  installation: Installation,
  name: string,
  { namespace, allNamespaces }: Pick<TargetOptions, "namespace" | "allNamespaces">,
): Promise<Target | undefined> {
  // A name means a pod of the context's namespace, as it does for kubectl; a UID stands for itself.
  const its = namespace ?? (allNamespaces || readsAsUid(name) ? undefined : await knownNamespace(kubectl));
  const answer = await findCaptures(kubectl, installation, everyNode(installation, its));
  const retained = answer.captures.filter(({ state }) => state === "retained");
  const named = retained.filter(({ pod }) => pod === name);
  const meant = [...named, ...retained.filter(({ uid }) => uid === name)];
  const [kept] = meant;
  const problems = [...answer.unreachable, ...answer.damaged];
  if (kept === undefined && problems.length > 0) {
    const why = answer.refused?.message ??
      problems.map(({ node, reason }) => `cannot ask node ${node}: ${reason}`).join("; ");
    throw new NotFound(`There is no pod ${name}, and its capture may be kept: ${why}`);
  }
  if (meant.length > 1) {
    const each = meant.map((capture) => `${capture.uid} (${capture.namespace}, node ${capture.node})`).join(", ");
    throw new UsageFailure(
      `${meant.length} pods named ${name} were deleted and left a capture: give one of the UIDs ${each}`,
    );
  }
  return kept && {
    namespace: kept.namespace,
    name: kept.pod,
    uid: kept.uid,
    node: kept.node,
    finished: undefined,
    annotations: {},
    named: true,
    kept: true,
    ...(named.length === 0 ? { keptUid: kept.uid } : {}),
  };
}

async function knownNamespace(kubectl: Kubectl): Promise<string> {
  const namespace = await contextNamespace(kubectl);
  // Without a context, as in a pod, kubectl has its own ways: nothing is guessed.
  if (namespace === undefined) {
    throw new UsageFailure("Cannot tell the namespace of the current context: give -n NAMESPACE");
  }
  return namespace;
}
