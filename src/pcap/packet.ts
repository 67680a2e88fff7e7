/**
 * Definitions that readers and writers of capture files share.
 *
 * `cat` must keep up with mergecap, which is C, and an object or promise per packet costs more than the
 * packet. So a reader is a cursor: it holds one buffer (256 KiB, a few megabytes for damaged files),
 * `next()` moves it, and its fields say where in the buffer the packet is. Reading is synchronous,
 * because files are local; writing is not. A packet is encoded once, into a chunk that is written as is.
 */

/** A longer record is not one: tcpdump's MAXIMUM_SNAPLEN (libpcap pcap-int.h), so what a reader holds in memory is bounded. */
export const MAX_CAPTURED = 262_144;
/** More than any packet had before it was cut, GSO and "big TCP" (512 KiB) included: a larger length is damage. */
export const MAX_ORIGINAL = 16 * 1024 * 1024;

/** The packet at which a reader stands. Valid until its next call of `next`. */
export interface Packet {
  /** Holds the packet's bytes from `start` to `start + captured`, and anything elsewhere. */
  readonly bytes: Uint8Array;
  readonly start: number;
  /** Bytes present. */
  readonly captured: number;
  /** Bytes that the packet had on the wire. */
  readonly original: number;
  /** Whole seconds since the epoch, and nanoseconds beyond: one float64 cannot hold today's time in nanoseconds. */
  readonly seconds: number;
  readonly nanos: number;
}

/** The bytes that a reader could not read. */
export interface Loss {
  /** Bytes passed over. */
  bytes: number;
  /** Records known to have been there; each damaged place may hide more. */
  records: number;
  /** Damaged places. */
  places: number;
}

/** The properties by which interfaces differ: packets of one interface share them. */
export interface Interface {
  readonly name?: string;
  /** LINKTYPE_ value (https://www.tcpdump.org/linktypes.html). */
  readonly linkType: number;
  /** Bytes kept of each packet; 0: no limit known. */
  readonly snaplen: number;
  /** pcap filter expression. */
  readonly filter?: string;
  readonly description?: string;
  /** Decimal digits that timestamps have after the second: 6 or 9. */
  readonly digits: 6 | 9;
}

/** Names of the link types that tcpdump captures on Linux, as it prints them; others are named by number. */
const LINK_TYPES: Readonly<Record<number, string>> = {
  0: "NULL",
  1: "EN10MB",
  101: "RAW",
  113: "LINUX_SLL",
  228: "IPV4",
  229: "IPV6",
  276: "LINUX_SLL2",
};

/** Returns a link type for people: `LINUX_SLL2`, or `link type 147` if it is a rare one. */
export function linkTypeName(linkType: number): string {
  return LINK_TYPES[linkType] ?? `link type ${linkType}`;
}
