/** One GET of a pod by its name. */
import type { ApiClient } from "./api.ts";
import type { ObjectMeta } from "./pod_store.ts";
import type { PodObject } from "./status.ts";
import { WatchEnd } from "./watch_end.ts";

const METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

export interface GetOptions {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/** @returns the pod's metadata; undefined if the API server has no such pod. @throws as `getPod` */
export async function getMetadata(
  api: ApiClient,
  pod: { readonly namespace: string; readonly name: string },
  options: GetOptions,
): Promise<ObjectMeta | undefined> {
  return (await get(api, pod, options, METADATA_ONLY))?.metadata;
}

/**
 * @returns the pod; undefined if the API server has no such pod. @throws {WatchEnd} for every other answer, and for
 * none; other errors are the connection's.
 */
export async function getPod(
  api: ApiClient,
  pod: { readonly namespace: string; readonly name: string },
  options: GetOptions,
): Promise<PodObject | undefined> {
  return await get(api, pod, options, "application/json");
}

async function get(
  api: ApiClient,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  options: GetOptions,
  accept: string,
): Promise<PodObject | undefined> {
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
  const response = await api.fetch(path, { headers: { "Accept": accept }, ...options });
  if (!response.ok && response.status !== 404) throw await WatchEnd.ofResponse(response, false);
  const answer: Answer | null = await response.json().catch(() => null);
  if (response.ok) {
    const { metadata } = answer ?? {};
    if (metadata?.uid && metadata.namespace === namespace && metadata.name === name) return answer as PodObject;
  } else if (answer?.reason === "NotFound" && answer.details?.kind === "pods" && answer.details.name === name) {
    return undefined;
  }
  // A load balancer, a proxy or a wrong path has a 404, too.
  throw new WatchEnd("refused", `${response.status}, which is no answer about pod ${namespace}/${name}`);
}

interface Answer {
  readonly metadata?: ObjectMeta;
  /** Reason of a Status. */
  readonly reason?: string;
  readonly details?: { readonly kind?: string; readonly name?: string };
}
