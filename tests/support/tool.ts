/** Where kubectl and helm are. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { cacheDir } from "./cache.ts";

/** kubectl or helm: the one that tools/install has put into the cache, else the machine's own. */
export function tool(name: "kubectl" | "helm"): string {
  const installed = join(cacheDir(), "bin", name);
  return existsSync(installed) ? installed : name;
}
