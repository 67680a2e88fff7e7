import { deepStrictEqual as assertEquals, ok as assert, strictEqual as assertSame } from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { type PodSandbox, PodSandboxSchema } from "../../../src/sandboxes/cri_pb.ts";
import type { SandboxOwner } from "../../../src/sandboxes/sandbox.ts";
import { SandboxIndex } from "../../../src/sandboxes/sandbox_index.ts";

/** The labels of a pod `<namespace>/<name>/<UID>`. */
function labelsOf(pod: string): Record<string, string> {
  const { namespace, name, uid } = owner(pod);
  return {
    "io.kubernetes.pod.namespace": namespace,
    "io.kubernetes.pod.name": name,
    "io.kubernetes.pod.uid": uid,
  };
}

function owner(pod: string): SandboxOwner {
  const [namespace, name, uid] = pod.split("/");
  return { namespace: namespace!, name: name!, uid: uid! };
}

function item(id: string, labels: Record<string, string>, createdAt: number): PodSandbox {
  return create(PodSandboxSchema, { id, createdAt: BigInt(createdAt), labels });
}

/** A sandbox of the pod default/web with this UID. */
function web(id: string, uid: string, createdAt: number): PodSandbox {
  return item(id, labelsOf(`default/web/${uid}`), createdAt);
}

function newIndex() {
  const changes: string[] = [];
  const index = new SandboxIndex(({ uid }) => changes.push(uid));
  const entry = (id: string) => [...index.unsettled()].find((entry) => entry.id === id)!;
  /** The sandbox of default/web with this UID. */
  const get = (uid: string) => index.get(owner(`default/web/${uid}`));
  return { index, changes, entry, get };
}

const soon = { lasting: false, now: 0 };

Deno.test("SandboxIndex.get() gives a sandbox once its network is known, and reports it once", () => {
  const { index, changes, entry, get } = newIndex();
  index.apply([web("s1", "u1", 1)], 0);
  assertSame(get("u1"), undefined);
  index.accept(entry("s1"), "/netns/a");
  const expected = {
    id: "s1",
    owner: owner("default/web/u1"),
    createdAt: 1n,
    hostNetwork: false,
    netnsPath: "/netns/a",
  };
  assertEquals(get("u1"), expected);
  index.apply([web("s1", "u1", 1)], 1);
  assertEquals(changes, ["u1"]);
});

Deno.test("SandboxIndex.get() gives a pod in the node's network a sandbox without netns", () => {
  const { index, entry, get } = newIndex();
  index.apply([web("s1", "u1", 1)], 0);
  index.accept(entry("s1"), undefined);
  assertEquals(get("u1"), {
    id: "s1",
    owner: owner("default/web/u1"),
    createdAt: 1n,
    hostNetwork: true,
    netnsPath: undefined,
  });
});

Deno.test("SandboxIndex.get() gives the newest of several READY sandboxes, in whatever order they are listed", () => {
  for (const order of [[1, 2, 3], [3, 2, 1], [2, 3, 1]]) {
    const { index, entry, get } = newIndex();
    index.apply(order.map((n) => web(`s${n}`, "u1", n)), 0);
    for (const n of order) index.accept(entry(`s${n}`), `/netns/${n}`);
    assertSame(get("u1")?.id, "s3");
  }
});

Deno.test("SandboxIndex.get() keeps to the older sandbox until the newer is known, then never goes back to it", () => {
  const { index, changes, entry, get } = newIndex();
  index.apply([web("old", "u1", 1)], 0);
  index.accept(entry("old"), "/netns/old");
  index.apply([web("old", "u1", 1), web("new", "u1", 2)], 1);
  assertSame(get("u1")?.id, "old");
  index.refuse(entry("new"), "closed", soon);
  assertSame(get("u1"), undefined, "the newest is the pod's, even if it cannot be entered");
  index.accept(entry("new"), "/netns/new");
  assertSame(get("u1")?.id, "new");
  assertEquals(changes, ["u1", "u1", "u1"]);
});

Deno.test("SandboxIndex.apply() ends what the runtime does not list any more", () => {
  const { index, changes, entry, get } = newIndex();
  index.apply([web("s1", "u1", 1), web("s2", "u2", 1)], 0);
  index.accept(entry("s1"), "/netns/1");
  index.accept(entry("s2"), "/netns/2");
  index.apply([web("s2", "u2", 1)], 1);
  assertSame(get("u1"), undefined);
  assertSame(get("u2")?.id, "s2");
  assertEquals(changes, ["u1", "u2", "u1"]);
});

Deno.test("SandboxIndex.apply() leaves sandboxes alone that no kubelet made", () => {
  const { index } = newIndex();
  const labels = labelsOf("default/web/u1");
  const without = Object.keys(labels).flatMap((label) => {
    const { [label]: _, ...others } = labels;
    return [others, { ...labels, [label]: "" }];
  });
  index.apply([{ app: "x" }, ...without].map((labels, n) => item(`s${n}`, labels, 1)), 0);
  assertEquals([...index.unsettled()], []);
});

Deno.test("SandboxIndex.get() gives a sandbox to nobody whose UID, namespace or name is another", () => {
  const { index, changes, entry } = newIndex();
  index.apply([item("s1", labelsOf("bank/ledger/u1"), 1)], 0);
  index.accept(entry("s1"), "/netns/1");
  assertSame(index.get(owner("bank/ledger/u1"))?.id, "s1");
  for (const other of ["tenant-a/harmless/u1", "bank/harmless/u1", "tenant-a/ledger/u1", "bank/ledger/u2"]) {
    assertSame(index.get(owner(other)), undefined, other);
  }
  // As a UID, text of whatever kind is that of nobody else.
  assertSame(index.get({ namespace: "bank", name: "ledger", uid: "x/../u1" }), undefined);
  assertSame(index.get({ namespace: "bank/ledger", name: "", uid: "u1" }), undefined);
  assertEquals(changes, ["u1"]);
});

