/** PodWatch against a real API server, with every fault between them that a network and a server can make. */
import assert from "node:assert/strict";
import { ApiClient } from "../../../src/pods/api.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { Follower, KEY, NODE, QUICK } from "../../rig/follower.ts";
import { FaultProxy, isList, isWatch, statusObject } from "../../rig/proxy.ts";

let server: ApiServer;
let proxy: FaultProxy;
let api: ApiClient;
let user: string;

Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  proxy = await FaultProxy.start(server);
  const account = await server.serviceAccount("controller");
  user = account.user;
  await server.grant(user, [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] }]);
  const { token } = account;
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

interface Scene {
  readonly follower: Follower;
  /** Changes three pods while nobody looks: `changed`, `deleted`, and `replaced` by another of its name. */
  change(): Promise<void>;
  /** The fault is over: the follower must report all of `change`, each thing once and in the right order. */
  recovers(timeoutMs?: number): Promise<void>;
}

/** A fault that strikes a watch on three pods. */
function fault(name: string, play: (scene: Scene) => Promise<void>, timing = QUICK): void {
  Deno.test(`run() survives ${name}`, async () => {
    const pods = ["changed", "deleted", "replaced"];
    for (const pod of pods) await server.createPod({ name: pod, node: NODE, annotations: { [KEY]: "1" } });
    await using follower = await follow({ timing });
    await follower.called("synced");
    await follower.until("a watch", () => proxy.watches === 1);
    const before = follower.calls.length;
    try {
      await play({
        follower,
        async change() {
          await server.annotate("changed", { [KEY]: "2" });
          await server.deletePod("deleted");
          await server.deletePod("replaced");
          await server.createPod({ name: "replaced", node: NODE, annotations: { [KEY]: "2" } });
        },
        async recovers(timeoutMs = 15_000) {
          for (const call of ["pod changed 2", "gone deleted", "pod replaced 2"]) {
            await follower.until(call, () => follower.calls.includes(call), timeoutMs);
          }
          await follower.until("a watch", () => proxy.watches === 1, timeoutMs);
          const calls = follower.calls.slice(before).filter((call) => !call.endsWith("terminating"));
          assert.deepEqual([...calls].sort(), ["gone deleted", "gone replaced", "pod changed 2", "pod replaced 2"]);
          assert.ok(calls.indexOf("gone replaced") < calls.indexOf("pod replaced 2"));
          assert.equal(follower.watch.pods.size, 2);
        },
      });
    } finally {
      await proxy.calm();
      for (const pod of pods) await server.deletePod(pod).catch(() => {});
    }
  });
}

/** The proxy's count of a fault must have grown by this. */
async function happens(what: string, times: number, when: () => Promise<void> | void): Promise<void> {
  const before = proxy.count(what);
  await when();
  assert.ok(proxy.count(what) - before >= times, `${what} happened ${proxy.count(what) - before} times`);
}

fault("a connection reset", async ({ follower, change, recovers }) => {
  await happens("reset", 1, () => void proxy.resetAll());
  await change();
  await recovers();
  assert.equal(follower.ends("network"), 1);
});

fault("a body that breaks off", async ({ follower, change, recovers }) => {
  await happens("cut", 1, () => void proxy.cutWatches());
  await change();
  await recovers();
  assert.equal(follower.ends("network"), 1);
});

fault("a half-open connection, over which nothing comes any more", async ({ follower, change, recovers }) => {
  await happens("blackhole bytes", 1, async () => {
    proxy.blackhole();
    await change();
    const begun = follower.watch.lastTurn;
    await follower.until("the idle time-out", () => follower.ends("idle") === 1);
    await follower.until("an attempt without answer", () => follower.ends("timeout") >= 1);
    assert.ok(follower.watch.lastTurn > begun, "the attempts count as turns");
  });
  proxy.heal();
  await recovers();
});

