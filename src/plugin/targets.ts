/** The pods that a command line means: by name, by selector, or as the pods of a workload. */
import { compareText } from "../base/table.ts";
import { Failure, UsageFailure } from "./failure.ts";
import { Forbidden, NoSuchType, NotFound } from "./kubectl/explain.ts";
import type { Kubectl } from "./kubectl/kubectl.ts";
import { contextNamespace } from "./kubectl/namespace.ts";
import { itemsOf, managerOf, type ObjectMeta, type PodObject, type WorkloadObject } from "./kubectl/objects.ts";
import { type Named, readNames } from "./names.ts";

export interface TargetOptions {
  /** Names as `readNames` reads them. */
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
  /** The owner that manages it, as its own metadata has it. */
  readonly owner?: ReturnType<typeof managerOf>;
  /** The workload by which it was asked for. */
  readonly workload?: WorkloadObject | undefined;
  /** The pod is gone, but its capture is kept. */
  readonly kept?: true;
  /** The kept capture was asked for by it, so that no other will do. */
  readonly keptUid?: string;
}

export const EITHER_NAMESPACE = "Give either -n NAMESPACE or --all-namespaces, not both";

/** Looks elsewhere for a pod that the API server does not have. @param namespace as the name itself gives it */
export type FindMissing = (name: string, namespace: string | undefined) => Promise<Target | undefined>;

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
  const where = allNamespaces ? ["--all-namespaces"] : inNamespace(namespace);

  const named = readNames(names, selector);
  const targets = selector !== undefined
    ? (await podsBySelector(kubectl, where, selector)).map((pod) => targetOf(pod, false))
    : allNamespaces
    ? await byNameAnywhere(kubectl, named, findMissing)
    : await byName(kubectl, named, namespace, findMissing);
  if (targets.length === 0) {
    const searched = allNamespaces ? "any namespace" : await namespaceText(kubectl, namespace);
    throw new Failure(`No pod matches -l ${selector ?? ""} in ${searched}`);
  }
  const unique = new Map(targets.map((target) => [target.uid, target]));
  return [...unique.values()].sort((a, b) => compareText(a.namespace, b.namespace) || compareText(a.name, b.name));
}

/**
 * Checks what needs no call to the cluster.
 *
 * @throws {UsageFailure}
 */
export function checkTargetOptions({ names, selector, namespace, allNamespaces }: TargetOptions): void {
  if (readNames(names, selector).length > 0 && selector !== undefined) {
    throw new UsageFailure("Give either names or -l SELECTOR, not both");
  }
  if (names.length === 0 && selector === undefined) {
    throw new UsageFailure("Name the pods: POD …, KIND/NAME such as deployment/web, or -l SELECTOR");
  }
  if (namespace !== undefined && allNamespaces) {
    throw new UsageFailure(EITHER_NAMESPACE);
  }
}

async function byName(
  kubectl: Kubectl,
  named: readonly Named[],
  namespace: string | undefined,
  findMissing: FindMissing,
): Promise<Target[]> {
  const targets: Target[] = [];
  const workloads: Named[] = [];
  const pods = new Map<string | undefined, Named[]>();
  for (const one of named) {
    // Where -n names another namespace, what stands before the slash can only be a type.
    if (one.kind === "workload" || (one.kind === "either" && one.namespace !== (namespace ?? one.namespace))) {
      workloads.push(one);
    } else pods.set(one.namespace ?? namespace, [...pods.get(one.namespace ?? namespace) ?? [], one]);
  }
  for (const [namespace, names] of pods) targets.push(...await podsByName(kubectl, names, namespace, findMissing));
  for (const one of workloads) {
    const found = await podsOfWorkload(kubectl, inNamespace(namespace), one.given, namespace).catch((error) => {
      if (one.kind !== "either" || !(error instanceof NoSuchType)) throw error;
      throw new UsageFailure(
        `Cannot take ${one.given} with -n ${namespace}: it names namespace ${one.namespace}; give one of the two`,
      );
    });
    targets.push(...found);
  }
  return targets;
}

