/** Who gets room, within a namespace and between namespaces. */
import { deepStrictEqual as assertEquals, match, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { type AdmissionLimits, admit, type Applicant, type Occupant } from "../../../src/plan/admission.ts";
import type { Admission } from "../../../src/plan/plan.ts";

const MB = 1_000_000;
const applicant = (key: string, change: Partial<Applicant> = {}): Applicant => ({
  key,
  namespace: "shop",
  granted: undefined,
  ranBefore: false,
  firstSeen: 0,
  uid: key,
  claim: 10 * MB,
  bytes: 0,
  ...change,
});
/** Limits with which one namespace may have all. */
const limits = (maxCaptures: number, diskBudgetMB: number): AdmissionLimits => ({
  maxCaptures,
  diskBudgetMB,
  perNamespace: { maxCaptures, diskBudgetMB },
});
/** Limits with which a namespace may have half. */
const halves = (maxCaptures: number, diskBudgetMB: number): AdmissionLimits => ({
  maxCaptures,
  diskBudgetMB,
  perNamespace: { maxCaptures: Math.ceil(maxCaptures / 2), diskBudgetMB: Math.ceil(diskBudgetMB / 2) },
});
const kinds = (rooms: Map<string, { kind: string }>) =>
  Object.fromEntries([...rooms].map(([key, { kind }]) => [key, kind]));
const reasonOf = (room: Admission | undefined) => room && "reason" in room ? room.reason : "";

Deno.test("admit() goes by who has a place, who ran before, first seen, UID", () => {
  const rooms = admit(
    [
      applicant("late", { firstSeen: 3 }),
      applicant("b", { firstSeen: 1 }),
      applicant("a", { firstSeen: 1 }),
      applicant("before", { firstSeen: 9, ranBefore: true }),
      applicant("running", { firstSeen: 9, granted: 10 * MB }),
    ],
    [],
    limits(3, 1500),
  );
  assertEquals(kinds(rooms), { running: "granted", before: "granted", a: "granted", b: "queued", late: "queued" });
});

Deno.test("admit() rejects what can never fit, and within a namespace lets nobody overtake who waits for a large place", () => {
  const rooms = admit(
    [
      applicant("huge", { claim: 101 * MB }),
      applicant("running", { granted: 50 * MB, claim: 50 * MB }),
      applicant("large", { firstSeen: 1, claim: 60 * MB }),
      applicant("small", { firstSeen: 2, claim: 1 * MB }),
    ],
    [],
    limits(64, 100),
  );
  assertEquals(kinds(rooms), { huge: "impossible", running: "granted", large: "queued", small: "queued" });
  match(reasonOf(rooms.get("huge")), /101 MB .* limits\.diskBudgetMB, 100 MB$/);
  match(reasonOf(rooms.get("large")), /may take 60 MB of disk, and 50 MB of limits\.diskBudgetMB, 100 MB/);
  assertEquals(reasonOf(rooms.get("small")), "large of the same namespace came first and waits");
});

Deno.test("admit() counts the files of those who wait, and gives an edit that claims more its turn like a new one", () => {
  const running = applicant("running", { granted: 80 * MB, claim: 80 * MB, firstSeen: 2 });
  const grown = applicant("grown", { granted: 10 * MB, claim: 50 * MB, firstSeen: 1 });
  assertEquals(kinds(admit([grown, running], [], limits(64, 100))), { running: "granted", grown: "queued" });
  assertEquals(kinds(admit([{ ...grown, claim: 20 * MB }, running], [], limits(64, 100))), {
    running: "granted",
    grown: "granted",
  });
  // Its own place counts for it, not against it, also where all are taken.
  assertEquals(kinds(admit([{ ...grown, claim: 20 * MB }, running], [], limits(2, 100))), {
    running: "granted",
    grown: "granted",
  });
  const full = applicant("full", { claim: 80 * MB, bytes: 30 * MB, firstSeen: 9 });
  const fresh = applicant("fresh", { claim: 80 * MB, firstSeen: 1 });
  assertEquals(kinds(admit([fresh, full], [], limits(64, 100))), { fresh: "queued", full: "queued" });
  const huge = applicant("huge", { claim: 200 * MB, bytes: 30 * MB, firstSeen: 9 });
  assertEquals(kinds(admit([fresh, huge], [], limits(64, 100))), { fresh: "queued", huge: "impossible" });
});

Deno.test("admit() starts what fits next to a large claim of another namespace that waits, and reports who waits for which limit", () => {
  const tenant = { namespace: "tenant" };
  const all = [
    applicant("running", { ...tenant, granted: 200 * MB, claim: 200 * MB }),
    applicant("large", { ...tenant, firstSeen: 1, claim: 1400 * MB }),
    applicant("small", { firstSeen: 2 }),
  ];
  const rooms = admit(all, [], limits(64, 1500));
  assertEquals(kinds(rooms), { running: "granted", large: "queued", small: "granted" });
  match(reasonOf(rooms.get("large")), /may take 1400 MB of disk, and 200 MB of limits\.diskBudgetMB, 1500 MB/);
  // With the default shares that claim is out of the question, and a second one of 600 MB waits for its own namespace.
  const [running, large, small] = all as [Applicant, Applicant, Applicant];
  const never = reasonOf(admit(all, [], halves(64, 1500)).get("large"));
  match(never, /1400 MB .* limits\.perNamespace\.diskBudgetMB, 750 MB$/);
  const own = admit([running, { ...large, claim: 600 * MB }, small], [], halves(64, 1500));
  assertEquals(kinds(own), { running: "granted", large: "queued", small: "granted" });
  match(
    reasonOf(own.get("large")),
    /600 MB of disk, and 200 MB of limits\.perNamespace\.diskBudgetMB, 750 MB, are taken by namespace tenant$/,
  );
  const places = admit([running, { ...large, claim: 1 * MB }, small], [], halves(2, 1500));
  assertEquals(kinds(places), { running: "granted", large: "queued", small: "granted" });
  match(
    reasonOf(places.get("large")),
    /^1 capture is running by namespace tenant, and limits\.perNamespace\.maxCaptures is 1$/,
  );
});

Deno.test("admit() charges held, completed and retained files to their namespace", () => {
  const others: Occupant[] = [{ namespace: "shop", firstSeen: 0, bytes: 45 * MB }];
  const all = [applicant("a", { firstSeen: 1 }), applicant("b", { firstSeen: 2, namespace: "bank" })];
  const rooms = admit(all, others, halves(64, 100));
  assertEquals(kinds(rooms), { a: "queued", b: "granted" });
  match(reasonOf(rooms.get("a")), /45 MB of limits\.perNamespace\.diskBudgetMB, 50 MB, are taken by namespace shop$/);
});

Deno.test("admit() reserves what a waiting claim needs from those that came after it, but no more", () => {
  const holder = (key: string, namespace: string, firstSeen: number, mb: number) =>
    applicant(key, { namespace, firstSeen, granted: mb * MB, claim: mb * MB });
  const wish = (key: string, namespace: string, firstSeen: number, mb: number) =>
    applicant(key, { namespace, firstSeen, claim: mb * MB });
  const large = wish("large", "a", 5, 50);
  // 20 MB are free, 50 are kept for it out of what the older ones have.
  const older = [holder("o1", "b", 1, 40), holder("o2", "c", 2, 40)];
  assertEquals(kinds(admit([...older, large, wish("x", "d", 6, 20)], [], halves(64, 100))), {
    o1: "granted",
    o2: "granted",
    large: "queued",
    x: "granted",
  });
  // The younger have taken all but its 50 MB: the older one's room is its own.
  const younger = [holder("o1", "b", 1, 10), holder("y1", "c", 6, 40), holder("y2", "d", 7, 5)];
  const rooms = admit([...younger, wish("large", "a", 5, 45), wish("x", "d", 8, 10)], [], halves(64, 100));
  assertEquals(kinds(rooms), { o1: "granted", large: "granted", y1: "granted", y2: "granted", x: "queued" });
  const full = [holder("o1", "b", 1, 10), holder("y1", "c", 6, 40), holder("y2", "d", 7, 5)];
  const kept = admit([...full, wish("large", "a", 5, 50), wish("x", "d", 8, 10)], [], halves(64, 100));
  assertEquals(kinds(kept), { o1: "granted", large: "queued", y1: "granted", y2: "granted", x: "queued" });
  assertEquals(
    reasonOf(kept.get("x")),
    "what is left of limits.diskBudgetMB, 100 MB, is reserved for an earlier request of another namespace",
  );
  assertEquals(
    kinds(admit([...full, wish("large", "a", 5, 50), wish("x", "d", 8, 5)], [], halves(64, 100))).x,
    "granted",
  );
  // Two that would fit one at a time.
  const two = [...full, wish("large", "a", 5, 50), wish("x", "d", 8, 3), wish("z", "b", 9, 3)];
  const { x, z } = kinds(admit(two, [], halves(64, 100)));
  assertEquals([x, z], ["granted", "queued"]);
  // Files that came after it, and those that were there before.
  const files = (firstSeen: number) => [{ namespace: "d", firstSeen, bytes: 5 * MB }];
  const beside = (firstSeen: number) =>
    kinds(
      admit([...full.slice(0, 2), wish("large", "a", 5, 50), wish("x", "c", 8, 6)], files(firstSeen), halves(64, 100)),
    );
  assertEquals([beside(7).x, beside(4).x], ["queued", "granted"]);
  // For the first of a namespace only.
  const head = [
    holder("o1", "b", 1, 45),
    holder("y1", "c", 7, 40),
    wish("head", "a", 5, 20),
    wish("second", "a", 6, 50),
  ];
  assertEquals(kinds(admit([...head, wish("x", "d", 8, 15)], [], halves(64, 100))).x, "granted");
  // So are places.
  const places = [holder("o", "b", 1, 1), holder("y", "c", 6, 1), wish("w", "a", 5, 1), wish("z", "d", 8, 1)];
  assertEquals(kinds(admit(places, [], halves(2, 100))), { o: "granted", y: "granted", w: "queued", z: "queued" });
});

Deno.test("admit() orders by UID what was seen at the same moment, in whatever order it is asked", () => {
  const pair = [applicant("a"), applicant("b")];
  for (const all of [pair, pair.toReversed()]) {
    assertEquals(Object.fromEntries([...admit(all, [], limits(1, 100))].map(([key, { kind }]) => [key, kind])), {
      a: "granted",
      b: "queued",
    });
  }
  // So the order is given: what a waiting claim reserves is kept only from those that came after it.
  const kindOfLast = (holder: Partial<Applicant>, others: Occupant[] = []) => {
    const all = [
      applicant("waiting", { namespace: "a", firstSeen: 5, uid: "m", claim: 50 * MB }),
      applicant("holder", { namespace: "b", ...holder, claim: holder.granted! }),
      applicant("last", { namespace: "d", firstSeen: 8, claim: 30 * MB }),
    ];
    return kinds(admit(all, others, limits(9, 100))).last;
  };
  const byUid = (uid: string) => kindOfLast({ firstSeen: 5, uid, granted: 60 * MB });
  assertEquals([byUid("z"), byUid("b")], ["queued", "granted"]);
  const byFiles = (firstSeen: number) =>
    kindOfLast({ granted: 40 * MB }, [{ namespace: "c", firstSeen, bytes: 25 * MB }]);
  assertEquals([byFiles(6), byFiles(5)], ["queued", "granted"]);
});

Deno.test("admit() names the limit and what is taken of it, without what the applicant itself has", () => {
  const running = ["a", "b"].map((key) => applicant(key, { namespace: key, granted: 20 * MB, claim: 20 * MB }));
  const reason = (count: number, change: Partial<Applicant>, within: AdmissionLimits) =>
    reasonOf(
      admit([...running.slice(0, count), applicant("x", { firstSeen: 1, ...change })], [], within).get("x"),
    );
  assertEquals(reason(1, {}, limits(1, 100)), "1 capture is running on this node, and limits.maxCaptures is 1");
  assertEquals(reason(2, {}, limits(2, 100)), "2 captures are running on this node, and limits.maxCaptures is 2");
  assertEquals(
    reason(2, { claim: 61 * MB, bytes: 5 * MB }, limits(9, 100)),
    "it may take 61 MB of disk, and 40 MB of limits.diskBudgetMB, 100 MB, are taken on this node",
  );
  assertEquals(reason(2, { claim: 60 * MB, bytes: 5 * MB }, limits(9, 100)), "");
});

Deno.test("admit() counts one place for a capture that claims more, and its own files once", () => {
  const grown = applicant("grown", { granted: 10 * MB, claim: 20 * MB });
  const fresh = applicant("fresh", { firstSeen: 1 });
  assertEquals(kinds(admit([grown, fresh], [], limits(2, 100))), { grown: "granted", fresh: "granted" });
  const large = { ...fresh, claim: 80 * MB };
  assertEquals(kinds(admit([grown, large], [], limits(2, 100))), { grown: "granted", fresh: "granted" });
  // What it has is its own: it does not stand in the way of its turn.
  const all = [
    applicant("older", { namespace: "b", granted: 40 * MB, claim: 40 * MB }),
    applicant("grown", { namespace: "a", firstSeen: 1, granted: 10 * MB, claim: 50 * MB }),
    applicant("younger", { namespace: "c", firstSeen: 2, granted: 10 * MB, claim: 10 * MB }),
    applicant("last", { namespace: "d", firstSeen: 3, claim: 30 * MB }),
  ];
  assertEquals(kinds(admit(all, [], limits(9, 95))), {
    older: "granted",
    younger: "granted",
    grown: "queued",
    last: "granted",
  });
});

Deno.test("admit() reserves the last place for a claim that waits, and the bytes of each that waits", () => {
  const kept = "is reserved for an earlier request of another namespace";
  const place = admit(
    [
      applicant("waiting", { namespace: "a", firstSeen: 5, claim: 50 * MB }),
      applicant("younger", { namespace: "b", firstSeen: 6, granted: 60 * MB, claim: 60 * MB }),
      applicant("last", { namespace: "c", firstSeen: 7, claim: 1 * MB }),
    ],
    [],
    limits(2, 100),
  );
  assertEquals(reasonOf(place.get("last")), `what is left of limits.maxCaptures, 2, ${kept}`);
  // The first that waits is content, the second is not.
  const room = admit(
    [
      applicant("holder", { namespace: "a", granted: 95 * MB, claim: 95 * MB }),
      applicant("first", { namespace: "b", firstSeen: 1 }),
      applicant("second", { namespace: "c", firstSeen: 2, claim: 96 * MB }),
      applicant("last", { namespace: "d", firstSeen: 3, claim: 5 * MB }),
    ],
    [],
    limits(9, 100),
  );
  assertEquals(reasonOf(room.get("last")), `what is left of limits.diskBudgetMB, 100 MB, ${kept}`);
});

const NAMESPACES = ["a", "b", "c", "d"];
type Share = AdmissionLimits["perNamespace"];

/** What happens on a node, in the order in which it does. */
type Happening =
  | { readonly is: "asked"; readonly namespace: string; readonly claim: number; readonly ranBefore: boolean }
  | { readonly is: "ended" | "completed" | "files gone"; readonly which: number }
  | { readonly is: "edited"; readonly which: number; readonly claim: number }
  | { readonly is: "carried out"; readonly how: readonly boolean[] };

const size = fc.integer({ min: 1, max: 60 }).map((n) => n * MB);
const happening: fc.Arbitrary<Happening> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      is: fc.constant("asked" as const),
      namespace: fc.constantFrom(...NAMESPACES),
      claim: size,
      ranBefore: fc.boolean(),
    }),
  },
  { weight: 3, arbitrary: fc.record({ is: fc.constant("carried out" as const), how: fc.array(fc.boolean()) }) },
  fc.record({ is: fc.constantFrom("ended" as const, "completed" as const, "files gone" as const), which: fc.nat(20) }),
  fc.record({ is: fc.constant("edited" as const), which: fc.nat(20), claim: size }),
);
const anyLimits = fc.record({
  maxCaptures: fc.integer({ min: 1, max: 5 }),
  diskBudgetMB: fc.integer({ min: 2, max: 100 }),
})
  .chain((node) =>
    fc.record({
      maxCaptures: fc.oneof(fc.constant(Math.ceil(node.maxCaptures / 2)), fc.integer({ min: 1, max: 6 })),
      diskBudgetMB: fc.oneof(fc.constant(Math.ceil(node.diskBudgetMB / 2)), fc.integer({ min: 2, max: 120 })),
    }).map((perNamespace): AdmissionLimits => ({ ...node, perNamespace }))
  );

