import { deepStrictEqual, ok, strictEqual, throws } from "node:assert";
import fc from "fast-check";
import { readAnnotations, SUB_KEYS } from "../../../../src/spec/annotations.ts";
import { UsageFailure } from "../../../../src/plugin/failure.ts";
import { describe } from "../../../../src/spec/request.ts";
import {
  changesNothing,
  DEFAULTS,
  differences,
  removalChanges,
  requestChanges,
} from "../../../../src/plugin/commands/request.ts";

const KEY = "tcpdump.antrea.io";

Deno.test("requestChanges() sets what is asked for and removes what an earlier request had", () => {
  const { changes, request } = requestChanges(
    KEY,
    { files: "7", values: { filter: "tcp port 80", duration: "10m" } },
    {},
  );
  deepStrictEqual(changes, {
    [KEY]: "7",
    [`${KEY}/filter`]: "tcp port 80",
    [`${KEY}/file-size`]: null,
    [`${KEY}/snaplen`]: null,
    [`${KEY}/interface`]: null,
    [`${KEY}/direction`]: null,
    [`${KEY}/duration`]: "10m",
    [`${KEY}/packets`]: null,
    [`${KEY}/buffer-size`]: null,
    [`${KEY}/hold`]: null,
  });
  strictEqual(describe(request), "7 files of 1 MB, filter tcp port 80, for 10m");
});

Deno.test("requestChanges() refuses a value by the name of its flag, and reports what is accepted", () => {
  for (
    const [options, message] of [
      [{ files: "0", values: {} }, '--files must be a whole number from 1 to 100: got "0"'],
      [{ files: "5", values: { snaplen: "5x" } }, '--snaplen must be a whole number from 64 to 262144: got "5x"'],
      [{ files: "5", values: { direction: "up" } }, /^--direction must be in, out or inout: got "up"/],
    ] as const
  ) {
    throws(() => requestChanges(KEY, options, {}), (error) => {
      ok(error instanceof UsageFailure);
      if (typeof message === "string") strictEqual(error.message, message);
      else ok(message.test(error.message), error.message);
      return true;
    });
  }
});

Deno.test("requestChanges() keeps to the limits that the controller was installed with", () => {
  ok(requestChanges(KEY, { files: "150", values: {} }, { MAX_FILES: "200" }));
  throws(() => requestChanges(KEY, { files: "150", values: {} }, {}), /from 1 to 100/);
  const buffer = { files: "5", values: { "buffer-size": "40" } };
  ok(requestChanges(KEY, buffer, { MAX_BUFFER_MB: "64" }));
  throws(() => requestChanges(KEY, buffer, {}), /--buffer-size must be a whole number from 1 to 32: got "40"/);
  throws(() => requestChanges(KEY, { files: "5", values: { duration: "2h" } }, { MAX_DURATION: "1h" }), UsageFailure);
});

Deno.test("requestChanges() asks for what the controller reads, whatever the values, or refuses", () => {
  const limits = { maxFiles: 100, maxFileSizeMB: 100, maxBufferMB: 32, maxDurationSeconds: 86_400 };
  fc.assert(fc.property(
    fc.oneof(fc.string(), fc.nat(200).map(String)),
    fc.record({ filter: fc.string(), snaplen: fc.oneof(fc.string(), fc.nat().map(String)) }, { requiredKeys: [] }),
    (files, values) => {
      let changes;
      try {
        changes = requestChanges(KEY, { files, values }, {}).changes;
      } catch (error) {
        ok(error instanceof UsageFailure);
        return;
      }
      const set = Object.entries(changes).filter((entry): entry is [string, string] => entry[1] !== null);
      strictEqual(readAnnotations(Object.fromEntries(set), KEY, limits).kind, "valid");
    },
  ));
});

Deno.test("removalChanges() removes the main key and every sub-key, also unknown ones, and nothing else", () => {
  deepStrictEqual(
    removalChanges(KEY, { [KEY]: "5", [`${KEY}/filter`]: "x", [`${KEY}/new`]: "", [`${KEY}x`]: "", other: "" }),
    {
      [KEY]: null,
      [`${KEY}/filter`]: null,
      [`${KEY}/new`]: null,
    },
  );
});

