/** `start` and `stop` on a real API server with real kubectl; the test plays the controllers and records their Events. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { requestOf } from "../../../src/plugin/commands/request.ts";
import { REQUEST_ANNOTATION } from "../../../src/spec/event.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { controllerPod, eventually, install, plugin, type RunOptions, Sandbox } from "./rig.ts";

const KEY = "tcpdump.antrea.io";
const PODS = "/api/v1/namespaces/default/pods";

let server: ApiServer;
let admin: string;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  admin = join(server.dir, "admin.kubeconfig");
  await server.createNamespace("packet-capture");
  await install(server, [
    controllerPod("worker1"),
    controllerPod("worker2"),
    controllerPod("worker3", { ready: false, waiting: "ImagePullBackOff" }),
  ]);
});
Deno.test.afterAll(() => server[Symbol.asyncDispose]());

function run(args: readonly string[], options: RunOptions = {}, kubeconfig = admin) {
  return plugin([...args], { ...options, env: { KUBECONFIG: kubeconfig, ...options.env } });
}

async function annotationsOf(name: string): Promise<Record<string, string>> {
  return (await server.call("GET", `${PODS}/${name}`)).metadata.annotations ?? {};
}

/** Records an Event as a controller does, once the pod's annotations are as `when` wants them. */
async function answer(
  name: string,
  reason: string,
  note: string,
  when = (annotations: Record<string, string>) => KEY in annotations,
) {
  await eventually(async () => when(await annotationsOf(name)));
  await event(name, reason, note);
}

/** @param request the annotations that it answers. @default those that the pod has */
async function event(name: string, reason: string, note: string, request?: Record<string, string>): Promise<void> {
  const { metadata: { uid, annotations = {} } } = await server.call("GET", `${PODS}/${name}`);
  await server.call("POST", "/apis/events.k8s.io/v1/namespaces/default/events", {
    metadata: {
      name: `${name}.${crypto.randomUUID()}`,
      annotations: { [REQUEST_ANNOTATION]: requestOf(KEY, request ?? annotations) },
    },
    eventTime: new Date().toISOString().replace("Z", "000Z"),
    reportingController: "packet-capture",
    reportingInstance: "x",
    action: "Capture",
    type: "Normal",
    reason,
    note,
    regarding: { kind: "Pod", namespace: "default", name, uid },
  });
}

Deno.test("start reports for each pod of a deployment what its controller made of it, and of no others", async () => {
  const deployment = await server.call("POST", "/apis/apps/v1/namespaces/default/deployments", {
    metadata: { name: "web" },
    spec: {
      selector: { matchLabels: { app: "web" } },
      template: { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "a", image: "x" }] } },
    },
  });
  const set = await server.call("POST", "/apis/apps/v1/namespaces/default/replicasets", {
    metadata: {
      name: "web-1",
      labels: { app: "web" },
      ownerReferences: [{
        apiVersion: "apps/v1",
        kind: "Deployment",
        name: "web",
        uid: deployment.metadata.uid,
        controller: true,
      }],
    },
    spec: deployment.spec.template && { selector: { matchLabels: { app: "web" } }, template: deployment.spec.template },
  });
  const owner = { apiVersion: "apps/v1", kind: "ReplicaSet", name: "web-1", uid: set.metadata.uid, controller: true };
  for (const [name, node] of [["web-a", "worker1"], ["web-b", "worker2"]]) {
    await server.call("POST", PODS, {
      metadata: { name, labels: { app: "web" }, ownerReferences: [owner] },
      spec: { nodeName: node, containers: [{ name: "one", image: "x" }, { name: "two", image: "x" }] },
    });
  }
  // The same labels, but not the deployment's.
  await server.call("POST", PODS, {
    metadata: { name: "web-stranger", labels: { app: "web" } },
    spec: { nodeName: "worker1", containers: [{ name: "a", image: "x" }] },
  });
  await event("web-a", "CaptureRejected", "an answer to an earlier request");

  const [{ code, text, stderr }] = await Promise.all([
    run(["start", "deployment/web", "--files", "7", "--filter", "tcp port 80", "--snaplen", "128"]),
    answer("web-a", "CaptureStarted", "Capturing"),
    answer("web-b", "CaptureRejected", "Annotation \u001b[31m is bad"),
  ]);
  strictEqual(
    text,
    "default/web-a: capturing on node worker1 (7 files of 1 MB, filter tcp port 80, 128 bytes of each packet)\n",
  );
  const [hint, ...answers] = stderr.split("\n");
  match(hint!, /^Deployment default\/web: pods that it makes later are not captured; /);
  deepStrictEqual(answers, ["default/web-b: rejected: Annotation \\x1b[31m is bad", ""]);
  strictEqual(code, 1);
  deepStrictEqual(await annotationsOf("web-a"), {
    [KEY]: "7",
    [`${KEY}/filter`]: "tcp port 80",
    [`${KEY}/snaplen`]: "128",
  });
  deepStrictEqual(await annotationsOf("web-stranger"), {});
  const template = (await server.call("GET", "/apis/apps/v1/namespaces/default/deployments/web")).spec.template;
  strictEqual(template.metadata.annotations, undefined);
});

