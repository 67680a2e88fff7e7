/** An upgrade and a downgrade: the version before starts, this one goes on with what is there, and the version before again. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { bundleArgv, formerPrograms, presentPrograms, type Programs } from "../../rig/former.ts";
import { type Controller, exists, KEY, NodeRig, numbersIn, type TestPod } from "../../rig/node.ts";
import type { Rule } from "../plugin/fake_kubectl.ts";
import { capturedPod, clusterRules, controllerPod, CONTROLLERS, list, RELEASES, Sandbox } from "../plugin/rig.ts";

const folder = await Deno.makeTempDir({ prefix: "packet-capture-takeover-" });
let former: Programs, present: Programs;

Deno.test.beforeAll(async () => {
  former = await formerPrograms();
  present = await presentPrograms(folder);
});

Deno.test.afterAll(async () => {
  await Deno.remove(folder, { recursive: true });
});

/** A row of `list -o json`, as far as both versions have it. */
interface Row {
  readonly namespace: string;
  readonly pod: string;
  readonly uid: string;
  readonly state: string;
  readonly since: string | null;
  readonly files: number;
  readonly bytes: number;
  readonly packets: number;
  readonly oldest: string | null;
  readonly newest: string | null;
}

/** What is said and kept of a capture that rests. */
interface Rest {
  readonly pod: string;
  readonly state: string;
  readonly since: string;
  readonly events: readonly string[];
  /** Digests of its files by name. */
  readonly files: Readonly<Record<string, string>>;
}

/** The captures of all kinds on one node. */
class Scene {
  private constructor(
    readonly node: NodeRig,
    readonly web: TestPod,
    readonly held: TestPod,
    readonly done: TestPod,
    readonly bad: TestPod,
    readonly kept: TestPod,
    readonly trimmed: TestPod,
  ) {}

  /** Makes them; a controller has to run. */
  static async make(node: NodeRig): Promise<Scene> {
    const start = (name: string, own: Record<string, string>) =>
      node.startPod(name, {
        annotations: Object.fromEntries(Object.entries(own).map(([key, value]) => [KEY + key, value])),
      });
    const [web, held, done, bad, kept, trimmed] = await Promise.all([
      start("web", { "": "5" }),
      start("held", { "": "5" }),
      start("done", { "": "5", "/packets": "6" }),
      start("bad", { "": "5" }),
      start("kept", { "": "5" }),
      start("trimmed", { "": "4", "/file-size": "1" }),
    ]);
    const scene = new Scene(node, web, held, done, bad, kept, trimmed);
    const all = [web, held, done, bad, kept, trimmed];
    await Promise.all(all.map((pod) => node.capturing(pod)));
    await Promise.all(all.map((pod) => node.hasEvent(pod, "CaptureStarted")));
    for (const pod of all) await node.send(pod, "first", 3);
    await node.inState(done, "completed");
    for (const pod of [web, held, bad, kept]) await hasAll(node, pod, "first", 3);
    await sendLarge(node, trimmed, "large", 1000);
    await waitFor("a ring of 4 files", async () => (await node.files(trimmed)).length === 4, { timeoutMs: 20_000 });
    // What an earlier N has left is trimmed to the present one.
    await node.annotate(trimmed, { "": "2" });
    await node.hasEvent(trimmed, "CaptureRestarted");
    await waitFor("2 files", async () => (await node.files(trimmed)).length <= 2);
    await node.annotate(held, { hold: "true" });
    await node.annotate(bad, { "": "five" });
    await node.deletePod(kept);
    await Promise.all([node.inState(held, "held"), node.inState(bad, "rejected")]);
    await waitFor("the deleted pod's files", () => exists(scene.folderOf(kept)));
    await Promise.all([
      node.hasEvent(held, "CaptureStopped"),
      node.hasEvent(done, "CaptureCompleted"),
      node.hasEvent(bad, "CaptureRejected"),
    ]);
    return scene;
  }

  get resting(): TestPod[] {
    return [this.held, this.done, this.bad, this.kept];
  }

