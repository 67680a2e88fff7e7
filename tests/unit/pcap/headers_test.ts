/** What `--headers-only` leaves of packets, built by hand, of every kind that tcpdump gives for a pod. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { headerBytes } from "../../../src/pcap/headers.ts";
import { concat } from "../reading/files.ts";

/** Which every byte of a payload is, and no byte of a header. */
const MARK = 0xa5;
const payload = (size: number) => new Uint8Array(size).fill(MARK);
const bytes = (...numbers: number[]) => Uint8Array.from(numbers);
const zeros = (size: number) => new Uint8Array(size);
const u16 = (n: number) => bytes(n >> 8, n & 0xff);

/** What may stand behind a packet in a reader's buffer: it must not matter, however it reads. */
const BEHIND = [[MARK], [0], [1], [0xff], [0, 1], [1, 0], [0, 53], [0x08, 0x00], [0x81, 0x00], [17, 0], [0x45, 0, 0]]
  .map((pattern) => Uint8Array.from({ length: 99 }, (_, i) => pattern[i % pattern.length]!));

/** What is left of a packet of which so many bytes are present. It stands in the middle of other bytes, as in a reader's buffer. */
function kept(packet: Uint8Array, linkType: number, captured = packet.length): Uint8Array {
  const present = packet.subarray(0, captured);
  const lengths = [...BEHIND, new Uint8Array()].map((behind) => {
    const bytes = concat(payload(7), present, behind);
    return headerBytes({ bytes, start: 7, captured, original: packet.length, seconds: 1, nanos: 1 }, linkType);
  });
  const [length] = lengths;
  assert(length! >= 0 && length! <= captured, `${length} of ${captured}`);
  assert(lengths.every((other) => other === length), `${lengths} depend on what is not the packet's`);
  return present.subarray(0, length);
}

/** Asserts that just the first part of a packet is left. */
function cuts(linkType: number, headers: Uint8Array, rest: Uint8Array, what: string): void {
  assertEquals(kept(concat(headers, rest), linkType), headers, what);
}

const ethernet = (type: number) => concat(zeros(12), u16(type));
const LINKS: Record<string, { linkType: number; header: (type: number) => Uint8Array; ipOnly?: true }> = {
  EN10MB: { linkType: 1, header: ethernet },
  LINUX_SLL: { linkType: 113, header: (type) => concat(zeros(14), u16(type)) },
  LINUX_SLL2: { linkType: 276, header: (type) => concat(u16(type), zeros(18)) },
  RAW: { linkType: 101, header: () => bytes(), ipOnly: true },
  "NULL, little-endian": { linkType: 0, header: (type) => bytes(type === 0x0800 ? 2 : 10, 0, 0, 0), ipOnly: true },
  "NULL, big-endian": { linkType: 0, header: (type) => bytes(0, 0, 0, type === 0x0800 ? 2 : 30), ipOnly: true },
  LOOP: { linkType: 108, header: (type) => bytes(0, 0, 0, type === 0x0800 ? 2 : 24), ipOnly: true },
};

/** An IPv4 header. @param options.words of options; @param options.total 0: as the kernel writes it where the card cuts */
function ipv4(
  protocol: number,
  length: number,
  { words = 0, fragment = 0, total }: { words?: number; fragment?: number; total?: number } = {},
): Uint8Array {
  total ??= 20 + 4 * words + length;
  return concat(bytes(0x45 + words, 0), u16(total), u16(1), u16(fragment), bytes(64, protocol), zeros(10 + 4 * words));
}

function ipv6(next: number, length: number): Uint8Array {
  return concat(bytes(0x60, 0, 0, 0), u16(length), bytes(next, 64), zeros(32));
}

/** An extension header of 8 × (units + 1) bytes. */
const extension = (next: number, units: number) => concat(bytes(next, units), zeros(6 + 8 * units).fill(0x77));
const fragment = (next: number, offset: number) => concat(bytes(next, 3), u16(offset << 3 | 1), zeros(4));
const authentication = (next: number, words: number) => concat(bytes(next, words), zeros(4 * words + 6));
const udp = (length: number, from = 40_000, to = 9) => concat(u16(from), u16(to), u16(8 + length), u16(0));
const tcp = (words = 0, from = 40_000, to = 80) =>
  concat(u16(from), u16(to), zeros(8), bytes(0x50 + 0x10 * words, 0x10), zeros(6 + 4 * words));

