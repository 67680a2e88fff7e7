/**
 * Finds the installation in the cluster: which release, which annotation key, which pod of it on which node.
 *
 * Labels and owner references prove nothing, because every tenant can write them in a namespace of their own. A release is known by its
 * ClusterRole `<release>-read`, which tenants cannot make, and its pods by their namespace and controller.
 */
import { isDnsLabel, isDnsName } from "../base/names.ts";
import { Failure, UsageFailure } from "./failure.ts";
import { Forbidden } from "./kubectl/explain.ts";
import type { Kubectl } from "./kubectl/kubectl.ts";
import { itemsOf, type ObjectMeta, type PodObject } from "./kubectl/objects.ts";

/** The chart labels its objects with these (charts/templates/_helpers.tpl). */
const NAME_LABEL = "app.kubernetes.io/name";
const RELEASE_LABEL = "app.kubernetes.io/instance";
const LABEL = `${NAME_LABEL}=packet-capture`;
/** Annotations of the ClusterRole: where the release is, and what it listens to. */
const NAMESPACE_ANNOTATION = "packet-capture.antrea.io/namespace";
const KEY_ANNOTATION = "packet-capture.antrea.io/annotation-key";
const CLUSTER_ROLES = "clusterroles.rbac.authorization.k8s.io";
/** The release whose ClusterRole is asked for by name, where they may not be listed and no release is given. */
const DEFAULT_RELEASE = "packet-capture";
/** The controller's container, with the settings in its environment. Older charts have no other. */
const CONTROLLER = "packet-capture";
/** The container in which captures are read. */
export const READER = "reader";
/** The chart's default (charts/values.yaml). */
export const DEFAULT_ANNOTATION_KEY = "tcpdump.antrea.io";

/** One release of the chart. */
export interface Release {
  readonly namespace: string;
  readonly name: string;
  readonly annotationKey: string;
}

/** The DaemonSet's pod of one node. */
export interface Controller {
  readonly release: Release;
  readonly pod: string;
  readonly node: string;
  /** The container that reads captures; undefined: an older chart's pod has none, and was not asked for explicitly. */
  readonly container: string | undefined;
  /** undefined: it is ready. Otherwise why not, in a few words. */
  readonly notReady: string | undefined;
}

/** A release and its pods. */
export interface Installation {
  readonly release: Release;
  /** The controllers' environment, as far as it is written in the pods. */
  readonly env: Readonly<Record<string, string>>;
  /** Controllers by the name of their node. */
  readonly controllers: ReadonlyMap<string, Controller>;
  /** A sentence that the user must read; undefined: all is as it ought to be. */
  readonly warning?: string | undefined;
}

export interface InstallationOptions {
  /** @default the namespace that the release's ClusterRole names */
  readonly controllerNamespace?: string | undefined;
  /** Helm's release name, needed where several are installed. */
  readonly release?: string | undefined;
  /** Chooses among several releases too. */
  readonly annotationKey?: string | undefined;
}

/**
 * Finds the release.
 *
 * @returns undefined if no ClusterRole names it, and the user has named the namespace.
 * @throws {Failure} none is installed, the user may not look (`Forbidden`). @throws {UsageFailure} several are, and
 * the options do not choose one.
 */
export async function findRelease(kubectl: Kubectl, options: InstallationOptions): Promise<Release | undefined> {
  let releases: Release[];
  try {
    releases = await provenReleases(kubectl, options);
  } catch (error) {
    if (!(error instanceof Forbidden)) throw error;
    if (options.controllerNamespace !== undefined) return undefined;
    throw new Forbidden(
      error.missing,
      `; it is needed for ${options.release ?? DEFAULT_RELEASE}-read alone, or give --controller-namespace`,
    );
  }
  const found = releases.filter((release) => isMeant(release, options));
  if (found.length > 1) throw several(found);
  if (found[0] === undefined && options.controllerNamespace === undefined) throw new Failure(noneFound(options));
  return found[0];
}

/**
 * Finds the release and its pods.
 *
 * @throws as `findRelease` and `installationOf`.
 */
export async function findInstallation(kubectl: Kubectl, options: InstallationOptions = {}): Promise<Installation> {
  return await installationOf(kubectl, await findRelease(kubectl, options), options);
}

/**
 * Finds the pods of a release, or, where it is not known, the release in the namespace that the user has named.
 *
 * @throws {Failure} it is not there, or the user may not list its pods (`Forbidden`). @throws {UsageFailure} several
 * are, and the options do not choose one.
 */
