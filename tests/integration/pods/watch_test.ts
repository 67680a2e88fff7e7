/** PodWatch against a real API server that behaves. */
import assert from "node:assert/strict";
import { ApiClient } from "../../../src/pods/api.ts";
import { LineSplitter } from "../../../src/base/line_splitter.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { Follower, KEY, NODE, QUICK } from "../../rig/follower.ts";
import { FaultProxy, isWatch } from "../../rig/proxy.ts";

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

/** Begins to follow, when nobody does any more. */
async function follow(options: ConstructorParameters<typeof Follower>[1] = {}) {
  await proxy.noWatches();
  return new Follower(api, options);
}

/** The pod requests since `from`, as their queries. */
function queries(from: number): URLSearchParams[] {
  return proxy.requests.slice(from).filter(({ url }) => url.pathname === "/api/v1/pods").map(({ url }) =>
    url.searchParams
  );
}

Deno.test("run() reports the pods of its own node, and of all that becomes of them", async () => {
  const from = proxy.requests.length;
  await server.createPod({ name: "here", node: NODE, annotations: { [KEY]: "5", other: "x" } });
  await server.createPod({ name: "there", node: "node-2", annotations: { [KEY]: "5" } });
  await using follower = await follow();
  await follower.called("synced");
  assert.deepEqual(follower.calls, ["pod here 5", "synced"]);
  assert.deepEqual([...follower.watch.pods.values()].map(({ name, annotations }) => ({ name, annotations })), [
    { name: "here", annotations: { [KEY]: "5" } },
  ]);

  await server.annotate("here", { [KEY]: "6" });
  await follower.called("pod here 6");
  await server.annotate("here", { [`${KEY}/filter`]: "icmp" });
  await follower.called("pod here 6", 2);
  // Nothing that a capture depends on: not reported.
  await server.annotate("here", { other: "y" });
  await server.annotate("here", { [KEY]: null });
  await follower.called("pod here -");
  await server.createPod({ name: "later", node: NODE });
  await follower.called("pod later -");
  await server.deletePod("later", 30);
  await follower.called("pod later - terminating");
  await server.deletePod("later", 0);
  await follower.called("gone later");
  assert.deepEqual(follower.calls, [
    "pod here 5",
    "synced",
    "pod here 6",
    "pod here 6",
    "pod here -",
    "pod later -",
    "pod later - terminating",
    "gone later",
  ]);
  assert.deepEqual([...follower.watch.pods.values()].map(({ name }) => name), ["here"]);
  // One stream did it all.
  const asked = queries(from);
  assert.equal(asked.length, 1);
  assert.equal(asked[0]!.get("fieldSelector"), `spec.nodeName=${NODE}`);
  assert.equal(asked[0]!.get("sendInitialEvents"), "true");
  assert.equal(asked[0]!.get("resourceVersion"), null, "the first list is the newest there is");
  await server.deletePod("here");
  await server.deletePod("there");
});

Deno.test("run() reports the end of a pod before the beginning of its successor of the same name", async () => {
  await server.createPod({ name: "web-0", node: NODE, annotations: { [KEY]: "1" } });
  await using follower = await follow();
  await follower.called("synced");
  await server.deletePod("web-0");
  await server.createPod({ name: "web-0", node: NODE, annotations: { [KEY]: "2" } });
  await follower.called("pod web-0 2");
  const calls = follower.calls.filter((call) => !call.endsWith("terminating"));
  assert.deepEqual(calls, ["pod web-0 1", "synced", "gone web-0", "pod web-0 2"]);
  await server.deletePod("web-0");
});