Deno.test("start takes the present pods of every kind of workload, by who owns them", async () => {
  const label = { kind: "any" };
  const template = {
    metadata: { labels: label },
    spec: { restartPolicy: "Never", containers: [{ name: "a", image: "x" }] },
  };
  const always = { ...template, spec: { ...template.spec, restartPolicy: "Always" } };
  const selector = { matchLabels: label };
  const make = (api: string, plural: string, name: string, spec: unknown, ownerReferences: unknown[] = []) =>
    server.call("POST", `${api}/namespaces/kinds/${plural}`, {
      metadata: { name, labels: label, ownerReferences },
      spec,
    });
  const owner = (object: { apiVersion: string; kind: string; metadata: { name: string; uid: string } }) => [
    {
      apiVersion: object.apiVersion,
      kind: object.kind,
      name: object.metadata.name,
      uid: object.metadata.uid,
      controller: true,
    },
  ];
  await server.createNamespace("kinds");
  const set = await make("/apis/apps/v1", "statefulsets", "db", { selector, template: always, serviceName: "db" });
  const cron = await make("/apis/batch/v1", "cronjobs", "nightly", {
    schedule: "0 0 * * *",
    jobTemplate: { spec: { template } },
  });
  const job = await make("/apis/batch/v1", "jobs", "nightly-1", { template }, owner(cron));
  await make("/api/v1", "services", "all", { selector: label, ports: [{ port: 80 }] });
  for (const [name, owners] of [["db-0", owner(set)], ["nightly-1-x", owner(job)], ["loner", []]] as const) {
    const labels = { ...label, "job-name": name.startsWith("nightly") ? "nightly-1" : "none" };
    await server.call("POST", "/api/v1/namespaces/kinds/pods", {
      metadata: { name, labels, ownerReferences: owners },
      spec: { nodeName: "worker1", containers: [{ name: "a", image: "x" }] },
    });
  }
  for (
    const [workload, expected] of [
      ["statefulset/db", ["db-0"]],
      ["sts/db", ["db-0"]],
      ["cronjob/nightly", ["nightly-1-x"]],
      ["service/all", ["db-0", "loner", "nightly-1-x"]],
    ] as const
  ) {
    const { code, text, stderr } = await run(["start", "-n", "kinds", workload, "--wait", "0s"]);
    strictEqual(code, 0, stderr);
    deepStrictEqual(
      text.trim().split("\n").map((line) => line.split(":")[0]).sort(),
      expected.map((name) => `kinds/${name}`),
    );
  }
  const none = await run(["start", "-n", "kinds", "namespace/kinds"]);
  match(none.stderr, /^error: namespace\/kinds selects no pods: give pods, or a workload such as/);
  strictEqual(none.code, 2);
});

Deno.test("start states a whole request: what an earlier one had goes, a repeated Event counts", async () => {
  await server.createPod({
    name: "again",
    node: "worker1",
    annotations: { [KEY]: "3", [`${KEY}/filter`]: "udp", [`${KEY}/hold`]: "true" },
  });
  // The same was asked for once before.
  await event("again", "CaptureRestarted", "Capturing again", { [KEY]: "5", [`${KEY}/duration`]: "10m" });
  const [{ code, text }] = await Promise.all([
    run(["start", "pod/again", "--duration", "10m"]),
    eventually(async () => `${KEY}/duration` in await annotationsOf("again")).then(async () => {
      // The same Event once more is counted in it, not written again.
      const base = "/apis/events.k8s.io/v1/namespaces/default/events";
      const { items } = await server.call("GET", base);
      const [first] = items.filter(({ metadata }: { metadata: { name: string } }) =>
        metadata.name.startsWith("again.")
      );
      await server.call("PATCH", `${base}/${first.metadata.name}`, {
        series: { count: 2, lastObservedTime: "2026-01-01T00:00:00.000000Z" },
      });
    }),
  ]);
  strictEqual(
    text,
    "default/again: capturing on node worker1 (5 files of 1 MB, for 10m); " +
      'changed: files 3 → 5, filter "udp" → none, duration none → 10m, hold true → false\n',
  );
  strictEqual(code, 0);
  deepStrictEqual(await annotationsOf("again"), { [KEY]: "5", [`${KEY}/duration`]: "10m" });
});

