/** What the plugin says of pods that are made later, and of annotations on workloads: real API server, real kubectl. */
import { deepStrictEqual, doesNotMatch, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { ApiServer } from "../../rig/apiserver.ts";
import { controllerPod, install, Sandbox } from "./rig.ts";

const KEY = "tcpdump.antrea.io";
const OPTIONS = ["--files", "7", "--filter", "host 10.0.0.1 or 'x'", "--wait", "0s"];
const REQUEST = { [KEY]: "7", [`${KEY}/filter`]: "host 10.0.0.1 or 'x'" };
/** Kinds with a pod template, and where their objects are. */
const KINDS = {
  Deployment: "/apis/apps/v1/namespaces/NS/deployments",
  ReplicaSet: "/apis/apps/v1/namespaces/NS/replicasets",
  StatefulSet: "/apis/apps/v1/namespaces/NS/statefulsets",
  DaemonSet: "/apis/apps/v1/namespaces/NS/daemonsets",
  ReplicationController: "/api/v1/namespaces/NS/replicationcontrollers",
  Job: "/apis/batch/v1/namespaces/NS/jobs",
  CronJob: "/apis/batch/v1/namespaces/NS/cronjobs",
} as const;
type Kind = keyof typeof KINDS;
type Annotations = Record<string, string>;

interface Made {
  readonly kind: Kind;
  readonly name: string;
  readonly namespace: string;
  readonly uid: string;
}

interface MakeOptions {
  readonly template?: Annotations;
  readonly annotations?: Annotations;
  readonly owner?: Made;
}

let server: ApiServer;
let sandbox: Sandbox;
let admin: string;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  admin = join(server.dir, "admin.kubeconfig");
  await server.createNamespace("packet-capture");
  await install(server, [controllerPod("worker1")]);

  sandbox = await Sandbox.create();
  const found = await new Deno.Command("sh", { args: ["-c", "command -v kubectl"] }).output();
  const kubectl = new TextDecoder().decode(found.stdout).trim();
  const script = `#!/bin/sh\necho "$*" >>'${sandbox.path("calls")}'\nexec '${kubectl}' "$@"\n`;
  await Deno.writeTextFile(sandbox.path("bin/kubectl"), script);
});
Deno.test.afterAll(async () => {
  await sandbox?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** Runs the plugin. @returns what it said, and the calls that it made beyond those of a plain pod. */
async function run(args: readonly string[], kubeconfig = admin) {
  await Deno.writeTextFile(sandbox.path("calls"), "");
  const result = await sandbox.run([...args], { env: { KUBECONFIG: kubeconfig } });
  const calls = (await Deno.readTextFile(sandbox.path("calls"))).trimEnd().split("\n");
  return {
    ...result,
    ownerCalls: calls.filter((call) =>
      /^get .*(replicaset|deployment|statefulset|(cron)?job)\.(apps|batch)\//.test(call)
    ),
  };
}

async function make(
  kind: Kind,
  name: string,
  namespace: string,
  { template = {}, annotations = {}, owner }: MakeOptions = {},
): Promise<Made> {
  const labels = { app: name };
  const pods = {
    metadata: { labels, annotations: template },
    spec: { containers: [{ name: "a", image: "x" }], restartPolicy: /Job/.test(kind) ? "Never" : "Always" },
  };
  const spec = kind === "CronJob"
    ? { schedule: "0 0 * * *", jobTemplate: { spec: { template: pods } } }
    : kind === "Job"
    ? { template: pods }
    : kind === "ReplicationController"
    ? { selector: labels, template: pods }
    : { selector: { matchLabels: labels }, serviceName: kind === "StatefulSet" ? name : undefined, template: pods };
  const ownerReferences = owner ? [reference(owner)] : [];
  const { metadata } = await server.call("POST", KINDS[kind].replace("NS", namespace), {
    metadata: { name, annotations, labels, ownerReferences },
    spec,
  });
  return { kind, name, namespace, uid: metadata.uid };
}

function reference({ kind, name, uid }: Made, more: Record<string, unknown> = {}) {
  const apiVersion = kind === "ReplicationController" ? "v1" : /Job/.test(kind) ? "batch/v1" : "apps/v1";
  return { apiVersion, kind, name, uid, controller: true, ...more };
}

/** A pod on worker1 that a workload has made. */
async function madeBy(owner: Made, annotations: Annotations = {}, more: Record<string, unknown> = {}) {
  const { namespace, name } = owner;
  const base = `/api/v1/namespaces/${namespace}/pods`;
  const labels = { app: name, ...await jobLabels(owner) };
  await server.call("POST", base, {
    metadata: { name: `${name}-0`, labels, annotations, ownerReferences: [reference(owner, more)] },
    spec: { nodeName: "worker1", containers: [{ name: "a", image: "x" }] },
  });
}

/** A Job selects its pods by labels that the API server makes. */
async function jobLabels({ kind, name, namespace }: Made): Promise<Record<string, string>> {
  if (kind !== "Job") return {};
  const { spec } = await server.call("GET", `${KINDS.Job.replace("NS", namespace)}/${name}`);
  return { ...spec.selector.matchLabels, "job-name": name };
}

async function templateOf({ kind, name, namespace }: Made): Promise<Annotations> {
  const { spec } = await server.call("GET", `${KINDS[kind].replace("NS", namespace)}/${name}`);
  return (spec.jobTemplate?.spec ?? spec).template.metadata.annotations ?? {};
}

/** Runs, in a shell, the command that a hint ends with. */
async function follow(text: string): Promise<void> {
  const [, command] = /: (kubectl (?:patch|annotate) .*)$/m.exec(text) ?? [];
  ok(command !== undefined, text);
  const env = { KUBECONFIG: admin };
  const { code, stderr } = await new Deno.Command("sh", { args: ["-c", command], env }).output();
  strictEqual(code, 0, `${command}: ${new TextDecoder().decode(stderr)}`);
}

/** A Deployment and its ReplicaSet, with the same template, and a pod. */
async function deployment(name: string, namespace: string, options: MakeOptions = {}, pod: Annotations = {}) {
  const top = await make("Deployment", name, namespace, options);
  const set = await make("ReplicaSet", name, namespace, { ...options, owner: top });
  await madeBy(set, pod);
  return { top, set };
}

Deno.test("start of a workload reports that its later pods are not captured, and the command that it names has them captured", async () => {
  await server.createNamespace("later");
  const { top, set } = await deployment("web", "later");
  const cronJob = await make("CronJob", "nightly", "later");
  const job = await make("Job", "nightly-1", "later", { owner: cronJob });
  await madeBy(job);
  const alone: Made[] = [];
  for (const kind of ["ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController"] as const) {
    const made = await make(kind, `lone-${kind.toLowerCase()}`, "later");
    await madeBy(made);
    alone.push(made);
  }
  for (
    const [workload, changed] of [
      [top, top],
      // Their own templates are made by what manages them.
      [set, top],
      [cronJob, cronJob],
      [job, cronJob],
      ...alone.map((made) => [made, made] as const),
    ] as const
  ) {
    const { code, stderr, ownerCalls } = await run(
      ["start", "-n", "later", `${workload.kind.toLowerCase()}/${workload.name}`, ...OPTIONS],
    );
    strictEqual(code, 0, stderr);
    match(
      stderr,
      new RegExp(
        `^${workload.kind} later/${workload.name}: pods that it makes later are not captured; to capture them too, `,
      ),
    );
    const replaces = ["Deployment", "StatefulSet", "DaemonSet"].includes(changed.kind);
    strictEqual(stderr.includes("which replaces its pods"), replaces, stderr);
    deepStrictEqual(ownerCalls, []);
    await follow(stderr);
    deepStrictEqual(await templateOf(changed), REQUEST);
    const again = await run(["start", "-n", "later", `${changed.kind.toLowerCase()}/${changed.name}`, ...OPTIONS]);
    deepStrictEqual([again.code, again.stderr], [0, ""]);
    await server.call(
      "PATCH",
      `${KINDS[changed.kind].replace("NS", "later")}/${changed.name}`,
      nothingIn(changed.kind),
    );
  }
});

/** A patch that takes our annotations out of the template. */
function nothingIn(kind: Kind) {
  const template = { metadata: { annotations: Object.fromEntries(Object.keys(REQUEST).map((name) => [name, null])) } };
  return { spec: kind === "CronJob" ? { jobTemplate: { spec: { template } } } : { template } };
}

Deno.test("start reports how the template asks for something else, and of a Job and a Service what can be done", async () => {
  await server.createNamespace("other");
  const { top } = await deployment("web", "other", { template: { [KEY]: "3", [`${KEY}/snaplen`]: "64", mine: "x" } });
  const { stderr } = await run(["start", "-n", "other", "deployment/web", ...OPTIONS]);
  match(
    stderr,
    /^Deployment other\/web: pods that it makes later are captured as its pod template asks; to change that too \(files 3 → 7, filter none → "host 10\.0\.0\.1 or 'x'", snaplen 64 → 262144\), annotate the pod template, which replaces its pods: kubectl patch /,
  );
  await follow(stderr);
  deepStrictEqual(await templateOf(top), { ...REQUEST, mine: "x" });

  await madeBy(await make("Job", "once", "other"));
  const job = await run(["start", "-n", "other", "job/once", ...OPTIONS]);
  deepStrictEqual([job.code, job.stderr], [
    0,
    "Job other/once: pods that it makes later are not captured; to capture them too, create the Job again: " +
    "its pod template cannot be changed\n",
  ]);

  const service = { metadata: { name: "web" }, spec: { selector: { app: "web" }, ports: [{ port: 80 }] } };
  await server.call("POST", "/api/v1/namespaces/other/services", service);
  const selected = await run(["start", "-n", "other", "service/web", ...OPTIONS]);
  deepStrictEqual([selected.code, selected.stderr], [
    0,
    "Service other/web: pods that it selects later are not captured; annotate the pod template of what makes them\n",
  ]);
});

Deno.test("start of pods reports nothing of later ones; of a workload without pods it reports how the first is captured", async () => {
  await server.createNamespace("few");
  await deployment("web", "few");
  for (const which of [["web-0"], ["-l", "app=web"]]) {
    const { code, stderr } = await run(["start", "-n", "few", ...which, ...OPTIONS]);
    deepStrictEqual([code, stderr], [0, ""]);
  }
  const cronJob = await make("CronJob", "nightly", "few");
  const { code, stderr } = await run(["start", "-n", "few", "cronjob/nightly", ...OPTIONS]);
  match(
    stderr,
    /^CronJob few\/nightly: pods that it makes later are not captured; .*\n\w+: cronjob\/nightly has no pods at present\n$/,
  );
  strictEqual(code, 1);
  await follow(stderr);
  deepStrictEqual(await templateOf(cronJob), REQUEST);
});

Deno.test("every command reports of a workload that carries the annotation itself that it has no effect there, and how to remove it", async () => {
  await server.createNamespace("object");
  const annotations = { [KEY]: "5", "a.b/c": "d" };
  const { top } = await deployment("web", "object", { annotations });
  const hint = `Deployment object/web: annotation ${KEY} is on the Deployment object, where it has no effect; ` +
    `it must be on pods or in a pod template; to remove it: kubectl annotate deployment -n object web ${KEY}-`;
  for (const command of [["stop", "--yes"], ["get"], ["stream"], ["list"], ["start", "--wait", "0s"]]) {
    const { stderr } = await run([...command, "-n", "object", "deployment/web"]);
    strictEqual(stderr.split("\n")[0], hint);
  }
  // The ReplicaSet has a copy: it is the Deployment's to remove.
  doesNotMatch((await run(["start", "-n", "object", "replicaset/web", "--wait", "0s"])).stderr, /has no effect/);
  await follow(hint);
  const { metadata } = await server.call("GET", `${KINDS.Deployment.replace("NS", "object")}/${top.name}`);
  deepStrictEqual(metadata.annotations, { "a.b/c": "d" });
  doesNotMatch(
    (await run(["stop", "--yes", "-n", "object", "deployment/web", "--wait", "0s"])).stderr,
    /has no effect/,
  );
});

Deno.test("stop reports that a template has the next pods captured again, in whatever way the pods were named, and how to end that", async () => {
  await server.createNamespace("again");
  const template = { [KEY]: "5", [`${KEY}/filter`]: "udp", mine: "x" };
  const { top } = await deployment("web", "again", { template }, template);
  const cronJob = await make("CronJob", "nightly", "again", { template });
  await madeBy(await make("Job", "nightly-1", "again", { template, owner: cronJob }), template);
  const set = await make("StatefulSet", "db", "again", { template });
  await madeBy(set, template);
  for (
    const [names, maker, calls] of [
      [["web-0"], top, 2],
      [["-l", "app=web"], top, 2],
      [["deployment/web"], top, 0],
      [["rs/web"], top, 1],
      [["nightly-1-0"], cronJob, 2],
      [["cronjob/nightly"], cronJob, 0],
      [["db-0"], set, 1],
    ] as const
  ) {
    const pod = `/api/v1/namespaces/again/pods/${maker === cronJob ? "nightly-1" : maker.name}-0`;
    await server.call("PATCH", pod, { metadata: { annotations: template } });
    const { code, stderr, text, ownerCalls } = await run(["stop", "-n", "again", ...names, "--yes", "--wait", "0s"]);
    strictEqual(code, 0, stderr);
    match(text, /^again\/[a-z0-9-]+: annotation removed, its files are deleted\n$/);
    const hints = stderr.trimEnd().split("\n").slice(1);
    strictEqual(hints.length, 1, stderr);
    match(
      hints[0]!,
      new RegExp(
        `^${maker.kind} again/${maker.name}: its pod template has annotation ${KEY}, so pods that it makes later are captured again; to end that, `,
      ),
    );
    strictEqual(ownerCalls.length, calls, ownerCalls.join());
  }
  const kept = await run(["stop", "-n", "again", "deployment/web", "--keep", "--wait", "0s"]);
  match(kept.stderr, /None of 1 pod is captured/);
  const { stderr } = await run(["start", "-n", "again", "web-0", "--wait", "0s"]);
  strictEqual(stderr, "");
  const held = await run(["stop", "-n", "again", "web-0", "--keep", "--wait", "0s"]);
  match(held.stderr, /pods that it makes later are captured again/);
  await follow(held.stderr);
  deepStrictEqual(await templateOf(top), { mine: "x" });
  // Now the ReplicaSet alone has it, and the Deployment's next pods are another one's.
  const last = await run(["stop", "-n", "again", "web-0", "--yes", "--wait", "0s"]);
  doesNotMatch(last.stderr, /captured again/);
});

Deno.test("stop asks nothing of owners that there are not, and once where the template has no annotation", async () => {
  await server.createNamespace("cheap");
  await server.createPod({ name: "plain", node: "worker1", namespace: "cheap", annotations: { [KEY]: "5" } });
  await deployment("web", "cheap", {}, { [KEY]: "5" });
  const plain = await run(["stop", "-n", "cheap", "plain", "--yes", "--wait", "0s"]);
  deepStrictEqual([plain.code, plain.ownerCalls], [0, []]);
  const owned = await run(["stop", "-n", "cheap", "web-0", "--yes", "--wait", "0s"]);
  deepStrictEqual([owned.code, owned.ownerCalls.length], [0, 1]);
  strictEqual(owned.stderr.trimEnd().split("\n").length, 1, owned.stderr);
});

Deno.test("stop of a user who may not read the owner stops all the same, and reports what it could not find", async () => {
  await server.createNamespace("less");
  await deployment("web", "less", { template: { [KEY]: "5" } }, { [KEY]: "5" });
  await server.grant("ann", [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "patch"] }]);
  const ann = await server.kubeconfig("ann", await server.authority.issue("ann", "/CN=ann"));
  const { code, text, stderr } = await run(["stop", "-n", "less", "web-0", "--yes", "--wait", "0s"], ann);
  deepStrictEqual([code, text], [0, "less/web-0: annotation removed, its files are deleted\n"]);
  match(
    stderr,
    /\nCannot tell whether a pod template starts captures again: User ann lacks the permission "get" on "replicasets\.apps" in namespace less\n$/,
  );
});

