/**
 * Finds how much of a packet is headers, for readers that may see no payload: link layer, VLAN tags, IPv4 or IPv6
 * with its extension headers, and the header of TCP, UDP, ICMP or SCTP. It looks at lengths only, and never counts
 * what it does not understand: of an unknown link type nothing is left, of an unknown protocol only what comes before
 * it. What a tunnel carries is payload.
 *
 * ARP is left whole, and so is DNS: whatever is sent to or from port 53 of UDP or TCP. mDNS (port 5353) is not: pods
 * look names up at port 53.
 */
import type { Packet } from "./packet.ts";

/** LINKTYPE_ values (https://www.tcpdump.org/linktypes.html). */
const LINK = {
  null: 0,
  ethernet: 1,
  raw: 101,
  loop: 108,
  cooked: 113,
  ipv4: 228,
  ipv6: 229,
  cooked2: 276,
} as const;
const ETHERTYPE = { ipv4: 0x0800, arp: 0x0806, ipv6: 0x86dd } as const;
/** 802.1Q, 802.1ad, and what was used for an outer tag before it. */
const VLAN_TAGS: readonly number[] = [0x8100, 0x88a8, 0x9100];
/** AF_INET6 of Linux, NetBSD, FreeBSD and macOS, in whichever byte order: NULL has the capturing host's. */
const AF_INET6: readonly number[] = [10, 24, 28, 30];
const AF_INET = 2;
const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58, sctp: 132 } as const;
/** IPv6 extension headers with their length in units of 8 bytes beyond the first 8: hop-by-hop, routing, destination options. */
const OPTIONS: readonly number[] = [0, 43, 60];
const FRAGMENT = 44;
const AUTHENTICATION = 51;
/** No sender needs more (RFC 8200 has each of them once, one twice). */
const MOST_EXTENSIONS = 8;
const DNS = 53;

/** Returns how many bytes at the front of a packet are headers, at most those present. */
export function headerBytes({ bytes, start, captured, original }: Packet, linkType: number): number {
  const end = start + captured;
  return Math.min(end, headersEnd(bytes, start, { present: end, whole: start + original }, linkType)) - start;
}

/** End of a packet, or of what is in it. */
interface End {
  /** Index after the bytes that the capture has kept. */
  readonly present: number;
  /** Index after those that there were. */
  readonly whole: number;
}

/*
 * Each function below returns the index after the headers that begin at `at`, and none before `at`. It can lie beyond what is
 * present, and so can what a function looks at: a header may have been cut by the capture. Only where what follows could lead back
 * before the cut, it returns the end of what is present.
 */

function headersEnd(bytes: Uint8Array, at: number, end: End, linkType: number): number {
  switch (linkType) {
    case LINK.ethernet:
      return network(bytes, at + 14, end, uint16(bytes, at + 12));
    case LINK.cooked:
      return network(bytes, at + 16, end, uint16(bytes, at + 14));
    case LINK.cooked2:
      return network(bytes, at + 20, end, uint16(bytes, at));
    case LINK.null:
    case LINK.loop:
      return network(bytes, at + 4, end, etherTypeOf(bytes, at));
    case LINK.raw:
      return network(bytes, at, end, bytes[at]! >> 4 === 6 ? ETHERTYPE.ipv6 : ETHERTYPE.ipv4);
    case LINK.ipv4:
      return network(bytes, at, end, ETHERTYPE.ipv4);
    case LINK.ipv6:
      return network(bytes, at, end, ETHERTYPE.ipv6);
    default:
      return at;
  }
}

/** Returns the Ethernet type for the address family at an index; 0 for an unknown one. */
function etherTypeOf(bytes: Uint8Array, at: number): number {
  const [first, last] = [bytes[at]!, bytes[at + 3]!];
  if (bytes[at + 1] !== 0 || bytes[at + 2] !== 0 || (first !== 0 && last !== 0)) return 0;
  const family = first | last;
  return family === AF_INET ? ETHERTYPE.ipv4 : AF_INET6.includes(family) ? ETHERTYPE.ipv6 : 0;
}

