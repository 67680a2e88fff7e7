/**
 * Reads a sandbox's network namespace out of PodSandboxStatus with `verbose`. `info["info"]` is JSON of the runtime's own shape;
 * only these fields of it are read:
 *
 * - `runtimeSpec.linux.namespaces[]` of `type` "network": `path`. All runtimes: containerd since 1.0
 *   (2.3.5: internal/cri/server/podsandbox/types/sandbox_info.go), CRI-O since 1.18 (1.36: server/sandbox_status.go createSandboxInfo,
 *   where a spoofed infra container, CRI-O's `drop_infra_ctr`, has nothing but `runtimeSpec`).
 * - `sandboxMetadata.Metadata.NetNSPath`: containerd ≥ 2.0, whose `runtimeSpec` "may not be populated"
 *   (internal/cri/store/sandbox/metadata.go, a wrapper of Version and Metadata).
 * - `netNamespaceClosed`: containerd; the path of a closed one is still listed.
 */
import { basename, join } from "@std/path";
import { NamespaceMode, PodSandboxState, type PodSandboxStatusResponse } from "./cri_pb.ts";

/** Folders in which runtimes keep their netns files. Besides these the configured netnsDir itself is accepted. */
const RUNTIME_DIRS: readonly string[] = ["/run/netns", "/var/run/netns"];

/** File names as CNI (`cni-<uuid>`), CRI-O (`<uuid>`) and people make them; neither hidden nor a path of its own. */
const NETNS_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,254}$/;

/** The sandbox's network, as its status gives it. */
export type Network =
  | { readonly kind: "host" }
  /** `path` is in netnsDir. */
  | { readonly kind: "netns"; readonly path: string }
  /** `lasting`: it will not become right by asking again. `reason` goes on after "the sandbox is not usable since …". */
  | { readonly kind: "refused"; readonly reason: string; readonly lasting: boolean };

/**
 * Returns the network of the sandbox that `reply` describes; its netns file is looked for in `netnsDir`, whatever the
 * runtime calls it.
 */
export function networkOf(reply: PodSandboxStatusResponse, netnsDir: string): Network {
  if (reply.status?.state !== PodSandboxState.SANDBOX_READY) return refuse("it is not READY any more");
  if (reply.status.linux?.namespaces?.options?.network === NamespaceMode.NODE) return { kind: "host" };

  let info: unknown;
  try {
    info = JSON.parse(reply.info["info"] ?? "{}");
  } catch {
    return refuse("the runtime's verbose info of it is not JSON", true);
  }
  if (get(info, "netNamespaceClosed") === true) return refuse("its network namespace is closed");

  const namespaces = get(info, "runtimeSpec", "linux", "namespaces");
  const network = Array.isArray(namespaces) ? namespaces.find((entry) => get(entry, "type") === "network") : undefined;
  const path = get(network, "path") || get(info, "sandboxMetadata", "Metadata", "NetNSPath");
  if (typeof path !== "string" || path === "") return refuse("the runtime names no network namespace for it");

  const name = basename(path);
  const accepted = [...new Set([...RUNTIME_DIRS, netnsDir])];
  // Compared as it is, so that "..", "." and "//" are refused too.
  if (!accepted.some((dir) => path === `${dir}/${name}`)) {
    return refuse(
      `its network namespace is ${JSON.stringify(path)}, which must be a file in ${accepted.join(" or ")}`,
      true,
    );
  }
  if (!NETNS_NAME.test(name)) {
    return refuse(`${JSON.stringify(name)} cannot be the name of a network namespace file`, true);
  }
  return { kind: "netns", path: join(netnsDir, name) };
}

function refuse(reason: string, lasting = false): Network {
  return { kind: "refused", reason, lasting };
}

/** Returns the value at a path of keys, undefined where there is none. */
function get(value: unknown, ...keys: string[]): unknown {
  for (const key of keys) {
    if (typeof value !== "object" || value === null) return undefined;
    value = (value as Record<string, unknown>)[key];
  }
  return value;
}
