/** One list request for the metadata of objects. */
import type { ApiClient, ApiInit } from "./api.ts";
import type { ObjectMeta } from "./pod_store.ts";
import { WatchEnd } from "./watch_end.ts";

/** Media type of a list, as for a watch (watch_stream.ts). */
const ACCEPT = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";

export interface MetadataList {
  /** Version from which a watch goes on. */
  readonly resourceVersion: string;
  readonly items: readonly (ObjectMeta | undefined)[];
}

/**
 * Lists.
 * @throws {WatchEnd} for a bad answer or none; other errors are the connection's.
 */
export async function listMetadata(api: ApiClient, path: string, init: ApiInit): Promise<MetadataList> {
  const response = await api.fetch(path, { ...init, headers: { "Accept": ACCEPT } });
  if (!response.ok) throw await WatchEnd.ofResponse(response, false);
  let list: { metadata?: ObjectMeta; items?: readonly { metadata?: ObjectMeta }[] | null } | null;
  try {
    list = await response.json();
  } catch {
    throw new WatchEnd("bad_line", "the list is not JSON");
  }
  const resourceVersion = list?.metadata?.resourceVersion;
  if (!resourceVersion) throw new WatchEnd("bad_line", "the answer is not a list");
  return { resourceVersion, items: (list?.items ?? []).map(({ metadata }) => metadata) };
}
