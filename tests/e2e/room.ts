/** Whether the nodes' disk has the room that the chart wants kept free. */
import { join } from "node:path";
import { load } from "js-yaml";
import type { Kube } from "./kube.ts";

/**
 * A test machine's disk may have less room than the chart wants kept free: no capture would ever run there. Gives the per cent
 * available on the fullest node, and the chart value `limits.minFreePercent` to install with if the default is too high.
 */
export async function room(kube: Kube): Promise<{ available: number; wanted: number; lower: number | undefined }> {
  const values = load(await Deno.readTextFile(join(import.meta.dirname!, "../../charts/values.yaml"))) as {
    limits: { minFreePercent: number };
  };
  const wanted = values.limits.minFreePercent;
  let available = 100;
  for (const node of await kube.workers()) {
    const { stdout } = await kube.nodeExec(node, ["stat", "-f", "-c", "%a %b", "/var/lib/kubelet"]);
    const [free, all] = stdout.trim().split(" ").map(Number);
    available = Math.min(available, Math.floor(100 * free! / all!));
  }
  // Two per cent for what the captures themselves and the controller's hysteresis take.
  return { available, wanted, lower: available > wanted + 2 ? undefined : Math.max(1, available - 5) };
}
