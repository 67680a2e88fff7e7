/**
 * Load whose every packet is accounted for: pods that number their HTTP requests, with something large now and then, so that
 * their rings turn. tshark alone says which numbers are where.
 */
import assert from "node:assert/strict";
import { run } from "../support/run.ts";
import { type Kube, type KubeObject, waitFor } from "./kube.ts";
import { testPod } from "./pods.ts";

/** A request in pcapng and pcap files, and nothing else; a retransmission would be the same number twice. */
const REQUESTS = ["-Y", 'tcp.len > 0 && frame contains "GET /n/"', "-T", "fields"];

export interface WebPod {
  readonly name: string;
  readonly node: string;
}

/** Starts a server and pods labelled app=web on both nodes that ask it for /n/0, /n/1, …: some MB/s each. */
export async function startWeb(
  kube: Kube,
  namespace: string,
  { kind, replicas }: { kind: "Deployment" | "StatefulSet"; replicas: number },
): Promise<void> {
  const serve = "mkdir -p /www && dd if=/dev/zero of=/www/big bs=1k count=200 && exec httpd -f -p 80 -h /www";
  await kube.apply(testPod({ name: "server", namespace, command: ["sh", "-c", serve] }));
  const { status: { podIP } } = await kube.ready(namespace, "server");
  const ask = `i=0; while :; do wget -q -O /dev/null http://${podIP}/n/$i 2>/dev/null; i=$((i+1)); ` +
    `[ $((i % 5)) = 0 ] && wget -q -O /dev/null http://${podIP}/big; usleep 5000; done`;
  const { spec } = testPod({ name: "web", namespace, command: ["sh", "-c", ask] });
  const labels = { app: "web" };
  const spread = {
    maxSkew: 1,
    topologyKey: "kubernetes.io/hostname",
    whenUnsatisfiable: "DoNotSchedule",
    labelSelector: { matchLabels: labels },
  };
  await kube.apply({
    apiVersion: "apps/v1",
    kind,
    metadata: { name: "web", namespace },
    spec: {
      replicas,
      ...(kind === "StatefulSet" ? { serviceName: "web" } : {}),
      selector: { matchLabels: labels },
      template: { metadata: { labels }, spec: { ...spec, topologySpreadConstraints: [spread] } },
    },
  });
  const rollout = ["rollout", "status", `${kind.toLowerCase()}/web`, "-n", namespace, "--timeout=60s"];
  await kube.kubectl(rollout, { timeoutMs: 70_000 });
}

export async function webPods(kube: Kube, namespace: string): Promise<WebPod[]> {
  const { items } = await kube.get<{ items: (KubeObject & { spec: { nodeName: string } })[] }>(
    ...["pods", "-n", namespace, "-l", "app=web"],
  );
  return items.map(({ metadata, spec }) => ({ name: metadata.name, node: spec.nodeName }));
}

/** By interface name: the numbers of the requests in a file, in the file's order. */
export async function requestsIn(file: string): Promise<Map<string, number[]>> {
  const argv = ["tshark", "-r", file, ...REQUESTS, "-e", "frame.interface_name", "-e", "http.request.uri"];
  const requests = new Map<string, number[]>();
  for (const line of (await run(argv, { timeoutMs: 120_000 })).split("\n").filter(Boolean)) {
    const [name = "", uri = ""] = line.split("\t");
    requests.set(name, [...requests.get(name) ?? [], Number(uri.replace("/n/", ""))]);
  }
  return requests;
}

/** By interface name: how many bytes the packets of a file take up in a pcap file. */
export async function pcapBytesIn(file: string): Promise<Map<string, number>> {
  const argv = ["tshark", "-r", file, "-T", "fields", "-e", "frame.interface_name", "-e", "frame.cap_len"];
  const bytes = new Map<string, number>();
  for (const line of (await run(argv, { timeoutMs: 120_000 })).split("\n").filter(Boolean)) {
    const [name = "", length = ""] = line.split("\t");
    bytes.set(name, (bytes.get(name) ?? 0) + 16 + Number(length));
  }
  return bytes;
}

/** Each number once, one after the other, none missing between the first and the last. */
export function assertUnbroken(numbers: readonly number[]): void {
  assert.ok(numbers.length > 10, `only ${numbers.length} requests`);
  const broken = numbers.findIndex((n, i) => n !== numbers[0]! + i);
  assert.equal(broken, -1, `after ${numbers[broken - 1]} comes ${numbers[broken]}, ${broken} of ${numbers.length}`);
}

/** The live files of a pod's capture on its node, as a shell sees them there. */
export interface Ring {
  readonly pod: WebPod;
  /** The folder on the node, below the kubelet's or wherever the release keeps its files. */
  readonly folder: string;
}

/** The number of the newest request that is in a ring's files now. */
export async function newestIn(kube: Kube, { pod, folder }: Ring): Promise<number> {
  const newest = 'cd "$1" && tshark -r "$(ls -t capture-*.pcap* | head -n 1)" "${@:2}" 2>/dev/null; true';
  // Right after a rotation the newest file has none yet.
  return await waitFor(`a request in the newest file of ${pod.name}`, async () => {
    const argv = ["bash", "-c", newest, "bash", folder, ...REQUESTS, "-e", "http.request.uri"];
    const numbers = (await kube.nodeExec(pod.node, argv)).stdout.match(/\d+/g) ?? [];
    return numbers.length > 0 ? Number(numbers.at(-1)) : undefined;
  });
}

/** Counts how often tcpdump begins a file of these rings, by the first bytes of each, until it is stopped. */
export async function countRotations(
  kube: Kube,
  rings: readonly Ring[],
): Promise<{ stop(): Promise<Map<string, number>> }> {
  const mark = `/run/e2e-rotations-${crypto.randomUUID()}`;
  // Header of the file and of its first record, which has a time in microseconds: no two files begin alike.
  const watch =
    'touch "$1"; while [ -e "$1" ]; do for f in "$2"/*; do head -c 40 "$f" 2>/dev/null | od -An -v -w40 -tx1; done; ' +
    "echo looked; sleep 0.1; done | awk 'NF == 40 && !seen[$0]++ { if (looks) n++ } /looked/ { looks++ } END { print n + 0, looks }'";
  const watching = rings.map(({ pod, folder }) => {
    const argv = ["sh", "-c", watch, "sh", `${mark}-${pod.name}`, folder];
    return kube.nodeExec(pod.node, argv, { timeoutMs: 180_000 });
  });
  for (const { pod } of rings) {
    await waitFor("the watch on the files", async () => {
      return (await kube.nodeExec(pod.node, ["test", "-e", `${mark}-${pod.name}`])).code === 0;
    });
  }
  return {
    async stop() {
      for (const { pod } of rings) await kube.nodeExec(pod.node, ["rm", "-f", `${mark}-${pod.name}`]);
      const said = await Promise.all(watching);
      return new Map(said.map(({ stdout, stderr }, i) => {
        const [rotations, looks] = stdout.trim().split(" ").map(Number);
        assert.ok(looks! > 1, `the watch on the files did not look: ${stderr}`);
        return [rings[i]!.pod.name, rotations!];
      }));
    },
  };
}