Deno.test("no owner reference that a tenant has written becomes a flag or a part of a command", async () => {
  await server.createNamespace("hostile");
  const { set } = await deployment("web", "hostile", { template: { [KEY]: "5" } });
  const names = ["web; touch /tmp/x", "$(touch x)", "--kubeconfig=x", "web,secrets"];
  for (const [i, name] of names.entries()) {
    const pod = { ...set, name: `evil-${i}` };
    await madeBy(pod, { [KEY]: "5" }, { name });
    const { code, stderr, ownerCalls } = await run(["stop", "-n", "hostile", `evil-${i}-0`, "--yes", "--wait", "0s"]);
    deepStrictEqual([code, ownerCalls], [0, []], stderr);
    strictEqual(stderr.trimEnd().split("\n").length, 1, stderr);
  }
  // What manages a real one, as it says itself.
  const hook = { ...set, kind: "Deployment" as const, name: "web'; touch x; '" };
  const managed = await make("ReplicaSet", "managed", "hostile", { template: { [KEY]: "5" }, owner: hook });
  await madeBy(managed, { [KEY]: "5" });
  const { stderr } = await run(["stop", "-n", "hostile", "managed-0", "--yes", "--wait", "0s"]);
  match(stderr, /^Deployment hostile\/"web'; touch x; '": .* captured again; to end that, change its pod template$/m);
  // Another one's kind.
  const rollout = { ...set, name: "shop" };
  const custom = await make("ReplicaSet", "custom", "hostile", { template: { [KEY]: "5" } });
  const base = `${KINDS.ReplicaSet.replace("NS", "hostile")}/custom`;
  const ownerReferences = [reference(rollout, { apiVersion: "argoproj.io/v1alpha1", kind: "Rollout" })];
  await server.call("PATCH", base, { metadata: { ownerReferences } });
  await madeBy(custom, { [KEY]: "5" });
  const other = await run(["stop", "-n", "hostile", "custom-0", "--yes", "--wait", "0s"]);
  match(
    other.stderr,
    /^Rollout hostile\/shop: .*: kubectl patch rollout\.v1alpha1\.argoproj\.io -n hostile shop --type=merge /m,
  );
});