/** Finds pods of one namespace; of the context's if it is undefined. */
async function podsByName(
  kubectl: Kubectl,
  names: readonly Named[],
  namespace: string | undefined,
  findMissing: FindMissing,
): Promise<Target[]> {
  let pods: PodObject[] = [], refusal: Forbidden | undefined;
  try {
    const args = ["get", "pods", ...inNamespace(namespace), "--ignore-not-found", "--"];
    pods = itemsOf<PodObject>(await kubectl.json([...args, ...names.map(({ name }) => name)]));
  } catch (error) {
    // A type that is taken for a namespace is one of which the user has no rights.
    if (!(error instanceof Forbidden) || !names.some(({ kind }) => kind === "either")) throw error;
    refusal = error;
  }
  const targets: Target[] = [];
  for (const one of names) {
    const pod = pods.find(({ metadata }) => metadata.name === one.name);
    const ofType = pod === undefined && one.kind === "either" ? await podsOfUnknownType(kubectl, one.given) : undefined;
    if (ofType !== undefined) targets.push(...ofType);
    else if (refusal !== undefined) throw refusal;
    else {
      const target = pod === undefined ? await findMissing(one.name, one.namespace) : targetOf(pod, true);
      if (target === undefined) {
        throw new NotFound(`There is no pod ${one.name} in ${await namespaceText(kubectl, namespace)}`);
      }
      targets.push(target);
    }
  }
  return targets;
}

/** Takes `TYPE/NAME` for a workload of the context's namespace; undefined: the API server has no such type. */
async function podsOfUnknownType(kubectl: Kubectl, given: string): Promise<Target[] | undefined> {
  try {
    return await podsOfWorkload(kubectl, [], given, undefined);
  } catch (error) {
    if (error instanceof NoSuchType) return undefined;
    throw error;
  }
}

async function byNameAnywhere(kubectl: Kubectl, named: readonly Named[], findMissing: FindMissing) {
  const targets: Target[] = [];
  for (const one of named) {
    const { given, kind, name, namespace } = one;
    if (kind === "workload") {
      throw new UsageFailure(`${given} needs a namespace: give -n NAMESPACE instead of --all-namespaces`);
    }
    if (namespace !== undefined) {
      targets.push(...await podsByName(kubectl, [{ ...one, kind: "pod" }], namespace, findMissing));
      continue;
    }
    const pods = itemsOf<PodObject>(
      await kubectl.json(["get", "pods", "--all-namespaces", `--field-selector=metadata.name=${name}`]),
    );
    const [pod, ...others] = pods;
    const missing = pod === undefined ? await findMissing(name, undefined) : undefined;
    if (pod === undefined && missing === undefined) throw new NotFound(`There is no pod ${name} in any namespace`);
    if (others.length > 0) {
      const all = pods.map(({ metadata }) => `${metadata.namespace}/${metadata.name}`).sort().join(", ");
      throw new UsageFailure(`${pods.length} pods are named ${name}: ${all}; choose one of them`);
    }
    targets.push(missing ?? targetOf(pod as PodObject, true));
  }
  return targets;
}

async function podsBySelector(kubectl: Kubectl, where: string[], selector: string): Promise<PodObject[]> {
  return itemsOf<PodObject>(await kubectl.json(["get", "pods", ...where, `--selector=${selector}`]));
}

/** Finds the workload's existing pods. Labels are no proof, so pods of another owner with the same labels are left out. */
async function podsOfWorkload(
  kubectl: Kubectl,
  where: string[],
  name: string,
  namespace: string | undefined,
): Promise<Target[]> {
  const [workload] = itemsOf<WorkloadObject>(await kubectl.json(["get", ...where, "--ignore-not-found", "--", name]));
  if (workload === undefined) {
    throw new NotFound(`There is no ${name} in ${await namespaceText(kubectl, namespace)}`);
  }
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
    if (kind === "Service") return targetsOf(pods, name, workload);
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
  return targetsOf(pods.filter((pod) => ownedBy(pod.metadata, owners)), name, workload);
}

/** A workload was asked for that has no pods. */
export class NoPods extends Failure {
  override readonly name = "NoPods";
  constructor(message: string, readonly workload: WorkloadObject) {
    super(message);
  }
}

function targetsOf(pods: readonly PodObject[], name: string, workload: WorkloadObject): Target[] {
  if (pods.length === 0) throw new NoPods(`${name} has no pods at present`, workload);
  return pods.map((pod) => ({ ...targetOf(pod, false), workload }));
}

function ownedBy(meta: ObjectMeta, owners: ReadonlySet<string>): boolean {
  return owners.has(managerOf(meta)?.uid ?? "");
}

/**
 * Returns a workload's `spec.selector` as a `-l` argument: labels and expressions, or the plain map of services and
 * replication controllers.
 */
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
    owner: managerOf(metadata),
  };
}

function inNamespace(namespace: string | undefined): string[] {
  return namespace === undefined ? [] : ["-n", namespace];
}

/** Names the namespace, the context's too. */
async function namespaceText(kubectl: Kubectl, namespace: string | undefined): Promise<string> {
  if (namespace !== undefined) return `namespace ${namespace}`;
  const ofContext = await contextNamespace(kubectl);
  return ofContext === undefined
    ? "the namespace that kubectl takes"
    : `namespace ${ofContext} (the current context's)`;
}
