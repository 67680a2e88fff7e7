/** Faults of the API server and of the network to it, made by a proxy in front of a real one. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { ApiClient } from "../../src/pods/api.ts";
import { waitFor } from "../support/wait.ts";
import { exists, KEY, NodeRig } from "../rig/node.ts";
import { isWatch, statusObject } from "../rig/proxy.ts";
import { bounded, fault, type FaultRecord, impatient, shared, since } from "./fault.ts";
import { clear } from "./node.ts";
import { playFault, type Scene } from "./scene.ts";

const rig = shared(() => NodeRig.start());
/** A connection counts as broken after seconds of silence instead of minutes. */
const HASTY = impatient({ watch: { answer: 3_000, idle: 4_000, tick: 500 } });

/** A fault while three pods are watched; `play` gives the moment from which the time until all is right counts. */
function apiFault(
  id: string,
  play: (scene: Scene, record: FaultRecord) => Promise<number>,
  ...options: Parameters<NodeRig["startController"]>
): void {
  fault(id, async (record) => {
    const node = await rig();
    node.proxy.counts.clear();
    node.proxy.requests.length = 0;
    await playFault(record, node, (scene) => play(scene, record), ...options);
  });
}

/** Waits until the controller has said so often that its watch has ended for this reason. */
async function ended({ controller, lasts }: Scene, reason: string, times = 1): Promise<void> {
  const pattern = new RegExp(`pod watch ended.* reason=${reason}\\b`);
  await lasts(`${times} watches that end with ${reason}`, () => {
    return controller.lines.filter((line) => pattern.test(line)).length >= times;
  });
}

function watchEnds({ controller }: Scene): string[] {
  return controller.lines.filter((line) => line.includes("pod watch ended"));
}

/** The next watches are answered with an error; gives the moment at which the last of them was. */
async function answered(
  scene: Scene,
  record: FaultRecord,
  answers: readonly { status: number; times: number; headers?: Record<string, string> }[],
): Promise<number> {
  const { proxy } = scene.node;
  for (const { status, ...options } of answers) proxy.answerNext(status, { match: isWatch, ...options });
  proxy.closeWatches();
  await scene.change();
  await scene.lasts(
    "the answers",
    () => answers.every(({ status, times }) => proxy.count(`answer ${status}`) >= times),
  );
  const last = performance.now();
  record.happened(answers.map(({ status }) => `${proxy.count(`answer ${status}`)} answers ${status}`).join(", "));
  return last;
}

apiFault("api-restarted", async (scene, record) => {
  const { server } = scene.node;
  // Ended in order it waits up to 60 s for clients that have a connection open.
  await server.stopServer("SIGKILL");
  await ended(scene, "server_error");
  record.happened("its process was killed, and the next watch had no answer");
  await server.startServer();
  const back = performance.now();
  await scene.change();
  return back;
});

apiFault(
  "api-down",
  async (scene, record) => {
    const { proxy } = scene.node;
    const seconds = bounded(20, 300);
    const start = performance.now();
    await proxy.refuse();
    await scene.change();
    await scene.lasts(`${seconds} s without the API server`, seconds);
    await ended(scene, "network", 4);
    record.happened(`its port was closed for ${since(start).toFixed(0)} s, ${watchEnds(scene).length} watches failed`);
    await proxy.accept();
    return performance.now();
  },
  ...impatient({ watch: { tick: 1_000 }, controller: { stalled: 6_000 } }),
);

apiFault("api-reset", async (scene, record) => {
  const start = performance.now();
  record.happened(`${scene.node.proxy.resetAll()} connections reset`);
  await scene.change();
  await ended(scene, "network");
  return start;
});

apiFault(
  "api-half-open",
  async (scene, record) => {
    const { proxy } = scene.node;
    const start = performance.now();
    proxy.blackhole();
    await scene.change();
    await ended(scene, "idle");
    await ended(scene, "timeout");
    const bytes = proxy.count("blackhole bytes");
    assert(bytes > 0);
    record.happened(`${bytes} bytes swallowed in ${since(start).toFixed(0)} s`);
    proxy.heal();
    return performance.now();
  },
  ...HASTY,
);

/** Has the controller miss what `change` brings, and believe that it is past it: now only a list can tell. Gives how many events. */
async function missed(scene: Scene): Promise<number> {
  const { proxy, server } = scene.node;
  proxy.drop = () => true;
  await scene.change();
  await scene.lasts("lost events", () => proxy.count("drop") >= 2);
  proxy.drop = () => false;
  const { metadata } = await server.call("GET", "/api/v1/pods?limit=1");
  assertEquals(proxy.injectEvent("BOOKMARK", { metadata: { resourceVersion: metadata.resourceVersion } }), 1);
  return proxy.count("drop");
}

