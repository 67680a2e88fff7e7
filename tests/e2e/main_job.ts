/** The main job, seen by kubectl alone: annotate a pod, get its packets, un-annotate it, nothing is left. */
import { join } from "node:path";
import { say } from "../support/say.ts";
import { type Kube, type PodObject, waitFor } from "./kube.ts";
import { CONTROLLER, READER, type Release } from "./release.ts";

const FILES = 5;
/** So many echo requests, and as many replies, are waited for. */
const PINGS = 3;
/** A ping in a pcap file: record header 16, Linux cooked v2 header 20, IP, ICMP and data 84. */
const PACKET_BYTES = 120;

/**
 * Annotates a Ready pod that pings its node, waits for its packets, removes the annotation, and waits until process and files
 * are gone; throws a sentence when anything is not so. Leaves in the folder `outputs` what `make test` promises to be there.
 */
export async function mainJob(kube: Kube, release: Release, pod: PodObject, outputs: string): Promise<void> {
  const { name, namespace } = pod.metadata as { name: string; namespace: string };
  const node = pod.spec.nodeName!;
  const ip = pod.status.podIP!;
  const key = await release.setting("ANNOTATION_KEY");
  const captures = await release.setting("CAPTURE_DIR");
  say(`annotating ${namespace}/${name} (${ip} on ${node}) with ${key}=${FILES}`);
  await kube.annotate(namespace, name, { [key]: String(FILES) });

  const controller = (await release.pod(node)).metadata.name;
  // Looked at before it is read: reading sets the ring's files aside under other names.
  const listing = await waitFor("packets in the capture's files", async () => {
    const { stdout } = await release.read(node, ["ls", "-lR", captures]);
    const sizes = [
      ...stdout.matchAll(new RegExp(`^-\\S+\\s+\\S+\\s+\\S+\\s+\\S+\\s+(\\d+) .* capture-${name}\\.pcap\\d*$`, "gm")),
    ];
    return sizes.some(([, size]) => Number(size) >= PINGS * 2 * PACKET_BYTES) ? stdout : undefined;
  }, { timeoutMs: 30_000 });
  await Deno.writeTextFile(join(outputs, "capture-files.txt"), listing);

  const pcap = join(outputs, "capture.pcap");
  const text = await waitFor(`${PINGS} pings of the pod and their replies in its capture`, async () => {
    await kube.execToFile(
      release.namespace,
      controller,
      [
        "packet-capture",
        "cat",
        "--format",
        "pcap",
        `${namespace}/${name}`,
      ],
      pcap,
      { container: READER },
    );
    const packets = await read(kube, release, controller, pcap);
    const requests = packets.filter((line) => line.includes(` ${ip} > `) && line.includes("ICMP echo request"));
    const replies = packets.filter((line) => line.includes(` > ${ip}: ICMP echo reply`));
    return requests.length >= PINGS && replies.length >= PINGS ? packets : undefined;
  }, { timeoutMs: 30_000, everyMs: 300 });
  say(`captured ${text.length} packets`);

  await Deno.writeTextFile(join(outputs, "capture-output.txt"), text.join("\n") + "\n");
  await Deno.writeTextFile(
    join(outputs, "pod-describe.txt"),
    await kube.kubectl(["describe", "pod", name, "-n", namespace]),
  );
  await Deno.writeTextFile(
    join(outputs, "pods.txt"),
    await kube.kubectl(["get", "pods", "--all-namespaces", "-o", "wide"]),
  );
  const ring = (await release.files(node, namespace, name)).filter((file) => file.includes(".pcap"));
  if (ring.length === 0 || ring.length > FILES) {
    throw new Error(`The ring has ${ring.length} files, 1…${FILES} are right: ${ring}`);
  }
  const processes = await release.processes(node, namespace, name);
  if (processes.length !== 1) {
    throw new Error(`The capture has ${processes.length} processes, one is right: ${processes}`);
  }

  say("removing the annotation");
  await kube.annotate(namespace, name, { [key]: null });
  await waitFor("the capture's process and files to go", async () => {
    const left = [...await release.processes(node, namespace, name), ...await release.files(node, namespace, name)];
    if (left.length > 0) throw new Error(`left are ${left.join(", ")}`);
    return true;
  }, { timeoutMs: 10_000 });
  say(`process and files are gone; see ${outputs}/`);
}

/** The packets of a file, one line each, as the controller's own tcpdump prints them. */
async function read(kube: Kube, release: Release, controller: string, pcap: string): Promise<string[]> {
  const bytes = await Deno.readFile(pcap);
  const result = await kube.exec(release.namespace, controller, ["tcpdump", "-nn", "-r", "-"], {
    container: CONTROLLER, // tcpdump gives up being root before it reads, which takes a capability
    input: bytes,
  });
  if (result.code !== 0) throw new Error(`tcpdump cannot read the capture: ${result.stderr.trim()}`);
  return result.stdout.split("\n").filter(Boolean);
}