/** Returns `at` where the network layer's protocol is none that is understood. */
function network(bytes: Uint8Array, at: number, end: End, type: number): number {
  while (VLAN_TAGS.includes(type)) {
    type = uint16(bytes, at + 2);
    at += 4;
  }
  switch (type) {
    case ETHERTYPE.ipv4:
      return ipv4(bytes, at, end);
    case ETHERTYPE.ipv6:
      return ipv6(bytes, at, end);
    case ETHERTYPE.arp:
      return arp(bytes, at, end);
    default:
      return at;
  }
}

/** Leaves out what pads the frame. */
function arp(bytes: Uint8Array, at: number, { present }: End): number {
  if (at + 8 > present) return present;
  const [hardware, protocol] = [bytes[at + 4]!, bytes[at + 5]!];
  // The longest address, InfiniBand's, has 20 bytes.
  return hardware > 20 || protocol > 16 ? at : at + 8 + 2 * (hardware + protocol);
}

function ipv4(bytes: Uint8Array, at: number, end: End): number {
  if (bytes[at]! >> 4 !== 4) return at;
  if (at + 20 > end.present) return end.present;
  const behind = at + (bytes[at]! & 0xf) * 4;
  const inside = within(at, uint16(bytes, at + 2), end);
  if (behind < at + 20 || behind > inside.whole) return at;
  const isFirst = (uint16(bytes, at + 6) & 0x1fff) === 0;
  return isFirst ? transport(bytes, behind, inside, bytes[at + 9]!) : behind;
}

function ipv6(bytes: Uint8Array, at: number, end: End): number {
  if (bytes[at]! >> 4 !== 6) return at;
  const payload = uint16(bytes, at + 4);
  const inside = within(at, payload === 0 ? 0 : 40 + payload, end);
  let next = bytes[at + 6]!;
  at += 40;
  for (let n = 0; next === FRAGMENT || next === AUTHENTICATION || OPTIONS.includes(next); n++) {
    if (n === MOST_EXTENSIONS || at + 8 > inside.whole) return at;
    if (at + 8 > inside.present) return inside.present;
    const behind = at + extensionBytes(next, bytes[at + 1]!);
    if (behind > inside.whole) return at;
    const isFirst = next !== FRAGMENT || (uint16(bytes, at + 2) & 0xfff8) === 0;
    next = bytes[at]!;
    at = behind;
    if (!isFirst) return at;
  }
  return transport(bytes, at, inside, next);
}

function extensionBytes(type: number, length: number): number {
  return type === FRAGMENT ? 8 : type === AUTHENTICATION ? (length + 2) * 4 : (length + 1) * 8;
}

/**
 * Returns the end of what begins at `at` and has so many bytes.
 *
 * @param total 0: it is not given, as in what the network card cuts into many packets.
 */
function within(at: number, total: number, { present, whole }: End): End {
  const end = total === 0 ? whole : Math.min(whole, at + total);
  return { present: Math.min(present, end), whole: end };
}

/** Returns `at` where the protocol is not known, and the end of the packet for DNS. */
function transport(bytes: Uint8Array, at: number, { present, whole }: End, protocol: number): number {
  switch (protocol) {
    case PROTOCOL.tcp: {
      if (isDns(bytes, at)) return whole;
      if (at + 20 > present) return present;
      const behind = at + (bytes[at + 12]! >> 4) * 4;
      return behind < at + 20 ? at : behind <= whole ? behind : at + 20;
    }
    case PROTOCOL.udp:
      return isDns(bytes, at) ? whole : Math.min(whole, at + 8);
    case PROTOCOL.icmp:
    case PROTOCOL.icmpv6:
      return Math.min(whole, at + 8);
    case PROTOCOL.sctp:
      return Math.min(whole, at + 12);
    default:
      return at;
  }
}

function isDns(bytes: Uint8Array, at: number): boolean {
  return uint16(bytes, at) === DNS || uint16(bytes, at + 2) === DNS;
}

function uint16(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}