apiFault("api-410-status", async (scene, record) => {
  const { proxy } = scene.node;
  const events = await missed(scene);
  proxy.answerNext(410, { match: isWatch });
  proxy.closeWatches();
  await scene.lasts("the answer", () => proxy.count("answer 410") === 1);
  const start = performance.now();
  record.happened(`${events} events lost, then the watch was answered 410`);
  await ended(scene, "expired");
  return start;
});

apiFault("api-410-event", async (scene, record) => {
  const { proxy } = scene.node;
  const events = await missed(scene);
  const start = performance.now();
  assertEquals(proxy.injectEvent("ERROR", JSON.parse(statusObject(410, "too old resource version: 1 (2)"))), 1);
  record.happened(`${events} events lost, then ERROR 410`);
  await ended(scene, "expired");
  return start;
});

fault("api-401", async (record) => {
  const node = await rig();
  const { server, proxy } = node;
  await clear(node);
  // A second account, since it is deleted: that is what makes its token void.
  const { user, token } = await server.serviceAccount("rotated");
  await server.grant(user, [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }]);
  const tokenFile = join(server.dir, "rotated.token");
  await Deno.writeTextFile(tokenFile, token);
  const kubeconfig = await server.kubeconfig("rotated", { tokenFile }, proxy.url);
  await playFault(record, node, async (scene) => {
    proxy.requests.length = 0;
    await server.call("DELETE", "/api/v1/namespaces/default/serviceaccounts/rotated");
    const fresh = await server.serviceAccount("rotated");
    // The API server remembers for 10 s that a token was good.
    using old = await ApiClient.load({ kubeconfig: await server.kubeconfig("old", { token }) });
    await waitFor("the old token to be void", async () => (await old.fetch("/api/v1/pods?limit=1")).status === 401);
    proxy.closeWatches();
    await ended(scene, "unauthorized");
    await scene.change();
    const refused = proxy.requests.filter((request) => isWatch(request) && request.status === 401);
    assert(refused.length > 0);
    record.happened(`the API server answered ${refused.length} watches with 401, the account's token was void`);
    await Deno.writeTextFile(tokenFile, fresh.token);
    return performance.now();
  }, { KUBECONFIG: kubeconfig });
});

apiFault("api-403", async (scene, record) => {
  const last = await answered(scene, record, [{ status: 403, times: 3 }]);
  await ended(scene, "forbidden", 3);
  return last;
});

apiFault("api-429", async (scene, record) => {
  const start = performance.now();
  const last = await answered(scene, record, [{ status: 429, times: 1, headers: { "Retry-After": "5" } }]);
  await scene.changed();
  assert(since(start) >= 5, `asked again after ${since(start)} s`);
  await ended(scene, "throttled");
  return last;
});

apiFault("api-500", async (scene, record) => {
  const last = await answered(scene, record, [{ status: 500, times: 2 }, { status: 503, times: 2 }]);
  await ended(scene, "server_error", 4);
  return last;
});

apiFault("api-error-first", async (scene, record) => {
  const { proxy } = scene.node;
  const body = `{"type":"ERROR","object":${statusObject(500, "etcdserver: leader changed")}}\n`;
  proxy.answerNext(200, { match: isWatch, body, times: 2 });
  proxy.closeWatches();
  await scene.change();
  await ended(scene, "server_error", 2);
  record.happened(`${proxy.count("answer 200")} watches began with an ERROR`);
  return performance.now();
});

apiFault("api-truncated-line", async (scene, record) => {
  const { proxy } = scene.node;
  const start = performance.now();
  const times = proxy.inject('{"type":"MODIFIED","object":{"metadata":{"name":"sta');
  proxy.closeWatches();
  assertEquals(times, 1);
  await scene.change();
  await ended(scene, "truncated");
  record.happened("half a line, then the watch's end");
  return start;
});

apiFault("api-large-event", async (scene, record) => {
  const { node, stays } = scene;
  const { metadata } = await node.server.call("GET", `/api/v1/namespaces/default/pods/${stays.name}`);
  const annotations = { ...metadata.annotations, other: "x".repeat(1_400_000) };
  const start = performance.now();
  assertEquals(node.proxy.injectEvent("MODIFIED", { metadata: { ...metadata, annotations } }), 1);
  record.happened("one event of 1.4 MB");
  await scene.change();
  await scene.changed();
  assertEquals(watchEnds(scene), [], "the watch goes on");
  return start;
});