export async function installationOf(
  kubectl: Kubectl,
  release: Release | undefined,
  options: InstallationOptions,
): Promise<Installation> {
  if (release !== undefined) {
    return installationFrom(release, await podsIn(kubectl, release.namespace, release.name), options);
  }
  const { controllerNamespace: namespace = "" } = options;
  const pods = await podsIn(kubectl, namespace, options.release);
  const found = releasesOf(pods, namespace, options).filter((release) => isMeant(release, options));
  if (found.length > 1) throw several(found);
  if (found[0] === undefined) throw new Failure(noneFound(options));
  return installationFrom(found[0], pods, options);
}

/** Reads the releases from their ClusterRoles; those that lack what they must have are passed over. */
async function provenReleases(kubectl: Kubectl, options: InstallationOptions): Promise<Release[]> {
  let answer;
  try {
    answer = await kubectl.json(["get", CLUSTER_ROLES, "-l", LABEL]);
  } catch (error) {
    if (!(error instanceof Forbidden)) throw error;
    const name = `${options.release ?? DEFAULT_RELEASE}-read`;
    answer = await kubectl.json(["get", CLUSTER_ROLES, "--ignore-not-found", "--", name]);
  }
  return itemsOf<{ readonly metadata: ObjectMeta }>(answer).flatMap(({ metadata }) => releaseIn(metadata) ?? []);
}

/** Reads a release from the metadata of its ClusterRole. Pure. */
export function releaseIn({ name, labels = {}, annotations = {} }: ObjectMeta): Release | undefined {
  const release = labels[RELEASE_LABEL] ?? "";
  const namespace = annotations[NAMESPACE_ANNOTATION] ?? "", annotationKey = annotations[KEY_ANNOTATION] ?? "";
  if (labels[NAME_LABEL] !== "packet-capture" || name !== `${release}-read`) return undefined;
  if (![release, namespace].every(isDnsLabel) || annotationKey.length > 63 || !isDnsName(annotationKey)) {
    return undefined;
  }
  return { namespace, name: release, annotationKey };
}

async function podsIn(kubectl: Kubectl, namespace: string, release: string | undefined): Promise<PodObject[]> {
  const selector = release === undefined ? LABEL : `${LABEL},${RELEASE_LABEL}=${release}`;
  return itemsOf<PodObject>(await kubectl.json(["get", "pods", "-n", namespace, "-l", selector]));
}

/** Reads from the pods of a namespace that the user has named which releases are there. */
function releasesOf(pods: readonly PodObject[], namespace: string, options: InstallationOptions): Release[] {
  const byName = Map.groupBy(pods.filter(({ metadata }) => daemonSetOf(metadata)), ({ metadata }) => {
    return daemonSetOf(metadata) ?? "";
  });
  return [...byName].map(([name, own]) => ({
    namespace,
    name,
    annotationKey: settingsOf(own).ANNOTATION_KEY ?? options.annotationKey ?? DEFAULT_ANNOTATION_KEY,
  }));
}

/** Joins a release with its pods. Pure. */
export function installationFrom(
  release: Release,
  pods: readonly PodObject[],
  options: InstallationOptions = {},
): Installation {
  const own = pods.filter(({ metadata }) =>
    metadata.namespace === release.namespace && daemonSetOf(metadata) === release.name
  );
  // While a DaemonSet is being updated a node can have two of its pods: the one that is ready, then the youngest, comes last.
  own.sort((a, b) =>
    Number(reasonNotReady(a) === undefined) - Number(reasonNotReady(b) === undefined) ||
    (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? "")
  );
  const controllers = new Map<string, Controller>();
  for (const pod of own) {
    const node = pod.spec?.nodeName;
    if (node === undefined) continue;
    const hasReader = pod.spec?.containers?.some(({ name }) => name === READER) ?? false;
    controllers.set(node, {
      release,
      pod: pod.metadata.name,
      node,
      container: hasReader ? READER : options.controllerNamespace === undefined ? undefined : CONTROLLER,
      notReady: reasonNotReady(pod),
    });
  }
  const old = [...controllers.values()].filter(({ container }) => container === CONTROLLER).map(({ node }) => node);
  const warning = old.length === 0
    ? undefined
    : `The chart of release ${nameOf(release)} is older than this plugin: captures of ${old.sort().join(", ")} ` +
      `are read in the controller's container, which only node administrators may; upgrade the chart`;
  return { release, env: settingsOf(own), controllers, warning };
}

