/** Pods whose network is not the usual one: several interfaces, as Multus gives them, or user namespaces of their own. */
import assert from "node:assert/strict";
import { fixture } from "./fixture.ts";
import { waitFor } from "./kube.ts";
import { sendToken, testPod } from "./pods.ts";
import { hasToken, token, tokensIn } from "./tokens.ts";

const KEY = "tcpdump.antrea.io";
const { kube, release, namespace } = fixture("networks");
/** Nobody else's (RFC 5737, TEST-NET-3): the pod's end of the second cable, and the node's. */
const [POD_ADDRESS, NODE_ADDRESS] = ["203.0.113.1", "203.0.113.2"];

/** Runs lines of shell on the node, with `$name` as the network namespace that has the pod's address, and the words as `$2` and so on. */
async function withNetns(node: string, podIp: string, lines: readonly string[], words: string[] = []): Promise<void> {
  const script = "set -eu; for path in /run/netns/*; do name=${path##*/}; " +
    'ip -n "$name" -o addr show to "$1" 2>/dev/null | grep -q . || continue; ' +
    `${lines.join("; ")}; exit 0; done; ` +
    'echo "no network namespace has the address $1" >&2; exit 1';
  const { code, stderr } = await kube.nodeExec(node, ["sh", "-c", script, "sh", podIp, ...words]);
  assert.equal(code, 0, stderr);
}

/** Gives a pod a second interface, net1, by a cable to its node; the kernel takes it away with the pod. */
function addInterface(node: string, podIp: string): Promise<void> {
  return withNetns(node, podIp, [
    'ip link add pc-net1 type veth peer name net1 netns "$name"',
    'ip -n "$name" addr add "$2/30" dev net1; ip -n "$name" link set net1 up',
    'ip addr add "$3/30" dev pc-net1; ip link set pc-net1 up',
  ], [POD_ADDRESS!, NODE_ADDRESS!]);
}

function has(node: string, pod: string, token: string): Promise<void> {
  return hasToken(release, node, namespace, pod, token);
}

/** Waits until the capture of a pod runs with these words for tcpdump. */
async function captures(node: string, pod: string, words: string): Promise<void> {
  await waitFor(`a tcpdump with "${words}"`, async () => {
    const lines = await release.processes(node, namespace, pod);
    if (lines.length !== 1 || !lines[0]!.includes(words)) throw new Error(`there are ${JSON.stringify(lines)}`);
    // The header is written when tcpdump listens.
    return (await release.files(node, namespace, pod)).some((name) => name.startsWith(`capture-${pod}.pcap`));
  }, { timeoutMs: 30_000 });
}

Deno.test("a pod with two interfaces is captured on both by default, and on net1 alone when that is asked for", async () => {
  const [node] = await kube.workers() as [string];
  const pod = testPod({ name: "two", namespace, node });
  await using _pod = await kube.having(pod);
  const { status } = await kube.ready(namespace, "two");
  await addInterface(node, status.podIP!);
  const send = (word: string, address: string) => kube.exec(namespace, "two", sendToken(word, address));

  await kube.annotate(namespace, "two", { [KEY]: "3" });
  await captures(node, "two", "-i any");
  const any = { eth0: token(), net1: token() };
  await send(any.eth0, "10.255.255.1");
  await send(any.net1, NODE_ADDRESS!);
  await has(node, "two", any.eth0);
  await has(node, "two", any.net1);

  await kube.annotate(namespace, "two", { [`${KEY}/interface`]: "net1" });
  await captures(node, "two", "-i net1");
  const one = { eth0: token(), net1: token() };
  await send(one.eth0, "10.255.255.1");
  await send(one.net1, NODE_ADDRESS!);
  await has(node, "two", one.net1);
  assert.deepEqual(
    await tokensIn(release, node, namespace, "two", [one.eth0]),
    [0],
    "eth0's packets in a capture of net1",
  );
  // What the earlier run has captured is still there.
  await has(node, "two", any.eth0);
});

Deno.test("a filter that a tunnel's packets cannot have is rejected by name, and another one is captured", async () => {
  const [node] = await kube.workers() as [string];
  await using _pod = await kube.having(testPod({ name: "tunnel", namespace, node }));
  const { status } = await kube.ready(namespace, "tunnel");
  const tunnel = ['ip -n "$name" tuntap add dev wg0 mode tun', 'ip -n "$name" link set wg0 up'];
  await withNetns(node, status.podIP!, tunnel);
  await kube.annotate(namespace, "tunnel", { [KEY]: "2", [`${KEY}/interface`]: "wg0", [`${KEY}/filter`]: "vlan" });
  const { message } = await waitFor("its Event", async () => {
    return (await kube.events(namespace, "tunnel")).find(({ reason }) => reason === "CaptureRejected");
  });
  assert.match(message, /no VLAN support for Raw IP.*interface wg0 is RAW/);
  await kube.annotate(namespace, "tunnel", { [`${KEY}/filter`]: "icmp" });
  await captures(node, "tunnel", "-i wg0");
});

Deno.test("a pod with a user namespace of its own (hostUsers: false) is captured, and cleaned up", async () => {
  const [node] = await kube.workers() as [string];
  const pod = testPod({ name: "own-users", namespace, node, annotations: { [KEY]: "2" }, spec: { hostUsers: false } });
  await using _pod = await kube.having(pod);
  await kube.ready(namespace, "own-users");
  // Root in there is somebody else out here: a runtime that ignored the field would show nothing.
  const { stdout } = await kube.exec(namespace, "own-users", ["cat", "/proc/self/uid_map"]);
  assert.match(stdout, /^\s*0\s+[1-9]\d*\s+65536\s*$/);
  await captures(node, "own-users", "-i any");
  const [out, lo] = [token(), token()];
  await kube.exec(namespace, "own-users", sendToken(out, "10.255.255.1"));
  await kube.exec(namespace, "own-users", sendToken(lo, "127.0.0.1"));
  await has(node, "own-users", out);
  await has(node, "own-users", lo);
  await kube.annotate(namespace, "own-users", { [KEY]: null });
  await waitFor("its process and files to go", async () => {
    const left = [
      ...await release.processes(node, namespace, "own-users"),
      ...await release.files(node, namespace, "own-users"),
    ];
    if (left.length > 0) throw new Error(`left are ${left}`);
    return true;
  }, { timeoutMs: 30_000 });
});
