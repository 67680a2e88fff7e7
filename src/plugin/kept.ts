/** Captures of pods that are gone, which the controller keeps for a while (`retention.afterPodDeletion`). */
import { findCaptures } from "./captures.ts";
import { NotFound } from "./explain.ts";
import { UsageFailure } from "./failure.ts";
import type { Installation } from "./installation.ts";
import type { Kubectl } from "./kubectl.ts";
import type { Target, TargetOptions } from "./targets.ts";

/**
 * The kept capture that is meant by the name of a pod that is not there, or by its UID; undefined if there is none.
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
  const { captures, unreachable } = await findCaptures(kubectl, installation);
  const retained = captures.filter(({ state }) => state === "retained");
  const named = retained.filter(({ pod }) => pod === name);
  // Only asked for if it matters: a name means a pod of the context's namespace, as it does for kubectl.
  const its = namespace ?? (allNamespaces || named.length === 0 ? undefined : await contextNamespace(kubectl));
  const meant = [
    ...named.filter((capture) => its === undefined || capture.namespace === its),
    ...retained.filter(({ uid, ...capture }) => uid === name && (namespace ?? capture.namespace) === capture.namespace),
  ];
  const [kept] = meant;
  if (kept === undefined && unreachable.length > 0) {
    const nodes = unreachable.map(({ node, reason }) => `node ${node} could not be asked: ${reason}`).join("; ");
    throw new NotFound(`There is no pod ${name}, and it is not known whether its capture has been kept: ${nodes}`);
  }
  if (meant.length > 1) {
    const each = meant.map((capture) => `${capture.uid} (${capture.namespace}, node ${capture.node})`).join(", ");
    throw new UsageFailure(
      `${meant.length} pods named ${name} have gone and left a capture: give the UID, one of ${each}`,
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
  };
}

/** The namespace that kubectl takes without -n. */
async function contextNamespace(kubectl: Kubectl): Promise<string> {
  const path = "{.contexts[0].context.namespace}";
  const { code, stdout } = await kubectl.run(["config", "view", "--minify", `--output=jsonpath=${path}`]);
  // Without a context, as in a pod, kubectl has its own ways: nothing is guessed.
  if (code !== 0) throw new UsageFailure("Cannot tell the namespace of the current context: give -n NAMESPACE");
  return stdout.trim() || "default";
}
