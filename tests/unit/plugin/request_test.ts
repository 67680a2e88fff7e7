import { deepStrictEqual, ok, strictEqual, throws } from "node:assert";
import fc from "fast-check";
import { readAnnotations } from "../../../src/spec/annotations.ts";
import { UsageFailure } from "../../../src/plugin/failure.ts";
import { describe } from "../../../src/spec/request.ts";
import { changesNothing, removalChanges, requestChanges } from "../../../src/plugin/request.ts";

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
    [`${KEY}/hold`]: null,
  });
  strictEqual(describe(request), "7 files of 1 MB, filter tcp port 80, for 10m");
});

Deno.test("requestChanges() refuses a value by the name of its flag, and says what is accepted", () => {
  for (
    const [options, message] of [
      [{ files: "0", values: {} }, '--files is "0", accepted is a whole number from 1 to 100'],
      [{ files: "5", values: { snaplen: "5x" } }, '--snaplen is "5x", accepted is a whole number from 64 to 262144'],
      [{ files: "5", values: { direction: "up" } }, /^--direction is "up", accepted is in, out/],
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
  throws(() => requestChanges(KEY, { files: "5", values: { duration: "2h" } }, { MAX_DURATION: "1h" }), UsageFailure);
});

Deno.test("requestChanges() asks for what the controller reads, whatever the values, or refuses", () => {
  const limits = { maxFiles: 100, maxFileSizeMB: 100, maxDurationSeconds: 86_400 };
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