Deno.test("start reports at once that a node has no controller, and annotates nothing there", async () => {
  await server.createPod({ name: "alone", node: "worker9" });
  const { code, stderr, text } = await run(["start", "alone", "--wait", "10m"]);
  match(
    stderr,
    /^default\/alone: not annotated: Node worker9 has no controller: the DaemonSet of release packet-capture\/packet-capture does not run there/,
  );
  deepStrictEqual([code, text], [1, ""]);
  deepStrictEqual(await annotationsOf("alone"), {});
});

Deno.test("start reports at once that a node's controller is not ready, and waits for it", async () => {
  await server.createPod({ name: "early", node: "worker3" });
  const [{ code, text, stderr }] = await Promise.all([
    run(["start", "early"]),
    answer("early", "CaptureStarted", "Capturing"),
  ]);
  strictEqual(
    stderr,
    "default/early: The controller of node worker3 (pod packet-capture/packet-capture-worker3) is not ready: " +
      "phase Pending, ImagePullBackOff; the capture starts when it is\n",
  );
  deepStrictEqual([code, text], [0, "default/early: capturing on node worker3 (5 files of 1 MB)\n"]);
});

Deno.test("start reports that a pod without a node is captured from its start", async () => {
  await server.call("POST", PODS, { metadata: { name: "unborn" }, spec: { containers: [{ name: "a", image: "x" }] } });
  const { code, text } = await run(["start", "unborn"]);
  deepStrictEqual([code, text], [0, "default/unborn: annotated; it has no node yet and is captured from its start\n"]);
  deepStrictEqual(await annotationsOf("unborn"), { [KEY]: "5" });
});

Deno.test("start waits no longer than --wait, and reports that nothing came", async () => {
  await server.createPod({ name: "quiet", node: "worker1" });
  const began = performance.now();
  const { code, stderr } = await run(["start", "quiet", "--wait", "1s"]);
  // Nearer to 1 s than to the 15 s that are the default, on a slow machine too.
  ok(performance.now() - began < 14_000);
  // There is no kubelet: the controller cannot be asked either.
  match(stderr, /^default\/quiet: annotated, but no answer from its controller: /);
  strictEqual(code, 1);
  deepStrictEqual(await annotationsOf("quiet"), { [KEY]: "5" });
});

Deno.test("start does not wait with --wait 0s", async () => {
  await server.createPod({ name: "hasty", node: "worker1" });
  const { code, text, stderr } = await run(["start", "hasty", "--wait", "0s"]);
  deepStrictEqual([code, text, stderr], [0, "default/hasty: annotated\n", ""]);
});

Deno.test("start refuses a pod that has finished, and names a pod that is not there", async () => {
  await server.createPod({ name: "job", node: "worker1" });
  await server.call("PATCH", `${PODS}/job/status`, { status: { phase: "Succeeded" } });
  const finished = await run(["start", "job"]);
  strictEqual(
    finished.stderr,
    "default/job: not annotated: it has finished (Succeeded), there is nothing to capture\n",
  );
  strictEqual(finished.code, 1);
  const unknown = await run(["start", "nobody", "-n", "default"]);
  deepStrictEqual([unknown.code, unknown.stderr], [1, "error: There is no pod nobody in namespace default\n"]);
});

Deno.test("start refuses bad values and contradictions with exit code 2 and changes nothing", async () => {
  await server.createPod({ name: "strict", node: "worker1" });
  for (
    const [args, message] of [
      [["--files", "0"], /^error: --files must be a whole number from 1 to 100: got "0"\n$/],
      [["--direction", "up"], /^error: --direction must be in, out or inout: got "up"/],
      [["--wait", "soon"], /It must be a time such as 30s/],
      [["--fliter", "x"], /unknown option '--fliter'/],
      [["-c", "main"], /all containers of a pod share one network namespace/],
      [["-l", "app=web"], /^error: Give either names or -l SELECTOR, not both\n$/],
    ] as const
  ) {
    const { code, stderr } = await run(["start", "strict", ...args]);
    match(stderr, message);
    strictEqual(code, 2, stderr);
  }
  strictEqual((await run(["start", "-l", "app in (web"])).code, 2);
  deepStrictEqual(await annotationsOf("strict"), {});
});

