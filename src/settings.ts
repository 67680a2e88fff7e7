/**
 * Every setting of the controller and of the commands that run next to it, in one table: environment variable, flag,
 * what it must be, default, help. A flag wins over the environment.
 *
 * Help texts, errors, the log line of effective settings and the program's type all come from the row, so nothing is
 * parsed in one place and refused in another. Values are refused, never repaired. An empty value is a bad value: it is
 * more likely a mistake in a template than a request for the default.
 */
import {
  absolutePath,
  address,
  bool,
  dnsName,
  duration,
  type Kind,
  namespaces,
  oneOf,
  orNothing,
  program,
  whole,
} from "./base/value_kinds.ts";
import { type Log, LOG_FORMATS, LOG_LEVELS } from "./log.ts";
import { quote } from "./base/quote.ts";

/** Something that a person gave was wrong: the message is one sentence for them, the exit status is 2. */
export class UsageError extends Error {
  override name = "UsageError";
}

interface Setting<T> extends Kind<T> {
  readonly env: string;
  /** Default as it would be written; undefined: it has to be given. */
  readonly initial: string | undefined;
  readonly help: string;
}

const TABLE = {
  nodeName: setting("NODE_NAME", dnsName(), undefined, "name of the node whose pods are captured (spec.nodeName)"),
  podName: setting("POD_NAME", dnsName(), "packet-capture", "name of the controller's own pod, for its Events"),
  captureDir: setting("CAPTURE_DIR", absolutePath(), "/captures", "folder of the capture files"),
  criSocket: setting("CRI_SOCKET", absolutePath(), "/run/containerd/containerd.sock", "the container runtime's socket"),
  netnsDir: setting("NETNS_DIR", absolutePath(), "/run/netns", "folder of the pods' network namespaces"),
  annotationKey: setting(
    "ANNOTATION_KEY",
    dnsName(63, "a DNS name without a slash, at most 63 characters"),
    "tcpdump.antrea.io",
    "the pod annotation that requests a capture",
  ),
  release: setting("RELEASE", dnsName(), "packet-capture", "the Helm release that owns captureDir"),
  tcpdump: setting("TCPDUMP", program(), "tcpdump", "the tcpdump to run"),
  nsenter: setting("NSENTER", program(), "nsenter", "the nsenter to run"),
  httpPort: setting("HTTP_PORT", whole(0, 65_535), "9090", "port of /healthz, /readyz and /metrics; 0: any free one"),
  httpHost: setting("HTTP_HOST", address(), "::", "address that this port is opened on; ::: IPv6 and IPv4"),
  metricsEnabled: setting("METRICS_ENABLED", bool(), "true", "serve /metrics"),
  eventsEnabled: setting("EVENTS_ENABLED", bool(), "true", "write Events on the pods"),
  logLevel: setting("LOG_LEVEL", oneOf(LOG_LEVELS), "info", "least important lines to log"),
  logFormat: setting("LOG_FORMAT", oneOf(LOG_FORMATS), "logfmt", "how lines are written"),
  maxFiles: setting("MAX_FILES", whole(1, 10_000), "100", "largest N that a pod may request"),
  maxFileSizeMB: setting("MAX_FILE_SIZE_MB", whole(1, 2_000), "100", "largest file that a pod may request, in MB"),
  maxBufferMB: setting(
    "MAX_BUFFER_MB",
    whole(4, 1024),
    "32",
    "largest packet buffer that a pod may request, in MB of the kernel's memory",
  ),
  maxCaptures: setting("MAX_CAPTURES", whole(1, 10_000), "64", "how many captures may run at once"),
  diskBudgetMB: setting("DISK_BUDGET_MB", whole(2, 100_000_000), "1500", "MB that all captures together may claim"),
  maxCapturesPerNamespace: setting(
    "MAX_CAPTURES_PER_NAMESPACE",
    orNothing(whole(1, 10_000)),
    "",
    "how many captures of one namespace may run at once; empty: half of the node's",
  ),
  diskBudgetMBPerNamespace: setting(
    "DISK_BUDGET_MB_PER_NAMESPACE",
    orNothing(whole(2, 100_000_000)),
    "",
    "MB that captures of one namespace together may claim; empty: half of the node's",
  ),
  minFreePercent: setting(
    "MIN_FREE_PERCENT",
    whole(0, 99),
    "16",
    "percent of the disk that must be free, else captures pause",
  ),
  maxDuration: setting("MAX_DURATION", duration(1), "24h", "longest duration that a pod may request"),
  namespacesAllow: setting("NAMESPACES_ALLOW", namespaces(), "", "namespaces whose pods are captured; none: all"),
  namespacesDeny: setting("NAMESPACES_DENY", namespaces(), "", "namespaces whose pods are not captured"),
  allowHostNetworkPods: setting("ALLOW_HOST_NETWORK_PODS", bool(), "false", "capture pods that use the node's network"),
  retentionAfterPodDeletion: setting(
    "RETENTION_AFTER_POD_DELETION",
    duration(0),
    "0s",
    "how long a deleted pod's files are kept",
  ),
} satisfies Record<string, Setting<unknown>>;

type Key = keyof typeof TABLE;
type Values = { readonly [K in Key]: Exclude<ReturnType<(typeof TABLE)[K]["parse"]>, undefined> };
type Scope = "namespacesAllow" | "namespacesDeny";
type Limited = "maxFiles" | "maxFileSizeMB" | "maxBufferMB" | "maxCaptures" | "diskBudgetMB" | "minFreePercent";
type LimitedPerNamespace = "maxCapturesPerNamespace" | "diskBudgetMBPerNamespace";