Deno.test("run() reads a static pod's UID from its mirror object", async () => {
  const hash = "0123456789abcdef0123456789abcdef";
  const annotations = { "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash };
  await server.createPod({ name: "static", node: NODE, annotations });
  await server.createPod({ name: "borrower", node: NODE, annotations: { "kubernetes.io/config.hash": hash } });
  await using follower = await follow();
  await follower.called("synced");
  const pods = [...follower.watch.pods.values()];
  assert.equal(pods.find(({ name }) => name === "static")!.staticUid, hash);
  assert.equal(pods.find(({ name }) => name === "borrower")!.staticUid, undefined);
  await assert.rejects(
    server.annotate("borrower", { "kubernetes.io/config.mirror": hash }),
    /config.mirror.*may not|Forbidden/,
  );
  await server.deletePod("static");
  await server.deletePod("borrower");
});

Deno.test("run() lists again now and then, and puts right what never came on the watch", async () => {
  await server.createPod({ name: "kept", node: NODE, annotations: { [KEY]: "1" } });
  await server.createPod({ name: "lost", node: NODE, annotations: { [KEY]: "1" } });
  const from = proxy.requests.length;
  await using follower = await follow({ timing: { ...QUICK, relist: 1000, relistJitter: 0 } });
  await follower.called("synced");
  await follower.until("a watch", () => proxy.watches === 1);
  const { resourceVersion } = [...follower.watch.pods.values()][0]!;
  proxy.drop = (line) => !line.includes("initial-events-end") && !line.includes('"type":"ADDED"');
  try {
    await server.annotate("kept", { [KEY]: "2" });
    await server.deletePod("lost");
    await follower.called("pod kept 2");
    await follower.called("gone lost");
  } finally {
    await proxy.calm();
  }
  assert.ok(proxy.count("drop") >= 2);
  const [, again] = queries(from);
  assert.equal(again!.get("sendInitialEvents"), "true");
  assert.ok(Number(again!.get("resourceVersion")) >= Number(resourceVersion), "never goes back in time");
  assert.equal(follower.calls.filter((call) => call === "synced").length, 1);
  await server.deletePod("kept");
});

Deno.test("run() lists and watches apart when the server has no streaming list", async (t) => {
  // What servers say that do not have it, each cited from where it is written.
  const refusals: Record<string, { status: number; body: string }> = {
    // apimachinery pkg/apis/meta/internalversion/validation: ValidateListOptions, feature gate WatchList off
    "422": {
      status: 422,
      body: status(422, "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList"),
    },
    "400": { status: 400, body: status(400, "unable to decode list options") },
    // apiserver pkg/storage/cacher: etcd before 3.4.31 / 3.5.13
    "ERROR as the first event": {
      status: 200,
      body: `{"type":"ERROR","object":${
        status(500, "etcd event received with PrevKv=nil: storage feature RequestWatchProgress is disabled")
      }}\n`,
    },
  };
  await server.createPod({ name: "old", node: NODE, annotations: { [KEY]: "5" } });
  for (const [name, { status, body }] of Object.entries(refusals)) {
    await t.step(name, async () => {
      const from = proxy.requests.length;
      const streaming = ({ url }: { url: URL }) => url.searchParams.has("sendInitialEvents");
      proxy.answerNext(status, { match: streaming, body, times: 100 });
      await using follower = await follow({ timing: { ...QUICK, relist: 1000, relistJitter: 0 } });
      await follower.called("synced");
      await follower.until("a watch", () => proxy.watches === 1);
      await server.annotate("old", { [KEY]: name });
      await follower.called(`pod old ${name}`);
      await follower.until("a second list", () => queries(from).filter((query) => !query.has("watch")).length === 2);
      const asked = queries(from);
      assert.equal(asked.filter((query) => query.has("sendInitialEvents")).length, 1, "it is not asked for again");
      assert.equal(follower.ends("no_streaming_list"), 1);
      await proxy.calm();
    });
  }
  await server.deletePod("old");

  function status(code: number, message: string): string {
    return JSON.stringify({ kind: "Status", status: "Failure", code, message });
  }
});

Deno.test("run() lists and watches apart on a real server without streaming lists, and notices that at once", async () => {
  await using old = await ApiServer.start({ args: ["--feature-gates=WatchList=false"] });
  await using between = await FaultProxy.start(old);
  const { user, token } = await old.serviceAccount("controller");
  await old.grant(user, [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }]);
  using client = await ApiClient.load({ kubeconfig: await old.kubeconfig("controller", { token }, between.url) });
  await old.createPod({ name: "old", node: NODE, annotations: { [KEY]: "5" } });
  await using follower = new Follower(client, { timing: { ...QUICK, relist: 1000, relistJitter: 0 } });
  await follower.called("synced");
  await old.annotate("old", { [KEY]: "6" });
  await follower.called("pod old 6");
  await old.deletePod("old");
  await follower.called("gone old");
  const asked = () => between.requests.filter(({ url }) => url.pathname === "/api/v1/pods");
  await follower.until("a second list", () => asked().filter(({ url }) => !url.searchParams.has("watch")).length >= 2);
  const streaming = asked().filter(({ url }) => url.searchParams.has("sendInitialEvents"));
  assert.deepEqual(streaming.map(({ status }) => status), [422]);
  assert.equal(follower.ends("no_streaming_list"), 1);
  const calls = follower.calls.filter((call) => !call.endsWith("terminating"));
  assert.deepEqual(calls, ["pod old 5", "synced", "pod old 6", "gone old"]);
});