  folderOf(pod: TestPod): string {
    return pod === this.kept ? join(this.node.captureDir, ".retained", pod.uid) : this.node.folderOf(pod);
  }

  // deno-lint-ignore no-explicit-any -- a test looks at what it wants
  async manifest(pod: TestPod): Promise<any> {
    return JSON.parse(await Deno.readTextFile(join(this.folderOf(pod), "capture.json")));
  }

  /** What is to be as it was of those that rest: their files to the byte, and what is said of them. */
  async rests(): Promise<Rest[]> {
    return await Promise.all(this.resting.map(async (pod) => {
      const { state, since, request, annotations, runs, completed, capturedPackets } = await this.manifest(pod);
      const files: Record<string, string> = {};
      for await (const { name } of Deno.readDir(this.folderOf(pod))) {
        if (!name.includes(".pcap")) continue;
        const bytes = await Deno.readFile(join(this.folderOf(pod), name));
        files[name] = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
      }
      assert.ok(Object.keys(files).length > 0, pod.name);
      const events = pod === this.kept ? [] : (await this.node.events(pod)).map(({ reason }) => reason);
      return { pod: pod.name, state, since, request, annotations, runs, completed, capturedPackets, files, events };
    }));
  }
}

async function hasAll(node: NodeRig, pod: TestPod, token: string, count: number): Promise<void> {
  await waitFor(`all ${token} of ${pod.name}`, async () => new Set(await node.received(pod, token)).size === count);
}

/** Sends datagrams of 4 kB. */
async function sendLarge(node: NodeRig, pod: TestPod, token: string, count: number): Promise<void> {
  const script = `printf -v pad "%4000s" ""
    for ((i = 0; i < $2; i++)); do echo "$1-$i$pad" >/dev/udp/127.0.0.1/9 || true; done 2>/dev/null`;
  await run(await node.inNetns(pod, ["bash", "-c", script, "bash", token, String(count)]));
}

function start(node: NodeRig, { controller }: Programs): Promise<Controller> {
  return node.startController({ RETENTION_AFTER_POD_DELETION: "1h" }, {
    argv: [...bundleArgv(controller), "controller"],
  });
}

async function rows(node: NodeRig, { controller }: Programs): Promise<Row[]> {
  const text = await run([...bundleArgv(controller), "list", "-o", "json", "--capture-dir", node.captureDir]);
  return JSON.parse(text);
}

/** The numbers of a token in what `cat` gives of a capture, without those that came twice (by the pod's loopback). */
async function catNumbers(node: NodeRig, by: Programs, capture: string, token: string): Promise<number[]> {
  const file = join(node.dir, "cat.pcapng");
  const argv = [...bundleArgv(by.controller), "cat", capture, "--capture-dir", node.captureDir];
  await run(["sh", "-c", `out=$1; shift; exec "$@" >"$out"`, "sh", file, ...argv]);
  return [...new Set(await numbersIn(file, token))].sort((a, b) => a - b);
}

/** The rows of both versions' `list` agree in all that both have. */
async function listsAgree(scene: Scene): Promise<void> {
  const strip = (all: Row[]) =>
    all.map(({ namespace, pod, uid, state, since, files, oldest }) => ({
      ...{ namespace, pod, uid, state, since, files, oldest },
    }));
  const [old, now] = [await rows(scene.node, former), await rows(scene.node, present)];
  assert.deepEqual(strip(now), strip(old));
  assert.deepEqual(
    now.map(({ pod, state }) => `${pod} ${state}`).sort(),
    ["bad rejected", "done completed", "held held", "kept retained", "trimmed capturing", "web capturing"],
  );
}

/** Both versions' `cat` give all packets of the tokens. */
async function catsAgree({ node, web, held, kept }: Scene, counts: Record<string, number>): Promise<void> {
  for (const by of [former, present]) {
    for (const [token, count] of Object.entries(counts)) {
      assert.deepEqual(await catNumbers(node, by, `default/${web.name}`, token), [...Array(count).keys()], token);
    }
    assert.deepEqual(await catNumbers(node, by, `default/${held.name}`, "first"), [0, 1, 2]);
    assert.deepEqual(await catNumbers(node, by, kept.uid, "first"), [0, 1, 2]);
  }
}

