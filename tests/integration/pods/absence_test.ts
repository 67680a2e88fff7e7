/** A list that lacks a pod proves nothing: PodWatch against a real API server whose lists lie. */
import assert from "node:assert/strict";
import { ApiClient } from "../../../src/pods/api.ts";
import { ApiServer, type PodObject } from "../../rig/apiserver.ts";
import { Follower, KEY, NODE, QUICK } from "../../rig/follower.ts";
import { FaultProxy, type Match } from "../../rig/proxy.ts";

const POD = { node: NODE, annotations: { [KEY]: "5" } };

let server: ApiServer;
let proxy: FaultProxy;
let api: ApiClient;

Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  proxy = await FaultProxy.start(server);
  const { user, token } = await server.serviceAccount("controller");
  await server.grant(user, [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }]);
  api = await ApiClient.load({ kubeconfig: await server.kubeconfig("controller", { token }, proxy.url) });
});

Deno.test.afterAll(async () => {
  api?.close();
  await proxy?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** A question about one pod. */
const isGet: Match = ({ method, url }) =>
  method === "GET" && /^\/api\/v1\/namespaces\/[^/]+\/pods\/[^/]+$/.test(url.pathname);

/** Names of the pods that were asked for since `from`. */
function asked(from: number): string[] {
  return proxy.requests.slice(from).filter(isGet).map(({ url }) => url.pathname.split("/").at(-1)!).sort();
}

/** From now on lists and watches are of another node: 200, and nothing in them. */
function lie(): void {
  proxy.rewrite = (url) => {
    if (url.searchParams.has("fieldSelector")) url.searchParams.set("fieldSelector", "spec.nodeName=nowhere");
  };
}

function kept({ metadata: { name, uid } }: PodObject) {
  return { namespace: "default", name, uid };
}

/** Begins to follow, when nobody does any more. */
async function follow(options: ConstructorParameters<typeof Follower>[1] = {}) {
  await proxy.noWatches();
  return new Follower(api, options);
}

for (const [form, plain] of [["streaming", false], ["plain", true]] as const) {
  Deno.test(`a first list (${form}) without a kept pod has it asked for: it is gone by 404 or another UID, and else there`, async () => {
    const [there, other] = await Promise.all([
      server.createPod({ name: "there", ...POD }),
      server.createPod({ name: "other", node: "node-2", annotations: { [KEY]: "7" } }),
    ]);
    const bare = await server.createPod({ name: "bare", node: NODE });
    const folders = [
      kept(there),
      kept(bare),
      { ...kept(other), uid: crypto.randomUUID() },
      { namespace: "default", name: "lost", uid: crypto.randomUUID() },
      // Their manifests are damaged: the pod that has the name is meant.
      { namespace: "nowhere", name: "nobodys", uid: undefined },
    ];
    lie();
    if (plain) proxy.answerNext(422, { match: ({ url }) => url.searchParams.has("sendInitialEvents") });
    const from = proxy.requests.length;
    try {
      await using follower = await follow({ folders });
      await follower.called("synced");
      for (const name of ["other", "lost", "nobodys"]) await follower.called(`gone ${name}`);
      await follower.called("pod there 5");
      // Not annotated any more: that is an answer too.
      await follower.called("pod bare -");
      assert.equal(follower.calls.length, 6, String(follower.calls));
      assert.deepEqual(asked(from), ["bare", "lost", "nobodys", "other", "there"]);
      const accepts = new Set(proxy.requests.slice(from).filter(isGet).map(({ accept }) => accept));
      assert.deepEqual([...accepts].map((accept) => accept.startsWith("application/json;as=PartialObjectMetadata;")), [
        true,
      ]);
    } finally {
      await proxy.calm();
    }
    for (const name of ["there", "other", "bare"]) await server.deletePod(name);
  });
}

Deno.test("a later list without known pods ends only those of which nothing is kept; a DELETED event needs no proof", async () => {
  await server.createPod({ name: "annotated", ...POD });
  await server.createPod({ name: "plain", node: NODE });
  await using follower = await follow({ timing: { ...QUICK, relist: 500, relistJitter: 0 } });
  await follower.called("synced");
  const from = proxy.requests.length;
  lie();
  try {
    await follower.called("gone plain");
    await follower.until("two questions", () => asked(from).length >= 2);
  } finally {
    await proxy.calm();
  }
  assert.deepEqual(new Set(asked(from)), new Set(["annotated"]));
  await follower.called("pod plain -", 2);
  assert.ok(!follower.calls.includes("gone annotated"), String(follower.calls));
  const said = follower.log.lines.filter(({ message }) => /^a list lacked a pod that exists/.test(message));
  assert.ok(said.length > 0);
  const before = proxy.requests.length;
  await server.deletePod("annotated");
  await follower.called("gone annotated");
  assert.deepEqual(asked(before), []);
  await server.deletePod("plain");
});

Deno.test("a list that has all kept pods, but for one of another UID, has nobody asked for", async () => {
  const pods = await Promise.all(["a", "b"].map((name) => server.createPod({ name, ...POD })));
  const again = { ...kept(await server.createPod({ name: "again", ...POD })), uid: crypto.randomUUID() };
  const from = proxy.requests.length;
  await using follower = await follow({
    folders: [...pods.map(kept), again],
    timing: { ...QUICK, relist: 300, relistJitter: 0 },
  });
  await follower.called("synced");
  const lists = () => proxy.requests.slice(from).filter(({ url }) => url.searchParams.has("sendInitialEvents"));
  await follower.until("a second list", () => lists().length >= 2);
  assert.deepEqual(asked(from), []);
  for (const name of ["a", "b", "again"]) await server.deletePod(name);
});

Deno.test("nothing but an answer about the pod proves that it is gone: it is asked for until there is one, and the log reports it once", async (t) => {
  const pod = { namespace: "default", name: "lost", uid: crypto.randomUUID() };
  const status = (change: Record<string, unknown>) =>
    JSON.stringify({ kind: "Status", status: "Failure", reason: "NotFound", code: 404, ...change });
  const answers: [what: string, status: number, body: string | undefined, reason: string][] = [
    ["403", 403, undefined, "forbidden"],
    ["401", 401, undefined, "unauthorized"],
    ["429", 429, undefined, "throttled"],
    ["500", 500, undefined, "server_error"],
    ["503", 503, undefined, "server_error"],
    ["410", 410, undefined, "expired"],
    ["a load balancer's 404", 404, "<html>not found</html>", "refused"],
    ["404 of another kind", 404, status({ details: { kind: "namespaces", name: "lost" } }), "refused"],
    ["404 of another pod", 404, status({ details: { kind: "pods", name: "other" } }), "refused"],
    ["404 of a path", 404, status({ reason: undefined, message: "the server could not find the resource" }), "refused"],
    ["an empty 200", 200, "", "refused"],
    ["a 200 that is null", 200, "null", "refused"],
    [
      "a 200 of another pod",
      200,
      JSON.stringify({ metadata: { namespace: "default", name: "x", uid: "u" } }),
      "refused",
    ],
  ];
  for (const [what, code, body, reason] of answers) {
    await t.step(what, async () => {
      const before = proxy.count(`answer ${code}`);
      proxy.answerNext(code, { match: isGet, times: 4, ...(body === undefined ? {} : { body }) });
      await using follower = await follow({ folders: [pod] });
      await follower.until("the answers", () => proxy.count(`answer ${code}`) === before + 4);
      assert.deepEqual(follower.calls, ["synced"]);
      await follower.called("gone lost");
      const said = follower.log.lines.filter(({ level, message }) =>
        level === "warn" && /^Cannot confirm/.test(message)
      );
      assert.equal(said.length, 1, JSON.stringify(said));
      assert.equal(said[0]!.fields.reason, reason);
      assert.equal(said[0]!.fields.needs !== undefined, reason === "forbidden");
    });
  }
  await t.step("an answer that is cut", async () => {
    proxy.cutNextBody(isGet);
    await using follower = await follow({ folders: [pod] });
    await follower.called("gone lost");
    assert.ok(proxy.count("cut") > 0);
  });
  await t.step("no answer", async () => {
    proxy.delayed = isGet;
    proxy.delayMs = 2000;
    await using follower = await follow({ folders: [pod], timing: { ...QUICK, answerOfOne: 100 } });
    await follower.until("the end of waiting", () => follower.ends("timeout") > 1);
    assert.deepEqual(follower.calls, ["synced"]);
    await proxy.calm();
    await follower.called("gone lost");
  });
});

Deno.test("run() ends at once when aborted, whatever pod is being got", async (t) => {
  const folders = Array.from({ length: 20 }, (_, i) => ({ namespace: "default", name: `lost-${i}`, uid: undefined }));
  await t.step("waiting for an answer", async () => {
    proxy.delayed = isGet;
    proxy.delayMs = 5000;
    const delayed = proxy.count("delay");
    await using follower = await follow({ folders, timing: { ...QUICK, answerOfOne: 20_000 } });
    await follower.until("as many questions as there are at once", () => proxy.count("delay") - delayed === 8);
    assert.ok(await follower.stop() < 500);
    assert.equal(proxy.count("delay") - delayed, 8);
    await proxy.calm();
  });
  await t.step("backing off", async () => {
    proxy.answerNext(500, { match: isGet, times: 100 });
    await using follower = await follow({ folders, timing: { ...QUICK, backoff: 30_000, backoffMost: 30_000 } });
    await follower.until("the back-off", () => follower.ends("server_error") > 0);
    assert.ok(await follower.stop() < 500);
    await proxy.calm();
  });
});
