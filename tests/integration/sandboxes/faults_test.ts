import {
  deepStrictEqual as assertEquals,
  ok as assert,
  rejects as assertRejects,
  strictEqual as assertSame,
} from "node:assert/strict";
import { join } from "@std/path";
import { create, toBinary } from "@bufbuild/protobuf";
import { GrpcCode } from "../../../src/sandboxes/grpc.ts";
import { ListPodSandboxResponseSchema, PodSandboxStatusResponseSchema } from "../../../src/sandboxes/cri_pb.ts";
import { NetnsDir } from "../../../src/sandboxes/netns_dir.ts";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { ContainerdRig } from "../../rig/containerd.ts";
import { CriProxy } from "../../rig/cri_proxy.ts";
import { Watching } from "./watching.ts";

const LIST_TIMEOUT_MS = 1_000;

/** A runtime with two pods, a proxy in front of it, and a view of it, by way of the proxy or directly, that has both. */
async function start({ directly = false } = {}) {
  await using stack = new AsyncDisposableStack();
  const rig = stack.use(await ContainerdRig.start());
  const socket = join(await Deno.makeTempDir(), "cri.sock");
  const proxy = stack.use(await CriProxy.start(socket, rig.socket));
  const web = await rig.kubelet.runPod({ name: "web" });
  const host = await rig.kubelet.runPod({ name: "host", hostNetwork: true });
  const w = stack.use(
    new Watching({ socket: directly ? rig.socket : socket, netnsDir: rig.netnsDir, listTimeoutMs: LIST_TIMEOUT_MS }),
  );
  w.sandboxes.setUrgent(true);
  await w.has(web, web.id);
  await w.has(host, host.id);
  w.changes.length = 0;
  const moved = stack.move();
  return {
    rig,
    socket,
    proxy,
    web,
    host,
    w,
    sandboxes: w.sandboxes,
    kubelet: rig.kubelet,
    [Symbol.asyncDispose]: () => moved.disposeAsync(),
  };
}

/** Removes the pod's netns as a stopped sandbox's is removed, behind the runtime's back. */
async function removeNetns(rig: ContainerdRig, path: string): Promise<void> {
  await run(rig.enter(["umount", path.replace(/^.*\/run\/netns/, "/run/netns")]));
  await Deno.remove(path);
}

Deno.test("Sandboxes keeps what it has while the runtime is down, and finds what is new once it is back", async () => {
  await using node = await start({ directly: true });
  const { rig, kubelet, w, web } = node;
  await rig.killRuntime();
  await w.says(
    /^warn Cannot call ListPodSandbox of the container runtime at \S+: .*; the sandboxes found before are kept$/,
  );
  await assertRejects(w.sandboxes.refresh());
  const before = w.sandboxes.lastAnswer!;
  assertSame(w.sandboxes.get(web)?.id, web.id);
  assertEquals(w.changes, []);
  // Long enough for a back-off to grow beyond the two seconds that are asked for below.
  const attempts = performance.now() + 5_000;
  await waitFor("five seconds of attempts", () => performance.now() > attempts);
  await rig.startRuntime();
  const backAt = performance.now();
  await w.says(/^info the container runtime answers again$/);
  assert(performance.now() - backAt < 2_000);
  assert(w.sandboxes.lastAnswer! > before);
  const pod = await kubelet.runPod({ name: "after" });
  assert(await w.has(pod, pod.id) - pod.readyAt < 1_000);
  assertSame(w.sandboxes.get(web)?.id, web.id);
});

Deno.test("Sandboxes ends a sandbox whose netns is removed while the runtime is down", async () => {
  await using node = await start();
  const { rig, w, web, host } = node;
  const path = w.sandboxes.get(web)!.netnsPath!;
  await rig.killRuntime();
  await w.says(/^warn Cannot call/);
  const removedAt = performance.now();
  await removeNetns(rig, path);
  assert(await w.has(web, undefined) - removedAt < 500);
  assertSame(w.sandboxes.get(host)?.id, host.id);
});

