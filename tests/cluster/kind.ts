/** The cluster where Docker runs: kind, with Antrea from its Helm chart as the network. */
import { join } from "node:path";
import { go } from "../support/binaries.ts";
import { cached } from "../support/cache.ts";
import { testImages } from "../support/images.ts";
import { ROOT } from "../support/paths.ts";
import { attempt, run } from "../support/run.ts";
import { say } from "../support/say.ts";
import { tool } from "../support/tool.ts";

const KIND_VERSION = "0.33.0";
const ANTREA_VERSION = "2.7.0";

/** Name of the cluster, and prefix of its containers' names. */
function clusterName(): string {
  return Deno.env.get("KIND_CLUSTER_NAME") || "packet-capture";
}

/** Docker's daemon answers. */
export async function dockerRuns(): Promise<boolean> {
  return await attempt(["docker", "info"], { timeoutMs: 10_000 }).then((r) => r.code === 0, () => false);
}

/** Brings the cluster up; one that is up already is only looked at. */
export async function kindUp(dir: string): Promise<void> {
  const kind = await kindBinary();
  const kubeconfig = join(dir, "kubeconfig");
  const name = clusterName();
  await Deno.mkdir(dir, { recursive: true });
  await Deno.writeTextFile(join(dir, "kind"), name);
  if (!(await run([kind, "get", "clusters"])).split("\n").includes(name)) {
    say(`creating the kind cluster ${name} (some minutes the first time)`);
    const config = join(ROOT, "kind-config.yaml");
    await run([kind, "create", "cluster", "--name", name, "--config", config, "--kubeconfig", kubeconfig], {
      timeoutMs: 15 * 60_000,
    });
  } else {
    await run([kind, "export", "kubeconfig", "--name", name, "--kubeconfig", kubeconfig]);
  }
  say(`installing Antrea ${ANTREA_VERSION} from its Helm chart`);
  const env = { KUBECONFIG: kubeconfig };
  const antrea = ["antrea", "--repo", "https://charts.antrea.io", "--version", ANTREA_VERSION];
  const options = ["--namespace", "kube-system", "--wait", "--timeout", "10m"];
  await run([tool("helm"), "upgrade", "--install", "antrea", ...antrea, ...options], { env, timeoutMs: 11 * 60_000 });
  await run([tool("kubectl"), "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5m"], {
    env,
    timeoutMs: 310_000,
  });
  for (const tar of await testImages()) await kindLoad(tar);
  say(`ready: export KUBECONFIG=${kubeconfig}`);
}

export async function kindDown(dir: string): Promise<void> {
  await run([await kindBinary(), "delete", "cluster", "--name", clusterName()], { timeoutMs: 300_000 });
  for (const file of ["kubeconfig", "kind"]) await Deno.remove(join(dir, file)).catch(() => {});
  await Deno.remove(dir).catch(() => {}); // unless there is something of somebody else's in it
}

export async function kindLoad(tar: string): Promise<void> {
  await run([await kindBinary(), "load", "image-archive", tar, "--name", clusterName()], { timeoutMs: 300_000 });
}

async function kindBinary(): Promise<string> {
  const folder = await cached(`kind-${KIND_VERSION}`, "kind (1 min)", async (out, count) => {
    await go(["install", "-v", `sigs.k8s.io/kind@v${KIND_VERSION}`], out, count, { GOBIN: out });
  });
  return join(folder, "kind");
}
