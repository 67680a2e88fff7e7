/** Reads from a pod object where it runs, and why it does not run yet. Pure. */
import { cutToBytes } from "./event_object.ts";
import type { ObjectMeta } from "./pod_store.ts";

interface ContainerStatus {
  readonly name?: string;
  readonly state?: { readonly waiting?: { readonly reason?: string; readonly message?: string } };
}

/** The part of a whole pod object that is read. */
export interface PodObject {
  readonly metadata: ObjectMeta;
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly {
      readonly type?: string;
      readonly status?: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
    readonly initContainerStatuses?: readonly ContainerStatus[];
    readonly containerStatuses?: readonly ContainerStatus[];
  };
}

export interface PodStatus {
  readonly uid: string | undefined;
  /** Name of its node; undefined: it has none yet. */
  readonly nodeName: string | undefined;
  /** True once it has ended for good: it never gets a sandbox again. */
  readonly hasFinished: boolean;
  /** Reason why it has no running sandbox, as one clause. */
  readonly why: string;
}

/** Number of containers that are named. */
const MOST_NAMED = 2;
/** Bytes shown of a message, which a user or a registry may have written. */
const MESSAGE_BYTES = 120;

/** Reads the status of a pod that has no running sandbox. */
export function statusOf({ metadata, spec, status = {} }: PodObject): PodStatus {
  const { phase = "unknown" } = status;
  const hasFinished = phase === "Succeeded" || phase === "Failed";
  const why = hasFinished
    ? `the pod has finished (${joined(phase, status)}): nothing more is captured, ` +
      "and files that are there are kept while the annotation is"
    : metadata.deletionTimestamp !== undefined
    ? "the pod is being deleted"
    : `the pod has no running sandbox on this node (${waitsFor(phase, status).join("; ")}); ` +
      `see: kubectl describe pod -n ${metadata.namespace} ${metadata.name}`;
  return { uid: metadata.uid, nodeName: spec?.nodeName || undefined, hasFinished, why };
}

function waitsFor(phase: string, status: NonNullable<PodObject["status"]>): string[] {
  const { conditions = [], initContainerStatuses = [], containerStatuses = [] } = status;
  const sandbox = conditions.find(({ type, status }) => type === "PodReadyToStartContainers" && status === "False");
  const waiting = [...initContainerStatuses, ...containerStatuses].flatMap(({ name, state }) =>
    state?.waiting ? [{ name, ...state.waiting }] : []
  );
  // Those that give more than that they wait for others or for the sandbox.
  const isDull = ({ reason }: { reason?: string }) => reason === "PodInitializing" || reason === "ContainerCreating";
  const named = waiting.toSorted((a, b) => Number(isDull(a)) - Number(isDull(b))).slice(0, MOST_NAMED);
  // Without containers to name, what the kubelet reports of all of them.
  const unready = conditions.find(({ reason, status }) => reason === "ContainersNotReady" && status === "False");
  return [
    joined(`phase ${phase}`, status),
    ...(sandbox ? [joined("PodReadyToStartContainers is False", sandbox)] : []),
    ...named.map((container) => joined(`container ${container.name} waits`, container)),
    ...(waiting.length > named.length ? [`${waiting.length - named.length} more wait`] : []),
    ...(waiting.length === 0 && unready ? [joined("not ready", { message: unready.message ?? "" })] : []),
  ];
}

/** Joins `what: reason: message`, as far as they are there. */
function joined(what: string, { reason, message }: { readonly reason?: string; readonly message?: string }): string {
  const words = [what, reason, message].filter((word) => word !== undefined && word.trim() !== "") as string[];
  return words.map((word) => cutToBytes(word.trim(), MESSAGE_BYTES)).join(": ");
}