/** A node on which what admit() allows is carried out, sooner or later, and captures end as they like. */
class Node {
  applicants: Applicant[] = [];
  others: Occupant[] = [];
  #seen = 0;

  constructor(readonly limits: AdmissionLimits) {}

  get rooms(): Map<string, Admission> {
    return admit(this.applicants, this.others, this.limits);
  }

  does(happening: Happening): void {
    const { applicants } = this;
    if (happening.is === "asked") {
      const { namespace, claim, ranBefore } = happening;
      const firstSeen = this.#seen++;
      // Only what is there at a start of the controller can have run before it.
      const first = ranBefore && firstSeen < 2;
      const key = `${namespace}/${firstSeen}`;
      applicants.push(applicant(key, { namespace, firstSeen, uid: key, claim, ranBefore: first }));
    } else if (happening.is === "carried out") {
      const { rooms } = this;
      this.applicants = applicants.map((one, i) =>
        rooms.get(one.key)?.kind === "granted" && (happening.how[i] ?? true) ? { ...one, granted: one.claim } : one
      );
    } else if (happening.is === "files gone") {
      this.others.splice(happening.which, 1);
    } else {
      const one = applicants[happening.which];
      if (!one) return;
      if (happening.is === "edited") applicants[happening.which] = { ...one, claim: happening.claim };
      else applicants.splice(happening.which, 1);
      const { namespace, firstSeen, granted } = one;
      if (happening.is === "completed" && granted !== undefined) {
        this.others.push({ namespace, firstSeen, bytes: granted });
      }
    }
  }
}

