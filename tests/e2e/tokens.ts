/** Tokens: random words that a pod sends (`sendToken`), for tshark to find in its capture and in no other. */
import { join } from "node:path";
import { run } from "../support/run.ts";
import { waitFor } from "./kube.ts";
import { READER, type Release } from "./release.ts";

/** A fresh random name that can be asked for over DNS. */
export function token(): string {
  return `t${crypto.randomUUID().replaceAll("-", "").slice(0, 20)}`;
}

/** How many packets of a pod's capture hold each of the tokens, by tshark. */
export async function tokensIn(
  release: Release,
  node: string,
  namespace: string,
  pod: string,
  tokens: readonly string[],
): Promise<number[]> {
  const controller = (await release.pod(node)).metadata.name;
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-tokens-" });
  try {
    const file = join(dir, "capture.pcapng");
    const cat = ["packet-capture", "cat", `${namespace}/${pod}`];
    await release.kube.execToFile(release.namespace, controller, cat, file, { container: READER });
    return await Promise.all(tokens.map(async (token) => {
      const fields = ["-Y", `frame contains "${token}"`, "-T", "fields", "-e", "frame.number"];
      return (await run(["tshark", "-n", "-r", file, ...fields])).split("\n").filter(Boolean).length;
    }));
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

/**
 * Waits until the token is in a file of the folder on the node, and does not read it as users do: that sets files aside, what
 * tcpdump writes next included, where the next tcpdump does not overwrite them.
 */
export async function writtenToken(release: Release, node: string, dir: string, token: string): Promise<void> {
  await waitFor(`token in ${dir}`, async () => {
    return (await release.kube.nodeExec(node, ["grep", "-rqF", token, dir])).code === 0;
  });
}

/** Waits until a pod's capture has the token. */
export async function hasToken(
  release: Release,
  node: string,
  namespace: string,
  pod: string,
  token: string,
  timeoutMs = 30_000,
): Promise<void> {
  await waitFor(`token in the capture of ${namespace}/${pod}`, async () => {
    return ((await tokensIn(release, node, namespace, pod, [token]))[0] ?? 0) > 0;
  }, { timeoutMs, everyMs: 500 });
}
