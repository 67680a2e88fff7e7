import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { linkTypeName, MAX_CAPTURED, MAX_ORIGINAL } from "../../../src/pcap/packet.ts";

Deno.test("linkTypeName() names the link types of a pod as tcpdump does, and others by number", () => {
  assertEquals([0, 1, 101, 113, 228, 229, 276, 147].map(linkTypeName), [
    "NULL",
    "EN10MB",
    "RAW",
    "LINUX_SLL",
    "IPV4",
    "IPV6",
    "LINUX_SLL2",
    "link type 147",
  ]);
});

Deno.test("a record is as long as tcpdump makes one, and a packet as long as the kernel does", () => {
  assertEquals([MAX_CAPTURED, MAX_ORIGINAL], [262_144, 16_777_216]);
});