Deno.test("start names both pods when two have one name", async () => {
  await server.createNamespace("other");
  await server.createPod({ name: "twin", node: "worker1" });
  await server.createPod({ name: "twin", node: "worker2", namespace: "other" });
  const { code, stderr } = await run(["start", "twin", "-A"]);
  strictEqual(stderr, "error: 2 pods are named twin: default/twin, other/twin; choose one of them\n");
  strictEqual(code, 2);
});

Deno.test("start works for a user who may only patch pods, and reports which rights are missing", async () => {
  await server.createPod({ name: "mine", node: "worker1" });
  await server.grant("jane", [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "patch"] }]);
  const jane = await server.kubeconfig("jane", await server.authority.issue("jane", "/CN=jane"));
  const { code, stderr } = await run(["start", "mine"], {}, jane);
  match(
    stderr,
    /Cannot find the controllers \(User jane lacks the permission "get" on "clusterroles.rbac.authorization.k8s.io" in the whole cluster; it is needed for packet-capture-read alone, or give --controller-namespace\): taking annotation tcpdump/,
  );
  match(
    stderr,
    /Cannot read Events: User jane lacks the permission "list" on "events.events.k8s.io" in namespace default/,
  );
  match(stderr, /default\/mine: annotated, but its controller's answer cannot be read/);
  strictEqual(code, 1); // nobody said that it is captured
  deepStrictEqual(await annotationsOf("mine"), { [KEY]: "5" });
});

Deno.test("start names the missing right when the pod may not be changed", async () => {
  await server.createPod({ name: "theirs", node: "worker1" });
  await server.grant("joe", [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] }, {
    apiGroups: ["rbac.authorization.k8s.io"],
    resources: ["clusterroles"],
    verbs: ["list"],
  }]);
  const joe = await server.kubeconfig("joe", await server.authority.issue("joe", "/CN=joe"));
  const { code, stderr } = await run(["start", "theirs", "--wait", "0s"], {}, joe);
  strictEqual(
    stderr,
    'default/theirs: not annotated: User joe lacks the permission "patch" on "pods" in namespace default\n',
  );
  strictEqual(code, 1);
});

