/**
 * `make test`: the main job on the cluster, by kubectl and the helm-installed DaemonSet alone. Annotates a pod that pings, waits
 * for its packets, writes outputs/, removes the annotation, and sees that process and files are gone. Ends with 1 and a reason
 * when anything is not so.
 */
import { join } from "node:path";
import { load } from "js-yaml";
import { Kube, type KubeObject } from "./kube.ts";
import { mainJob } from "./main_job.ts";
import { Release } from "./release.ts";
import { ROOT } from "../support/paths.ts";

const OUTPUTS = join(ROOT, "outputs");

async function main(): Promise<void> {
  const kube = new Kube();
  const release = Release.of(kube, { namespace: Deno.env.get("NAMESPACE") || "packet-capture" });
  const manifest = load(await Deno.readTextFile(join(import.meta.dirname!, "test-pod.yaml"))) as KubeObject;
  await Deno.remove(OUTPUTS, { recursive: true }).catch(() => {});
  await Deno.mkdir(OUTPUTS);
  await release.ready(30);
  await using _pod = await kube.having(manifest);
  const { name, namespace } = manifest.metadata as { name: string; namespace: string };
  const pod = await kube.ready(namespace, name);
  try {
    await mainJob(kube, release, pod, OUTPUTS);
  } catch (error) {
    const events = await kube.tryKubectl(["events", "-n", namespace, "--for", `pod/${name}`]);
    const log = await release.logs(pod.spec.nodeName!, "--tail=20").catch((e) => (e as Error).message);
    throw new Error(
      `${(error as Error).message}\n--- events of the pod:\n${events.stdout}--- log of its controller:\n${log}`,
    );
  }
}

try {
  await main();
} catch (error) {
  Deno.stderr.writeSync(new TextEncoder().encode(`make test: ${(error as Error).message}\n`));
  Deno.exit(1);
}
