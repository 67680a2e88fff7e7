import type { Kubectl } from "./kubectl.ts";

/** Finds the namespace that kubectl takes without -n; undefined: no context names it, as in a pod. */
export async function contextNamespace(kubectl: Kubectl): Promise<string | undefined> {
  const path = "{.contexts[0].context.namespace}";
  const { code, stdout } = await kubectl.run(["config", "view", "--minify", `--output=jsonpath=${path}`]);
  return code === 0 ? stdout.trim() || "default" : undefined;
}
