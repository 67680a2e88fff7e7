/** What tests count packets by must not depend on what tshark or tcpdump takes a random source port for. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { numbersIn } from "../../rig/node.ts";
import { pcap, START } from "../../unit/reading/files.ts";
import { numbersIn as sentNumbersIn } from "./rig.ts";

/** LINKTYPE_RAW: packets begin with the IP header. */
const LINKTYPE_RAW = 101;
/** Ports that the kernel gives to a sender that asks for none (net.ipv4.ip_local_port_range), widely. */
const EPHEMERAL = { first: 10_000, last: 65_535 };

/** Every such port that tshark takes for a protocol. */
async function portsOfProtocols(): Promise<number[]> {
  const rows = (await run(["tshark", "-G", "decodes"], { timeoutMs: 60_000 })).split("\n").map((row) =>
    row.split("\t")
  );
  const ports = rows.filter(([table]) => table === "udp.port").map(([, port]) => Number(port));
  return [...new Set(ports)].filter((port) => port >= EPHEMERAL.first && port <= EPHEMERAL.last).sort((a, b) => a - b);
}

/** A datagram from 127.0.0.1 to port 9 of it. */
function datagram(port: number, payload: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(28 + payload.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, 0x4500);
  view.setUint16(2, bytes.length);
  view.setUint8(8, 64);
  view.setUint8(9, 17);
  for (const at of [12, 16]) view.setUint32(at, 0x7f000001);
  view.setUint16(20, port);
  view.setUint16(22, 9);
  view.setUint16(24, 8 + payload.length);
  bytes.set(payload, 28);
  return bytes;
}

Deno.test("numbered packets are found whatever tshark takes their source port for", async () => {
  const ports = await portsOfProtocols();
  assert(ports.length > 20, `tshark knows only ${ports.length} protocols there: nothing is proved`);
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-numbers-" });
  try {
    const write = async (name: string, payload: (number: number) => Uint8Array) => {
      const path = join(dir, name);
      const packets = ports.map((port, i) => ({ time: START + BigInt(i), data: datagram(port, payload(i)) }));
      await Deno.writeFile(path, pcap(packets, { linkType: LINKTYPE_RAW }));
      return path;
    };
    const texts = await write("texts.pcap", (number) => new TextEncoder().encode(`token-${number}\n`));
    assertEquals(await numbersIn(texts, "token"), [...ports.keys()]);
    const words = await write("words.pcap", (number) => {
      const bytes = new Uint8Array(60);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(number));
      return bytes;
    });
    assertEquals(await sentNumbersIn(words), [...ports.keys()]);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