apiFault(
  "api-bookmarks-only",
  async (scene, record) => {
    const { node: { proxy, server } } = scene;
    const { metadata } = await server.call("GET", "/api/v1/pods?limit=1");
    // Twice the time after which silence would be taken for a broken connection.
    const seconds = bounded(8, 250);
    const begun = performance.now();
    await scene.lasts(`${seconds} s of bookmarks`, () => {
      proxy.injectEvent("BOOKMARK", { metadata: { resourceVersion: metadata.resourceVersion } });
      return since(begun) > seconds;
    });
    assertEquals(watchEnds(scene), [], "the watch goes on");
    record.happened(`${proxy.count("inject")} bookmarks in ${seconds} s and nothing else`);
    const start = performance.now();
    await scene.change();
    return start;
  },
  ...HASTY,
);

apiFault("api-event-flood", async (scene, record) => {
  const { node: { proxy, server }, stays } = scene;
  const { metadata } = await server.call("GET", `/api/v1/namespaces/default/pods/${stays.name}`);
  const managedFields = [{ manager: "kubelet", fieldsV1: { "f:status": { padding: "x".repeat(1000) } } }];
  const line = (type: string, change: Record<string, unknown>) =>
    JSON.stringify({ type, object: { metadata: { ...metadata, managedFields, ...change } } }) + "\n";
  // Each second event is of a pod whose annotation has changed, the others change nothing.
  const ghosts = Array.from({ length: 50 }, (_, i) => ({ name: `ghost-${i}`, uid: crypto.randomUUID() }));
  const event = (i: number) => {
    if (i % 2 === 0) return line("MODIFIED", {});
    const ghost = ghosts[(i >> 1) % ghosts.length]!;
    return line("MODIFIED", { ...ghost, annotations: { [KEY]: String(1 + (i / ghosts.length >> 1) % 9) } });
  };
  const begun = performance.now();
  const [perSecond, seconds] = [5000, 4];
  let [sent, asked] = [0, NaN];
  await scene.lasts(`${seconds} s of events`, async () => {
    // Looked at ten times a second: that is how they are bunched.
    const due = Math.min(Math.floor(since(begun) * perSecond), seconds * perSecond);
    let text = "";
    for (; sent < due; sent++) text += event(sent);
    proxy.inject(text);
    if (Number.isNaN(asked) && since(begun) > seconds / 2) {
      await scene.change();
      asked = performance.now();
    }
    return sent >= seconds * perSecond;
  });
  record.happened(`${sent} events in ${since(begun).toFixed(1)} s, half of them changes of ${ghosts.length} pods`);
  await scene.changed();
  assertEquals(watchEnds(scene), [], "the watch goes on");
  // So far away that the controller has come through all of them by then.
  for (const ghost of ghosts) proxy.inject(line("DELETED", ghost));
  for (const { name } of ghosts) assert(!await exists(join(scene.node.captureDir, "default", name)), name);
  return asked;
});

fault("api-selector-ignored", async (record) => {
  const node = await rig();
  const { server, proxy } = node;
  await clear(node);
  let rewritten = 0;
  proxy.rewrite = (url) => {
    if (!url.searchParams.has("fieldSelector")) return;
    rewritten++;
    url.searchParams.delete("fieldSelector");
  };
  const elsewhere = (name: string, files: string) =>
    server.createPod({ name, node: "node-2", annotations: { [KEY]: files } });
  await playFault(record, node, async (scene) => {
    // By the watch, and by the list that follows; and by the watch alone, with a value of which its own node's controller would tell.
    const pods = [await elsewhere("elsewhere", "5"), await elsewhere("elsewhere-2", "none")];
    proxy.injectEvent("ERROR", JSON.parse(statusObject(410, "too old resource version: 1 (2)")));
    await ended(scene, "expired");
    await waitFor("another watch", () => proxy.watches === 1);
    pods.push(await elsewhere("elsewhere-3", "none"));
    for (const { metadata: { name, namespace, uid } } of pods) {
      scene.others.push({ name, namespace, uid, sandbox: undefined });
    }
    assert(rewritten > 0);
    record.happened(
      `the selector was taken out of ${rewritten} requests, which so were for ${pods.length} pods of another node, too`,
    );
    const start = performance.now();
    await scene.change();
    await scene.changed();
    for (const pod of scene.others) {
      assertEquals(await node.processOf(pod), undefined);
      assert(!await exists(node.folderOf(pod)), `${node.folderOf(pod)} exists`);
      assertEquals(await node.events(pod), []);
    }
    return start;
  });
});