const holders = (all: readonly Applicant[]) => all.filter(({ granted }) => granted !== undefined);
const taken = (all: readonly (Applicant | Occupant)[]) =>
  all.reduce((sum, one) => sum + ("granted" in one ? one.granted ?? one.bytes : one.bytes), 0);
const of = <T extends Occupant>(namespace: string, all: readonly T[]) =>
  all.filter((one) => one.namespace === namespace);
const before = (a: Applicant, b: Applicant) =>
  a.ranBefore !== b.ranBefore
    ? a.ranBefore
    : a.firstSeen < b.firstSeen || (a.firstSeen === b.firstSeen && a.uid < b.uid);

const keeps = ({ granted, claim }: Applicant) => granted !== undefined && claim <= granted;

/** The applicants with the places that those have, or are given, who come before one of them, and those that others have. */
function seenBy(one: Applicant, applicants: readonly Applicant[], rooms: Map<string, Admission>): Applicant[] {
  return applicants.map((other) =>
    before(other, one) && !keeps(other) && rooms.get(other.key)!.kind === "granted"
      ? { ...other, granted: other.claim }
      : other
  );
}

/** Whether an applicant does not fit next to these. */
function lacks(one: Applicant, all: readonly Applicant[], rest: readonly Occupant[], share: Share): boolean {
  const bytes = taken([...all, ...rest]) - (one.granted ?? one.bytes) + one.claim;
  return bytes > share.diskBudgetMB * MB || (one.granted === undefined && holders(all).length >= share.maxCaptures);
}

