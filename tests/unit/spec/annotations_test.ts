import { deepStrictEqual as assertEquals, match as assertMatch, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { readAnnotations } from "../../../src/spec/annotations.ts";

const KEY = "tcpdump.antrea.io";
const LIMITS = { maxFiles: 100, maxFileSizeMB: 100, maxDurationSeconds: 86_400 };
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

Deno.test("readAnnotations() refuses the whole request for an unknown sub-key, and names those it knows", () => {
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
  for (const name of ["eth0", "any", "lo", "net1", "br-lan", "eth0.100", "eth0@if5", "k6t-eth0", "_x"]) {
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
      "1",
      "usbmon0",
      "nflog:5",
      "dbus-system",
      "bluetooth0",
      "x".repeat(16),
      "eth0\n-z",
    ]
  ) {
    assertEquals(sub("interface", name).kind, "invalid", name);
  }
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
        const { files, fileSizeMB, snaplen, durationSeconds = 1, interface: name } = asked.request;
        assert(
          files >= 1 && files <= 100 && fileSizeMB >= 1 && fileSizeMB <= 100 && snaplen >= 64 &&
            durationSeconds <= 86_400,
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