Deno.test("start leaves a pod alone that has taken the name of the one that was meant", async () => {
  // A kubectl that, asked to patch, first lets the pod be replaced.
  await server.createPod({ name: "swap", node: "worker1" });
  await using sandbox = await Sandbox.create();
  const real = (await new Deno.Command("sh", { args: ["-c", "command -v kubectl"] }).output()).stdout;
  const kubectl = new TextDecoder().decode(real).trim();
  const replace =
    `"${kubectl}" delete pod swap --force --grace-period=0 >&2 && echo '{"apiVersion":"v1","kind":"Pod","metadata":{"name":"swap"},` +
    `"spec":{"nodeName":"worker1","containers":[{"name":"a","image":"x"}]}}' | "${kubectl}" create -f - >&2`;
  await Deno.writeTextFile(
    sandbox.path("bin/kubectl"),
    `#!/bin/sh\nif [ "$1" = patch ]; then ${replace}; fi\nexec "${kubectl}" "$@"\n`,
  );
  const { code, stderr } = await run(["start", "swap", "--wait", "0s"], {
    env: { PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
  });
  match(stderr, /default\/swap: not annotated: another pod has its name now\n$/);
  strictEqual(code, 1);
  deepStrictEqual(await annotationsOf("swap"), {});
});

Deno.test("stop removes all our annotations and nothing else, and passes on what the controller reports", async () => {
  await server.createPod({
    name: "done",
    node: "worker1",
    annotations: { [KEY]: "5", [`${KEY}/filter`]: "udp", [`${KEY}/odd`]: "", [`${KEY}x`]: "", a: "b" },
  });
  const [{ code, text, stderr }] = await Promise.all([
    run(["stop", "done", "--yes"]),
    answer(
      "done",
      "CaptureStopped",
      "Annotation removed: deleted 3 files (2.0 kB)",
      (annotations) => !(KEY in annotations),
    ),
  ]);
  strictEqual(text, "default/done: Annotation removed: deleted 3 files (2.0 kB)\n");
  match(
    stderr,
    /^This ends the capture of default\/done and deletes 0 files, 0 B; what node worker1 holds is unknown: /,
  );
  strictEqual(code, 0);
  deepStrictEqual(await annotationsOf("done"), { [`${KEY}x`]: "", a: "b" });
});

Deno.test("stop without a terminal needs --yes: exit code 2, nothing changed", async () => {
  await server.createPod({ name: "kept", node: "worker1", annotations: { [KEY]: "5" } });
  const { code, stderr } = await run(["stop", "kept"]);
  match(stderr, /Nobody can answer \(no terminal\): give --yes to delete them, or --keep to keep the files\n$/);
  strictEqual(code, 2);
  deepStrictEqual(await annotationsOf("kept"), { [KEY]: "5" });
});

Deno.test("stop asks on a terminal: anything but yes changes nothing, y deletes", async () => {
  await server.createPod({ name: "asked", node: "worker1", annotations: { [KEY]: "5" } });
  for (const [typed, kept] of [["n", true], ["", true], ["y", false]] as const) {
    const { code, text } = await onTerminal(["stop", "asked", "--wait", "0s"], typed);
    match(text, /deletes .* Continue\? \[y\/N\]/);
    strictEqual(code, 0, text);
    strictEqual(KEY in await annotationsOf("asked"), kept, text);
  }
});

Deno.test("stop --keep sets hold and keeps the rest", async () => {
  await server.createPod({ name: "held", node: "worker1", annotations: { [KEY]: "5" } });
  const { code, text } = await run(["stop", "held", "--keep", "--wait", "0s"]);
  deepStrictEqual([code, text], [0, "default/held: capture held, its files are kept\n"]);
  deepStrictEqual(await annotationsOf("held"), { [KEY]: "5", [`${KEY}/hold`]: "true" });
});

Deno.test("stop reports that a pod is not captured, and passes over such pods of a selector", async () => {
  await server.createPod({ name: "plain", node: "worker1" });
  const { code, stderr } = await run(["stop", "plain", "--yes"]);
  strictEqual(stderr, `error: Pod default/plain is not captured: it has no annotation ${KEY}\n`);
  strictEqual(code, 1);
  for (const [name, annotations] of [["one", { [KEY]: "5" }], ["two", {}], ["three", { [KEY]: "5" }]] as const) {
    await server.call("POST", PODS, {
      metadata: { name, labels: { app: "some" }, annotations },
      spec: { nodeName: "worker1", containers: [{ name: "a", image: "x" }] },
    });
  }
  const some = await run(["stop", "-l", "app=some", "--yes", "--wait", "0s"]);
  deepStrictEqual(some.text.trim().split("\n").map((line) => line.split(":")[0]).sort(), [
    "default/one",
    "default/three",
  ]);
  const none = await run(["stop", "-l", "app=some", "--yes"]);
  deepStrictEqual([none.code, none.stderr], [
    1,
    `error: None of 3 pods is captured: none has annotation ${KEY}\n`,
  ]);
  const nobody = await run(["stop", "-l", "app=nobody", "--yes", "-n", "default"]);
  deepStrictEqual([nobody.code, nobody.stderr], [1, "error: No pod matches -l app=nobody in namespace default\n"]);
});

Deno.test("no controller is installed: one sentence, exit code 1", async () => {
  const { code, stderr } = await run(["list", "--controller-namespace", "default"]);
  strictEqual(
    stderr,
    "error: No packet-capture in namespace default is installed: no pod of a DaemonSet labelled app.kubernetes.io/name=packet-capture is there\n",
  );
  strictEqual(code, 1);
});

Deno.test("a cluster that does not answer ends in one sentence, exit code 1", async () => {
  const { code, stderr } = await run(
    ["list"],
    {},
    await server.kubeconfig("nowhere", { token: "x" }, "https://127.0.0.1:9"),
  );
  match(stderr, /^error: The connection to the server 127.0.0.1:9 was refused/);
  strictEqual(stderr.trimEnd().split("\n").length, 1);
  strictEqual(code, 1);
});

/** Runs the plugin on a pseudo terminal, by util-linux' script, and types a line. */
async function onTerminal(args: readonly string[], typed: string): Promise<{ code: number; text: string }> {
  const { pluginCommand } = await import("./rig.ts");
  const line = pluginCommand(args).map((word) => `'${word}'`).join(" ");
  const child = new Deno.Command("script", {
    args: ["--quiet", "--return", "--command", line, "/dev/null"],
    env: { KUBECONFIG: admin },
    stdin: "piped",
    stdout: "piped",
    signal: AbortSignal.timeout(60_000),
  }).spawn();
  let text = "";
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) text += chunk;
  })();
  await eventually(() => Promise.resolve(text.includes("[y/N]")));
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(`${typed}\n`));
  await reading;
  await writer.close().catch(() => {});
  const { code } = await child.status;
  ok(code !== null);
  return { code, text };
}
