import { deepStrictEqual as assertEquals, ok as assert, rejects as assertRejects } from "node:assert/strict";
import { Hopeless, lasting, must, waitFor } from "../../support/wait.ts";

Deno.test("waitFor() takes what is thrown for not yet, but for what must() checks", async () => {
  let looks = 0;
  await waitFor("the third look", () => {
    if (++looks < 3) throw new Error("not yet");
    return true;
  }, { everyMs: 1 });
  assertEquals(looks, 3);
  const broken = waitFor("it", async () => {
    await must(() => {
      looks++;
      throw new Error("it is broken");
    });
    return true;
  }, { everyMs: 1 });
  await assertRejects(broken, /^Hopeless: it is broken$/);
  assertEquals(looks, 4, "it was looked at again");
  await assertRejects(must(() => Promise.reject(new Hopeless("at all"))), /^Hopeless: at all$/);
});

Deno.test("lasting() ends at the first look at which the check fails, also if it would be over then", async () => {
  let looks = 0;
  const over = () => looks >= 3;
  await lasting("three looks", over, () => void looks++, { everyMs: 1 });
  assertEquals(looks, 3);
  const failing = lasting("three looks", over, () => assert(false, "503"), { everyMs: 1 });
  await assertRejects(failing, /503/);
});
