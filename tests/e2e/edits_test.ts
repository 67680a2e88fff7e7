/** Requests that are edited while their capture runs, on the two-worker cluster: what is answered, counted and readable afterwards. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { fixture } from "./fixture.ts";
import { InstalledPlugin } from "./installed_plugin.ts";
import { waitFor } from "./kube.ts";
import { PING_NODE, testPod } from "./pods.ts";

const KEY = "tcpdump.antrea.io";
const { kube, release, namespace } = fixture("edits");
let plugin: InstalledPlugin;
let node: string;

Deno.test.beforeAll(async () => {
  plugin = await InstalledPlugin.install(kube);
  [node] = await kube.workers() as [string];
});
Deno.test.afterAll(() => plugin?.[Symbol.asyncDispose]());

/** A pod that pings its node while `work` is done. */
async function withPing(name: string, work: () => Promise<void>): Promise<void> {
  await using _pod = await kube.having(testPod({ name, namespace, node, command: PING_NODE }));
  await kube.ready(namespace, name);
  await work();
}

/** Runs `start POD …`. @returns what it answered on stdout, without the pod's name. */
async function start(pod: string, ...options: string[]): Promise<string> {
  const { code, stdout, stderr } = await plugin.run(["start", "-n", namespace, pod, ...options]);
  assert.equal(code, 0, stderr);
  return stdout.replace(`${namespace}/${pod}: `, "").trim();
}

interface Row {
  readonly pod: string;
  readonly state: string;
  readonly packets: number;
}

async function row(pod: string): Promise<Row> {
  const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
  const found = JSON.parse(stdout).find((row: Row) => row.pod === pod);
  assert.ok(found, `${pod} is not listed: ${stdout}`);
  return found;
}

/** Fetches the pod's capture. @returns the file, and how many packets capinfos finds in it. */
async function fetch(pod: string): Promise<{ file: string; packets: number }> {
  const file = `${pod}-${crypto.randomUUID()}.pcapng`;
  const { code, stderr } = await plugin.run(["get", "-n", namespace, pod, "-o", file]);
  assert.equal(code, 0, stderr);
  const path = join(plugin.dir, file);
  const packets = Number(/Number of packets: +(\d+)/.exec(await run(["capinfos", "-M", "-c", path]))?.[1]);
  return { file: path, packets };
}

Deno.test("a packet count asked for of a capture that runs counts from then on, and start reports its end", () =>
  withPing("counted", async () => {
    await start("counted", "--filter", "icmp");
    await waitFor("ten packets of the first request", async () => (await row("counted")).packets >= 10);
    const before = await fetch("counted");
    const answer = await start("counted", "--filter", "icmp", "--packets", "10", "--wait", "60s");
    assert.match(answer, /for 10 packets\).*; changed: packets none → 10$/);
    await waitFor("its end", async () => (await row("counted")).state === "completed");
    const after = await fetch("counted");
    assert.ok(after.packets >= before.packets + 10, `${before.packets} packets before, ${after.packets} after`);
  }));

Deno.test("tcpdump reads all packets of a capture whose snaplen was edited", () =>
  withPing("cut", async () => {
    await start("cut", "--filter", "icmp", "--snaplen", "100");
    await waitFor("packets of the first request", async () => (await row("cut")).packets >= 4);
    const { packets } = await fetch("cut");
    await start("cut", "--filter", "icmp", "--snaplen", "200");
    const all = await waitFor("packets of both", async () => {
      const fetched = await fetch("cut");
      return fetched.packets >= packets + 4 && fetched;
    });
    assert.equal(Number.parseInt(await run(["tcpdump", "--count", "-r", all.file])), all.packets);
  }));

Deno.test("get reports that link types are mixed, and writes a pcap file of the packets since that have one", () =>
  withPing("mixed", async () => {
    await start("mixed", "--filter", "icmp");
    await waitFor("packets of any", async () => (await row("mixed")).packets >= 2);
    const { packets } = await fetch("mixed");
    await start("mixed", "--filter", "icmp", "--interface", "eth0");
    await waitFor("packets of eth0", async () => (await row("mixed")).packets >= packets + 4);
    const get = (...options: string[]) => plugin.run(["get", "-n", namespace, "mixed", "--force", ...options]);
    const both = await get("-o", "mixed.pcapng");
    assert.equal(both.code, 0, both.stderr);
    assert.match(both.stderr, /the packets have the link types (LINUX_SLL2|EN10MB) and (LINUX_SLL2|EN10MB)/);
    const pcap = ["--format", "pcap", "-o", "mixed.pcap"];
    const refused = await get(...pcap);
    assert.equal(refused.code, 1, refused.stderr);
    // The pod pings once a second: two seconds hold packets, and soon none of before the edit.
    await waitFor("seconds without packets of any", async () => (await get(...pcap, "--since", "2s")).code === 0);
    const said = await run(["capinfos", "-E", "-c", join(plugin.dir, "mixed.pcap")]);
    assert.match(said, /File encapsulation: +Ethernet[^]*Number of packets: +[1-9]/);
  }));

Deno.test("start reports which options it drops, and the Event of a typing error in a filter that the capture has stopped", () =>
  withPing("dropped", async () => {
    await start("dropped", "--files", "3", "--filter", "icmp");
    assert.equal(
      await start("dropped", "--files", "8"),
      `capturing on node ${node} (8 files of 1 MB); changed: files 3 → 8, filter "icmp" → none`,
    );
    await kube.annotate(namespace, "dropped", { [`${KEY}/filter`]: "tcp prot 80" });
    const { message } = await waitFor("its Event", async () => {
      return (await kube.events(namespace, "dropped")).find(({ reason }) => reason === "CaptureRejected");
    });
    assert.match(message, /; the capture that ran is stopped, and its files are kept while the annotation is there$/);
    assert.equal((await row("dropped")).state, "rejected");
  }));
