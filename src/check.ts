/**
 * `packet-capture check`: whether a Helm release's controllers are up. `helm test` runs it with the controllers' own
 * service account, which may list pods already. A Service would prove one ready controller, whichever it is.
 */
import { quote } from "./base/quote.ts";
import { pause } from "./base/timeout.ts";
import { ApiClient } from "./pods/api.ts";
import { UsageError } from "./settings.ts";

/** A pod as far as it is read here. */
interface ControllerPod {
  readonly metadata: { readonly name: string; readonly deletionTimestamp?: string };
  readonly spec: { readonly nodeName?: string };
  readonly status: {
    readonly phase?: string;
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

export interface CheckOptions {
  /** `namespace/release`. */
  readonly release: string;
  readonly signal: AbortSignal;
  /** Milliseconds that the controllers have to become ready. @default 60_000 */
  readonly patienceMs?: number;
}

/**
 * Waits until there is a controller and all are ready, and prints that. All means every pod of the DaemonSet, which its
 * controller makes for each node as soon as the node is there.
 *
 * @returns The exit status, 0.
 * @throws Error, one sentence, with the controllers that are not ready.
 */
export async function runCheck({ release, signal, patienceMs = 60_000 }: CheckOptions): Promise<number> {
  const [, namespace, name] = /^([a-z0-9-]+)\/([a-z0-9.-]+)$/.exec(release) ?? [];
  if (namespace === undefined || name === undefined) {
    throw new UsageError(
      `Cannot check ${quote(release, 100)}: it must be <namespace>/<release>, such as packet-capture/packet-capture`,
    );
  }
  using api = await ApiClient.load();
  const selector = `app.kubernetes.io/name=packet-capture,app.kubernetes.io/instance=${name}`;
  const path = `/api/v1/namespaces/${namespace}/pods?labelSelector=${encodeURIComponent(selector)}`;
  const end = performance.now() + patienceMs;
  for (;;) {
    const pods = await list(api, path, signal);
    const unready = pods.flatMap((pod) => why(pod) ?? []);
    const words = `${pods.length - unready.length} of ${pods.length} controllers of ${release} are ready`;
    if (pods.length > 0 && unready.length === 0) {
      await Deno.stdout.write(new TextEncoder().encode(`${words}\n`));
      return 0;
    }
    if (performance.now() >= end) {
      throw new Error(
        pods.length === 0
          ? `${release} has no controller: its DaemonSet has no pod`
          : `${words}: ${unready.join("; ")}`,
      );
    }
    await pause(1000, signal);
  }
}

async function list(api: ApiClient, path: string, signal: AbortSignal): Promise<ControllerPod[]> {
  const response = await api.fetch(path, { signal, timeoutMs: 10_000 });
  const body = await response.json();
  if (!response.ok) {
    throw new Error(`Cannot list the controllers: the API server answers ${response.status}, ${body.message}`);
  }
  return (body.items as ControllerPod[]).filter(({ metadata }) => metadata.deletionTimestamp === undefined);
}

/** Returns why a pod is not ready; undefined: it is. */
function why({ metadata, spec, status }: ControllerPod): string | undefined {
  const conditions = status.conditions ?? [];
  if (conditions.some(({ type, status }) => type === "Ready" && status === "True")) return undefined;
  const condition = conditions.find(({ status, message }) => status !== "True" && message !== undefined);
  const where = spec.nodeName === undefined ? "on no node yet" : `on ${spec.nodeName}`;
  return `${metadata.name} ${where} is not (${condition?.message ?? condition?.reason ?? status.phase ?? "no status"})`;
}