fault("a port where nobody listens", async ({ follower, change, recovers }) => {
  await happens("refuse", 1, () => proxy.refuse());
  await change();
  await follower.until("some attempts", () => follower.ends("network") >= 4);
  assert.equal(follower.watch.pods.size, 3, "what is known stays known");
  await proxy.accept();
  await recovers();
});

fault("a restart of the API server", async ({ follower, change, recovers }) => {
  await server.stopServer();
  await follower.until("an attempt without answer", () => follower.ends("server_error") >= 1);
  await server.startServer();
  await change();
  await recovers();
});

fault("a kill of the API server", async ({ change, recovers }) => {
  await server.stopServer("SIGKILL");
  await server.startServer();
  await change();
  await recovers();
});

fault("410 as status", async ({ follower, change, recovers }) => {
  proxy.answerNext(410, { match: isWatch });
  await happens("answer 410", 1, async () => {
    proxy.closeWatches();
    await follower.until("the end", () => follower.ends("expired") === 1);
  });
  await change();
  await recovers();
  const last = proxy.requests.findLast(isWatch)!;
  assert.equal(last.url.searchParams.get("sendInitialEvents"), "true");
  assert.equal(last.url.searchParams.get("resourceVersion"), null);
});

fault("410 as event, with events lost before it", async ({ follower, change, recovers }) => {
  proxy.drop = () => true;
  await happens("drop", 4, async () => {
    await change();
    await follower.until("the drops", () => proxy.count("drop") >= 4);
  });
  proxy.drop = () => false;
  // The watch has come past them: only a list can tell.
  const { metadata } = await server.call("GET", "/api/v1/pods?limit=1");
  proxy.injectEvent("BOOKMARK", { metadata: { resourceVersion: metadata.resourceVersion } });
  assert.equal(proxy.injectEvent("ERROR", JSON.parse(statusObject(410, "too old resource version: 1 (2)"))), 1);
  await recovers();
  assert.equal(follower.ends("expired"), 1);
});

fault("a resourceVersion from the future, after etcd was restored", async ({ follower, change, recovers }) => {
  // apiserver pkg/storage/errors.go: NewTooLargeResourceVersionError, 504 with cause ResourceVersionTooLarge
  const body = statusObject(504, "Too large resource version: 9000, current: 12");
  proxy.answerNext(504, { match: isWatch, body });
  await happens("answer 504", 1, async () => {
    proxy.closeWatches();
    await follower.until("the end", () => follower.ends("refused") === 1);
  });
  await change();
  await recovers();
  assert.equal(proxy.requests.findLast(isWatch)!.url.searchParams.get("resourceVersion"), null);
});

for (const [status, reason] of [[403, "forbidden"], [500, "server_error"], [503, "server_error"]] as const) {
  fault(`${status} again and again`, async ({ follower, change, recovers }) => {
    await happens(`answer ${status}`, 4, async () => {
      proxy.answerNext(status, { times: 4 });
      proxy.closeWatches();
      await change();
      await recovers();
    });
    assert.equal(follower.ends(reason), 4);
  });
}

for (const status of [429, 503]) {
  fault(`${status} with Retry-After`, async ({ change, recovers }) => {
    await happens(`answer ${status}`, 1, async () => {
      proxy.answerNext(status, { headers: { "Retry-After": "2" } });
      const from = proxy.requests.length;
      proxy.closeWatches();
      const begun = performance.now();
      await change();
      await recovers();
      // Nothing else of ours has asked meanwhile, and the wait was the one asked for.
      assert.ok(performance.now() - begun >= 2000);
      assert.ok(performance.now() - begun < 6000);
      assert.equal(proxy.requests.length - from, 2);
    });
  });
}

fault("401 while the token is not yet good again", async ({ follower, change, recovers }) => {
  await happens("answer 401", 3, async () => {
    proxy.answerNext(401, { times: 3 });
    proxy.closeWatches();
    await change();
    await recovers();
  });
  assert.equal(follower.ends("unauthorized"), 3);
});

