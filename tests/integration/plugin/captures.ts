/** Capture files as a controller's `cat` delivers them, and what tshark and capinfos, which know nothing of us, read in the user's. */
import { PacketWriter } from "../../../src/pcap/writer.ts";
import { run } from "../../support/run.ts";

export interface Made {
  readonly namespace?: string;
  readonly pod: string;
  readonly node: string;
  readonly packets: number;
  /** Milliseconds between packets, and before the first. @default 10, 0 */
  readonly everyMs?: number;
  readonly offsetMs?: number;
  /** LINKTYPE_ value. @default 1 (Ethernet) */
  readonly linkType?: number;
  /** Bytes of each packet. @default 64 */
  readonly size?: number;
}

/** Writes one; packet i has i in its first four bytes behind an Ethernet header of type 0x88b5 (for experiments). */
export async function makeCapture(path: string, made: Made): Promise<void> {
  const { namespace = "default", pod, node, packets, everyMs = 10, offsetMs = 0, linkType = 1, size = 64 } = made;
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const writer = new PacketWriter({
    write: async (bytes) => {
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    },
  });
  const described = { name: `${namespace}/${pod}@${node}`, linkType, snaplen: 262_144, digits: 6 as const };
  await writer.begin({ application: "packet-capture", comments: [`${namespace}/${pod}`] }, [described]);
  const to = await writer.addInterface(described);
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, 0x88b5);
  for (let i = 0; i < packets; i++) {
    view.setUint32(14, i);
    const micros = offsetMs * 1000 + i * everyMs * 1000;
    writer.add(
      {
        bytes,
        start: 0,
        captured: size,
        original: size,
        seconds: 1_760_000_000 + Math.floor(micros / 1e6),
        nanos: (micros % 1e6) * 1000,
      },
      to,
    );
    await writer.drain();
  }
  await writer.flush();
  await writer.statistics([{ received: packets, dropped: 0 }]);
}

/** Per packet: interface name, and the number that it carries; in the file's order. */
export async function packetsIn(file: string): Promise<[string, number][]> {
  const text = await run(["tshark", "-r", file, "-T", "fields", "-e", "frame.interface_name", "-e", "data.data"]);
  return text.split("\n").filter(Boolean).map((line) => {
    const [name = "", data = ""] = line.split("\t");
    return [name, parseInt(data.slice(0, 8), 16)];
  });
}

/** What capinfos says, by its own headings. */
export async function capinfos(file: string): Promise<Record<string, string>> {
  const text = await run(["capinfos", "-M", file]);
  return Object.fromEntries(
    text.split("\n").flatMap((line) => {
      const colon = line.indexOf(":");
      return colon < 0 ? [] : [[line.slice(0, colon).trim(), line.slice(colon + 1).trim()]];
    }),
  );
}
