/** One face for both kinds of cluster: kind where Docker runs, the local cluster elsewhere. */
import { join } from "node:path";
import { isThere } from "../support/paths.ts";
import { say } from "../support/say.ts";
import { down, loadImage, openCluster, up } from "./cluster.ts";
import { dockerRuns, kindDown, kindLoad, kindUp } from "./kind.ts";
import { enter } from "./node.ts";

export interface Provider {
  /** Brings the cluster of a folder up, its kubeconfig at `<dir>/kubeconfig`. */
  up(dir: string): Promise<void>;
  down(dir: string): Promise<void>;
  /** Imports a docker-archive tar into every node. */
  loadImage(dir: string, tar: string): Promise<void>;
  /** The words before a command that make it run in a node. */
  enter(dir: string, node: string): Promise<string[]>;
}

const local: Provider = {
  async up(dir) {
    const index = Deno.env.get("CLUSTER_INDEX");
    await up(dir, index ? Number(index) : undefined);
  },
  down,
  loadImage: async (dir, tar) => await loadImage(await openCluster(dir), tar),
  enter: async (dir, node) => await enter(await openCluster(dir), node),
};

const kind: Provider = {
  up: kindUp,
  down: kindDown,
  loadImage: (_dir, tar) => kindLoad(tar),
  enter: (_dir, node) => Promise.resolve(["docker", "exec", "--interactive", node]),
};

/** What made the cluster in `dir`; for a new one kind where Docker runs, unless CLUSTER_PROVIDER says `kind` or `local`. */
export async function providerOf(dir: string): Promise<Provider> {
  if (await isThere(join(dir, "kind"))) return kind;
  if (await isThere(join(dir, "index"))) return local;
  const wanted = Deno.env.get("CLUSTER_PROVIDER") || "";
  if (wanted === "kind") return kind;
  if (wanted === "local") return local;
  if (wanted !== "") throw new Error(`CLUSTER_PROVIDER is "${wanted}": kind and local are accepted`);
  const docker = await dockerRuns();
  say(docker ? "Docker runs here: kind" : "no Docker runs here: the local cluster");
  return docker ? kind : local;
}