/** Returns the name of the DaemonSet that controls a pod. */
function daemonSetOf({ ownerReferences = [] }: ObjectMeta): string | undefined {
  return ownerReferences.find(({ apiVersion, kind, controller }) =>
    controller === true && apiVersion === "apps/v1" && kind === "DaemonSet"
  )?.name;
}

/** Returns the settings in the newest pod's environment. */
function settingsOf(pods: readonly PodObject[]): Record<string, string> {
  const env = pods.at(-1)?.spec?.containers?.find(({ name }) => name === CONTROLLER)?.env ?? [];
  return Object.fromEntries(env.flatMap(({ name, value }) => value === undefined ? [] : [[name, value]]));
}

/**
 * Returns the controller of a node, ready to be asked.
 *
 * @throws {Failure} there is none, or it is not ready.
 */
export function controllerOn(installation: Installation, node: string): Controller {
  const controller = installation.controllers.get(node);
  if (controller === undefined) throw new Failure(noController(installation, node));
  checkReadable(controller);
  return controller;
}

/** @throws {Failure} captures cannot be read in that pod. */
export function checkReadable(controller: Controller): void {
  if (controller.notReady !== undefined) throw new Failure(controllerNotReady(controller, controller.notReady));
  if (controller.container === undefined) {
    throw new Failure(
      `Cannot read captures of node ${controller.node}: pod ${controller.release.namespace}/${controller.pod} has no container ` +
        `${READER}; upgrade the chart, or give --controller-namespace ${controller.release.namespace} to read as its administrator`,
    );
  }
}

/** Returns the sentence for a node that the DaemonSet does not reach. */
export function noController(installation: Installation, node: string): string {
  const { release, controllers } = installation;
  if (controllers.size === 0) return noControllers(installation);
  return `Node ${node} has no controller: the DaemonSet of release ${
    nameOf(release)
  } does not run there (see its nodeSelector, affinity and tolerations)`;
}

/** Returns the sentence for an installation whose DaemonSet has no pod on any node. */
export function noControllers({ release }: Installation): string {
  return `Release ${
    nameOf(release)
  } has no controller pods: the cluster may refuse them by a LimitRange, a quota or Pod Security ` +
    `(see: kubectl describe daemonset -n ${release.namespace} ${release.name})`;
}

/** Returns the sentence for a controller that cannot be asked yet. */
export function controllerNotReady({ release, node, pod }: Controller, why: string): string {
  return `The controller of node ${node} (pod ${release.namespace}/${pod}) is not ready: ${why}`;
}

function isMeant(release: Release, options: InstallationOptions): boolean {
  return (options.controllerNamespace ?? release.namespace) === release.namespace &&
    (options.release ?? release.name) === release.name &&
    (options.annotationKey ?? release.annotationKey) === release.annotationKey;
}

function several(found: readonly Release[]): UsageFailure {
  const each = found.map((release) => `${nameOf(release)} (annotation ${release.annotationKey})`).join(", ");
  return new UsageFailure(
    `${found.length} releases of packet-capture are installed: ${each}; choose with --controller-namespace, --release or --annotation-key`,
  );
}

function noneFound({ release, annotationKey, controllerNamespace }: InstallationOptions): string {
  const wanted = [
    release === undefined ? "" : ` with release name ${release}`,
    annotationKey === undefined ? "" : ` for annotation ${annotationKey}`,
    controllerNamespace === undefined ? "" : ` in namespace ${controllerNamespace}`,
  ].join("");
  return controllerNamespace === undefined
    ? `No packet-capture${wanted} is installed: no ClusterRole ${
      release ?? "RELEASE"
    }-read says where; charts older than this plugin need --controller-namespace`
    : `No packet-capture${wanted} is installed: no pod of a DaemonSet labelled ${LABEL} is there`;
}

function nameOf({ namespace, name }: Release): string {
  return `${namespace}/${name}`;
}

function reasonNotReady(pod: PodObject): string | undefined {
  if (pod.metadata.deletionTimestamp !== undefined) return "it is being deleted";
  if (pod.status?.conditions?.some(({ type, status }) => type === "Ready" && status === "True")) return undefined;
  const waiting = pod.status?.containerStatuses?.map(({ state }) => state?.waiting?.reason).find((reason) => reason);
  const phase = pod.status?.phase ?? "Unknown";
  const reason = waiting ?? pod.status?.reason;
  return reason === undefined ? `phase ${phase}, not yet Ready` : `phase ${phase}, ${reason}`;
}
