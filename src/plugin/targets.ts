/** The pods that a command line means: by name, by selector, or as the pods of a workload. */
import { Failure, UsageFailure } from "./failure.ts";
import { NotFound } from "./explain.ts";
import type { Kubectl } from "./kubectl.ts";
import { itemsOf, type ObjectMeta, type PodObject, type WorkloadObject } from "./objects.ts";

export interface TargetOptions {
  /** Pod names, `pod/NAME`, or `KIND/NAME` of a workload. */
  readonly names: readonly string[];
  readonly selector?: string | undefined;
  /** @default the namespace of the kubeconfig's context */
  readonly namespace?: string | undefined;
  readonly allNamespaces?: boolean | undefined;
}

/** A pod that was meant. */
export interface Target {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  /** undefined: not scheduled yet. */
  readonly node: string | undefined;
  /** Succeeded or Failed: its containers will not run again. */
  readonly finished: string | undefined;
  readonly annotations: Readonly<Record<string, string>>;
  /** Asked for by its own name, not by selector or workload. */
  readonly named: boolean;
  /** The pod is gone, but its capture is kept. */
  readonly kept?: true;
  /** The kept capture was asked for by it, so that no other will do. */
  readonly keptUid?: string;
}

export const EITHER_NAMESPACE = "Give either -n NAMESPACE or --all-namespaces, not both";

/** Looks elsewhere for a pod that the API server does not have. */
export type FindMissing = (name: string) => Promise<Target | undefined>;

/**
 * Finds the pods, each once, ordered by namespace and name.
 *
 * @throws {UsageFailure} nothing or a contradiction is asked for, or a name means several pods.
 * @throws {Failure} a name does not exist, or nothing matches.
 */
export async function findTargets(
  kubectl: Kubectl,
  options: TargetOptions,
  findMissing: FindMissing = () => Promise.resolve(undefined),
): Promise<Target[]> {
  checkTargetOptions(options);
  const { names, selector, namespace, allNamespaces } = options;
  const where = allNamespaces ? ["--all-namespaces"] : namespace === undefined ? [] : ["-n", namespace];

  const targets = selector !== undefined
    ? (await podsBySelector(kubectl, where, selector)).map((pod) => targetOf(pod, false))
    : allNamespaces
    ? await byNameAnywhere(kubectl, names, findMissing)
    : await byName(kubectl, where, options, findMissing);
  if (targets.length === 0) {
    throw new Failure(
      `No pod matches -l ${selector ?? ""}${allNamespaces ? " in any namespace" : inNamespace(namespace)}`,
    );
  }
  const unique = new Map(targets.map((target) => [target.uid, target]));
  return [...unique.values()].sort((a, b) => compare(a.namespace, b.namespace) || compare(a.name, b.name));
}

/**
 * What can be found wrong without asking the cluster.
 *
 * @throws {UsageFailure}
 */
export function checkTargetOptions({ names, selector, namespace, allNamespaces }: TargetOptions): void {
  if (names.length > 0 && selector !== undefined) throw new UsageFailure("Give either names or -l SELECTOR, not both");
  if (names.length === 0 && selector === undefined) {
    throw new UsageFailure("Name the pods: POD …, KIND/NAME such as deployment/web, or -l SELECTOR");
  }
  if (namespace !== undefined && allNamespaces) {
    throw new UsageFailure(EITHER_NAMESPACE);
  }
}

async function byName(
  kubectl: Kubectl,
  where: string[],
  { names, namespace }: TargetOptions,
  findMissing: FindMissing,
) {
  const podNames = names.flatMap((name) => podName(name) ?? []);
  const workloads = names.filter((name) => podName(name) === undefined);
  const targets: Target[] = [];
  if (podNames.length > 0) {
    const pods = itemsOf<PodObject>(
      await kubectl.json(["get", "pods", ...where, "--ignore-not-found", "--", ...podNames]),
    );
    for (const name of podNames) {
      const pod = pods.find(({ metadata }) => metadata.name === name);
      const target = pod === undefined ? await findMissing(name) : targetOf(pod, true);
      if (target === undefined) throw new NotFound(`There is no pod ${name}${inNamespace(namespace)}`);
      targets.push(target);
    }
  }
  for (const workload of workloads) {
    const pods = await podsOfWorkload(kubectl, where, workload, namespace);
    targets.push(...pods.map((pod) => targetOf(pod, false)));
  }
  return targets;
}