Deno.test("changesNothing() is true only when every annotation is as it would be", () => {
  const { changes } = requestChanges(KEY, { files: "5", values: { filter: "udp" } }, {});
  ok(changesNothing({ [KEY]: "5", [`${KEY}/filter`]: "udp", other: "x" }, changes));
  ok(!changesNothing({ [KEY]: "5", [`${KEY}/filter`]: "udp", [`${KEY}/hold`]: "true" }, changes));
  ok(!changesNothing({ [KEY]: "5" }, changes));
});

const LIMITS = { maxFiles: 100, maxFileSizeMB: 100, maxBufferMB: 32, maxDurationSeconds: 86_400 };
/** Two values of each option, as annotations have them, neither the default. */
const OPTIONS = {
  filter: ["udp", "tcp port 80"],
  "file-size": ["2", "20"],
  snaplen: ["64", "128"],
  interface: ["eth0", "lo"],
  direction: ["in", "out"],
  duration: ["30s", "10m"],
  packets: ["10", "100"],
  "buffer-size": ["1", "32"],
  hold: ["true", "true"],
} as const;

/** Annotations of a request, whatever its options. */
const requests = fc.record({
  [KEY]: fc.constantFrom("5", "8"),
  ...Object.fromEntries(SUB_KEYS.map((name) => [`${KEY}/${name}`, fc.constantFrom(undefined, ...OPTIONS[name])])),
}).map((record: Record<string, string | undefined>) => {
  const set = Object.entries(record).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return Object.fromEntries(set);
});

Deno.test("differences() names every option that start changes or removes, with what it was and is, and no other", () => {
  fc.assert(fc.property(requests, requests, (before, { [`${KEY}/hold`]: _, ...asked }) => {
    const values = Object.fromEntries(
      SUB_KEYS.flatMap((name) => asked[`${KEY}/${name}`] === undefined ? [] : [[name, asked[`${KEY}/${name}`]]]),
    );
    const { changes } = requestChanges(KEY, { files: asked[KEY]!, values }, {});
    const expected = ["files", ...SUB_KEYS].flatMap((name) => {
      const annotation = name === "files" ? KEY : `${KEY}/${name}`;
      const words = [before[annotation], asked[annotation]].map((value) =>
        value === undefined ? DEFAULTS[name as keyof typeof DEFAULTS] : name === "filter" ? `"${value}"` : value
      );
      return words[0] === words[1] ? [] : [`${name} ${words[0]} → ${words[1]}`];
    });
    strictEqual(differences(KEY, before, changes), expected.join(", "));
    strictEqual(differences(KEY, { other: "x" }, changes), "");
  }));
});

Deno.test("differences() shows what was no valid value as it was, on one line", () => {
  const { changes } = requestChanges(KEY, { files: "5", values: {} }, {});
  const before = { [KEY]: "", [`${KEY}/filter`]: "a\nb", [`${KEY}/snaplen`]: " 128 ", [`${KEY}/file-size`]: "1" };
  strictEqual(
    differences(KEY, before, changes),
    'files "" → 5, filter "a\\nb" → none, snaplen 128 → 262144',
  );
});

Deno.test("an option that is not given is the default that differences() names", () => {
  const bare = readAnnotations({ [KEY]: "5" }, KEY, LIMITS);
  for (const [name, value] of Object.entries(DEFAULTS)) {
    if (value === "none" || value === "false") continue;
    deepStrictEqual(readAnnotations({ [KEY]: "5", [`${KEY}/${name}`]: value }, KEY, LIMITS), bare);
  }
});

Deno.test("describe() shows every option that is not the default, whatever the others are", () => {
  const described = (annotations: Record<string, string>) => {
    const asked = readAnnotations(annotations, KEY, LIMITS);
    ok(asked.kind === "valid", JSON.stringify(asked));
    return describe(asked.request);
  };
  fc.assert(fc.property(requests, fc.constantFrom(...SUB_KEYS), (annotations, name) => {
    if (name === "hold") return; // the state says that
    const { [`${KEY}/${name}`]: _, ...without } = annotations;
    const [one, other] = OPTIONS[name].map((value) => described({ ...without, [`${KEY}/${name}`]: value }));
    ok(one!.includes(OPTIONS[name][0]) && other!.includes(OPTIONS[name][1]), `${one} / ${other}`);
    strictEqual(new Set([one, other, described(without)]).size, 3, name);
  }));
});
