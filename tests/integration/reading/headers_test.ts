/** `--headers-only` of what tcpdump has really captured; tshark judges that all is there but what was said. */
import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { denoArgs } from "../../rig/cli.ts";
import { checkWhole } from "../../../src/plugin/fetch/whole.ts";
import { captureDir, run as aRun } from "../../unit/reading/files.ts";
import { blocksIn, capinfos, catCommand, Netns, readingCommand, save, Tcpdump } from "./rig.ts";

/** A veth pair whose other end nobody reads. */
const VETH = [
  "link set lo mtu 1500",
  "link add a0 type veth peer name a1",
  "link set a0 up",
  "link set a1 up",
  "addr add 10.9.0.1/24 dev a0",
  "neigh add 10.9.0.2 lladdr 02:00:00:00:00:02 dev a0",
];
/** What can be on it, each where the kernel has it, and the network that leads through it. */
const OVER: Record<string, { readonly add: readonly string[]; readonly network: string }> = {
  vx: { add: ["link add vx type vxlan id 8 local 10.9.0.1 remote 10.9.0.2 dstport 4789 dev a0"], network: "10.9.8" },
  tagged: { add: ["link add link a0 name tagged type vlan id 5"], network: "10.9.5" },
  twice: {
    add: [
      "link add link a0 name once type vlan proto 802.1ad id 6",
      "link set once up",
      "link add link once name twice type vlan id 7",
    ],
    network: "10.9.7",
  },
  g: { add: ["link add g type gre local 10.9.0.1 remote 10.9.0.2"], network: "10.9.11" },
};

/** Makes the devices. @returns the address of somebody behind each. */
async function devices(netns: Netns): Promise<string[]> {
  const ip = async (line: string) =>
    (await netns.command(["ip", ...line.split(" ")], { stderr: "null" }).output()).success;
  for (const line of VETH) assert(await ip(line), line);
  const neighbours: string[] = [];
  for (const [device, { add, network }] of Object.entries(OVER)) {
    let has = true;
    for (const line of add) has &&= await ip(line);
    if (!has) {
      assert(device !== "vx", "the kernel has no VXLAN");
      continue;
    }
    assert(await ip(`link set ${device} up`));
    assert(await ip(`addr add ${network}.1/24 dev ${device}`));
    await ip(`neigh add ${network}.2 lladdr 02:00:00:00:00:03 dev ${device}`);
    neighbours.push(`${network}.2`);
  }
  return [...neighbours, "10.9.0.2"];
}

/** What tshark says of a file's packets that a filter lets through: the first of each field, none of a tunnel's inside. */
async function seen(path: string, filter: string, ...fields: string[]): Promise<string[]> {
  const options = ["-o", "ip.defragment:FALSE", "--disable-protocol", "vxlan", "--disable-protocol", "gre"];
  const text = await run([
    ...["tshark", "-n", ...options, "-r", path, "-Y", filter, "-T", "fields", "-E", "occurrence=f"],
    ...fields.flatMap((field) => ["-e", field]),
  ], { timeoutMs: 60_000 });
  return text.split("\n").slice(0, -1);
}

const KINDS = {
  "Linux cooked v2": ["-i", "any"],
  "Linux cooked v1": ["-i", "any", "-y", "LINUX_SLL"],
  Ethernet: ["-i", "a0"],
  "Ethernet of the loopback device": ["-i", "lo"],
  "cut to 100 bytes": ["-i", "any", "-s", "100"],
};

for (const [kind, args] of Object.entries(KINDS)) {
  Deno.test(`cat and stream --headers-only keep every conversation and no payload: ${kind}`, async () => {
    await using dir = await captureDir();
    await using netns = await Netns.create();
    const neighbours = await devices(netns);
    const file = join(dir.folder, "run-000001-000000.pcap");
    {
      await using _tcpdump = await Tcpdump.start(netns, [...args, "-w", file]);
      const talk = [Deno.execPath(), ...denoArgs("tests/integration/reading/talk.ts"), ...neighbours];
      assert((await netns.command(talk, { env: { NO_COLOR: "1" } }).output()).success);
      const last = args[1] === "lo" ? "ipv6 && tcp" : "ip.dst == 10.9.0.2 && udp.dstport == 4444";
      await waitFor("tcpdump to write the last packet", async () => {
        return await seen(file, last, "frame.number").then((rows) => rows.length > 0, () => false);
      }, { timeoutMs: 20_000 });
    }
    await dir.putManifest({ state: "completed", runs: [aRun(1, { endedAt: "x" })] });
    const write = async (name: string, command: Deno.Command) => {
      const path = join(dir.path, name);
      const child = command.spawn();
      const stderr = new Response(child.stderr).text();
      await save(child.stdout, path);
      same((await child.status).code, 0, await stderr);
      return path;
    };
    const whole = await write("whole.pcapng", catCommand(dir.path));
    const cuts = [
      await write("cut.pcapng", catCommand(dir.path, ["--headers-only"])),
      await write("cut.pcap", catCommand(dir.path, ["--headers-only", "--format=pcap"])),
      await write(
        "stream.pcapng",
        readingCommand(["stream", "default/web-0", "--headers-only", "--capture-dir", dir.path]),
      ),
    ];
    const secrets = await seen(whole, 'frame contains "SECR"', "frame.number");
    assert(secrets.length >= (args[1] === "a0" ? 2 : 8), `only ${secrets.length} secrets were captured`);
    const network = ["frame.time_epoch", "frame.len", "ip.src", "ip.dst", "ip.proto", "ip.id", "ip.frag_offset"];
    const questions: [filter: string, fields: string[]][] = [
      ["frame", [...network, "ipv6.src", "ipv6.dst", "ipv6.nxt", "vlan.id", "icmp.type", "icmpv6.type"]],
      ["tcp && !icmp", [
        "tcp.srcport",
        "tcp.dstport",
        "tcp.seq_raw",
        "tcp.ack_raw",
        "tcp.flags",
        "tcp.len",
        "tcp.options",
      ]],
      ["udp && !icmp && !icmpv6 && ip.proto == 17", ["udp.srcport", "udp.dstport", "udp.length"]],
      ["dns && !icmp && !icmpv6", ["dns.qry.name", "frame.cap_len"]],
    ];
    for (const path of cuts) assertEquals(await seen(path, 'frame contains "SECR"', "frame.number"), [], path);
    for (const [filter, fields] of questions) {
      const expected = await seen(whole, filter, ...fields);
      for (const path of cuts) assertEquals(await seen(path, filter, ...fields), expected, `${path}: ${filter}`);
    }
    if (args[1] !== "a0") {
      const names = await seen(cuts[0]!, "dns.qry.name && !icmp && !icmpv6", "dns.qry.name");
      assert(names.length >= 2 && names.every((name) => name === "keepme.example"), names.join());
    }
    const counted = [whole, ...cuts].map(async (path) => (await capinfos(path)).get("Number of packets"));
    same(new Set(await Promise.all(counted)).size, 1);
    const comment = /headers only: packets are cut after their transport header, DNS \(port 53\) is whole/;
    for (const path of [cuts[0]!, cuts[2]!]) {
      for (const type of ["Section Header Block", "Interface Description Block"]) {
        match((await blocksIn(path)).find((block) => block.type.startsWith(type))!.text, comment);
      }
    }
    same((await checkWhole(cuts[0]!, new AbortController().signal)).missing, undefined);
  });
}
