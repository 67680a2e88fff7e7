/** Hints about pods that are made later, and about annotations on the objects that make pods. A hint never fails a command. */
import { messageOf } from "../../base/errors.ts";
import { isDnsName } from "../../base/names.ts";
import { quote } from "../../base/quote.ts";
import { Failure } from "../failure.ts";
import type { Changes } from "../kubectl/annotate.ts";
import { itemsOf, managerOf, type OwnerReference, type WorkloadObject } from "../kubectl/objects.ts";
import { NoPods, type Target } from "../targets.ts";
import type { Terminal } from "../terminal.ts";
import type { Context } from "./command.ts";
import { differences, removalChanges } from "./request.ts";

type Annotations = Readonly<Record<string, string>>;

/** Kinds of Kubernetes that make pods from a template, and their API groups. */
const GROUPS: Readonly<Record<string, string>> = {
  Deployment: "apps",
  ReplicaSet: "apps",
  StatefulSet: "apps",
  DaemonSet: "apps",
  ReplicationController: "",
  Job: "batch",
  CronJob: "batch",
};
/** A change of their template replaces their pods. */
const REPLACING = ["Deployment", "StatefulSet", "DaemonSet"];
/** Like names, these become words of commands that a user may paste into a shell: tenants write owner references as they like. */
const KIND = /^[A-Z][A-Za-z0-9]{0,62}$/;
const API_VERSION = /^([a-z0-9.-]+\/)?v[a-z0-9]+$/;