/** Whether nobody of its namespace waits before it. */
function isHead(one: Applicant, applicants: readonly Applicant[], rooms: Map<string, Admission>): boolean {
  return !of(one.namespace, applicants).some((other) => rooms.get(other.key)!.kind === "queued" && before(other, one));
}

/** Checks what has to be true of every answer. */
function check({ applicants, others, limits }: Node): void {
  const rooms = admit(applicants, others, limits);
  assertEquals([...rooms.keys()].sort(), applicants.map(({ key }) => key).sort());
  const kind = (one: Applicant) => rooms.get(one.key)!.kind;
  const { perNamespace } = limits;
  // Whatever part of it is carried out, the limits hold.
  const next = applicants.map((one) => kind(one) === "granted" && !keeps(one) ? { ...one, granted: one.claim } : one);
  for (const namespace of [undefined, ...NAMESPACES]) {
    const share = namespace === undefined ? limits : perNamespace;
    const within = <T extends Occupant>(all: readonly T[]) => namespace === undefined ? all : of(namespace, all);
    const bytes = taken([...within(next), ...within(others)]);
    assert(bytes <= share.diskBudgetMB * MB, `${bytes / MB} MB are taken in ${namespace}`);
    assert(holders(within(next)).length <= share.maxCaptures, `too many run in ${namespace}`);
  }
  for (const one of applicants) {
    const { claim, namespace } = one;
    const fits = claim <= Math.min(limits.diskBudgetMB, perNamespace.diskBudgetMB) * MB;
    if (keeps(one)) assertEquals(kind(one), "granted", "a place was taken away");
    else assertEquals(kind(one) === "impossible", !fits, "never is what is larger than a budget, and nothing else");
    if (kind(one) !== "queued") continue;
    for (const other of of(namespace, applicants)) {
      if (before(one, other) && !keeps(other)) assert(kind(other) !== "granted", `${other.key} overtook ${one.key}`);
    }
    if (!isHead(one, applicants, rooms)) continue;
    // The first of its namespace waits for a limit, or because others came first who wait for the node's limits.
    const now = seenBy(one, applicants, rooms);
    const waits = lacks(one, now, others, limits) ||
      lacks(one, of(namespace, now), of(namespace, others), perNamespace) ||
      applicants.some((other) =>
        kind(other) === "queued" && other.namespace !== namespace && before(other, one) &&
        isHead(other, applicants, rooms) &&
        !lacks(
          other,
          of(other.namespace, seenBy(other, applicants, rooms)),
          of(other.namespace, others),
          perNamespace,
        ) && lacks(one, withYounger(other, now), younger(other, others), less(limits, other))
      );
    assert(waits, `${one.key} waits for nothing: ${reasonOf(rooms.get(one.key))}`);
  }
}