fault("ERROR as the first event of a watch", async ({ follower, change, recovers }) => {
  const body = `{"type":"ERROR","object":${statusObject(500, "etcdserver: leader changed")}}\n`;
  await happens("answer 200", 2, async () => {
    proxy.answerNext(200, { match: isWatch, body, times: 2 });
    proxy.closeWatches();
    await change();
    await recovers();
  });
  assert.equal(follower.ends("server_error"), 2);
});

fault("a JSON line that ends in the middle", async ({ follower, change, recovers }) => {
  await happens("inject", 1, () => void proxy.inject('{"type":"MODIFIED","object":{"metadata":{"name":"chan'));
  await happens("close", 1, () => void proxy.closeWatches());
  await change();
  await recovers();
  assert.equal(follower.ends("truncated"), 1);
});

for (
  const [name, line] of [
    ["a line that is not JSON", '<html>{"type":502 Bad Gateway\n'],
    ["a line that is no event", "null\n"],
    ["an event without a pod", '{"type":"MODIFIED","object":{"metadata":{"name":"x"}}}\n'],
  ]
) {
  fault(name!, async ({ follower, change, recovers }) => {
    // It comes again wherever the watch is resumed: only a list leads past it.
    await happens("answer 200", 1, async () => {
      const resumed = (request: Parameters<typeof isWatch>[0]) =>
        isWatch(request) && !request.url.searchParams.has("sendInitialEvents");
      proxy.answerNext(200, { match: resumed, body: line!, times: 1000 });
      proxy.closeWatches();
      await follower.until("the line", () => follower.ends("bad_line") >= 1);
      await change();
      await recovers();
    });
    assert.equal(follower.ends("bad_line"), 1);
  });
}

fault(
  "lines in which a list is cut off, without taking the missing pods for gone",
  async ({ follower, change, recovers }) => {
    const [pod] = [...follower.watch.pods.values()];
    const { name, namespace, uid, resourceVersion } = pod!;
    const item = { metadata: { name, namespace, uid, resourceVersion, annotations: pod!.annotations } };
    // A streaming list with one of three pods, then its end without the closing bookmark.
    const body = JSON.stringify({ type: "ADDED", object: item }) + "\n";
    await happens("answer 200", 3, async () => {
      proxy.answerNext(410, { match: isWatch });
      proxy.answerNext(200, { match: isWatch, body, times: 3 });
      proxy.closeWatches();
      await follower.until("the attempts", () => follower.ends("closed") >= 4);
    });
    assert.equal(follower.watch.pods.size, 3);
    assert.ok(!follower.calls.some((call) => call.startsWith("gone")));
    await change();
    await recovers();
  },
);

fault("an event of 1.4 MB", async ({ follower, change, recovers }) => {
  const [pod] = [...follower.watch.pods.values()];
  const metadata = { ...pod, annotations: { ...pod!.annotations, other: "x".repeat(1_400_000) } };
  await happens("inject", 1, () => void proxy.injectEvent("MODIFIED", { metadata }));
  await change();
  await recovers();
  assert.equal(follower.log.lines.filter(({ level }) => level === "warn").length, 0, "the watch goes on");
  assert.ok(JSON.stringify([...follower.watch.pods.values()]).length < 2000, "nothing of it is kept");
});

fault("hours of nothing but bookmarks", async ({ follower, change, recovers }) => {
  // Three times the idle time-out, in which only bookmarks come.
  const until = performance.now() + 3 * QUICK.idle!;
  await happens("inject", 10, async () => {
    await follower.until("the bookmarks", () => {
      proxy.injectEvent("BOOKMARK", {
        metadata: { resourceVersion: [...follower.watch.pods.values()][2]!.resourceVersion },
      });
      return performance.now() > until;
    });
  });
  assert.equal(follower.log.lines.filter(({ message }) => message === "pod watch ended").length, 0);
  await change();
  await recovers();
});