Deno.test("Sandboxes never gives a sandbox that is listed as READY but whose netns is gone", async () => {
  await using node = await start();
  const { rig, kubelet, w, web } = node;
  await removeNetns(rig, w.sandboxes.get(web)!.netnsPath!);
  await w.has(web, undefined);
  await w.sandboxes.refresh();
  assert((await kubelet.sandboxes()).find(({ id }) => id === web.id)?.ready, "the fault has not happened");
  assertSame(w.sandboxes.get(web), undefined);
  // After some looks it is worth a line.
  await w.says(/^warn the pod's sandbox cannot be entered: its network namespace is closed$/, 10_000);
  // What the kubelet does about it:
  await kubelet.stopPod(web);
  const again = await kubelet.runPod({ name: "web", uid: web.uid, attempt: 1 });
  await w.has(web, again.id);
});

Deno.test("Sandboxes is not held up by a runtime that is stopped (SIGSTOP), nor by its return", async () => {
  await using node = await start();
  const { rig, kubelet, proxy, w, web, host } = node;
  rig.pauseRuntime();
  await w.says(/: it did not answer within 1 s; the sandboxes found before are kept$/);
  const calls = proxy.calls["ListPodSandbox"]!;
  await waitFor("more attempts", () => proxy.calls["ListPodSandbox"]! > calls + 1, { timeoutMs: 10_000, everyMs: 20 });
  assertSame(w.sandboxes.get(web)?.id, web.id);
  await removeNetns(rig, w.sandboxes.get(web)!.netnsPath!);
  await w.has(web, undefined, 900);
  assertSame(w.sandboxes.get(host)?.id, host.id);
  rig.resumeRuntime();
  await w.says(/answers again/, 3_000);
  const pod = await kubelet.runPod({ name: "after" });
  await w.has(pod, pod.id);
});

Deno.test("Sandboxes survives replies that come after 30 s, and is right as soon as they come at once", async () => {
  await using node = await start();
  const { kubelet, proxy, w, web } = node;
  proxy.fault("*", { delayMs: 30_000 });
  const started = performance.now();
  await assertRejects(w.sandboxes.refresh(), /did not answer within 1 s/);
  assert(
    performance.now() - started < 2 * LIST_TIMEOUT_MS + 500,
    "a refresh waits for one look that is under way, and its own",
  );
  const meanwhile = await kubelet.runPod({ name: "meanwhile" });
  assertSame(w.sandboxes.get(web)?.id, web.id);
  assertSame(w.sandboxes.get(meanwhile), undefined);
  assert(proxy.faulted > 0);
  proxy.fault("*", undefined);
  await w.has(meanwhile, meanwhile.id, LIST_TIMEOUT_MS + 2_000);
  assertSame(w.changes.length, 1);
});

Deno.test("Sandboxes is not held up by a status that is never answered (a hung shim)", async () => {
  await using node = await start();
  const { kubelet, proxy, w } = node;
  const ids = new Set<string>();
  // The first sandbox that is asked about from now on.
  proxy.fault("PodSandboxStatus", {
    hang: true,
    when: (request) => ids.add(new TextDecoder().decode(request)) && ids.size === 1,
  });
  const hung = await kubelet.runPod({ name: "hung" });
  await waitFor("the hang", () => proxy.faulted === 1, { timeoutMs: 5_000, everyMs: 5 });
  for (let n = 0; n < 3; n++) {
    const pod = await kubelet.runPod({ name: `other-${n}` });
    assert(await w.has(pod, pod.id) - pod.readyAt < 1_000);
  }
  assertSame(w.sandboxes.get(hung), undefined);
});

const ERRORS: Record<string, { code: number; details: string; sentence: RegExp }> = {
  "an internal error": {
    code: GrpcCode.INTERNAL,
    details: "boom: 100 %\nsecond line",
    sentence: /: boom: 100 %\nsecond line$/,
  },
  "no resources": { code: GrpcCode.RESOURCE_EXHAUSTED, details: "too many requests", sentence: /: too many requests$/ },
  "UNAVAILABLE": {
    code: GrpcCode.UNAVAILABLE,
    details: "server is not initialized yet",
    sentence: /: server is not initialized yet$/,
  },
  "no CRI v1": {
    code: GrpcCode.UNIMPLEMENTED,
    details: "unknown service runtime.v1.RuntimeService",
    sentence: /: it does not serve CRI v1 \(unknown service runtime.v1.RuntimeService\); containerd 1.6 or newer/,
  },
};

Deno.test("Sandboxes keeps what it has while the runtime answers with errors", async (t) => {
  await using node = await start();
  const { kubelet, proxy, w, web } = node;
  for (const [name, { sentence, ...error }] of Object.entries(ERRORS)) {
    await t.step(name, async () => {
      proxy.fault("ListPodSandbox", { error });
      await assertRejects(
        w.sandboxes.refresh(),
        (e: Error & { code: number }) => sentence.test(e.message) && e.code === error.code,
      );
      assertSame(w.sandboxes.get(web)?.id, web.id);
    });
  }
  await t.step("cut connections", async () => {
    proxy.fault("ListPodSandbox", { drop: true });
    await assertRejects(w.sandboxes.refresh(), /Cannot call ListPodSandbox/);
    assertSame(w.sandboxes.get(web)?.id, web.id);
  });
  await t.step("a reply that is none", async () => {
    proxy.fault("ListPodSandbox", { reply: () => new Uint8Array([0xff, 0xff, 0xff]) });
    await assertRejects(w.sandboxes.refresh(), /Cannot call ListPodSandbox/);
    assertSame(w.sandboxes.get(web)?.id, web.id);
  });
  await t.step("errors about one sandbox only", async () => {
    proxy.fault("ListPodSandbox", undefined);
    proxy.fault("PodSandboxStatus", { error: { code: GrpcCode.UNKNOWN, details: "failed to get sandbox ip" } });
    const pod = await kubelet.runPod({ name: "unlucky" });
    await w.says(
      /^warn the pod's sandbox cannot be entered: Cannot call PodSandboxStatus .*: failed to get sandbox ip$/,
      10_000,
    );
    assertSame(w.sandboxes.get(pod), undefined);
    proxy.fault("PodSandboxStatus", undefined);
    await w.has(pod, pod.id, 12_000);
  });
  assertEquals(w.changes.map(({ id }) => id !== undefined), [true]);
});

Deno.test("Sandboxes goes on when the runtime's socket is made again, and when it is away for a while", async () => {
  await using node = await start();
  const { kubelet, proxy, socket, w, web } = node;
  await proxy.stop();
  await w.says(/: no connection \(No such file or directory\);/);
  await proxy.listen();
  await w.says(/answers again/, 3_000);
  const pod = await kubelet.runPod({ name: "after" });
  await w.has(pod, pod.id);
  // Made again by another process while the old one still has its connections, but answers no more.
  proxy.fault("*", { hang: true });
  await Deno.remove(socket);
  await using other = await CriProxy.start(socket, node.rig.socket);
  await waitFor("a call to the new socket", () => (other.calls["ListPodSandbox"] ?? 0) > 0, {
    timeoutMs: 5_000,
    everyMs: 10,
  });
  assertSame(w.sandboxes.get(web)?.id, web.id);
});

Deno.test("Sandboxes finds a sandbox that was made again within 2 s without inotify", async () => {
  const real = Deno.watchFs;
  // As when the machine's inotify instances are used up, which would hit everything else on it.
  Deno.watchFs = () => {
    throw new Error("Too many open files (os error 24)");
  };
  try {
    await using node = await start();
    const { kubelet, w, web } = node;
    await w.says(
      /^warn Cannot watch \S+: Too many open files \(os error 24\); new sandboxes are found only by polling the runtime$/,
    );
    const delays: number[] = [];
    let pod: { id: string } = web;
    for (let attempt = 1; attempt <= 3; attempt++) {
      await kubelet.stopPod(pod);
      const made = await kubelet.runPod({ name: "web", uid: web.uid, attempt });
      delays.push(await w.has(web, made.id) - made.readyAt);
      pod = made;
    }
    assert(delays.every((ms) => ms < 2_000), String(delays));
  } finally {
    Deno.watchFs = real;
  }
});

Deno.test("Sandboxes watches again when the netns directory was away or is another one", async () => {
  await using rig = await ContainerdRig.start();
  const pod = await rig.kubelet.runPod();
  const parent = await Deno.makeTempDir();
  const netnsDir = join(parent, "netns");
  try {
    await using w = new Watching({ socket: rig.socket, netnsDir });
    w.sandboxes.setUrgent(true);
    await w.says(/^warn Cannot watch \S+netns: No such file or directory/);
    await Deno.symlink(rig.netnsDir, netnsDir);
    await w.has(pod, pod.id, 10_000);
    // This one may be found by a poll, at which the directory is watched again; the next by inotify.
    const polled = await rig.kubelet.runPod();
    await w.has(polled, polled.id);
    const later = await rig.kubelet.runPod();
    const delay = await w.has(later, later.id) - later.readyAt;
    assert(delay < 500, `${delay} ms`);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("NetnsDir.ensureWatched() watches what was mounted over the directory, of which inotify does not tell", async () => {
  const path = await Deno.realPath(await Deno.makeTempDir());
  const created: string[] = [];
  using dir = new NetnsDir(path, { onCreate: (name) => created.push(name), onRemove() {}, onUnclear() {} });
  await dir.ensureWatched();
  await run(["mount", "-t", "tmpfs", "tmpfs", path]);
  try {
    assertSame(await dir.ensureWatched(), undefined);
    await Deno.writeTextFile(join(path, "a"), "");
    await waitFor("the event", () => created.includes("a"), { timeoutMs: 2_000, everyMs: 1 });
  } finally {
    dir[Symbol.dispose]();
    await run(["umount", path]);
    await Deno.remove(path);
  }
});

Deno.test("Sandboxes understands CRI-O, with a spoofed infra container and with a real one", async () => {
  await using rig = await ContainerdRig.start();
  const pod = await rig.kubelet.runPod(); // for a netns that is one
  const { name } = await Array.fromAsync(Deno.readDir(rig.netnsDir)).then((entries) => entries[0]!);
  const socket = join(await Deno.makeTempDir(), "crio.sock");
  await using crio = await CriProxy.start(socket);
  const labels = {
    "io.kubernetes.pod.uid": pod.uid,
    "io.kubernetes.pod.name": "pod",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.container.name": "POD",
  };
  const list = create(ListPodSandboxResponseSchema, { items: [{ id: "cafe", createdAt: 1n, labels }] });
  crio.fault("ListPodSandbox", { reply: () => toBinary(ListPodSandboxResponseSchema, list) });
  // cri-o 1.36 server/sandbox_status.go createSandboxInfo (f954a17e): see tests/unit/sandboxes/info_test.ts.
  const runtimeSpec = {
    ociVersion: "1.2.1",
    linux: { namespaces: [{ type: "network", path: `/var/run/netns/${name}` }] },
  };
  for (const info of [{ runtimeSpec }, { image: "registry.k8s.io/pause:3.10", pid: 4711, runtimeSpec }]) {
    const status = create(PodSandboxStatusResponseSchema, { status: {}, info: { info: JSON.stringify(info) } });
    crio.fault("PodSandboxStatus", { reply: () => toBinary(PodSandboxStatusResponseSchema, status) });
    await using w = new Watching({ socket, netnsDir: rig.netnsDir });
    await w.has(pod, "cafe");
    assertSame(w.sandboxes.get(pod)?.netnsPath, join(rig.netnsDir, name));
    assertEquals(w.lines, []);
  }
});

Deno.test("Sandboxes asks every second while it is urgent, and ever less often otherwise", async () => {
  const dir = await Deno.makeTempDir();
  await using runtime = await CriProxy.start(join(dir, "cri.sock"));
  runtime.fault("ListPodSandbox", { reply: () => new Uint8Array() }); // no sandboxes
  const netnsDir = join(dir, "netns");
  await Deno.mkdir(netnsDir);
  await using w = new Watching({ socket: join(dir, "cri.sock"), netnsDir });
  const calls = () => runtime.calls["ListPodSandbox"] ?? 0;
  const timeTo = async (n: number) => {
    const [from, at] = [calls(), performance.now()];
    await waitFor(`${n} calls`, () => calls() >= from + n, { timeoutMs: 20_000, everyMs: 5 });
    return performance.now() - at;
  };
  await timeTo(1);
  // Pauses of 2 s and 4 s, less 10 %.
  assert(await timeTo(2) > 5_000);
  w.sandboxes.setUrgent(true);
  await timeTo(1);
  const urgent = await timeTo(3);
  assert(urgent > 2_500 && urgent < 4_500, `3 calls in ${urgent} ms`);
});

Deno.test("Sandboxes only sees whether the runtime answers when nothing happens, and lists again when something does", async () => {
  await using rig = await ContainerdRig.start();
  const socket = join(await Deno.makeTempDir(), "cri.sock");
  await using proxy = await CriProxy.start(socket, rig.socket);
  let pings = 0;
  const count = (request: Uint8Array) => {
    if (new TextDecoder().decode(request).includes("packet-capture/none")) pings++;
    return undefined;
  };
  proxy.fault("ListPodSandbox", { reply: count });
  await using w = new Watching({ socket, netnsDir: rig.netnsDir, idlePollMs: 1_000 });
  const { sandboxes } = w;
  await waitFor("pings", () => pings >= 2, { timeoutMs: 10_000, everyMs: 5 });
  assert(performance.now() - sandboxes.lastAnswer! < 2_000);
  const pod = await rig.kubelet.runPod();
  assert(await w.has(pod, pod.id) - pod.readyAt < 500);
  // A pod in the node's network makes no file: it is there after a refresh, or while it is urgent.
  const host = await rig.kubelet.runPod({ hostNetwork: true });
  await sandboxes.refresh();
  assertSame(sandboxes.get(host)?.id, host.id);
  const before = pings;
  await waitFor("pings", () => pings >= before + 2, { timeoutMs: 10_000, everyMs: 5 });
  assertSame(sandboxes.get(pod)?.id, pod.id, "an empty reply to a ping is not the end of all sandboxes");
  const later = await rig.kubelet.runPod({ hostNetwork: true });
  sandboxes.setUrgent(true);
  await w.has(later, later.id);
  sandboxes.setUrgent(false);
  await rig.killRuntime();
  await w.says(/^warn Cannot call ListPodSandbox/);
  assertSame(sandboxes.get(pod)?.id, pod.id);
});

Deno.test("Sandboxes reports once why it refuses a netns outside of the accepted directories, and never asks again", async () => {
  const dir = await Deno.makeTempDir();
  await using runtime = await CriProxy.start(join(dir, "cri.sock"));
  const owner = { namespace: "default", name: "web", uid: "u" };
  const labels = Object.fromEntries(Object.entries(owner).map(([key, value]) => [`io.kubernetes.pod.${key}`, value]));
  const list = create(ListPodSandboxResponseSchema, { items: [{ id: "a", labels }] });
  const runtimeSpec = { linux: { namespaces: [{ type: "network", path: "/proc/1/ns/net" }] } };
  const status = create(PodSandboxStatusResponseSchema, {
    status: {},
    info: { info: JSON.stringify({ runtimeSpec }) },
  });
  runtime.fault("ListPodSandbox", { reply: () => toBinary(ListPodSandboxResponseSchema, list) });
  runtime.fault("PodSandboxStatus", { reply: () => toBinary(PodSandboxStatusResponseSchema, status) });
  await using w = new Watching({ socket: join(dir, "cri.sock"), netnsDir: dir });
  for (let n = 0; n < 5; n++) await w.sandboxes.refresh();
  const refused = w.lines.filter((line) =>
    line.includes('its network namespace is "/proc/1/ns/net", which must be a file in')
  );
  assertSame(refused.length, 1, String(w.lines));
  assertEquals([w.sandboxes.get(owner), runtime.calls["PodSandboxStatus"]], [undefined, 1]);
});