/** Those that came after it, with what they have. */
function withYounger(than: Applicant, all: readonly Applicant[]): Applicant[] {
  return all.filter((other) => before(than, other));
}

function younger(than: Applicant, others: readonly Occupant[]): Occupant[] {
  return others.filter(({ firstSeen }) => firstSeen > than.firstSeen);
}

/** What is left of limits next to a claim. */
function less({ maxCaptures, diskBudgetMB }: Share, { granted, claim }: Applicant): Share {
  return { maxCaptures: maxCaptures - (granted === undefined ? 1 : 0), diskBudgetMB: diskBudgetMB - claim / MB };
}

Deno.test("admit() keeps to all limits and to its order, whatever has happened on the node", () => {
  fc.assert(
    fc.property(anyLimits, fc.array(happening, { maxLength: 40 }), (limits, happenings) => {
      const node = new Node(limits);
      for (const each of happenings) {
        node.does(each);
        check(node);
      }
    }),
    { numRuns: 2000 },
  );
});

Deno.test("admit() answers alike in whatever order it is asked", () => {
  fc.assert(
    fc.property(
      anyLimits,
      fc.array(happening, { maxLength: 30 }),
      fc.array(fc.nat(), { minLength: 30, maxLength: 30 }),
      (limits, happenings, keys) => {
        const node = new Node(limits);
        for (const each of happenings) node.does(each);
        const shuffled = <T>(all: readonly T[]) =>
          all.map((one, i) => [keys[i % keys.length]!, one] as const).sort(([a], [b]) => a - b).map(([, one]) => one);
        const answer = (rooms: Map<string, Admission>) => [...rooms].sort(([a], [b]) => a < b ? -1 : 1);
        assertEquals(
          answer(admit(shuffled(node.applicants), shuffled(node.others), limits)),
          answer(node.rooms),
        );
      },
    ),
    { numRuns: 1000 },
  );
});

