import { deepStrictEqual as assertEquals, match as assertMatch, ok as assert, throws } from "node:assert/strict";
import fc from "fast-check";
import { readAnnotations, requestHash, SUB_KEYS } from "../../../src/spec/annotations.ts";
import { initialText, OPTION_NAMES, OPTIONS } from "../../../src/spec/options.ts";

const KEY = "tcpdump.antrea.io";
const LIMITS = { maxFiles: 100, maxFileSizeMB: 100, maxBufferMB: 32, maxDurationSeconds: 86_400 };
const read = (annotations: Record<string, string>) => readAnnotations(annotations, KEY, LIMITS);
const sub = (name: string, value: string) => read({ [KEY]: "5", [`${KEY}/${name}`]: value });

function problem(annotations: Record<string, string>): string {
  const asked = read(annotations);
  assert(asked.kind === "invalid", `accepted: ${JSON.stringify(asked)}`);
  return asked.problem;
}

Deno.test("readAnnotations() asks for nothing without the main key, whatever the sub-keys are", () => {
  assertEquals(read({}), { kind: "nothing" });
  assertEquals(read({ [`${KEY}/filter`]: "tcp", [`${KEY}/nonsense`]: "x" }), { kind: "nothing" });
});

Deno.test("readAnnotations() reads N, with blanks around it, and fills in the defaults", () => {
  for (const [value, files] of [["1", 1], ["5", 5], ["100", 100], [" 5 ", 5], ["\t7\n", 7]] as const) {
    assertEquals(read({ [KEY]: value }), {
      kind: "valid",
      request: { files, fileSizeMB: 1, snaplen: 262_144, interface: "any", direction: "inout" },
      hold: false,
    });
  }
});

for (
  const bad of [
    "0",
    "-1",
    "5x",
    "1e3",
    "101",
    "",
    "999999999999",
    "٣",
    "🦈",
    "9".repeat(5000),
    "5.0",
    "0x5",
    "+5",
    "5 5",
  ]
) {
  Deno.test(`readAnnotations() refuses N ${JSON.stringify(bad.slice(0, 20))} in one line that names key, value and range`, () => {
    const sentence = problem({ [KEY]: bad });
    assert(sentence.startsWith(`annotation ${KEY} must be a whole number from 1 to 100: got "`), sentence);
    assert(!sentence.includes("\n") && sentence.length < 300, sentence);
    if (bad.length <= 20 && /^[\x20-\x7e]*$/.test(bad)) assert(sentence.includes(`"${bad}"`), sentence);
  });
}

Deno.test("readAnnotations() refuses the whole request for an unknown sub-key, and names the known ones", () => {
  const sentence = problem({ [KEY]: "5", [`${KEY}/fliter`]: "tcp" });
  assertMatch(sentence, /"tcpdump\.antrea\.io\/fliter" is not known: it must be one of .*tcpdump\.antrea\.io\/filter/);
});

Deno.test("readAnnotations() reads each sub-key", () => {
  const asked = read({
    [KEY]: "3",
    [`${KEY}/filter`]: "  tcp port 80 ",
    [`${KEY}/file-size`]: "10",
    [`${KEY}/snaplen`]: "96",
    [`${KEY}/interface`]: "eth0",
    [`${KEY}/direction`]: "in",
    [`${KEY}/duration`]: "10m",
    [`${KEY}/packets`]: "1000",
    [`${KEY}/buffer-size`]: "16",
    [`${KEY}/hold`]: "true",
  });
  assertEquals(asked, {
    kind: "valid",
    request: {
      files: 3,
      fileSizeMB: 10,
      snaplen: 96,
      interface: "eth0",
      direction: "in",
      filter: "tcp port 80",
      durationSeconds: 600,
      packets: 1000,
      bufferMB: 16,
    },
    hold: true,
  });
});

