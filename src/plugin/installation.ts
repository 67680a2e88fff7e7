/** Finds the controllers in the cluster: which release, which annotation key, which pod of it on which node. */
import { Forbidden } from "./explain.ts";
import { Failure, UsageFailure } from "./failure.ts";
import type { Kubectl } from "./kubectl.ts";
import { type DaemonSetObject, type EnvVar, itemsOf, type PodObject } from "./objects.ts";

/** The chart labels its objects with it (charts/templates/_helpers.tpl). */
const LABEL = "app.kubernetes.io/name=packet-capture";
/** The controller's container in its pod, whatever else was injected into it. */
export const CONTAINER = "packet-capture";
/** The chart's default (charts/values.yaml). */
export const DEFAULT_ANNOTATION_KEY = "tcpdump.antrea.io";

/** The controller's pod of one node. */
export interface Controller {
  readonly namespace: string;
  readonly pod: string;
  readonly node: string;
  /** undefined: it is ready. Otherwise why not, in a few words. */
  readonly notReady: string | undefined;
}

/** One release of the chart. */
export interface Installation {
  readonly namespace: string;
  readonly release: string;
  readonly annotationKey: string;
  /** The controller's environment, as far as it is written in the DaemonSet. */
  readonly env: Readonly<Record<string, string>>;
  /** By node name. */
  readonly controllers: ReadonlyMap<string, Controller>;
}

export interface InstallationOptions {
  /** @default all namespaces */
  readonly controllerNamespace?: string | undefined;
  /** Helm's release name, needed where several are installed. */
  readonly release?: string | undefined;
  /** Chooses among several releases too. */
  readonly annotationKey?: string | undefined;
}

/**
 * @throws {Failure} none is installed, the user may not look (`Forbidden`).
 * @throws {UsageFailure} several are, and the options do not say which.
 */
export async function findInstallation(kubectl: Kubectl, options: InstallationOptions = {}): Promise<Installation> {
  const where = options.controllerNamespace === undefined ? ["--all-namespaces"] : ["-n", options.controllerNamespace];
  let answer;
  try {
    answer = await kubectl.json(["get", "daemonsets.apps,pods", ...where, "-l", LABEL]);
  } catch (error) {
    if (!(error instanceof Forbidden) || options.controllerNamespace !== undefined) throw error;
    throw new Forbidden(error.missing, "; with --controller-namespace it is needed there only");
  }
  const found = installationsIn(itemsOf<DaemonSetObject | PodObject>(answer)).filter((one) =>
    (options.release === undefined || one.release === options.release) &&
    (options.annotationKey === undefined || one.annotationKey === options.annotationKey)
  );
  const [first] = found;
  if (first === undefined) throw new Failure(noneFound(options));
  if (found.length > 1) {
    const each = found.map((one) => `${one.namespace}/${one.release} (annotation ${one.annotationKey})`).join(", ");
    throw new UsageFailure(
      `${found.length} releases of packet-capture are installed: ${each}; choose with --controller-namespace, --release or --annotation-key`,
    );
  }
  return first;
}

/** DaemonSets joined with their pods. Pods that carry the label without being a DaemonSet's (chart tests) are ignored. */
export function installationsIn(objects: readonly (DaemonSetObject | PodObject)[]): Installation[] {
  const pods = objects.filter((object): object is PodObject => object.kind === "Pod");
  return objects.filter((object): object is DaemonSetObject => object.kind === "DaemonSet").map((daemonSet) => {
    const env = plainEnv(daemonSet.spec?.template?.spec?.containers?.find(({ name }) => name === CONTAINER)?.env);
    const controllers = new Map<string, Controller>();
    const own = pods.filter((pod) => pod.metadata.ownerReferences?.some(({ uid }) => uid === daemonSet.metadata.uid));
    // While a DaemonSet is being updated a node can have two of its pods: the one that is ready, then the youngest, comes last.
    own.sort((a, b) =>
      Number(reasonNotReady(a) === undefined) - Number(reasonNotReady(b) === undefined) ||
      (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? "")
    );
    for (const pod of own) {
      const node = pod.spec?.nodeName;
      if (node === undefined) continue;
      controllers.set(node, {
        namespace: pod.metadata.namespace ?? "",
        pod: pod.metadata.name,
        node,
        notReady: reasonNotReady(pod),
      });
    }
    return {
      namespace: daemonSet.metadata.namespace ?? "",
      release: daemonSet.metadata.labels?.["app.kubernetes.io/instance"] ?? daemonSet.metadata.name,
      annotationKey: env.ANNOTATION_KEY ?? DEFAULT_ANNOTATION_KEY,
      env,
      controllers,
    };
  });
}

/**
 * The controller of a node, ready to be asked.
 *
 * @throws {Failure} there is none, or it is not ready.
 */
export function controllerOn(installation: Installation, node: string): Controller {
  const controller = installation.controllers.get(node);
  if (controller === undefined) throw new Failure(noController(installation, node));
  if (controller.notReady !== undefined) throw new Failure(controllerNotReady(controller, controller.notReady));
  return controller;
}

/** The sentence for a node that the DaemonSet does not reach. */
export function noController(installation: Installation, node: string): string {
  return `Node ${node} has no controller: the DaemonSet of release ${installation.namespace}/${installation.release} does not run there (see its nodeSelector, affinity and tolerations)`;
}

/** The sentence for a controller that cannot be asked yet. */
export function controllerNotReady(controller: Controller, why: string): string {
  return `The controller of node ${controller.node} (pod ${controller.namespace}/${controller.pod}) is not ready: ${why}`;
}

function noneFound(options: InstallationOptions): string {
  const wanted = [
    options.release === undefined ? "" : ` with release name ${options.release}`,
    options.annotationKey === undefined ? "" : ` for annotation ${options.annotationKey}`,
  ].join("");
  const where = options.controllerNamespace === undefined
    ? "any namespace"
    : `namespace ${options.controllerNamespace}`;
  return `No packet-capture controller${wanted} is installed in ${where} (looked for a DaemonSet labelled ${LABEL})`;
}

function reasonNotReady(pod: PodObject): string | undefined {
  if (pod.metadata.deletionTimestamp !== undefined) return "it is being deleted";
  if (pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True")) return undefined;
  const waiting = pod.status?.containerStatuses?.map(({ state }) => state?.waiting?.reason).find((reason) => reason);
  const phase = pod.status?.phase ?? "Unknown";
  const reason = waiting ?? pod.status?.reason;
  return reason === undefined ? `phase ${phase}, not yet Ready` : `phase ${phase}, ${reason}`;
}

function plainEnv(env: readonly EnvVar[] = []): Record<string, string> {
  return Object.fromEntries(env.flatMap(({ name, value }) => value === undefined ? [] : [[name, value]]));
}