/** Transport headers by name, with the protocol's number. */
const TRANSPORTS: Record<string, { protocol: number; header: (length: number) => Uint8Array }> = {
  UDP: { protocol: 17, header: (length) => udp(length) },
  TCP: { protocol: 6, header: () => tcp() },
  "TCP with options": { protocol: 6, header: () => tcp(10) },
  "ICMP, also an error's quoted packet": { protocol: 1, header: () => concat(bytes(3, 3), zeros(6)) },
  ICMPv6: { protocol: 58, header: () => concat(bytes(1, 0), zeros(6)) },
  SCTP: { protocol: 132, header: () => zeros(12) },
  "an unknown protocol": { protocol: 253, header: () => bytes() },
  "ESP": { protocol: 50, header: () => bytes() },
  "a tunnel of IPv4": { protocol: 4, header: () => bytes() },
  "a tunnel of IPv6": { protocol: 41, header: () => bytes() },
  GRE: { protocol: 47, header: () => bytes() },
};

for (const [link, { linkType, header }] of Object.entries(LINKS)) {
  Deno.test(`headerBytes() of ${link} is what comes before the payload, whatever the transport`, () => {
    for (const [name, transport] of Object.entries(TRANSPORTS)) {
      for (const size of [0, 1, 1000]) {
        const top = transport.header(size);
        const length = top.length + size;
        for (const words of [0, 10]) {
          const four = concat(header(0x0800), ipv4(transport.protocol, length, { words }), top);
          cuts(linkType, four, payload(size), `${name} over IPv4`);
        }
        cuts(
          linkType,
          concat(header(0x86dd), ipv6(transport.protocol, length), top),
          payload(size),
          `${name} over IPv6`,
        );
      }
    }
  });
}

Deno.test("headerBytes() passes VLAN tags and IPv6 extension headers, and takes a segment that the card is to cut", () => {
  for (const tags of [[0x8100], [0x88a8, 0x8100], [0x9100, 0x8100, 0x8100]]) {
    for (const { linkType, header, ipOnly } of Object.values(LINKS)) {
      if (ipOnly) continue;
      const types = [...tags, 0x0800].slice(1).map((type) => concat(u16(5), u16(type)));
      const headers = concat(header(tags[0]!), ...types, ipv4(17, 108), udp(100));
      cuts(linkType, headers, payload(100), `tags ${tags}`);
    }
  }
  const options = [extension(43, 0), extension(60, 3), extension(51, 1), authentication(6, 4)];
  const length = options.reduce((sum, each) => sum + each.length, 20 + 50);
  cuts(1, concat(ethernet(0x86dd), ipv6(0, length), ...options, tcp()), payload(50), "extension headers");
  cuts(1, concat(ethernet(0x0800), ipv4(6, 0, { total: 0 }), tcp(3)), payload(60_000), "a total length of 0");
  cuts(1, concat(ethernet(0x86dd), ipv6(6, 0), tcp(3)), payload(60_000), "a payload length of 0");
});

Deno.test("headerBytes() of a fragment is the network header alone, but for the first one", () => {
  cuts(1, concat(ethernet(0x0800), ipv4(17, 1000, { fragment: 185 })), payload(1000), "IPv4");
  cuts(1, concat(ethernet(0x0800), ipv4(17, 1000, { fragment: 0x2000 | 185 })), payload(1000), "IPv4, not the last");
  cuts(1, concat(ethernet(0x0800), ipv4(17, 1008, { fragment: 0x2000 }), udp(2000)), payload(1000), "IPv4, first");
  cuts(1, concat(ethernet(0x0800), ipv4(17, 1008, { fragment: 0x4000 }), udp(1000)), payload(1000), "not to be cut");
  cuts(1, concat(ethernet(0x86dd), ipv6(44, 1008), fragment(17, 185)), payload(1000), "IPv6");
  cuts(1, concat(ethernet(0x86dd), ipv6(44, 1016), fragment(17, 0), udp(2000)), payload(1000), "IPv6, first");
  // Not even a name server's.
  const dns = concat(u16(53), u16(53), payload(100));
  cuts(1, concat(ethernet(0x0800), ipv4(17, dns.length, { fragment: 1 })), dns, "of DNS");
});