async function byNameAnywhere(kubectl: Kubectl, names: readonly string[], findMissing: FindMissing) {
  const targets: Target[] = [];
  for (const given of names) {
    const name = podName(given);
    if (name === undefined) {
      throw new UsageFailure(`${given} needs a namespace: give -n NAMESPACE instead of --all-namespaces`);
    }
    const pods = itemsOf<PodObject>(
      await kubectl.json(["get", "pods", "--all-namespaces", `--field-selector=metadata.name=${name}`]),
    );
    const [pod, ...others] = pods;
    const missing = pod === undefined ? await findMissing(name) : undefined;
    if (pod === undefined && missing === undefined) throw new NotFound(`There is no pod ${name} in any namespace`);
    if (others.length > 0) {
      const all = pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).sort().join(", ");
      throw new UsageFailure(`${pods.length} pods are named ${name}: ${all}; choose one with -n NAMESPACE`);
    }
    targets.push(missing ?? targetOf(pod as PodObject, true));
  }
  return targets;
}

async function podsBySelector(kubectl: Kubectl, where: string[], selector: string): Promise<PodObject[]> {
  return itemsOf<PodObject>(await kubectl.json(["get", "pods", ...where, `--selector=${selector}`]));
}

/** The workload's existing pods. Labels alone are no proof, so that pods of another owner with the same labels are left out. */
async function podsOfWorkload(
  kubectl: Kubectl,
  where: string[],
  name: string,
  namespace: string | undefined,
): Promise<PodObject[]> {
  const [workload] = itemsOf<WorkloadObject>(await kubectl.json(["get", ...where, "--ignore-not-found", "--", name]));
  if (workload === undefined) throw new NotFound(`There is no ${name}${inNamespace(namespace)}`);
  const { kind, spec } = workload;
  const owners = new Set([workload.metadata.uid]);
  let pods: PodObject[];
  if (kind === "CronJob") {
    const jobs = itemsOf<WorkloadObject>(await kubectl.json(["get", "jobs.batch", ...where]));
    for (const job of jobs) if (ownedBy(job.metadata, owners)) owners.add(job.metadata.uid);
    pods = await podsBySelector(kubectl, where, "job-name");
  } else {
    const selector = selectorText(spec?.selector);
    if (selector === undefined) {
      throw new UsageFailure(
        `${name} selects no pods: give pods, or a workload such as a deployment, stateful set, daemon set, job or service`,
      );
    }
    pods = await podsBySelector(kubectl, where, selector);
    if (kind === "Service") return some(pods, name);
    if (
      kind !== "StatefulSet" && kind !== "DaemonSet" && kind !== "Job" && kind !== "ReplicaSet" &&
      kind !== "ReplicationController"
    ) {
      const sets = itemsOf<WorkloadObject>(
        await kubectl.json(["get", "replicasets.apps", ...where, `--selector=${selector}`]),
      );
      for (const set of sets) if (ownedBy(set.metadata, owners)) owners.add(set.metadata.uid);
    }
  }
  return some(pods.filter((pod) => ownedBy(pod.metadata, owners)), name);
}

function some(pods: PodObject[], name: string): PodObject[] {
  if (pods.length === 0) throw new Failure(`${name} has no pods at present`);
  return pods;
}

function ownedBy(meta: ObjectMeta, owners: ReadonlySet<string>): boolean {
  return meta.ownerReferences?.some(({ uid, controller }) => controller === true && owners.has(uid)) ?? false;
}

/** A workload's `spec.selector` as a `-l` argument: labels and expressions, or the plain map of services and replication controllers. */
export function selectorText(selector: unknown): string | undefined {
  if (typeof selector !== "object" || selector === null) return undefined;
  const { matchLabels, matchExpressions } = selector as {
    matchLabels?: Record<string, string>;
    matchExpressions?: { key: string; operator: string; values?: string[] }[];
  };
  const structured = matchLabels !== undefined || matchExpressions !== undefined;
  const labels = structured ? matchLabels ?? {} : selector as Record<string, string>;
  const terms = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  for (const { key, operator, values = [] } of matchExpressions ?? []) {
    if (operator === "In") terms.push(`${key} in (${values.join(",")})`);
    else if (operator === "NotIn") terms.push(`${key} notin (${values.join(",")})`);
    else if (operator === "Exists") terms.push(key);
    else if (operator === "DoesNotExist") terms.push(`!${key}`);
  }
  return terms.length === 0 ? undefined : terms.join(",");
}

function targetOf(pod: PodObject, named: boolean): Target {
  const { metadata, spec, status } = pod;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    uid: metadata.uid,
    node: spec?.nodeName,
    finished: status?.phase === "Succeeded" || status?.phase === "Failed" ? status.phase : undefined,
    annotations: metadata.annotations ?? {},
    named,
  };
}

/** The pod's name if `given` is a pod's: `web-0`, `pod/web-0`, `pods/web-0`, `po/web-0`. */
function podName(given: string): string | undefined {
  const slash = given.indexOf("/");
  if (slash === -1) return given;
  return ["pod", "pods", "po"].includes(given.slice(0, slash).toLowerCase()) ? given.slice(slash + 1) : undefined;
}

function inNamespace(namespace: string | undefined): string {
  return namespace === undefined ? " in the namespace of the current context" : ` in namespace ${namespace}`;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