/** Ends one controller and starts another; what was there goes on, and what rests is left as it is. */
async function takeOver(scene: Scene, from: Controller, by: Programs, signal: Deno.Signal, token: string) {
  const { node, web, trimmed } = scene;
  const goOn = [web, trimmed];
  const rests = await scene.rests();
  const runs = await Promise.all(goOn.map(async (pod) => (await scene.manifest(pod)).runs));
  const events = await Promise.all(goOn.map((pod) => node.events(pod)));
  for (const pod of goOn) await node.send(pod, token, 50);
  // What tcpdump still holds is flushed on SIGTERM, and lost on SIGKILL.
  if (signal === "SIGKILL") await Promise.all(goOn.map((pod) => hasAll(node, pod, token, 50)));
  await from.end(signal);
  // A killed controller's tcpdump goes on, until the next controller ends it.
  const outlived = (await node.processes()).map(({ pid }) => pid);
  assert.equal(outlived.length, signal === "SIGKILL" ? goOn.length : 0);
  const to = await start(node, by);
  for (const [i, pod] of goOn.entries()) {
    await waitFor(`a restart of ${pod.name}`, async () => (await node.events(pod)).length > events[i]!.length);
    await node.inState(pod, "capturing");
    assert.ok(!outlived.includes((await node.capturing(pod)).pid), `a former tcpdump of ${pod.name} goes on`);
    const { note } = (await node.events(pod)).at(-1)!;
    assert.match(note, /the controller was restarted; not captured since 20/);
    assert.equal((await node.events(pod)).at(-1)!.reason, "CaptureRestarted");
    // The runs before are as they were, but for the last one's end and counters, and one has begun.
    const had = runs[i]!;
    const now = (await scene.manifest(pod)).runs;
    const last = now.at(-1);
    assert.equal(last.n, had.at(-1).n + 1, pod.name);
    assert.equal(last.endedAt, undefined);
    assert.notEqual(now.at(-2).endedAt, undefined);
    const plain = ({ n, startedAt, sandboxId, request }: Record<string, unknown>) => ({
      ...{ n, startedAt, sandboxId, request },
    });
    const before = now.slice(0, -1).map(plain);
    assert.deepEqual(before, had.map(plain).slice(-before.length));
  }
  await waitFor("2 files", async () => (await node.files(trimmed)).length <= 2);
  for (const pod of goOn) {
    assert.deepEqual(new Set(await node.received(pod, token)), new Set(Array(50).keys()), pod.name);
  }
  // The version before tells it again where the sentence is another one.
  const of = (all: Rest[]) =>
    all.map((one) => by === former && one.state === "rejected" ? { ...one, since: "", events: [] } : one);
  assert.deepEqual(of(await scene.rests()), of(rests));
  return to;
}

for (const signal of ["SIGKILL", "SIGTERM"] as const) {
  Deno.test(`captures of the version before go on after ${signal}, and those of this one in the version before`, async (t) => {
    await using node = await NodeRig.start();
    await using first = await start(node, former);
    const scene = await Scene.make(node);
    await listsAgree(scene);
    const second = await takeOver(scene, first, present, signal, "upgrade");
    await using _second = second;
    await t.step("both readers read what the version before has written, and this one goes on with", async () => {
      await listsAgree(scene);
      await catsAgree(scene, { first: 3, upgrade: 50 });
    });
    await using _third = await takeOver(scene, second, former, signal, "downgrade");
    await t.step("both readers read what this version has written", async () => {
      await listsAgree(scene);
      await catsAgree(scene, { first: 3, upgrade: 50, downgrade: 50 });
    });
    await t.step("what is removed of each goes", async () => {
      for (const pod of [scene.web, scene.held, scene.done, scene.bad, scene.trimmed]) {
        await node.annotate(pod, { "": null });
        await node.clean(pod);
      }
    });
  });
}

