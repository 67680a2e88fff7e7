import assert from "node:assert/strict";
import fc from "fast-check";
import { podOf, PodStore } from "../../../src/pods/pod_store.ts";
import type { Pod } from "../../../src/pods/pod.ts";

const KEY = "tcpdump.antrea.io";
const META = { namespace: "default", name: "web-0", uid: "u1", resourceVersion: "7" };

Deno.test("podOf() keeps our annotations, and nothing else that is not asked for", () => {
  const annotations = { [KEY]: "5", [`${KEY}/filter`]: "icmp", [`${KEY}x`]: "no", [`x${KEY}`]: "no", other: "no" };
  const meta = { ...META, annotations, managedFields: [{}], labels: { a: "b" } };
  assert.deepEqual(podOf(meta, KEY), {
    ...META,
    annotations: { [KEY]: "5", [`${KEY}/filter`]: "icmp" },
    terminating: false,
  });
  assert.equal(podOf({ ...META, deletionTimestamp: "2026-01-01T00:00:00Z" }, KEY)!.terminating, true);
  assert.deepEqual(podOf(META, KEY)!.annotations, {});
});

Deno.test("podOf() takes a static pod's UID as a hint where both annotations of a mirror object agree", () => {
  const staticUid = (annotations: Record<string, string>) => podOf({ ...META, annotations }, KEY)!.staticUid;
  const [hash, mirror] = ["kubernetes.io/config.hash", "kubernetes.io/config.mirror"];
  assert.equal(staticUid({ [hash!]: "h", [mirror!]: "h" }), "h");
  assert.equal(staticUid({ [hash!]: "h" }), undefined);
  assert.equal(staticUid({ [mirror!]: "h" }), undefined);
  assert.equal(staticUid({ [hash!]: "h", [mirror!]: "other" }), undefined);
  assert.equal(staticUid({ [hash!]: "", [mirror!]: "" }), undefined);
});

Deno.test("podOf() takes nothing for a pod that lacks what every pod has", () => {
  for (const key of ["namespace", "name", "uid", "resourceVersion"]) {
    assert.equal(podOf({ ...META, [key]: undefined }, KEY), undefined);
    assert.equal(podOf({ ...META, [key]: "" }, KEY), undefined);
  }
  assert.equal(podOf(undefined, KEY), undefined);
});

/** What a listener gets, and the pods that it then has. */
function listen() {
  const heard: string[] = [];
  const alive = new Map<string, Pod>();
  const store = new PodStore({
    onPod(pod) {
      for (const other of alive.values()) assert.ok(other.name !== pod.name || other.uid === pod.uid, "two of a name");
      heard.push(`pod ${pod.uid}`);
      alive.set(pod.uid, pod);
    },
    onGone(pod) {
      heard.push(`gone ${pod.uid}`);
      assert.ok(alive.delete(pod.uid), "gone without having been there");
    },
  });
  return { heard, alive, store };
}

function pod(name: string, uid: string, value = "5", resourceVersion = "1"): Pod {
  const annotations: Record<string, string> = value === "" ? {} : { [KEY]: value };
  return { namespace: "default", name, uid, annotations, resourceVersion, terminating: false };
}

Deno.test("put() reports a pod only when something changed that a capture depends on", () => {
  const { heard, store } = listen();
  store.put(pod("a", "u1", "5", "1"));
  store.put(pod("a", "u1", "5", "2"));
  assert.deepEqual(heard, ["pod u1"]);
  assert.equal(store.byUid.get("u1")!.resourceVersion, "2");
  store.put(pod("a", "u1", "6"));
  store.put(pod("a", "u1", ""));
  store.put({ ...pod("a", "u1", ""), terminating: true });
  store.put({ ...pod("a", "u1", ""), terminating: true, staticUid: "other" });
  store.put({
    ...pod("a", "u1", ""),
    terminating: true,
    staticUid: "other",
    annotations: { [`${KEY}/hold`]: "true" },
  });
  assert.deepEqual(heard, Array(6).fill("pod u1"));
});

Deno.test("put() ends the earlier pod of the same name first", () => {
  const { heard, store } = listen();
  store.put(pod("a", "u1"));
  store.put(pod("a", "u2"));
  store.remove("u1");
  assert.deepEqual(heard, ["pod u1", "gone u1", "pod u2"]);
  assert.deepEqual([...store.byUid.keys()], ["u2"]);
});

Deno.test("any sequence of observations leaves the listener with what is known, each pod reported and ended in turn", () => {
  const name = fc.constantFrom("a", "b", "c");
  const uid = fc.nat(8).map((n) => `u${n}`);
  const step = fc.oneof(
    // A UID never changes its name.
    fc.record({ what: fc.constant("put" as const), uid, value: fc.constantFrom("", "1", "2") }),
    fc.record({ what: fc.constant("remove" as const), uid }),
    fc.record({ what: fc.constant("keepOnly" as const), uids: fc.array(uid) }),
  );
  fc.assert(fc.property(fc.array(name, { minLength: 9, maxLength: 9 }), fc.array(step), (names, steps) => {
    const { alive, store } = listen();
    const model = new Map<string, string>();
    for (const one of steps) {
      if (one.what === "put") {
        const itsName = names[Number(one.uid.slice(1))]!;
        for (const [other] of model) {
          if (other !== one.uid && names[Number(other.slice(1))] === itsName) model.delete(other);
        }
        model.set(one.uid, one.value);
        store.put(pod(itsName, one.uid, one.value));
      } else if (one.what === "remove") {
        model.delete(one.uid);
        store.remove(one.uid);
      } else {
        for (const other of [...model.keys()]) if (!one.uids.includes(other)) model.delete(other);
        store.keepOnly(new Set(one.uids));
      }
      const summary = (pods: Iterable<Pod>) => [...pods].map((p) => [p.uid, p.annotations[KEY] ?? ""]).sort();
      assert.deepEqual(summary(store.byUid.values()), [...model].sort());
      assert.deepEqual(summary(alive.values()), [...model].sort());
    }
  }));
});
