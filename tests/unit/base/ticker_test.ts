import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { Ticker } from "../../../src/base/ticker.ts";

Deno.test("Ticker.begin() begins no work that is still under way for the same object, and hands each failure over", async () => {
  const failures: unknown[] = [];
  const ticker = new Ticker({
    everyMs: 1,
    onError: (whose, what, error) => failures.push([whose, what, String(error)]),
  });
  const one = {}, other = {};
  const begun: string[] = [];
  const gate = Promise.withResolvers<void>();
  const begin = (whose: object, what: string) =>
    ticker.begin(whose, what, () => {
      begun.push(`${whose === one ? "one" : "other"} ${what}`);
      return gate.promise;
    });
  for (const whose of [one, other, one]) for (const what of ["a", "b"]) begin(whose, what);
  assertEquals(begun, ["one a", "one b", "other a", "other b"]);
  gate.reject(new Error("no"));
  while (failures.length < 4) await Promise.resolve();
  assertEquals(failures[2], [other, "a", "Error: no"]);
  // The work is over a few microtasks after its failure.
  for (let i = 0; i < 100 && begun.length === 4; i++) {
    await Promise.resolve();
    ticker.begin(one, "a", () => {
      begun.push("one a");
      return Promise.resolve();
    });
  }
  assertEquals(begun.at(-1), "one a");
});

Deno.test("Ticker.run() ticks until its signal is aborted", async () => {
  const ticker = new Ticker({ everyMs: 1, onError: () => assert(false) });
  const abort = new AbortController();
  const started = performance.now();
  let ticks = 0;
  await ticker.run(() => {
    assert(ticker.lastTick >= started);
    if (++ticks === 3) abort.abort();
  }, abort.signal);
  assertEquals(ticks, 3);
  await ticker.run(() => assert(false, "it was aborted before"), abort.signal);
});
