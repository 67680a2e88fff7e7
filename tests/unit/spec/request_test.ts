import { deepStrictEqual as assertEquals, strictEqual } from "node:assert/strict";
import {
  bytesClaimed,
  type CaptureRequest,
  describe,
  fingerprint,
  optionsOf,
  processFingerprint,
  tcpdumpFlags,
} from "../../../src/spec/request.ts";

const PLAIN: CaptureRequest = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" };
/** Each option by itself, with its words in a description and in a list of options. */
const OPTIONS: [change: Partial<CaptureRequest>, words: string, option: Record<string, string>][] = [
  [{ files: 1 }, "1 file of 1 MB", {}],
  [{ fileSizeMB: 20 }, "5 files of 20 MB", { "file-size": "20" }],
  [{ interface: "eth0" }, "5 files of 1 MB, interface eth0", { interface: "eth0" }],
  [{ direction: "in" }, "5 files of 1 MB, direction in", { direction: "in" }],
  [{ snaplen: 96 }, "5 files of 1 MB, 96 bytes of each packet", { snaplen: "96" }],
  [{ filter: "tcp port 80" }, "5 files of 1 MB, filter tcp port 80", {}],
  [{ durationSeconds: 600 }, "5 files of 1 MB, for 10m", { duration: "10m" }],
  [{ packets: 1 }, "5 files of 1 MB, for 1 packet", { packets: "1" }],
  [{ bufferMB: 16 }, "5 files of 1 MB, buffer of 16 MB", { "buffer-size": "16" }],
];

Deno.test("describe() and optionsOf() tell what is not the default, and nothing else", () => {
  strictEqual(describe(PLAIN), "5 files of 1 MB");
  assertEquals(optionsOf(PLAIN), {});
  for (const [change, words, option] of OPTIONS) {
    strictEqual(describe({ ...PLAIN, ...change }), words);
    assertEquals(optionsOf({ ...PLAIN, ...change }), option);
  }
  const all = Object.assign({}, PLAIN, ...OPTIONS.map(([change]) => change)) as CaptureRequest;
  strictEqual(
    describe(all),
    "1 file of 20 MB, filter tcp port 80, 96 bytes of each packet, interface eth0, direction in, for 10m, for 1 packet, buffer of 16 MB",
  );
  assertEquals(optionsOf(all), Object.assign({}, ...OPTIONS.map(([, , option]) => option)));
});

Deno.test("tcpdumpFlags() are those of the options that tcpdump has, in one order", () => {
  assertEquals(tcpdumpFlags(PLAIN), ["-s", "262144", "-i", "any"]);
  const all = Object.assign({}, PLAIN, ...OPTIONS.map(([change]) => change)) as CaptureRequest;
  assertEquals(tcpdumpFlags(all), ["-s", "96", "-i", "eth0", "-Q", "in"]);
});

Deno.test("fingerprint() is another for each option, and stays readable by the version before", () => {
  const all = OPTIONS.map(([change]) => fingerprint({ ...PLAIN, ...change }));
  strictEqual(new Set([...all, fingerprint(PLAIN)]).size, all.length + 1);
  strictEqual(fingerprint(PLAIN), '[5,1,262144,"any","inout",null,null,null]');
  const newer = { ...PLAIN, later: true, latest: 5 } as CaptureRequest;
  strictEqual(fingerprint(newer), '[5,1,262144,"any","inout",null,null,null,["later",true],["latest",5]]');
  const full = { ...PLAIN, filter: "tcp", durationSeconds: 60, packets: 7 };
  strictEqual(fingerprint(full), '[5,1,262144,"any","inout","tcp",60,7]');
  strictEqual(fingerprint({ ...PLAIN, bufferMB: 8 }), '[5,1,262144,"any","inout",null,null,null,["bufferMB",8]]');
});

Deno.test("processFingerprint() leaves out the duration, which only the controller counts", () => {
  for (const [change] of OPTIONS) {
    const isSame = processFingerprint({ ...PLAIN, ...change }) === processFingerprint(PLAIN);
    strictEqual(isSame, change.durationSeconds !== undefined);
  }
});

Deno.test("bytesClaimed() counts the ring, and next to it what is there before, or as much as a reader may set aside", () => {
  const request = { ...PLAIN, files: 5, fileSizeMB: 2 };
  strictEqual(bytesClaimed(request, 0), 20_000_000);
  strictEqual(bytesClaimed(request, 9_999_999), 20_000_000);
  strictEqual(bytesClaimed(request, 30_000_000), 40_000_000);
});