/** The settings as the rest of the program reads them; the table above describes each. */
export type Settings =
  & Omit<Values, Scope | Limited | LimitedPerNamespace | "maxDuration" | "retentionAfterPodDeletion">
  & {
    readonly limits: Pick<Values, Limited> & {
      readonly perNamespace: Pick<Values, "maxCaptures" | "diskBudgetMB">;
      readonly maxDurationSeconds: number;
    };
    readonly retentionSeconds: number;
    readonly namespaces: { readonly allow: readonly string[]; readonly deny: readonly string[] };
  };

/** The flags that a command line offers. */
export const FLAGS: readonly { key: string; flag: string; help: string }[] = Object.entries(TABLE).map((
  [key, { env, initial, mustBe, help }],
) => ({
  key,
  flag: flagOf(env),
  help: `${help}: ${mustBe} (${env}${initial === undefined ? "" : `, default ${initial}`})`,
}));

/** Sources of settings. */
export interface Sources {
  /** Looks up an environment variable. */
  env(name: string): string | undefined;
  /** Flags by the keys of FLAGS. */
  flags: Readonly<Record<string, string | undefined>>;
}

/**
 * Reads all settings.
 *
 * @param needed Settings without a default that this command cannot do without; others are "" if not given.
 * @throws UsageError that names the setting, what it must be, and the value that was read.
 */
export function readSettings(sources: Sources, needed: readonly Key[] = ["nodeName"]): Settings {
  const values: Partial<Record<Key, unknown>> = {};
  for (const [key, setting] of Object.entries(TABLE) as [Key, Setting<unknown>][]) {
    values[key] = readSetting(setting, sources.flags[key], sources, needed.includes(key));
  }
  const {
    maxFiles,
    maxFileSizeMB,
    maxBufferMB,
    maxCaptures,
    diskBudgetMB,
    maxCapturesPerNamespace,
    diskBudgetMBPerNamespace,
    minFreePercent,
    maxDuration,
    retentionAfterPodDeletion,
    namespacesAllow: allow,
    namespacesDeny: deny,
    ...rest
  } = values as Values;
  const both = allow.find((namespace) => deny.includes(namespace));
  if (both !== undefined) {
    const { namespacesAllow: { env }, namespacesDeny: { env: other } } = TABLE;
    throw new UsageError(`${env} and ${other} both have ${quote(both, 100)}: a namespace must be in one of them`);
  }
  return {
    ...rest,
    limits: {
      maxFiles,
      maxFileSizeMB,
      maxBufferMB,
      maxCaptures,
      diskBudgetMB,
      perNamespace: {
        maxCaptures: maxCapturesPerNamespace ?? Math.ceil(maxCaptures / 2),
        // The smallest capture takes 2 MB.
        diskBudgetMB: diskBudgetMBPerNamespace ?? Math.max(2, Math.ceil(diskBudgetMB / 2)),
      },
      minFreePercent,
      maxDurationSeconds: maxDuration,
    },
    retentionSeconds: retentionAfterPodDeletion,
    namespaces: { allow, deny },
  };
}

function readSetting(setting: Setting<unknown>, flag: string | undefined, sources: Sources, needed: boolean): unknown {
  const text = flag ?? sources.env(setting.env) ?? setting.initial;
  if (text === undefined) {
    if (!needed) return "";
    throw new UsageError(`${setting.env} (flag ${flagOf(setting.env)}) must be ${setting.mustBe}: it is not set`);
  }
  const value = setting.parse(text);
  if (value !== undefined) return value;
  const name = flag === undefined ? setting.env : flagOf(setting.env);
  throw new UsageError(`${name} must be ${setting.mustBe}: got ${quote(text, 100)}`);
}

/**
 * Returns whether this is the pod's container `reader`, which only reads captures: the chart sets READER there, so it
 * is no setting that somebody could choose.
 *
 * @throws UsageError if READER is neither true nor false.
 */
export function isReader(env: (name: string) => string | undefined): boolean {
  return readSetting({ env: "READER", initial: "false", help: "", ...bool() }, undefined, { env, flags: {} }, true) ===
    true;
}

/** Logs every setting in effect, by the names of their environment variables, in one line. */
export function logEffective(settings: Settings, log: Log): void {
  const { limits, retentionSeconds, namespaces, ...rest } = settings;
  const { maxDurationSeconds, perNamespace, ...limited } = limits;
  const values: Record<Key, unknown> = {
    ...rest,
    ...limited,
    maxCapturesPerNamespace: perNamespace.maxCaptures,
    diskBudgetMBPerNamespace: perNamespace.diskBudgetMB,
    maxDuration: `${maxDurationSeconds}s`,
    retentionAfterPodDeletion: `${retentionSeconds}s`,
    namespacesAllow: namespaces.allow.join(","),
    namespacesDeny: namespaces.deny.join(","),
  };
  log.info("settings", Object.fromEntries((Object.keys(TABLE) as Key[]).map((key) => [TABLE[key].env, values[key]])));
}

function setting<T>(env: string, kind: Kind<T>, initial: string | undefined, help: string): Setting<T> {
  return { env, initial, help, ...kind };
}

function flagOf(env: string): string {
  return `--${env.toLowerCase().replaceAll("_", "-")}`;
}