Deno.test("headerBytes() leaves ARP and DNS whole, without what pads their frame", () => {
  const arp = concat(u16(1), u16(0x0800), bytes(6, 4), u16(1), zeros(20));
  for (const { linkType, header, ipOnly } of Object.values(LINKS)) {
    if (!ipOnly) cuts(linkType, concat(header(0x0806), arp), payload(18), "ARP");
    for (const ports of [[40_000, 53], [53, 40_000]] as const) {
      const query = zeros(50);
      cuts(linkType, concat(header(0x0800), ipv4(17, 58), udp(50, ...ports), query), payload(9), "DNS over UDP");
      cuts(linkType, concat(header(0x86dd), ipv6(6, 78), tcp(2, ...ports), query), payload(9), "DNS over TCP");
    }
  }
  cuts(1, concat(ethernet(0x0800), ipv4(17, 58), udp(50, 5353, 5353)), payload(50), "mDNS");
  cuts(1, concat(ethernet(0x0800), ipv4(132, 62), u16(40_000), u16(53), zeros(8)), payload(50), "port 53 of SCTP");
});

Deno.test("headerBytes() of what it does not understand is what came before it", () => {
  for (const type of [0x8847, 0x8864, 0x88cc, 0x0003, 300]) cuts(1, ethernet(type), payload(300), `type ${type}`);
  cuts(1, concat(ethernet(0x8100), u16(1), u16(0x8847)), payload(300), "behind a tag");
  for (const linkType of [2, 9, 105, 127, 195, 253, 65_535]) {
    cuts(linkType, bytes(), payload(60), `link type ${linkType}`);
  }
  const whole = concat(ipv4(17, 8), udp(0));
  for (
    const family of [[99, 0, 0, 0], [0, 0, 0, 0], [2, 0, 0, 2], [2, 1, 0, 0], [2, 0, 1, 0], [0, 1, 0, 2], [0, 2, 0, 0]]
  ) {
    cuts(0, bytes(...family), whole, `address family ${family}`);
  }
  cuts(228, whole, payload(9), "IPv4 without a link");
  cuts(229, concat(ipv6(17, 8), udp(0)), payload(9), "IPv6 without a link");
  cuts(101, bytes(), concat(bytes(0x15), payload(60)), "IP version");
  cuts(228, bytes(), ipv6(17, 0), "IP version");
  cuts(229, bytes(), ipv4(17, 0), "IP version");
});

Deno.test("headerBytes() never believes a length that cannot be", () => {
  const ip = (first: number, total: number) => concat(bytes(first, 0), u16(total), zeros(5), bytes(6), zeros(10));
  cuts(1, ethernet(0x0800), concat(ip(0x44, 200), payload(200)), "header shorter than one");
  cuts(1, ethernet(0x0800), concat(ip(0x4f, 30), payload(200)), "header longer than the packet");
  cuts(1, ethernet(0x0800), concat(ip(0x4f, 0), payload(30)), "header longer than what was on the wire");
  cuts(
    1,
    concat(ethernet(0x0800), ip(0x45, 60)),
    concat(tcp().fill(0x40, 12, 13), payload(20)),
    "TCP shorter than its header",
  );
  cuts(
    1,
    concat(ethernet(0x0800), ip(0x45, 60), tcp().fill(0xf0, 12, 13)),
    payload(300),
    "TCP options beyond the packet",
  );
  cuts(
    1,
    concat(ethernet(0x0800), ip(0x45, 9999), tcp().fill(0xf0, 12, 13)),
    payload(20),
    "a packet longer than was on the wire",
  );
  cuts(
    1,
    concat(ethernet(0x86dd), ipv6(60, 20)),
    concat(bytes(17, 9), payload(200)),
    "an extension longer than the packet",
  );
  cuts(
    1,
    concat(ethernet(0x86dd), ipv6(60, 4)),
    concat(bytes(17, 0), payload(200)),
    "an extension cut by the packet's end",
  );
  const many = Array.from({ length: 9 }, () => extension(60, 0));
  const some = many.slice(1);
  cuts(
    1,
    concat(ethernet(0x86dd), ipv6(60, 500), ...some),
    concat(extension(17, 0), payload(420)),
    "too many extensions",
  );
  cuts(1, concat(ethernet(0x0806), zeros(0)), concat(zeros(4), bytes(200, 200), payload(500)), "ARP of no addresses");
  const arp = (hardware: number, protocol: number) => concat(zeros(4), bytes(hardware, protocol), zeros(2));
  cuts(1, concat(ethernet(0x0806), arp(20, 16), zeros(72)), payload(9), "ARP of the longest addresses");
  for (const [hardware, protocol] of [[21, 4], [6, 17]] as const) {
    cuts(1, ethernet(0x0806), concat(arp(hardware, protocol), payload(500)), "ARP of longer addresses");
  }
  // Also where the capture has kept just the header that says it.
  const short: [rest: Uint8Array, before: Uint8Array, length: number][] = [
    [arp(21, 4), ethernet(0x0806), 8],
    [ip(0x44, 200), ethernet(0x0800), 20],
    [tcp().fill(0x40, 12, 13), concat(ethernet(0x0800), ip(0x45, 60)), 20],
    [extension(17, 9), concat(ethernet(0x86dd), ipv6(60, 20)), 8],
  ];
  for (const [rest, before, length] of short) {
    assertEquals(kept(concat(before, rest, payload(50)), 1, before.length + length), before);
    const some = concat(before, rest).subarray(0, before.length + length - 1);
    assertEquals(kept(concat(before, rest, payload(50)), 1, some.length), some, "cut: nobody knows");
  }
});

