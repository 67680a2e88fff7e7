/** What each value of values.yaml does: a change of it, and where the change is seen. */
import { type Any, type Rendered, type Values } from "./helm.ts";

export interface Effect {
  /** Dotted name of a leaf of values.yaml. */
  readonly name: string;
  /** What it is set to. */
  readonly value: unknown;
  /** Where it shows, in Helm's output as well as in what the API server makes of it. */
  see(rendered: Rendered): unknown;
  /** What is then seen there. */
  readonly expect: unknown;
  /** Other values that this one needs to show. */
  readonly given?: Values;
}

const DIGEST = `sha256:${"0123456789abcdef".repeat(4)}`;
const HOST_PATH = { storage: { type: "hostPath" } };
const POD_MONITOR = { metrics: { podMonitor: { enabled: true } } };
const DASHBOARD = { metrics: { dashboard: { enabled: true } } };
const NETWORK_POLICY = { networkPolicy: { enabled: true } };
const ADMISSION_POLICY = { admissionPolicy: { enabled: true } };
const PEER = { namespaceSelector: { matchLabels: { monitoring: "yes" } } };
const NODE_TERMS = [{ matchExpressions: [{ key: "edge", operator: "DoesNotExist" }] }];

/** A value that becomes a setting of the controller and nothing else. */
function setting(name: string, value: unknown, env: string, given?: Values): Effect {
  return { name, value, see: (r) => r.env[env], expect: String(value), ...(given === undefined ? {} : { given }) };
}

/** The images of the controller, the reader and the test pod. */
function images(r: Rendered): string[] {
  return [r.container, r.reader, r.one("Pod").spec.containers[0]].map(({ image }) => image);
}

/** The leaves of a container's resources. */
function resources(name: string, container: (rendered: Rendered) => Any): Effect[] {
  return ["requests.cpu", "requests.memory", "limits.cpu", "limits.memory"].map((leaf) => {
    const [list, resource] = leaf.split(".");
    const value = resource === "cpu" ? "250m" : "200Mi";
    return { name: `${name}.${leaf}`, value, see: (r) => container(r).resources[list!][resource!], expect: value };
  });
}

function kinds(...kinds: string[]): (rendered: Rendered) => unknown {
  return ({ objects }) => objects.filter(({ kind }) => kinds.includes(kind)).length;
}