Deno.test("admit() starts a large claim when those have ended who were there when its turn came, whatever came after", () => {
  fc.assert(
    fc.property(anyLimits, fc.array(happening, { maxLength: 60 }), (limits, happenings) => {
      const node = new Node(limits);
      /** Of each claim that waits for the node's limits alone: who was there when it began to. */
      const turns = new Map<string, Set<number>>();
      for (const each of happenings) {
        // Those who are older may change what they ask for, or come back after a restart, and come first.
        if (each.is === "edited" || (each.is === "asked" && each.ranBefore)) turns.clear();
        node.does(each);
        const { applicants, others, rooms } = node;
        for (const key of turns.keys()) if (!rooms.has(key)) turns.delete(key);
        for (const one of applicants) {
          const { key, namespace } = one;
          const own = of(namespace, seenBy(one, applicants, rooms));
          const isTurn = rooms.get(key)?.kind === "queued" && isHead(one, applicants, rooms) &&
            !lacks(one, own, of(namespace, others), limits.perNamespace);
          if (!isTurn) turns.delete(key);
          else if (!turns.has(key)) {
            // Who is older is there too, though it may not have got its place yet.
            const older = applicants.filter((other) => !withYounger(one, applicants).includes(other));
            turns.set(key, new Set([...holders(applicants), ...older, ...others].map(({ firstSeen }) => firstSeen)));
          }
        }
        for (const [key, there] of turns) {
          const one = applicants.find((other) => other.key === key)!;
          const rooms = admit(
            [one, ...withYounger(one, applicants).filter(({ firstSeen }) => !there.has(firstSeen))],
            younger(one, others).filter(({ firstSeen }) => !there.has(firstSeen)),
            limits,
          );
          assertEquals(rooms.get(key)?.kind, "granted", `${key}: ${reasonOf(rooms.get(key))}`);
        }
      }
    }),
    {
      numRuns: 3000,
      examples: [[
        { maxCaptures: 4, diskBudgetMB: 77, perNamespace: { maxCaptures: 1, diskBudgetMB: 54 } },
        [
          { is: "asked", namespace: "b", claim: 24 * MB, ranBefore: false },
          { is: "asked", namespace: "a", claim: 54 * MB, ranBefore: true },
          { is: "carried out", how: [] },
          { is: "completed", which: 1 },
        ],
      ]],
    },
  );
});

Deno.test("admit() lets a namespace that uses nothing start whatever fits its half, where one other uses the node", () => {
  const half = fc.record({
    maxCaptures: fc.integer({ min: 1, max: 4 }),
    diskBudgetMB: fc.integer({ min: 2, max: 50 }),
  });
  fc.assert(
    fc.property(half, fc.array(happening, { maxLength: 30 }), size, (share, happenings, wish) => {
      // With three, two may have used both halves: then it waits, and starts in its turn, as above.
      const node = new Node({
        maxCaptures: 2 * share.maxCaptures,
        diskBudgetMB: 2 * share.diskBudgetMB,
        perNamespace: share,
      });
      for (const each of happenings) node.does("namespace" in each ? { ...each, namespace: "a" } : each);
      const claim = Math.min(wish, share.diskBudgetMB * MB);
      const fresh = applicant("b/new", { namespace: "b", firstSeen: 1000, claim });
      assertEquals(admit([...node.applicants, fresh], node.others, node.limits).get("b/new"), { kind: "granted" });
    }),
    { numRuns: 2000 },
  );
});
