/** Who keeps a place, and who is enqueued because the answer is another one now. The rules of `admit` are in admission_test.ts. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { Admissions, Place } from "../../../src/limits/admissions.ts";
import type { Occupant } from "../../../src/plan/admission.ts";

const MB = 1_000_000;

/** Resolves after the timers that are due. */
const turn = () => new Promise((resolve) => setTimeout(resolve));

/** Admissions for one capture at a time, or for so many. Each asker can be changed in place. */
function oneAtATime(names: readonly string[], maxCaptures = 1, retained: Occupant[] = []) {
  const askers = names.map((key, i) => {
    return {
      key,
      namespace: "shop",
      place: new Place(i),
      applies: true,
      claim: 10 * MB,
      folder: { bytes: 0 },
      uid: key,
    };
  });
  const enqueued: string[] = [];
  let passes = 0, passed = Promise.withResolvers<void>();
  const limits = { maxCaptures, diskBudgetMB: 100 };
  const admissions = new Admissions({
    limits: { ...limits, perNamespace: limits },
    askers: () => askers,
    retained: () => retained,
    enqueue: (key) => enqueued.push(key),
    onPass: () => {
      passes++;
      passed.resolve();
      passed = Promise.withResolvers();
    },
  });
  return { askers, admissions, enqueued, passes: () => passes, passed: () => passed.promise };
}

Deno.test("Admissions enqueues once who waited and is granted now, and nobody whose answer is the same", async () => {
  const { askers: [first, second, third], admissions, enqueued, passes, passed } = oneAtATime(["a", "b", "c"]);
  const asked = [first!, second!, third!].map((asker) => admissions.ask(asker).kind);
  assertEquals(asked, ["granted", "queued", "queued"]);
  first!.place.take(first!.claim, "request");
  const before = passed();
  for (let i = 0; i < 3; i++) admissions.changed();
  await before;
  await turn();
  assertEquals([passes(), enqueued], [1, []]);
  first!.applies = false;
  first!.place.settle({ state: "held", reason: "" }, false, true);
  const after = passed();
  for (let i = 0; i < 3; i++) admissions.changed();
  await after;
  await turn();
  assertEquals([passes(), enqueued], [2, ["b"]]);
});

Deno.test("Admissions answers one who did not apply when the answers were given, and passes no more once closed", async () => {
  const { askers: [first, second], admissions, passes } = oneAtATime(["a", "b"]);
  first!.applies = false;
  assertEquals(admissions.ask(first!).kind, "granted");
  assertEquals(admissions.ask(second!).kind, "granted");
  first!.applies = true;
  assertEquals(admissions.ask(first!).kind, "granted", "it was seen first");
  assertEquals(admissions.ask(second!).kind, "queued");
  admissions.changed();
  admissions.close();
  await turn();
  assertEquals(passes(), 0);
});

Deno.test("Place claims no more for the request that it was granted to, and reports when it has become smaller", () => {
  const place = new Place(0);
  assertEquals(place.take(20, "a"), false);
  assertEquals([place.capped(30, "a"), place.capped(10, "a"), place.capped(30, "b")], [20, 10, 30]);
  assertEquals([place.isFor("a"), place.isFor("b")], [true, false]);
  assertEquals([place.take(10, "a"), place.granted], [true, 10]);
  assertEquals(place.take(10, "b"), false);
});

Deno.test("Place is kept while tcpdump runs, is paused or failing, and precedence until it is known who goes on", () => {
  const settled = (state: "held" | "paused" | "failing" | "waiting", isRunning: boolean, isFinal: boolean) => {
    const place = new Place(0);
    place.ranBefore = true;
    place.take(10, "a");
    return [place.settle({ state, reason: "" }, isRunning, isFinal), place.granted, place.ranBefore];
  };
  assertEquals(settled("held", true, false), [false, 10, false]);
  assertEquals(settled("paused", false, true), [false, 10, true]);
  assertEquals(settled("failing", false, true), [false, 10, true]);
  assertEquals(settled("waiting", false, true), [true, undefined, true]);
  assertEquals(settled("held", false, false), [true, undefined, true]);
  assertEquals(settled("held", false, true), [true, undefined, false]);
});

Deno.test("Admissions counts the files of captures that do not apply, and of deleted pods", () => {
  const answer = (bytes: number, ofDeleted: number, namespace = "shop") => {
    const retained = ofDeleted === 0 ? [] : [{ namespace: "", firstSeen: 9, bytes: ofDeleted }];
    const { askers: [first, second], admissions } = oneAtATime(["a", "b"], 5, retained);
    Object.assign(second!, { namespace, applies: false, folder: { bytes } });
    return admissions.ask(first!);
  };
  assertEquals([answer(0, 0).kind, answer(90 * MB, 0).kind, answer(0, 90 * MB).kind], [
    "granted",
    "granted",
    "granted",
  ]);
  for (const queued of [answer(90 * MB + 1, 0), answer(0, 90 * MB + 1), answer(50 * MB, 50 * MB)]) {
    assertEquals(queued.kind, "queued", JSON.stringify(queued));
  }
});

Deno.test("Admissions enqueues nobody who never asked, and goes on to whom the answer is the same", async () => {
  const { askers: [first, second], admissions, enqueued, passed } = oneAtATime(["a", "b"]);
  assertEquals(admissions.ask(first!).kind, "granted");
  first!.place.take(first!.claim, "request");
  // The second one waits without having asked.
  const before = passed();
  admissions.changed();
  await before;
  assertEquals([enqueued, second!.place.answer], [[], "granted"]);
});

Deno.test("Place that was never granted is none that somebody else could have", () => {
  const place = new Place(3);
  assertEquals([place.firstSeen, place.granted, place.isFor("a"), place.capped(7, "a")], [3, undefined, false, 7]);
  assertEquals(place.ranBefore, false);
  assertEquals(place.settle({ state: "held", reason: "" }, false, true), false);
});