Deno.test("readAnnotations() refuses values of sub-keys that are out of bounds", () => {
  const bad: [string, string][] = [
    ["file-size", "0"],
    ["file-size", "101"],
    ["file-size", "1M"],
    ["snaplen", "63"],
    ["snaplen", "262145"],
    ["direction", "both"],
    ["duration", "0s"],
    ["duration", "25h"],
    ["duration", "10"],
    ["duration", "1h30m"],
    ["duration", "-5s"],
    ["packets", "0"],
    ["packets", "2147483648"],
    ["buffer-size", "0"],
    ["buffer-size", "33"],
    ["hold", "yes"],
    ["filter", "tcp\u0000port"],
    ["filter", "host \u009b31m"],
    ["filter", "x".repeat(8193)],
  ];
  for (const [name, value] of bad) {
    const sentence = problem({ [KEY]: "5", [`${KEY}/${name}`]: value });
    assert(sentence.startsWith(`annotation ${KEY}/${name} must be `), sentence);
    assert(sentence.includes(': got "'), sentence);
  }
});

Deno.test("readAnnotations() takes only names of the pod's interfaces", () => {
  for (
    const name of [
      "eth0",
      "any",
      "lo",
      "net1",
      "br-lan",
      "eth0.100",
      "eth0@if5",
      "k6t-eth0",
      "_x",
      "1x",
      "x1",
      "a-nflog",
    ]
  ) {
    assertEquals(sub("interface", name).kind, "valid", name);
  }
  for (
    const name of [
      "-i",
      "",
      "a b",
      "../x",
      "x/y",
      "..",
      ".",
      "1",
      "12",
      "usbmon0",
      "nflog",
      "nflog:5",
      "nfqueue:1",
      "dbus-system",
      "bluetooth0",
      "dag0",
      "snf0",
      "rdma_x",
      "netmap:x",
      "vale0:1",
      "dpdk:0",
      "x".repeat(16),
      "eth0\n-z",
    ]
  ) {
    assertEquals(sub("interface", name).kind, "invalid", name);
  }
});

Deno.test("readAnnotations() takes each sub-key up to its bounds, with blanks around it", () => {
  const taken: [name: string, value: string, field: string, read: unknown][] = [
    ["file-size", " 1 ", "fileSizeMB", 1],
    ["file-size", "100", "fileSizeMB", 100],
    ["snaplen", "64", "snaplen", 64],
    ["snaplen", "262144", "snaplen", 262_144],
    ["interface", " eth0\n", "interface", "eth0"],
    ["interface", "x".repeat(15), "interface", "x".repeat(15)],
    ["direction", " in ", "direction", "in"],
    ["direction", "out", "direction", "out"],
    ["direction", "inout", "direction", "inout"],
    ["duration", " 1s ", "durationSeconds", 1],
    ["duration", "24h", "durationSeconds", 86_400],
    ["packets", "1", "packets", 1],
    ["packets", "2147483647", "packets", 2_147_483_647],
    ["buffer-size", "1", "bufferMB", 1],
    ["buffer-size", " 4 ", "bufferMB", undefined],
    ["buffer-size", "32", "bufferMB", 32],
    ["filter", `\t${"x".repeat(8191)}`, "filter", "x".repeat(8191)],
    ["filter", "  ", "filter", undefined],
  ];
  for (const [name, value, field, expected] of taken) {
    const asked = sub(name, value);
    assert(asked.kind === "valid", `${name} ${value}`);
    assertEquals((asked.request as unknown as Record<string, unknown>)[field], expected, name);
  }
  for (const [value, hold] of [[" true ", true], ["false", false]] as const) {
    const asked = sub("hold", value);
    assert(asked.kind === "valid");
    assertEquals(asked.hold, hold);
  }
});