Deno.test("run() resumes after the last bookmark", async () => {
  await using follower = await follow();
  await follower.called("synced");
  await follower.until("a watch", () => proxy.watches === 1);
  // Something that this node has nothing to do with moves the server on.
  const elsewhere = await server.createPod({ name: "elsewhere", node: "node-2" });
  const { resourceVersion } = elsewhere.metadata;
  proxy.injectEvent("BOOKMARK", { kind: "Pod", metadata: { resourceVersion } });
  await server.createPod({ name: "after", node: "node-2" });
  const from = proxy.requests.length;
  proxy.closeWatches();
  await follower.until("the next watch", () => queries(from).length === 1);
  assert.equal(queries(from)[0]!.get("resourceVersion"), resourceVersion);
  assert.equal(queries(from)[0]!.get("sendInitialEvents"), null);
  assert.deepEqual(follower.calls, ["synced"]);
  await server.deletePod("elsewhere");
  await server.deletePod("after");
});

Deno.test("run() goes on when a listener throws", async () => {
  await using follower = await follow({
    onPod: (pod) => {
      if (pod.name === "bad") throw new Error("a mistake");
    },
  });
  await follower.called("synced");
  await server.createPod({ name: "bad", node: NODE });
  await server.createPod({ name: "good", node: NODE });
  await follower.called("pod good -");
  const errors = follower.log.lines.filter(({ level }) => level === "error");
  assert.equal(errors.length, 1);
  assert.equal((errors[0]!.fields.error as Error).message, "a mistake");
  await server.deletePod("bad");
  await server.deletePod("good");
});

Deno.test("run() ends at once when aborted, whatever it is doing", async (t) => {
  await t.step("watching", async () => {
    const follower = await follow();
    await follower.until("a watch", () => proxy.watches === 1);
    assert.ok(await follower.stop() < 500);
    await follower.until("the end of the request", () => proxy.watches === 0);
  });
  await t.step("waiting for an answer", async () => {
    proxy.delayMs = 5000;
    const delayed = proxy.count("delay");
    const follower = await follow({ timing: { ...QUICK, answer: 20_000 } });
    await follower.until("the request", () => proxy.count("delay") > delayed);
    assert.ok(await follower.stop() < 500);
    await proxy.calm();
  });
  await t.step("backing off", async () => {
    proxy.answerNext(500);
    const follower = await follow({ timing: { ...QUICK, backoff: 30_000, backoffMost: 30_000 } });
    await follower.until("the back-off", () => follower.ends("server_error") === 1);
    assert.ok(await follower.stop() < 500);
  });
  assert.equal(proxy.requests.filter(({ status, ...request }) => isWatch(request) && status === 500).length, 1);
});

Deno.test("a pod's status update is at most half as many bytes on our watch as on one of whole objects", async () => {
  // As the kubelet and the deployment controller write them: see testdata/pod.json.
  const pod = JSON.parse(await Deno.readTextFile(new URL("testdata/pod.json", import.meta.url)));
  const { status, ...rest } = pod;
  const path = "/api/v1/namespaces/default/pods";
  await server.call("POST", path, rest);
  await server.call("PATCH", `${path}/${pod.metadata.name}/status?fieldManager=kubelet`, { status });

  const bytes: Record<string, number> = {};
  const query = `/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D${NODE}&timeoutSeconds=60`;
  {
    await using follower = await follow();
    await follower.called("synced");
  }
  const accepts = { ours: proxy.requests.findLast(isWatch)!.accept, whole: "application/json" };
  for (const [name, accept] of Object.entries(accepts)) {
    const abort = new AbortController();
    const response = await server.admin.open(query, { headers: { "Accept": accept }, signal: abort.signal });
    const events = linesOf(response.body!);
    assert.match((await events.next()).value!, /^\{"type":"ADDED"/);
    await server.call("PATCH", `${path}/${pod.metadata.name}/status?fieldManager=kubelet`, {
      status: { ...status, message: name },
    });
    const { value } = await events.next();
    assert.match(value!, /^\{"type":"MODIFIED"/);
    bytes[name] = value!.length;
    await events.return(undefined);
    abort.abort();
  }
  await server.deletePod(pod.metadata.name);
  const ratio = bytes["ours"]! / bytes["whole"]!;
  assert.ok(ratio <= 0.5, `${bytes["ours"]} of ${bytes["whole"]} bytes: ${Math.round(ratio * 100)} %`);
});

async function* linesOf(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const lines = new LineSplitter();
  for await (const chunk of body) yield* lines.take(chunk);
}
