import {
  deepStrictEqual as assertEquals,
  ok as assert,
  rejects as assertRejects,
  throws as assertThrows,
} from "node:assert/strict";
import { join } from "@std/path";
import { FaultRecord, type FaultRow, isFull, ROWS } from "../../faults/fault.ts";
import { missing, problems, render } from "../../faults_report.ts";

const root = join(import.meta.dirname!, "../../..");
const rows: FaultRow[] = [
  { id: "one", fault: "fault one of 60 s", test: "tests/faults/one_test.ts", budget: 5, bounded: "8 s" },
  { id: "two", fault: "fault two | three", test: "tests/faults/two_test.ts", budget: 5 },
];
const results = [
  { id: "two", proof: "seen | twice\nat least", seconds: 0.5, packetsLost: 3, leftovers: 0, seed: 7 },
  { id: "one", proof: "a <dead> process", seconds: 12.3, leftovers: 0 },
];
const commit = "0123456789ab";
const circumstances = { commit, changed: false, machine: "2 cores", full: false };

Deno.test("render() makes one line of each row, in their order, with the seeds", async () => {
  const text = await render(rows, results, circumstances);
  assertEquals(text.split("\n").filter((line) => line.startsWith("| `")), [
    "| `one` | [fault one of 60 s](../tests/faults/one_test.ts); here 8 s | a &lt;dead> process | 12 s | – | 0 |",
    "| `two` | [fault two \\| three](../tests/faults/two_test.ts) | seen \\| twice at least | 0.50 s | 3 | 0 |",
  ]);
  assertEquals(text.match(/^- Seeds: .*$/m)?.[0], "- Seeds: two: 7");
  assertEquals(await problems(rows, text), []);
});

Deno.test("render() reports of a full run that it is one, and of none of its faults that it was bounded", async () => {
  const text = await render(rows, results, { ...circumstances, full: true });
  assert(/^- Form: full/m.test(text));
  assert(text.includes("| [fault one of 60 s](../tests/faults/one_test.ts) |"));
  assertEquals(await problems(rows, text), []);
});

Deno.test("render() refuses figures of a tree with changes", async () => {
  await assertRejects(render(rows, results, { ...circumstances, changed: true }), /commit them first/);
});

Deno.test("render() refuses a row without a result", async () => {
  await assertRejects(render(rows, results.slice(1), circumstances), /No result of "two"/);
  assertEquals(missing(rows, results), []);
  assertEquals(missing(rows, results.slice(1)).length, 1);
});

Deno.test("problems() notices an edit by hand, a missing row, one too many and other words", async () => {
  const text = await render(rows, results, circumstances);
  assertEquals(await problems(rows, text.replace("12 s", "1 s")), ["docs/reliability.md was edited by hand"]);
  assertEquals((await problems(rows, text + "more\n")).length, 1);
  assertEquals((await problems(rows, "")).length, 1);
  const third = { ...rows[0]!, id: "three" };
  assertEquals(await problems([...rows, third], text), [`docs/reliability.md has no row "three"`]);
  assertEquals(await problems(rows.slice(1), text), [
    `docs/reliability.md has a row "one" that tests/faults.json lacks`,
  ]);
  for (const change of [{ fault: "another fault" }, { test: "tests/faults/other_test.ts" }, { bounded: "9 s" }]) {
    const found = await problems([{ ...rows[0]!, ...change }, rows[1]!], text);
    assertEquals(found.length, 1, JSON.stringify(change));
    assert(/other words for "one"/.test(found[0]!), found[0]!);
  }
});

Deno.test("problems() refuses figures of no commit, and of a tree with changes", async () => {
  for (const none of ["abc", `${commit}, with changes`]) {
    const found = await problems(rows, await render(rows, results, { ...circumstances, commit: none }));
    assertEquals(found.length, 1, none);
    assert(found[0]!.includes(`is of "${none}"`), found[0]!);
  }
});

Deno.test("FAULTS takes full and nothing else", () => {
  assertEquals([isFull(undefined), isFull("full")], [false, true]);
  assertThrows(() => isFull("ful"), /accepted is full/);
  assertThrows(() => isFull(""), /accepted is full/);
});

Deno.test("FaultRecord demands a proof, then figures within the budget and no leftovers", () => {
  const right = { seconds: 1, leftovers: 0 };
  const happened = () => {
    const record = new FaultRecord(rows[0]!);
    record.happened("seen");
    return record;
  };
  assertThrows(() => new FaultRecord(rows[0]!).right(right), /before it has shown/);
  assertThrows(() => new FaultRecord(rows[0]!).result(), /did not show that the fault/);
  assertThrows(() => happened().result(), /all was right again/);
  assertThrows(() => happened().right({ ...right, seconds: 5.1 }), /accepted are 5 s/);
  assertThrows(() => happened().right({ ...right, leftovers: 1 }), /1 leftovers/);
  const record = happened();
  record.right(right);
  assertEquals(record.result(), { id: "one", proof: "seen", ...right });
});

Deno.test("every row of tests/faults.json is a test of its file, and every test a row", async () => {
  const tests = new Map<string, string>();
  for await (const { name } of Deno.readDir(join(root, "tests/faults"))) {
    if (!name.endsWith("_test.ts")) continue;
    const text = await Deno.readTextFile(join(root, "tests/faults", name));
    for (const [, id] of text.matchAll(/^(?:fault|\w+Fault)\(\s*"([^"]+)"/gm)) tests.set(id!, `tests/faults/${name}`);
  }
  assertEquals(
    Object.fromEntries([...tests].sort()),
    Object.fromEntries(ROWS.map(({ id, test }) => [id, test] as [string, string]).sort()),
  );
  assertEquals(new Set(ROWS.map(({ id }) => id)).size, ROWS.length);
});
