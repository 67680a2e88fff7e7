import { strictEqual } from "node:assert";
import { rowIn } from "../../../../src/plugin/fetch/capture_row.ts";

const ROW = {
  namespace: "default",
  pod: "web-0",
  uid: "f3a5c0de-0000-4000-8000-000000000000",
  state: "capturing",
  reason: "",
  since: "2026-11-27T10:00:00.000Z",
  files: 5,
  bytes: 4_200_000,
  packets: 1234,
  dropped: 0,
  oldest: null,
  newest: null,
  filter: null,
};

Deno.test("rowIn() takes a row, also one with more in it, and one of a capture without manifest", () => {
  for (
    const more of [
      ...[{}, { incidents: 3 }, { options: { snaplen: "64" } }, { uid: "", state: "unknown", since: null }],
      ...[{ lostPercent: 0 }, { lostPercent: 100 }],
    ]
  ) {
    const row = { ...ROW, ...more };
    strictEqual(rowIn(row), row);
  }
});

Deno.test("rowIn() refuses a row of which any field is missing or not what it must be", () => {
  const wrong = Object.keys(ROW).flatMap((name) => [{ ...ROW, [name]: undefined }, { ...ROW, [name]: {} }]);
  const names = ["--capture-dir=/etc", "-n", "a/b", "", "web 0", "\u001b[2J"];
  const others = [
    ...["namespace", "pod"].flatMap((name) => names.map((value) => ({ ...ROW, [name]: value }))),
    ...["--since=1s", "a/b", "-"].map((uid) => ({ ...ROW, uid })),
    ...["files", "bytes", "packets", "dropped"].flatMap((name) =>
      [-1, 1.5, NaN, "5", null].map((value) => ({ ...ROW, [name]: value }))
    ),
    ...[null, [], "x", { snaplen: 64 }].map((options) => ({ ...ROW, options })),
    ...[null, "1", -1, 101, NaN].map((lostPercent) => ({ ...ROW, lostPercent })),
    ...[null, undefined, "row", 7, []],
  ];
  for (const value of [...wrong, ...others]) strictEqual(rowIn(value), undefined, JSON.stringify(value));
});
