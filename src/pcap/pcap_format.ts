/** The headers of the pcap file format (draft-ietf-opsawg-pcap): reading and writing them. */
import type { Packet } from "./packet.ts";

export const PCAP_HEADER_BYTES = 24;
export const PCAP_RECORD_BYTES = 16;
const MAGIC_MICROS = 0xa1b2c3d4;
const MAGIC_NANOS = 0xa1b23c4d;

/** The content of a pcap file's global header. */
export interface PcapHeader {
  readonly linkType: number;
  readonly snaplen: number;
  readonly digits: 6 | 9;
}

/** Returns the global header at an index after which 24 bytes are present; undefined if it is none. */
export function parsePcapHeader(view: DataView, at: number): PcapHeader & { littleEndian: boolean } | undefined {
  const littleEndian = [MAGIC_MICROS, MAGIC_NANOS].includes(view.getUint32(at, true));
  const magic = view.getUint32(at, littleEndian);
  if (magic !== MAGIC_MICROS && magic !== MAGIC_NANOS) return undefined;
  return {
    littleEndian,
    digits: magic === MAGIC_NANOS ? 9 : 6,
    snaplen: view.getUint32(at + 16, littleEndian),
    // The upper half is the length of a frame check sequence.
    linkType: view.getUint32(at + 20, littleEndian) & 0xffff,
  };
}

/** Reads the first bytes of a pcap file: its header, and the time of its first packet; zeros, which a crash leaves, are none. */
export function peekPcap(bytes: Uint8Array): { header?: PcapHeader; first?: { seconds: number; nanos: number } } {
  if (bytes.length < PCAP_HEADER_BYTES) return {};
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parsed = parsePcapHeader(view, 0);
  if (!parsed) return {};
  const { littleEndian, ...header } = parsed;
  if (bytes.length < PCAP_HEADER_BYTES + PCAP_RECORD_BYTES) return { header };
  const [seconds, fraction, captured, original] = [0, 4, 8, 12].map((at) =>
    view.getUint32(PCAP_HEADER_BYTES + at, littleEndian)
  ) as [number, number, number, number];
  if (seconds === 0 && captured === 0 && original === 0) return { header };
  const nanos = header.digits === 9 ? fraction : fraction * 1000;
  return { header, first: { seconds, nanos } };
}

/** Returns a pcap file's global header, little-endian. */
export function pcapHeader({ linkType, snaplen, digits }: PcapHeader): Uint8Array {
  const bytes = new Uint8Array(PCAP_HEADER_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, digits === 9 ? MAGIC_NANOS : MAGIC_MICROS, true);
  view.setUint16(4, 2, true);
  view.setUint16(6, 4, true);
  view.setUint32(16, snaplen, true);
  view.setUint32(20, linkType, true);
  return bytes;
}

/** Writes one record at `at`, which has room for PCAP_RECORD_BYTES and the packet. @returns the index after it. */
export function putPcapRecord(bytes: Uint8Array, view: DataView, at: number, packet: Packet, digits: 6 | 9): number {
  view.setUint32(at, packet.seconds, true);
  view.setUint32(at + 4, digits === 9 ? packet.nanos : Math.floor(packet.nanos / 1000), true);
  view.setUint32(at + 8, packet.captured, true);
  view.setUint32(at + 12, packet.original, true);
  bytes.set(packet.bytes.subarray(packet.start, packet.start + packet.captured), at + PCAP_RECORD_BYTES);
  return at + PCAP_RECORD_BYTES + packet.captured;
}
