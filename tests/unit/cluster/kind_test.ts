/**
 * The cluster where Docker runs, as far as it can be seen without Docker: which commands make it, from a machine on which
 * tools/install has put kubectl and helm into the cache and nowhere else. The workflow `ci` runs it for real.
 */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { load } from "js-yaml";
import { denoArgs, ROOT, run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";

const KIND = "0.33.0";
const ANTREA = "2.7.0";

interface Machine extends AsyncDisposable {
  readonly dir: string;
  readonly cache: string;
  /** Runs tests/cluster/main.ts. */
  cluster(...args: string[]): Promise<Said>;
  calls(): Promise<string[][]>;
}

/** @param clusters what `kind get clusters` says */
async function machine(clusters: string): Promise<Machine> {
  const home = await Deno.makeTempDir({ prefix: "packet-capture-kind-" });
  const [dir, cache] = [join(home, "cluster"), join(home, "packet-capture")];
  const kind = `
    case "$1 $2" in
      "get clusters") echo '${clusters}' ;;
      "create cluster"|"export kubeconfig") echo kubeconfig >"\${!#}" ;;
    esac`;
  const programs = await standIns({ docker: "exit 0", kind, kubectl: "exit 0", helm: "exit 0" });
  // Only the cache has them, as tools/install and the build leave them.
  for (const [name, folder] of [["kind", `kind-${KIND}`], ["kubectl", "bin"], ["helm", "bin"]] as const) {
    await Deno.mkdir(join(cache, folder), { recursive: true });
    await Deno.rename(join(programs.folder, name), join(cache, folder, name));
  }
  return {
    dir,
    cache,
    async cluster(...args) {
      return await run(Deno.execPath(), [...denoArgs("tests/cluster/main.ts"), ...args], {
        cwd: home,
        env: { PATH: programs.path, XDG_CACHE_HOME: home, CLUSTER_DIR: dir },
        deadlineMs: 120_000,
      });
    },
    calls: () => programs.calls(),
    async [Symbol.asyncDispose]() {
      await Deno.remove(home, { recursive: true });
      await programs[Symbol.asyncDispose]();
    },
  };
}

Deno.test("kind-config.yaml has no network of kind's own, 10.244.0.0/16 for pods, and two workers", async () => {
  assert.deepEqual(load(await Deno.readTextFile(join(ROOT, "kind-config.yaml"))), {
    kind: "Cluster",
    apiVersion: "kind.x-k8s.io/v1alpha4",
    networking: { disableDefaultCNI: true, podSubnet: "10.244.0.0/16" },
    nodes: [{ role: "control-plane" }, { role: "worker" }, { role: "worker" }],
  });
});

Deno.test("where Docker runs, up makes a kind cluster with one version of Antrea and the test pods' images, down deletes it", async () => {
  await using at = await machine("");
  const { code, stderr } = await at.cluster("up");
  assert.equal(code, 0, stderr);
  const kubeconfig = join(at.dir, "kubeconfig");
  const images = ["pause", "busybox", "nettools"].map((name) =>
    join(at.cache, "images", `${name}-1-${Deno.build.arch}.tar`)
  );
  const name = ["--name", "packet-capture"];
  assert.deepEqual(await at.calls(), [
    ["docker", "info"],
    ["kind", "get", "clusters"],
    ["kind", "create", "cluster", ...name, "--config", join(ROOT, "kind-config.yaml"), "--kubeconfig", kubeconfig],
    [
      ...[
        "helm",
        "upgrade",
        "--install",
        "antrea",
        "antrea",
        "--repo",
        "https://charts.antrea.io",
        "--version",
        ANTREA,
      ],
      ...["--namespace", "kube-system", "--wait", "--timeout", "10m"],
    ],
    ["kubectl", "wait", "--for=condition=Ready", "nodes", "--all", "--timeout=5m"],
    ...images.map((image) => ["kind", "load", "image-archive", image, ...name]),
  ]);
  for (const image of images) assert.ok((await Deno.stat(image)).size > 1_000_000, image);
  assert.match(stderr, new RegExp(`ready: export KUBECONFIG=${kubeconfig}$`, "m"));

  const before = (await at.calls()).length;
  await Deno.writeTextFile(join(at.dir, "image.tar"), "");
  assert.equal((await at.cluster("load-image", join(at.dir, "image.tar"))).code, 0);
  assert.equal((await at.cluster("node-exec", "packet-capture-worker", "ls", "/")).code, 0);
  await Deno.remove(join(at.dir, "image.tar"));
  assert.equal((await at.cluster("down")).code, 0);
  assert.deepEqual((await at.calls()).slice(before), [
    ["kind", "load", "image-archive", join(at.dir, "image.tar"), ...name],
    ["docker", "exec", "--interactive", "packet-capture-worker", "ls", "/"],
    ["kind", "delete", "cluster", ...name],
  ]);
  await assert.rejects(Deno.stat(at.dir), Deno.errors.NotFound);
});

Deno.test("a kind cluster that is there is taken as it is, and brought to the same state", async () => {
  await using at = await machine("other\npacket-capture");
  const { code, stderr } = await at.cluster("up");
  assert.equal(code, 0, stderr);
  const calls = await at.calls();
  assert.ok(!calls.some((call) => call.includes("create")));
  const exported = ["kind", "export", "kubeconfig", "--name", "packet-capture", "--kubeconfig"];
  assert.deepEqual(calls.filter((call) => call[1] === "export"), [[...exported, join(at.dir, "kubeconfig")]]);
  assert.equal(calls.filter(([program]) => program === "helm").length, 1);
});
