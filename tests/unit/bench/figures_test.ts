import { deepStrictEqual as assertEquals, match as assertMatch, ok, throws as assertThrows } from "node:assert/strict";
import { join } from "@std/path";
import {
  type Figure,
  median,
  met,
  page,
  quantile,
  range,
  regressions,
  short,
  spread,
  withParts,
} from "../../bench/figures.ts";
import { JSON_FILE, PAGE, PARTS } from "../../bench/main.ts";
import { ROOT } from "../../rig/cli.ts";

const figure: Figure = {
  id: "start",
  part: "latency",
  what: "annotate → socket",
  value: 2.5,
  unit: "×",
  target: { atMost: 3 },
  beside: "bare 7 ms",
  stable: true,
  better: "lower",
  samples: { ours: [1, 2, 3] },
};

Deno.test("median() and quantile() are of the sorted samples", () => {
  assertEquals(median([3, 1, 2]), 2);
  assertEquals(quantile([5, 4, 3, 2, 1], 0), 1);
  assertEquals(quantile(Array.from({ length: 100 }, (_, i) => i), 0.95), 95);
  assertThrows(() => median([]), /No samples/);
});

Deno.test("short(), range() and spread() have three digits", () => {
  assertEquals([1234.5, 12.345, 0.012345, 3].map(short), ["1235", "12.3", "0.0123", "3"]);
  assertEquals(range([3, 1, 2], "ms"), "2 (1–3) ms");
  assertEquals(spread([1, 2, 3, 40], "ms"), "p50 3, p95 40, max 40 ms");
});

Deno.test("met() holds the figure against its target, with the noise that is known", () => {
  assertEquals(met(figure), true);
  assertEquals(met({ ...figure, value: 3.1 }), false);
  assertEquals(met({ ...figure, value: 3.1, tolerance: 0.2 }), true);
  assertEquals(met({ ...figure, target: { atLeast: 2.6 } }), false);
  const { target: _, ...aimless } = figure;
  assertEquals(met(aimless), undefined);
});

Deno.test("regressions() names stable figures that are more than 1.5 times worse, in either direction", () => {
  const speed: Figure = { ...figure, id: "cat", value: 1, better: "higher" };
  const published = { commit: "abc", machine: "2 cores", figures: [figure, speed] };
  assertEquals(regressions(published, [{ ...figure, value: 3.7 }, { ...speed, value: 0.7 }]), []);
  assertEquals(regressions(published, [{ ...figure, value: 3.8 }, { ...speed, value: 0.6 }]), [
    "start is 3.8 ×, published is 2.5: 1.5 times worse, 1.5 is accepted",
    "cat is 0.6 ×, published is 1: 1.7 times worse, 1.5 is accepted",
  ]);
  assertEquals(
    regressions(published, [{ ...figure, value: 9, stable: false }, { ...figure, id: "new", value: 9 }]),
    [],
  );
});

Deno.test("page() has a row for each figure with its target, and names those that miss it", () => {
  const text = page({ commit: "abc", machine: "2 cores", figures: [figure, { ...figure, id: "slow", value: 4 }] });
  assertMatch(text, /^\| `start` \| annotate → socket \| ≤ 3 × \| 2\.5 × \| yes \| bare 7 ms \| `ONLY=latency` \|$/m);
  assertMatch(text, /^\| `slow` \| .* \| 4 × \| \*\*no\*\* \|/m);
  assertMatch(text, /^- Targets missed: `slow`$/m);
  assertMatch(
    page({ commit: "abc", machine: "2 cores", figures: [figure] }, ["latency", "rates"]),
    /^- Parts not measured yet: `rates`$/m,
  );
});

Deno.test("withParts() takes new figures of a part in place of the old ones, and the page reports where they are of", () => {
  const speed: Figure = { ...figure, id: "cat", part: "reading" };
  const fresh: Figure = { ...figure, value: 2 };
  const old = { commit: "abc", machine: "2 cores", figures: [speed, figure] };
  const report = withParts(old, [fresh], { commit: "def", machine: "2 cores" }, ["latency", "reading"]);
  assertEquals(report.figures, [fresh, speed]);
  assertMatch(page(report), /^- Commit: abc; `latency` def$/m);
  assertMatch(page(report), /^- Machine: 2 cores$/m);
});

Deno.test("docs/benchmarks.md is what tests/bench/benchmarks.json gives, and names each part that no figure is of", async () => {
  const report = JSON.parse(await Deno.readTextFile(JSON_FILE));
  assertEquals(await Deno.readTextFile(PAGE), page(report, Object.keys(PARTS)));
  const unknown = report.figures.filter(({ part }: Figure) => PARTS[part] === undefined);
  assertEquals(unknown, []);
  for (const { id, samples } of report.figures as Figure[]) {
    // A peer's are empty where none took part.
    assertEquals(Object.values(samples).some((series) => series.length > 0), true, `${id} has no samples`);
  }
});

Deno.test("what values.yaml and docs/storage.md state of a capture's memory is what was measured", async () => {
  const { figures } = JSON.parse(await Deno.readTextFile(JSON_FILE)) as { figures: Figure[] };
  const measured = figures.find(({ id }) => id === "capture-memory")!.value;
  for (const file of ["charts/values.yaml", "docs/storage.md"]) {
    const text = await Deno.readTextFile(join(ROOT, file));
    const said = Number(/running capture takes ([0-9.]+) MiB/.exec(text)?.[1]);
    ok(said > measured * 0.8 && said < measured * 1.25, `${file} says ${said} MiB, measured were ${measured}`);
  }
});