Deno.test("readAnnotations() reports what each sub-key must be, and what it is", () => {
  const mustBe: [name: string, range: string][] = [
    ["file-size", "a whole number from 1 to 100"],
    ["snaplen", "a whole number from 64 to 262144"],
    ["interface", "the name of a network interface in the pod, such as eth0, or any"],
    ["direction", "in, out or inout"],
    ["duration", "a duration such as 30s, 10m or 2h, from 1s to 24h"],
    ["packets", "a whole number from 1 to 2147483647"],
    ["buffer-size", "a whole number from 1 to 32"],
    ["hold", "true or false"],
  ];
  for (const [name, range] of mustBe) {
    for (const bad of ["-", "", "1 1"]) {
      assertEquals(
        problem({ [KEY]: "5", [`${KEY}/${name}`]: bad }),
        `annotation ${KEY}/${name} must be ${range}: got "${bad}"`,
      );
    }
  }
  assertEquals(
    problem({ [KEY]: "5", [`${KEY}/filter`]: "\u007f" }),
    `annotation ${KEY}/filter must be a pcap filter expression of at most 8192 characters without control characters: ` +
      'got "\\u007f"',
  );
  assertEquals(
    problem({ [KEY]: "5", [`${KEY}/fliter`]: "tcp" }),
    `annotation "${KEY}/fliter" is not known: it must be one of ${SUB_KEYS.map((name) => `${KEY}/${name}`).join(", ")}`,
  );
});

Deno.test("readAnnotations() passes on an error that is not about an annotation", () => {
  throws(() => read({ [KEY]: "5", [`${KEY}/interface`]: 5 as never }), TypeError);
});

Deno.test("requestHash() is the same for the same annotations in any order, and in any version", () => {
  assertEquals(requestHash({ a: "1", "a/b": "2" }), "23e7d16bffd56bfe");
  assertEquals(requestHash({ "a/b": "2", a: "1" }), "23e7d16bffd56bfe");
});

Deno.test("readAnnotations() answers anything with a request within the limits or one printable line", () => {
  const value = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.integer().map(String),
    fc.constantFrom("$(id)", "../..", "-z sh", "`id`"),
  );
  const keys = [
    "",
    "/filter",
    "/file-size",
    "/snaplen",
    "/interface",
    "/direction",
    "/duration",
    "/packets",
    "/buffer-size",
    "/hold",
    "/other",
  ];
  fc.assert(
    fc.property(fc.dictionary(fc.constantFrom(...keys.map((k) => KEY + k)), value), (annotations) => {
      const asked = read(annotations);
      if (asked.kind === "nothing") assert(!(KEY in annotations));
      if (asked.kind === "invalid") {
        // deno-lint-ignore no-control-regex
        assert(!/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(asked.problem), asked.problem);
        assert(asked.problem.length < 500);
      }
      if (asked.kind === "valid") {
        const { files, fileSizeMB, snaplen, durationSeconds = 1, bufferMB = 1, interface: name } = asked.request;
        assert(
          files >= 1 && files <= 100 && fileSizeMB >= 1 && fileSizeMB <= 100 && snaplen >= 64 &&
            durationSeconds <= 86_400 && bufferMB >= 1 && bufferMB <= 32,
        );
        assert(!name.startsWith("-") && !name.includes("/"));
      }
    }),
    { numRuns: 5000 },
  );
});

Deno.test("readAnnotations() is not slowed down by a value of 256 KB", () => {
  const started = performance.now();
  for (const digit of ["9", " ", "a", "\u0000"]) problem({ [KEY]: digit.repeat(262_144) });
  problem({ [KEY]: "5", [`${KEY}/interface`]: "a".repeat(262_144) });
  assert(performance.now() - started < 1000);
});

Deno.test("each option reports what the plugin's help and the annotations' table show of it", () => {
  const shown = OPTION_NAMES.map((name) => {
    const { type, flag } = OPTIONS[name];
    return [name, type, initialText(name), flag.value, flag.help];
  });
  assertEquals(shown, [
    ["filter", "text", "none", "<expression>", "pcap filter, such as 'tcp port 80'"],
    ["file-size", "amount", "1", "<MB>", "size of each file in MB (10^6 bytes)"],
    ["snaplen", "amount", "262144", "<bytes>", "bytes kept of each packet"],
    ["interface", "text", "any", "<name>", "interface in the pod, or any"],
    ["direction", "text", "inout", "<in|out|inout>", "of the packets, seen from the pod"],
    ["duration", "amount", "none", "<time>", "stop after capturing for this long: 30s, 10m, 2h"],
    ["packets", "amount", "none", "<n>", "stop after this many packets"],
    ["buffer-size", "amount", "4", "<MB>", "size of the kernel's packet buffer in MB"],
  ]);
});