/** An object that makes pods. */
interface Maker {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Warns of workloads that carry the annotation themselves, where nothing reads it. */
export function warnOfMisplaced(terminal: Terminal, targets: readonly Target[], key: string): void {
  for (const workload of workloadsOf(targets)) {
    const { kind, metadata: { annotations = {}, namespace = "", name } } = workload;
    // A ReplicaSet has copies of its Deployment's annotations.
    if (!(key in annotations) || managerOf(workload.metadata) !== undefined) continue;
    const type = kind.toLowerCase();
    terminal.note(
      `${kind} ${namespace}/${name}: annotation ${key} is on the ${kind} object, where it has no effect; ` +
        `it must be on pods or in a pod template; to remove it: ` +
        `kubectl annotate ${type} -n ${namespace} ${name} ${key}-`,
    );
  }
}

/**
 * Notes that pods which the workloads make later are not captured, and how they would be.
 *
 * @param changes What the present pods' annotations are changed by.
 */
export function noteNotLater(terminal: Terminal, targets: readonly Target[], key: string, changes: Changes): void {
  for (const workload of workloadsOf(targets)) noteNotLaterOf(terminal, workload, key, changes);
}

/** Prints the same for a workload that has no pods at present, if that is why a command failed. */
export function noteNotYet(terminal: Terminal, error: unknown, key: string, changes: Changes): void {
  if (error instanceof NoPods) noteNotLaterOf(terminal, error.workload, key, changes);
}

function noteNotLaterOf(terminal: Terminal, workload: WorkloadObject, key: string, changes: Changes): void {
  const { kind, metadata: { namespace = "", name } } = workload;
  const template = templateOf(workload);
  const say = (text: string) => terminal.note(`${kind} ${namespace}/${name}: ${text}`);
  if (template === undefined) {
    return say("pods that it selects later are not captured; annotate the pod template of what makes them");
  }
  const isAnnotated = key in template;
  const differs = differences(key, template, changes);
  if (isAnnotated && differs === "") return;
  const later = isAnnotated
    ? `pods that it makes later are captured as its pod template asks; to change that too (${differs})`
    : "pods that it makes later are not captured; to capture them too";
  const set = Object.entries(changes).filter(([annotation, value]) => value !== null || annotation in template);
  say(`${later}, ${howToChange(makerOf(workload), Object.fromEntries(set))}`);
}

/**
 * Warns of makers whose template has the annotation, so that their next pods are captured again. Only pods with an
 * owner cost a call, and only an owner whose template has the annotation a second one.
 */
export async function warnOfNextPods(context: Context, targets: readonly Target[], key: string): Promise<void> {
  const { terminal } = context;
  const known = new Map<string, WorkloadObject>();
  const unknown = new Map<string, Maker>();
  for (const { workload, owner, namespace } of targets) {
    if (workload !== undefined && templateOf(workload) !== undefined) known.set(workload.metadata.uid, workload);
    else if (owner !== undefined) unknown.set(owner.uid, referred(owner, namespace));
  }
  try {
    const makers = [...known.values(), ...await read(context, [...unknown.values()])];
    const annotated = makers.filter((maker) => key in (templateOf(maker) ?? {}));
    const managers = new Map(
      annotated.flatMap(({ metadata }) => {
        const manager = managerOf(metadata);
        return manager === undefined ? [] : [[manager.uid, referred(manager, metadata.namespace ?? "")] as const];
      }),
    );
    const above = new Map((await read(context, [...managers.values()])).map((maker) => [maker.metadata.uid, maker]));
    const noted = new Set<string>();
    for (const maker of annotated) {
      const manager = managers.get(managerOf(maker.metadata)?.uid ?? "");
      const its = templateOf(above.get(manager?.uid ?? "") ?? maker) ?? {};
      const { kind, namespace, name, uid } = manager ?? makerOf(maker);
      // The Deployment's template may have lost the annotation after it made that ReplicaSet.
      if (!(key in its) || noted.has(uid)) continue;
      noted.add(uid);
      terminal.note(
        `${shown(kind)} ${namespace}/${
          shown(name)
        }: its pod template has annotation ${key}, so pods that it makes later are ` +
          `captured again; to end that, ${howToChange(manager ?? makerOf(maker), removalChanges(key, its))}`,
      );
    }
  } catch (error) {
    context.kubectl.signal.throwIfAborted();
    if (!(error instanceof Failure)) throw error;
    terminal.note(`Cannot tell whether a pod template starts captures again: ${messageOf(error)}`);
  }
}

/** Reads makers of Kubernetes' own kinds, in one call for each namespace; others, and those that are gone, are left out. */
async function read({ kubectl }: Context, makers: readonly Maker[]): Promise<WorkloadObject[]> {
  const own = makers.filter(({ apiVersion, kind, name }) => GROUPS[kind] === groupOf(apiVersion) && isDnsName(name));
  const uids = new Set(own.map(({ uid }) => uid));
  const found: WorkloadObject[] = [];
  for (const [namespace, those] of Map.groupBy(own, ({ namespace }) => namespace)) {
    const names = those.map((maker) => `${typeOf(maker)}/${maker.name}`);
    found.push(...itemsOf<WorkloadObject>(
      await kubectl.json(["get", "-n", namespace, "--ignore-not-found", "--", ...names]),
    ));
  }
  return found.filter(({ metadata }) => uids.has(metadata.uid));
}

/** Words how a template gets other annotations, as the end of a sentence. */
function howToChange(maker: Maker, annotations: Changes): string {
  const { apiVersion, kind, namespace, name } = maker;
  if (kind === "Job") return "create the Job again: its pod template cannot be changed";
  if (!KIND.test(kind) || !isDnsName(name) || !API_VERSION.test(apiVersion)) return "change its pod template";
  const template = { metadata: { annotations } };
  const spec = kind === "CronJob" ? { jobTemplate: { spec: { template } } } : { template };
  const patch = `'${JSON.stringify({ spec }).replaceAll("'", String.raw`'\''`)}'`;
  const effect = REPLACING.includes(kind)
    ? "annotate the pod template, which replaces its pods"
    : "annotate the pod template";
  return `${effect}: kubectl patch ${typeOf(maker)} -n ${namespace} ${name} --type=merge -p ${patch}`;
}

/** Returns the resource type as kubectl takes it; with its version, where another group may have the same. */
function typeOf({ apiVersion, kind }: Maker): string {
  const group = groupOf(apiVersion);
  const name = kind.toLowerCase();
  if (GROUPS[kind] === group) return group === "" ? name : `${name}.${group}`;
  return `${name}.${apiVersion.slice(group.length + 1)}.${group}`;
}

function groupOf(apiVersion: string): string {
  return apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "";
}

/** Returns the annotations of its pod template; undefined: it has none, as a Service. */
function templateOf({ kind, spec }: WorkloadObject): Annotations | undefined {
  const template = kind === "CronJob" ? spec?.jobTemplate?.spec?.template : spec?.template;
  return template && (template.metadata?.annotations ?? {});
}

/** Returns the object to change for a workload's template to change: the workload itself, or what manages it. */
function makerOf({ apiVersion = "", kind, metadata }: WorkloadObject): Maker {
  const { namespace = "", name, uid } = metadata;
  const manager = managerOf(metadata);
  return manager === undefined ? { apiVersion, kind, namespace, name, uid } : referred(manager, namespace);
}

function referred({ apiVersion = "", kind, name = "", uid }: OwnerReference, namespace: string): Maker {
  return { apiVersion, kind, namespace, name, uid };
}

function workloadsOf(targets: readonly Target[]): WorkloadObject[] {
  return [...new Map(targets.flatMap(({ workload }) => workload ? [[workload.metadata.uid, workload]] : [])).values()];
}

function shown(word: string): string {
  return isDnsName(word) || KIND.test(word) ? word : quote(word, 63);
}
