import { strictEqual } from "node:assert/strict";
import { droppedCell, lostPercent } from "../../../src/spec/lost.ts";

Deno.test("lostPercent() is 0 only if nothing was dropped, and 100 only if all was", () => {
  const of = (received: number, dropped: number) => lostPercent({ received, dropped });
  for (
    const [received, dropped, percent] of [
      ...[[0, 0, 0], [1000, 0, 0], [1000, 250, 25], [1000, 5, 0.5], [3, 1, 33.33], [1_000_000, 1, 0.01]],
      ...[[1_000_000, 999_999, 99.99], [7, 7, 100], [0, 3, 100]],
    ] as const
  ) strictEqual(of(received!, dropped!), percent, `${dropped} of ${received}`);
});

Deno.test("droppedCell() gives the share where something was dropped, and where it is known", () => {
  strictEqual(droppedCell(0, 0), "0");
  strictEqual(droppedCell(21, 0.49), "21 (0.49%)");
  strictEqual(droppedCell(21, undefined), "21");
});
