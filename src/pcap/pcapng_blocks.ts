/** Writing the pcapng file format (draft-ietf-opsawg-pcapng), little-endian. */
import type { Interface, Packet } from "./packet.ts";
import { BLOCK, BYTE_ORDER_MAGIC, OPTION } from "./pcapng_format.ts";

/** Bytes of a packet block besides the packet itself, padding included, options not. */
export const PACKET_BLOCK_BYTES = 36;
/** An option's length has 16 bits. */
const MAX_OPTION = 65_535;
const encoder = new TextEncoder();

export interface SectionInfo {
  readonly comments?: readonly string[];
  readonly os?: string;
  readonly application: string;
}

/** Returns a Section Header Block; the section's length is left open, because it is written as a stream. */
export function sectionHeader({ comments = [], os, application }: SectionInfo): Uint8Array {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setUint32(0, BYTE_ORDER_MAGIC, true);
  view.setUint16(4, 1, true);
  view.setBigInt64(8, -1n, true);
  return block(BLOCK.section, body, [
    ...comments.map((comment) => textOption(OPTION.comment, comment)),
    ...(os === undefined ? [] : [textOption(OPTION.section.os, os)]),
    textOption(OPTION.section.application, application),
  ]);
}

/** Returns an Interface Description Block. The first one written has number 0, and so on. */
export function interfaceDescription(described: Interface, comments: readonly string[] = []): Uint8Array {
  const body = new Uint8Array(8);
  const view = new DataView(body.buffer);
  view.setUint16(0, described.linkType, true);
  view.setUint32(4, described.snaplen, true);
  const { name, description, filter } = described;
  return block(BLOCK.interface, body, [
    ...comments.map((comment) => textOption(OPTION.comment, comment)),
    ...(name === undefined ? [] : [textOption(OPTION.interface.name, name)]),
    ...(description === undefined ? [] : [textOption(OPTION.interface.description, description)]),
    // The first byte means that a filter expression follows, not its compiled form.
    ...(filter === undefined ? [] : [textOption(OPTION.interface.filter, `\0${filter}`)]),
    option(OPTION.interface.resolution, Uint8Array.of(described.digits)),
  ]);
}

export interface InterfaceStatistics {
  /** Packets that the interface received; undefined: not known. */
  readonly received: number | undefined;
  /** Packets lost because the capturing program was too slow. */
  readonly dropped: number | undefined;
  /** Packets written. */
  readonly delivered: number;
  readonly comments?: readonly string[];
}

/** Returns an Interface Statistics Block, as of the time given in milliseconds since the epoch. */
export function interfaceStatistics(
  id: number,
  digits: 6 | 9,
  { received, dropped, delivered, comments = [] }: InterfaceStatistics,
  now: number = Date.now(),
): Uint8Array {
  const body = new Uint8Array(12);
  const view = new DataView(body.buffer);
  view.setUint32(0, id, true);
  const time = BigInt(Math.round(now)) * (digits === 9 ? 1_000_000n : 1_000n);
  view.setUint32(4, Number(time >> 32n), true);
  view.setUint32(8, Number(time & 0xffffffffn), true);
  const code = OPTION.statistics;
  return block(BLOCK.statistics, body, [
    ...comments.map((comment) => textOption(OPTION.comment, comment)),
    ...(received === undefined ? [] : [countOption(code.received, received)]),
    // Wireshark and capinfos look at ifdrop alone, though it is the kernel that drops: both are written.
    ...(dropped === undefined ? [] : [countOption(code.dropped, dropped), countOption(code.osDropped, dropped)]),
    countOption(code.delivered, delivered),
  ]);
}

/**
 * Writes an Enhanced Packet Block at `at`, which has room for PACKET_BLOCK_BYTES, the packet and the options.
 *
 * @param options encoded, without end mark unless they have one themselves; padded to four bytes.
 * @returns the index after it.
 */
export function putPacketBlock(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  packet: Packet,
  interfaceId: number,
  digits: 6 | 9,
  options?: Uint8Array,
): number {
  const { captured, start, seconds, nanos } = packet;
  const padded = (captured + 3) & ~3;
  const length = 32 + padded + (options === undefined ? 0 : options.length);
  view.setUint32(at, BLOCK.packet, true);
  view.setUint32(at + 4, length, true);
  view.setUint32(at + 8, interfaceId, true);
  if (digits === 6) {
    const micros = seconds * 1_000_000 + Math.floor(nanos / 1000);
    view.setUint32(at + 12, Math.floor(micros / 4_294_967_296), true);
    view.setUint32(at + 16, micros >>> 0, true);
  } else {
    // seconds × 10^9 + nanos does not fit into a float64: in two steps of 16 and 32 bits.
    const lower = (seconds % 65_536) * 1_000_000_000 + nanos;
    const upper = Math.floor(seconds / 65_536) * 1_000_000_000;
    const middle = (upper % 65_536) * 65_536 + lower;
    view.setUint32(at + 12, Math.floor(upper / 65_536) + Math.floor(middle / 4_294_967_296), true);
    view.setUint32(at + 16, middle % 4_294_967_296, true);
  }
  view.setUint32(at + 20, captured, true);
  view.setUint32(at + 24, packet.original, true);
  let to = at + 28;
  bytes.set(packet.bytes.subarray(start, start + captured), to);
  to += captured;
  while (to < at + 28 + padded) bytes[to++] = 0;
  if (options !== undefined) {
    bytes.set(options, to);
    to += options.length;
  }
  view.setUint32(to, length, true);
  return to + 4;
}

/** Returns a comment option with the end mark, as `putPacketBlock` takes it. */
export function commentOption(text: string): Uint8Array {
  const comment = textOption(OPTION.comment, text);
  const bytes = new Uint8Array(comment.length + 4);
  bytes.set(comment);
  return bytes;
}

/** Returns a Name Resolution Block without a name: every reader passes over it. */
export function emptyBlock(): Uint8Array {
  return block(BLOCK.names, new Uint8Array(), []);
}

function block(type: number, body: Uint8Array, options: readonly Uint8Array[]): Uint8Array {
  // Each list of options ends with an empty one.
  const length = 12 + body.length + options.reduce((sum, { length }) => sum + length, 0) + 4;
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, type, true);
  view.setUint32(4, length, true);
  bytes.set(body, 8);
  let at = 8 + body.length;
  for (const each of options) {
    bytes.set(each, at);
    at += each.length;
  }
  view.setUint32(length - 4, length, true);
  return bytes;
}

function option(code: number, value: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(4 + value.length + (-value.length & 3));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, code, true);
  view.setUint16(2, value.length, true);
  bytes.set(value, 4);
  return bytes;
}

function countOption(code: number, count: number): Uint8Array {
  const value = new Uint8Array(8);
  new DataView(value.buffer).setBigUint64(0, BigInt(count), true);
  return option(code, value);
}

/** Returns a text as an option, cut to what fits. */
function textOption(code: number, text: string): Uint8Array {
  const value = encoder.encode(text);
  if (value.length <= MAX_OPTION) return option(code, value);
  let end = MAX_OPTION - 3;
  // Not within a character: bytes 10xxxxxx continue one.
  while ((value[end]! & 0xc0) === 0x80) end--;
  const cut = new Uint8Array(end + 3);
  cut.set(value.subarray(0, end));
  cut.set([0xe2, 0x80, 0xa6], end);
  return option(code, cut);
}