fault("5,000 events a second", async ({ follower, change, recovers }) => {
  const pods = [...follower.watch.pods.values()];
  // What a real status update looks like: the metadata of a pod with its managedFields.
  const { metadata } = JSON.parse(await Deno.readTextFile(new URL("testdata/pod.json", import.meta.url)));
  const managedFields = [{ manager: "kubelet", fieldsV1: { "f:status": { padding: "x".repeat(1000) } } }];
  const lines: string[] = [];
  for (let i = 0; i < 10_000; i++) {
    const { name, namespace, uid, resourceVersion, annotations } = pods[i % 3]!;
    const object = { metadata: { ...metadata, name, namespace, uid, resourceVersion, annotations, managedFields } };
    lines.push(JSON.stringify({ type: "MODIFIED", object }));
  }
  const begun = performance.now();
  await happens("inject", 1, () => void proxy.inject(lines.join("\n") + "\n"));
  await change();
  await recovers(2000);
  const seconds = (performance.now() - begun) / 1000;
  assert.ok(seconds < 2, `10,000 events took ${seconds} s`);
  assert.deepEqual(follower.log.lines.filter(({ level }) => level === "warn"), []);
  // A second without a byte is no fault where this machine is busy.
}, { ...QUICK, idle: 10_000 });

Deno.test("run() reports all pods when the server ignores the field selector", async () => {
  // Metadata does not say where a pod is: others tell by its sandbox, which the runtime here does not have.
  await server.createPod({ name: "elsewhere", node: "node-2", annotations: { [KEY]: "9" } });
  proxy.rewrite = (url) => url.searchParams.delete("fieldSelector");
  try {
    await using follower = await follow();
    await follower.called("synced");
    assert.deepEqual(follower.calls, ["pod elsewhere 9", "synced"]);
    await server.deletePod("elsewhere");
    await follower.called("gone elsewhere");
  } finally {
    await proxy.calm();
  }
});

Deno.test("run() syncs at last when the first list fails in every way", async () => {
  await server.createPod({ name: "first", node: NODE, annotations: { [KEY]: "1" } });
  for (const status of [500, 503, 401, 403, 429]) proxy.answerNext(status, { match: isWatch });
  proxy.cutNextBody(isList);
  proxy.answerNext(500, { match: isList });
  await using follower = await follow();
  await follower.called("synced");
  await follower.until("a watch", () => proxy.watches === 1);
  assert.deepEqual(follower.calls, ["pod first 1", "synced"]);
  assert.ok(proxy.count("cut") >= 1);
  for (const reason of ["server_error", "unauthorized", "forbidden", "throttled"]) {
    assert.ok(follower.ends(reason) >= 1);
  }
  await server.deletePod("first");
});

Deno.test("run() backs off in growing, jittered steps, and never for longer than asked", async (t) => {
  const steps = { "least": [0.1, 0.1, 0.2, 0.4, 0.5, 0.5], "most": [0.1, 0.2, 0.4, 0.8, 1, 1] };
  for (const [name, seconds] of Object.entries(steps)) {
    await t.step(name, async () => {
      await proxy.noWatches();
      proxy.answerNext(500, { times: 6 });
      const random = () => name === "least" ? 0 : 1;
      await using follower = await follow({ timing: { ...QUICK, backoff: 100, backoffMost: 1000 }, random });
      // Its last request has been answered, and takes none of the next step's answers.
      await follower.until("a watch", () => proxy.watches === 1);
      const ends = follower.log.lines.filter(({ fields }) => fields.reason === "server_error");
      assert.deepEqual(ends.map(({ fields }) => fields.retry_seconds), seconds);
    });
  }
});

Deno.test("run() turns while a watch is quiet and while nobody answers, and is noticed to stand still", async () => {
  await using follower = await follow({ timing: { ...QUICK, idle: 60_000 } });
  await follower.called("synced");
  for (let turn = 0; turn < 3; turn++) {
    const { lastTurn } = follower.watch;
    await follower.until("a turn", () => follower.watch.lastTurn > lastTurn, 1000);
  }
  await follower.stop();
  const { lastTurn } = follower.watch;
  await new Promise((resolve) => setTimeout(resolve, 3 * QUICK.tick!));
  assert.equal(follower.watch.lastTurn, lastTurn);
});
