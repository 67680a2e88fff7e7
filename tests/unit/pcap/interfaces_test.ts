import { deepStrictEqual as assertEquals, strictEqual as same } from "node:assert/strict";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { InterfaceBlocks, largestSnaplen, linkTypeNames, mixedLinkTypes } from "../../../src/pcap/interfaces.ts";
import type { Interface } from "../../../src/pcap/packet.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import { sectionHeader } from "../../../src/pcap/pcapng_blocks.ts";
import { concat } from "../reading/files.ts";

const described = (snaplen: number, linkType = 276): Interface => ({ linkType, snaplen, digits: 6 });
const MIXED = "the packets have the link types LINUX_SLL2 and EN10MB: " +
  "Wireshark reads such a file, tcpdump and others that use libpcap do not";
const real = (snaplen: number) => `snaplen ${snaplen}: at most so many bytes of each packet were kept`;

/** Snaplen and comments of each interface, as a reader finds them. */
function read(...blocks: Uint8Array[]): [snaplen: number, comments: readonly string[]][] {
  const reader = new PcapngReader(new MemorySource(concat(sectionHeader({ application: "test" }), ...blocks)));
  same(reader.next(), false);
  return reader.interfaces.map(({ snaplen, comments }) => [snaplen, comments]);
}

Deno.test("InterfaceBlocks gives all interfaces the largest snaplen of those that it has", () => {
  const known = [described(64), described(96)];
  const blocks = new InterfaceBlocks(known);
  assertEquals(read(...known.map((each) => blocks.add(each, ["mine"]))), [[96, ["mine", real(64)]], [96, ["mine"]]]);
  // A later one that is larger has its own.
  assertEquals(read(blocks.add(described(200))), [[200, []]]);
});

Deno.test("InterfaceBlocks gives what it does not know the largest snaplen that there is", () => {
  const blocks = new InterfaceBlocks();
  assertEquals(read(blocks.add(described(64)), blocks.add(described(0)), blocks.add(described(262_144))), [
    [262_144, [real(64)]],
    [262_144, []],
    [262_144, []],
  ]);
});

Deno.test("InterfaceBlocks does not repeat the comment on a snaplen", () => {
  const blocks = new InterfaceBlocks();
  assertEquals(read(blocks.add(described(96), [real(64)]), blocks.add(described(96), ["another snaplen 64"])), [
    [262_144, [real(64)]],
    [262_144, ["another snaplen 64", real(96)]],
  ]);
});

Deno.test("InterfaceBlocks reports for each interface whose link type is not the first one's that they are mixed", () => {
  const blocks = new InterfaceBlocks([described(0)]);
  const all = [described(0), described(0, 1), described(0)].map((each) => blocks.add(each));
  assertEquals(read(...all).map(([, comments]) => comments), [[], [MIXED], []]);
});

Deno.test("mixedLinkTypes() and linkTypeNames() name each link type once", () => {
  assertEquals([mixedLinkTypes([]), mixedLinkTypes([1]), mixedLinkTypes([1, 1])], [undefined, undefined, undefined]);
  same(mixedLinkTypes([276, 1, 276]), MIXED);
  assertEquals([linkTypeNames([]), linkTypeNames([1, 1]), linkTypeNames([1, 101, 147])], [
    "",
    "EN10MB",
    "EN10MB, RAW and link type 147",
  ]);
});

Deno.test("largestSnaplen() takes none for all bytes", () => {
  assertEquals([largestSnaplen([]), largestSnaplen([described(64), described(96), described(80)])], [0, 96]);
  same(largestSnaplen([described(64), described(0)]), 262_144);
});