/** What a cluster answers that has the chart of the version before: a DaemonSet whose pods have one container. */
const FORMER_CHART: readonly Rule[] = [
  { when: RELEASES, stdout: list([]) },
  { when: CONTROLLERS, stdout: list([controllerPod("node-1", { containers: ["packet-capture"] })]) },
  { when: ["get", " pods"], stdout: list([capturedPod({ name: "old-web", node: "node-1" })]) },
];

/** What the plugin of the version before asks for, besides. */
const DAEMON_SET: Rule = {
  when: ["get", "daemonsets.apps,pods"],
  stdout: list([
    {
      kind: "DaemonSet",
      metadata: {
        name: "packet-capture",
        namespace: "packet-capture",
        uid: "ds-packet-capture",
        labels: { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "packet-capture" },
      },
    },
    controllerPod("node-1"),
  ]),
};

Deno.test("the plugin of each version gets captures from the controller of the other", async (t) => {
  await using node = await NodeRig.start();
  const cases = [
    {
      name: "this plugin",
      target: "old-web",
      plugin: () => present,
      controller: () => former,
      rules: FORMER_CHART,
      words: ["--controller-namespace", "packet-capture"],
    },
    {
      name: "the plugin of the version before",
      target: "new-web",
      plugin: () => former,
      controller: () => present,
      rules: [DAEMON_SET, ...clusterRules(["node-1"], [{ name: "new-web", node: "node-1" }])],
      words: [],
    },
  ];
  for (const { name, target, plugin, controller, rules, words } of cases) {
    await t.step(name, async () => {
      await using _controller = await start(node, controller());
      await using sandbox = await Sandbox.create(rules);
      await execs(sandbox, node, controller());
      const get = (...more: string[]) =>
        attempt([...bundleArgv(plugin().plugin), "get", target, "-o", "web.pcapng", ...words, ...more], {
          cwd: sandbox.path("work"),
          env: {
            FAKE_KUBECTL: sandbox.dir,
            PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}`,
            TMPDIR: sandbox.dir,
          },
        });
      const none = await get();
      assert.notEqual(none.code, 0);
      assert.match(none.stderr, new RegExp(`: Cannot find a capture of default/${target} on this node: `));
      const pod = await node.startPod(target, {
        annotations: { [KEY]: "5", [`${KEY}/filter`]: "udp dst port 9" },
      });
      await node.capturing(pod);
      const empty = await get();
      assert.notEqual(empty.code, 0);
      assert.match(empty.stderr, new RegExp(`: Cannot read default/${target}: no packet has been captured yet`));
      for (const { stderr } of [none, empty]) assert.doesNotMatch(stderr, /[{}]/);
      await node.send(pod, "got", 20);
      await hasAll(node, pod, "got", 20);
      const { code, stderr } = await get();
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^web\.pcapng: 20 packets of 1 pod, /m);
      const got = new Set(await numbersIn(sandbox.path("work/web.pcapng"), "got"));
      assert.deepEqual(got, new Set(Array(20).keys()));
      await node.deletePod(pod);
    });
  }
});

/** Has the sandbox's kubectl run these programs on the node for `exec`, and be scripted for all else. */
async function execs(sandbox: Sandbox, node: NodeRig, { controller }: Programs): Promise<void> {
  const kubectl = sandbox.path("bin/kubectl");
  await Deno.rename(kubectl, `${kubectl}-scripted`);
  const words = bundleArgv(controller).map((word) => `'${word}'`).join(" ");
  const script = `#!/bin/sh
case " $* " in
  *" exec "*" -- packet-capture "*) ;;
  *) exec "$0-scripted" "$@" ;;
esac
while [ "$1" != -- ]; do shift; done
shift 2
CAPTURE_DIR='${node.captureDir}' ${words} "$@" && exit
code=$?
echo "command terminated with exit code $code" >&2
exit $code
`;
  await Deno.writeTextFile(kubectl, script, { mode: 0o755 });
}