export const EFFECTS: readonly Effect[] = [
  {
    name: "image.repository",
    value: "registry.example.com:5000/net/packet-capture",
    see: images,
    expect: Array(3).fill("registry.example.com:5000/net/packet-capture:0.1.0"),
  },
  {
    name: "image.tag",
    value: "dev",
    see: images,
    expect: Array(3).fill("packet-capture:dev"),
  },
  {
    name: "image.digest",
    value: DIGEST,
    see: images,
    expect: Array(3).fill(`packet-capture@${DIGEST}`),
    given: { image: { tag: "dev" } },
  },
  {
    name: "image.pullPolicy",
    value: "Never",
    see: (r) => [r.container, r.reader, r.one("Pod").spec.containers[0]].map(({ imagePullPolicy }) => imagePullPolicy),
    expect: Array(3).fill("Never"),
  },
  {
    name: "imagePullSecrets",
    value: [{ name: "registry" }],
    see: (r) => [r.pod.spec.imagePullSecrets, r.one("Pod").spec.imagePullSecrets],
    expect: [[{ name: "registry" }], [{ name: "registry" }]],
  },
  {
    name: "captureDir",
    value: "/var/captures",
    see: (r) => [r.env["CAPTURE_DIR"], r.mount("captures").mountPath, r.reader.volumeMounts[0].mountPath],
    expect: Array(3).fill("/var/captures"),
  },
  {
    name: "storage.type",
    value: "hostPath",
    see: (r) => r.volume("captures").hostPath,
    expect: { path: "/var/lib/packet-capture/tools-pc", type: "DirectoryOrCreate" },
  },
  {
    name: "storage.emptyDir.sizeLimit",
    value: "2Gi",
    see: (r) => r.volume("captures").emptyDir,
    expect: { sizeLimit: "2Gi" },
  },
  {
    name: "storage.hostPath.path",
    value: "/data/captures",
    see: (r) => r.volume("captures").hostPath.path,
    expect: "/data/captures",
    given: HOST_PATH,
  },
  {
    name: "privilege.mode",
    value: "privileged",
    see: (r) => [r.container.securityContext.privileged, r.container.securityContext.capabilities],
    expect: [true, undefined],
  },
  {
    name: "seLinuxOptions",
    value: { type: "spc_t" },
    see: (r) => [r.container, r.reader].map(({ securityContext }) => securityContext.seLinuxOptions),
    expect: Array(2).fill({ type: "spc_t" }),
  },
  { name: "rbac.create", value: false, see: kinds("ClusterRole", "ClusterRoleBinding"), expect: 0 },
  { name: "serviceAccount.create", value: false, see: kinds("ServiceAccount"), expect: 0 },
  {
    name: "serviceAccount.name",
    value: "sniffer",
    see: (r) => [
      r.one("ServiceAccount").metadata.name,
      r.pod.spec.serviceAccountName,
      r.one("ClusterRoleBinding").subjects[0].name,
      r.one("Pod").spec.serviceAccountName,
    ],
    expect: Array(4).fill("sniffer"),
  },
  {
    name: "serviceAccount.annotations",
    value: { "example.com/role": "sniffer" },
    see: (r) => r.one("ServiceAccount").metadata.annotations?.["example.com/role"],
    expect: "sniffer",
  },
  {
    name: "cri.socket",
    value: "/run/k3s/containerd/containerd.sock",
    see: (r) => [r.env["CRI_SOCKET"], r.volume("cri").hostPath.path, r.mount("cri").mountPath],
    expect: ["/run/k3s/containerd/containerd.sock", "/run/k3s/containerd", "/run/k3s/containerd"],
  },
  {
    name: "netnsDir",
    value: "/var/run/netns",
    see: (r) => [r.env["NETNS_DIR"], r.volume("netns").hostPath.path, r.mount("netns").mountPath],
    expect: Array(3).fill("/var/run/netns"),
  },
  setting("annotationKey", "capture.example.com", "ANNOTATION_KEY"),
  setting("limits.maxFiles", 7, "MAX_FILES"),
  setting("limits.maxFileSizeMB", 9, "MAX_FILE_SIZE_MB"),
  setting("limits.maxCaptures", 3, "MAX_CAPTURES"),
  {
    name: "limits.diskBudgetMB",
    value: 400,
    see: (r) => [r.env["DISK_BUDGET_MB"], r.volume("captures").emptyDir.sizeLimit],
    expect: ["400", "500M"],
  },
  setting("limits.perNamespace.maxCaptures", 2, "MAX_CAPTURES_PER_NAMESPACE"),
  setting("limits.perNamespace.diskBudgetMB", 300, "DISK_BUDGET_MB_PER_NAMESPACE"),
  setting("limits.minFreePercent", 20, "MIN_FREE_PERCENT"),
  setting("limits.maxBufferMB", 64, "MAX_BUFFER_MB"),
  setting("limits.maxDuration", "90m", "MAX_DURATION"),
  setting("namespaces.allow", ["shop", "team-a"], "NAMESPACES_ALLOW"),
  setting("namespaces.deny", ["kube-system"], "NAMESPACES_DENY"),
  setting("allowHostNetworkPods", true, "ALLOW_HOST_NETWORK_PODS", { hostNetwork: true }),
  {
    name: "hostNetwork",
    value: true,
    see: (r) => [r.pod.spec.hostNetwork, r.pod.spec.dnsPolicy],
    expect: [true, "ClusterFirstWithHostNet"],
  },
  setting("retention.afterPodDeletion", "30m", "RETENTION_AFTER_POD_DELETION"),
  {
    name: "events.enabled",
    value: false,
    see: (r) => [r.env["EVENTS_ENABLED"], r.controllerRole.rules],
    expect: ["false", [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }]],
  },
  setting("metrics.enabled", false, "METRICS_ENABLED"),
  {
    name: "metrics.port",
    value: 9191,
    see: (r) => [
      r.env["HTTP_PORT"],
      r.container.ports[0].containerPort,
      r.one("NetworkPolicy").spec.ingress[0].ports[0].port,
    ],
    expect: ["9191", 9191, 9191],
    given: NETWORK_POLICY,
  },
  { name: "metrics.podMonitor.enabled", value: true, see: kinds("PodMonitor"), expect: 1 },
  {
    name: "metrics.podMonitor.labels",
    value: { release: "prometheus" },
    see: (r) => r.one("PodMonitor").metadata.labels.release,
    expect: "prometheus",
    given: POD_MONITOR,
  },
  { name: "metrics.dashboard.enabled", value: true, see: kinds("ConfigMap"), expect: 1 },
  {
    name: "metrics.dashboard.labels.grafana_dashboard",
    value: "yes",
    see: (r) => r.one("ConfigMap").metadata.labels.grafana_dashboard,
    expect: "yes",
    given: DASHBOARD,
  },
  { name: "networkPolicy.enabled", value: true, see: kinds("NetworkPolicy"), expect: 1 },
  {
    name: "networkPolicy.metricsFrom",
    value: [PEER],
    see: (r) => r.one("NetworkPolicy").spec.ingress[0].from,
    expect: [PEER],
    given: NETWORK_POLICY,
  },
  {
    name: "networkPolicy.apiServerPorts",
    value: [7443],
    see: (r) => r.one("NetworkPolicy").spec.egress,
    expect: [{ ports: [{ protocol: "TCP", port: 7443 }] }],
    given: NETWORK_POLICY,
  },
  {
    name: "readPolicy.enabled",
    value: false,
    see: kinds("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    expect: 0,
  },
  {
    name: "readPolicy.subjects",
    value: [{ kind: "Group", name: "developers" }, { kind: "ServiceAccount", name: "reader", namespace: "ci" }],
    see: (r) => r.all("RoleBinding").map(({ metadata, subjects }) => [metadata.namespace, subjects]),
    expect: [["tools", [
      { apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: "developers" },
      { kind: "ServiceAccount", name: "reader", namespace: "ci" },
    ]]],
  },
  {
    name: "admissionPolicy.enabled",
    value: true,
    see: kinds("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"),
    expect: 4,
  },
  {
    name: "admissionPolicy.exemptUsers",
    value: ['ci\'s "bot"'],
    see: (r) => r.admissionPolicy.spec.matchConditions[0].expression.includes('"ci\'s \\"bot\\""'),
    expect: true,
    given: ADMISSION_POLICY,
  },
  ...resources("resources", (r) => r.container),
  ...resources("reader.resources", (r) => r.reader),
  {
    name: "tolerations",
    value: [{ key: "edge", operator: "Exists", effect: "NoSchedule" }],
    see: (r) => [r.pod.spec.tolerations, r.one("Pod").spec.tolerations?.[0]],
    expect: [
      [{ key: "edge", operator: "Exists", effect: "NoSchedule" }],
      { key: "edge", operator: "Exists", effect: "NoSchedule" },
    ],
  },
  {
    name: "nodeSelector",
    value: { disk: "ssd" },
    see: (r) => [r.pod.spec.nodeSelector, r.one("Pod").spec.nodeSelector],
    expect: Array(2).fill({ "kubernetes.io/os": "linux", disk: "ssd" }),
  },
  {
    name: "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms",
    value: NODE_TERMS,
    see: (r) => r.pod.spec.affinity,
    expect: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: NODE_TERMS } } },
  },
  {
    name: "priorityClassName",
    value: "system-node-critical",
    see: (r) => r.pod.spec.priorityClassName,
    expect: "system-node-critical",
  },
  {
    name: "podAnnotations",
    value: { "example.com/team": "net" },
    see: (r) => r.pod.metadata.annotations,
    expect: { "example.com/team": "net" },
  },
  { name: "podLabels", value: { team: "net" }, see: (r) => r.pod.metadata.labels.team, expect: "net" },
  {
    name: "extraEnv",
    value: [{ name: "HTTP_HOST", value: "::" }],
    see: (r) => r.container.env.find((entry: Any) => entry.name === "HTTP_HOST"),
    expect: { name: "HTTP_HOST", value: "::" },
  },
  setting("logLevel", "debug", "LOG_LEVEL"),
  setting("logFormat", "json", "LOG_FORMAT"),
  {
    name: "updateStrategy.type",
    value: "OnDelete",
    see: (r) => r.daemonSet.spec.updateStrategy,
    expect: { type: "OnDelete" },
  },
  {
    name: "updateStrategy.rollingUpdate.maxUnavailable",
    value: "34%",
    see: (r) => r.daemonSet.spec.updateStrategy.rollingUpdate.maxUnavailable,
    expect: "34%",
  },
  {
    name: "terminationGracePeriodSeconds",
    value: 45,
    see: (r) => r.pod.spec.terminationGracePeriodSeconds,
    expect: 45,
  },
];

/** The values that show one effect; or, without the effect's own, what they are compared with. */
export function valuesOf({ name, value, given = {} }: Effect, changed: boolean): Values {
  return changed ? deepMerge(given, nest(name.split("."), value)) : given;
}

/** `{a: {b: value}}` of the path a, b. */
export function nest(path: readonly string[], value: unknown): Values {
  return path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), value) as Values;
}

/** Both; where both have a key that is not a map in both, the second's. */
function deepMerge(one: Values, other: Values): Values {
  const merged = { ...one };
  for (const [key, value] of Object.entries(other)) {
    const under = merged[key];
    merged[key] = isMap(under) && isMap(value) ? deepMerge(under, value) : value;
  }
  return merged;
}

function isMap(value: unknown): value is Values {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Dotted names of the leaves of values: what is not a map, and maps and lists that are empty. */
export function leaves(values: Values, prefix = ""): string[] {
  return Object.entries(values).flatMap(([key, value]) =>
    isMap(value) && Object.keys(value).length > 0 ? leaves(value, `${prefix}${key}.`) : [prefix + key]
  );
}