Deno.test("SandboxIndex keeps two pods of one UID apart, and reports each by its own namespace and name", () => {
  const told: SandboxOwner[] = [];
  const index = new SandboxIndex((owner) => told.push(owner));
  const pods = ["bank/ledger/u1", "tenant-a/harmless/u1"];
  index.apply(pods.map((pod, n) => item(`s${n}`, labelsOf(pod), n)), 0);
  for (const entry of [...index.unsettled()]) index.accept(entry, `/netns/${entry.id}`);
  assertEquals(pods.map((pod) => index.get(owner(pod))?.id), ["s0", "s1"]);
  index.apply([item("s0", labelsOf(pods[0]!), 0)], 1);
  assertEquals(pods.map((pod) => index.get(owner(pod))?.id), ["s0", undefined]);
  assertEquals(told, [owner(pods[0]!), owner(pods[1]!), owner(pods[1]!)]);
});

Deno.test("SandboxIndex.dropNetns() ends the sandbox of that file at once, and it is asked about again", () => {
  const { index, changes, entry, get } = newIndex();
  index.apply([web("s1", "u1", 1), web("s2", "u2", 1)], 0);
  index.accept(entry("s1"), "/netns/cni-1");
  index.accept(entry("s2"), "/netns/cni-10");
  index.dropNetns("cni-1", 5);
  assertSame(get("u1"), undefined);
  assertSame(get("u2")?.id, "s2");
  assertEquals(changes, ["u1", "u2", "u1"]);
  index.apply([web("s1", "u1", 1), web("s2", "u2", 1)], 6);
  assertSame(get("u1"), undefined, "the runtime may list it for a while");
  assertEquals([...index.unsettled()].map(({ id, askAt }) => [id, askAt]), [["s1", 105]]);
});

Deno.test("SandboxIndex.refuse() has it asked about ever less often, or never again, and returns when to log it", () => {
  const { index, entry } = newIndex();
  index.apply([web("s1", "u1", 1)], 0);
  const s1 = entry("s1");
  const askAts: number[] = [];
  const news: boolean[] = [];
  for (let i = 0; i < 10; i++) {
    news.push(index.refuse(s1, "closed", soon));
    askAts.push(s1.askAt);
  }
  assertEquals(askAts, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000, 10_000]);
  assertEquals(news, [false, false, false, false, false, true, false, false, false, false]);
  assertSame(index.refuse(s1, "elsewhere", { lasting: true, now: 0 }), true);
  assertSame(s1.askAt, Infinity);
});

Deno.test("SandboxIndex answers late about a sandbox that has gone, and nothing comes of it", () => {
  const { index, changes, entry, get } = newIndex();
  index.apply([web("s1", "u1", 1)], 0);
  const s1 = entry("s1");
  index.apply([], 1);
  index.accept(s1, "/netns/1");
  assertSame(get("u1"), undefined);
  assertSame(index.refuse(s1, "it has gone", soon), false);
  assertEquals(changes, []);
});

Deno.test("SandboxIndex.get() is the newest known of its pod after any sequence of observations, and every change is reported", () => {
  const id = fc.integer({ min: 0, max: 7 });
  const step = fc.oneof(
    fc.record({ kind: fc.constant("apply" as const), ids: fc.uniqueArray(id) }),
    fc.record({ kind: fc.constant("accept" as const), id, host: fc.boolean() }),
    fc.record({ kind: fc.constant("refuse" as const), id }),
    fc.record({ kind: fc.constant("drop" as const), id }),
  );
  fc.assert(fc.property(fc.array(step, { maxLength: 40, size: "max" }), (steps) => {
    // The model: which ids are listed, and what is known of each. Sandbox n is of pod n % 3 and was created at n.
    const listed = new Map<number, "unknown" | "refused" | "netns" | "host">();
    const told = new Map<string, string | undefined>();
    const get = (uid: string) => index.get(owner(`default/web/${uid}`));
    const index = new SandboxIndex(({ uid }) => told.set(uid, get(uid)?.id));
    for (const step of steps) {
      if (step.kind === "apply") {
        for (const n of [...listed.keys()]) if (!step.ids.includes(n)) listed.delete(n);
        for (const n of step.ids) if (!listed.has(n)) listed.set(n, "unknown");
        index.apply(step.ids.map((n) => web(`s${n}`, `u${n % 3}`, n)), 0);
      } else if (step.kind === "drop") {
        if (listed.get(step.id) === "netns") listed.set(step.id, "refused");
        index.dropNetns(`cni-${step.id}`, 0);
      } else {
        const entry = [...index.unsettled()].find((entry) => entry.id === `s${step.id}`);
        const known = listed.get(step.id);
        assertSame(entry !== undefined, known === "unknown" || known === "refused");
        if (!entry) continue;
        listed.set(step.id, step.kind === "refuse" ? "refused" : step.host ? "host" : "netns");
        if (step.kind === "refuse") index.refuse(entry, "closed", soon);
        else index.accept(entry, step.host ? undefined : `/netns/cni-${step.id}`);
      }
      for (const pod of [0, 1, 2]) {
        const newest = [...listed].filter(([n, known]) =>
          n % 3 === pod && known !== "unknown"
        ).sort(([a], [b]) => b - a)[0];
        const expected = newest && newest[1] !== "refused" ? `s${newest[0]}` : undefined;
        assertSame(get(`u${pod}`)?.id, expected);
        assertSame(told.get(`u${pod}`), expected);
      }
    }
    assert(listed.size <= 8);
  }));
});