/** Headers with what may follow them, from the link to the transport. */
const stacks = fc.record({
  link: fc.constantFrom(...Object.values(LINKS)),
  tags: fc.array(fc.constantFrom(0x8100, 0x88a8, 0x9100), { maxLength: 3 }),
  words: fc.integer({ min: 0, max: 10 }),
  extensions: fc.option(
    fc.array(fc.tuple(fc.constantFrom(0, 43, 60, 51), fc.integer({ min: 0, max: 4 })), { maxLength: 8 }),
  ),
  transport: fc.constantFrom(...Object.values(TRANSPORTS)),
  size: fc.integer({ min: 0, max: 300 }),
  padding: fc.integer({ min: 0, max: 40 }),
  captured: fc.integer({ min: 0, max: 600 }),
});

Deno.test("headerBytes() lets no byte of a payload through, whatever headers there are and wherever the capture has cut them", () => {
  fc.assert(
    fc.property(stacks, ({ link, tags, words, extensions, transport, size, padding, captured }) => {
      const top = transport.header(size);
      let inner: Uint8Array;
      if (extensions === null) inner = concat(ipv4(transport.protocol, top.length + size, { words }), top);
      else {
        const types = [...extensions.map(([type]) => type), transport.protocol];
        const headers = extensions.map(([type, units], i) =>
          type === 51 ? authentication(types[i + 1]!, 2 * units + 2) : extension(types[i + 1]!, units)
        );
        const length = headers.reduce((sum, each) => sum + each.length, top.length + size);
        inner = concat(ipv6(types[0]!, length), ...headers, top);
      }
      const type = extensions === null ? 0x0800 : 0x86dd;
      const types = link.ipOnly ? [type] : [...tags, type];
      const headers = concat(link.header(types[0]!), ...types.slice(1).map((each) => concat(u16(7), u16(each))), inner);
      const packet = concat(headers, payload(size + padding));
      const left = kept(packet, link.linkType, Math.min(captured, packet.length));
      assertEquals(left, headers.subarray(0, captured));
    }),
    { numRuns: 5000 },
  );
});

Deno.test("headerBytes() takes any bytes for a packet", () => {
  const linkTypes = Object.values(LINKS).map(({ linkType }) => linkType);
  const start = fc.constantFrom(
    bytes(),
    ethernet(0x0800),
    ethernet(0x86dd),
    ethernet(0x8100),
    bytes(0x45),
    bytes(0x60),
  );
  fc.assert(
    fc.property(
      start,
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom(...linkTypes),
      fc.nat(300),
      (a, b, link, n) => {
        const packet = concat(a, b);
        kept(packet, link, Math.min(n, packet.length));
      },
    ),
    { numRuns: 5000 },
  );
});
