/**
 * Whom the kubectl plugin believes, and which rights it needs, on the cluster: a tenant makes what looks like the controller's pods, and
 * people with rights in one namespace alone use it.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { makeCapture } from "../integration/plugin/captures.ts";
import { fixture } from "./fixture.ts";
import { InstalledPlugin } from "./installed_plugin.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { PING_NODE, testPod } from "./pods.ts";

const KEY = "tcpdump.antrea.io";
const RELEASE_LABELS = { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "packet-capture" };
const subject = (name: string) => ({ kind: "ServiceAccount", name, namespace: "e2e-rights" });

const { kube, release, namespace } = fixture("rights", {
  readPolicy: { subjects: [subject("dana"), subject("hedy")] },
});
const TENANT = `${namespace}-tenant`;
const BANK = `${namespace}-bank`;
let installed: InstalledPlugin;

const namespaces = [TENANT, BANK].map((name): KubeObject => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name },
}));

Deno.test.beforeAll(async () => {
  installed = await InstalledPlugin.install(kube);
  await kube.remove(...namespaces); // of a run that was killed half way
  await kube.apply(...namespaces);
  await Promise.all([TENANT, BANK].map((name) => kube.serviceAccount(name)));
  await kube.apply(
    ...["dana", "hedy"].map((name) => ({ apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } })),
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "tess", namespace: TENANT } },
    binding("dana", "edit", namespace),
    binding("dana", "packet-capture-request", namespace),
    binding("dana", "packet-capture-read", namespace),
    binding("hedy", "view", namespace),
    binding("hedy", "packet-capture-read-headers", namespace),
    // She sees the pods there, and may not read their packets.
    binding("dana", "view", BANK),
    { ...binding("tess", "admin", TENANT), subjects: [{ ...subject("tess"), namespace: TENANT }] },
  );
  for (const where of [namespace, BANK]) {
    await kube.apply(testPod({ name: "ledger", namespace: where, command: PING_NODE }));
    await kube.ready(where, "ledger");
  }
});
Deno.test.afterAll(async () => {
  await kube.remove(...namespaces);
  await installed?.[Symbol.asyncDispose]();
});

function binding(name: string, role: string, where: string) {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: { name: `${name}-${role}`, namespace: where },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
    subjects: [subject(name)],
  };
}

/** A kubeconfig of the service account's own, with nothing of the administrator's in it. */
async function kubeconfigOf(name: string, where = namespace): Promise<string> {
  const token = (await kube.kubectl(["create", "token", name, "-n", where])).trim();
  const config = JSON.parse(await kube.kubectl(["config", "view", "--raw", "--minify", "-o", "json"]));
  const path = join(installed.dir, `${name}.kubeconfig`);
  const own = { ...config, users: config.users.map((user: object) => ({ ...user, user: { token } })) };
  await Deno.writeTextFile(path, JSON.stringify(own), { mode: 0o600 });
  return path;
}

/** Starts the ledger's capture and waits until it has packets. */
async function capture(where: string): Promise<void> {
  await kube.annotate(where, "ledger", { [KEY]: "5" });
  await waitFor(`packets of ${where}/ledger`, async () => {
    const { stdout } = await installed.run(["list", "-n", where, "-o", "json"]);
    return JSON.parse(stdout).captures.some(({ packets }: { packets: number }) => packets > 0);
  }, { everyMs: 1000 });
}

async function isAnnotated(where: string): Promise<boolean> {
  return KEY in ((await kube.pod(where, "ledger")).metadata.annotations ?? {});
}

/** How many pings are in a file that was fetched. */
async function pings(file: string): Promise<number> {
  const text = await run([
    "tshark",
    "-r",
    join(installed.dir, file),
    "-Y",
    "icmp",
    "-T",
    "fields",
    "-e",
    "frame.number",
  ]);
  return text.split("\n").filter(Boolean).length;
}

/** A pod as a tenant can make it: it has the labels, claims the DaemonSet, and answers as a controller does. */
async function impostor(node: string): Promise<KubeObject> {
  const file = join(installed.dir, "made-up.pcapng");
  await makeCapture(file, { namespace, pod: "ledger", node, packets: 3 });
  const bytes = await Deno.readFile(file);
  const row = {
    ...{ namespace, pod: "made-up", uid: "12345678", state: "capturing", reason: "", since: null, files: 1, bytes: 1 },
    ...{ packets: 1, dropped: 0, oldest: null, newest: null, filter: null },
  };
  const program = `#!/bin/sh\ncase "$1" in\n` +
    `list) echo '${JSON.stringify([row])}' ;;\n` +
    `cat) echo '${bytes.toBase64()}' | base64 -d; echo 'packet-capture: all ${bytes.length} bytes are written' >&2 ;;\nesac\n`;
  const install =
    `printf '%s' "$PROGRAM" > /bin/packet-capture && chmod +x /bin/packet-capture && exec sleep 2147483647`;
  const pod = testPod({ name: "impostor", namespace: TENANT, node, labels: RELEASE_LABELS });
  const [container] = pod.spec.containers as object[];
  const { uid } = (await kube.get<KubeObject>("daemonset", release.name, "-n", release.namespace)).metadata;
  // The garbage collector leaves it alone: it does not know the kind.
  const owner = { apiVersion: "made.up/v1", kind: "DaemonSet", name: release.name, uid, controller: true };
  return {
    ...pod,
    metadata: { ...pod.metadata, ownerReferences: [owner] } as KubeObject["metadata"],
    spec: {
      ...pod.spec,
      containers: ["packet-capture", "reader"].map((name) => ({
        ...container,
        ...{ name, command: ["sh", "-c", install], env: [{ name: "PROGRAM", value: program }] },
      })),
    },
  } as KubeObject;
}

/** Makes an object with the rights of the tenant alone. */
async function makeAsTenant(object: KubeObject): Promise<void> {
  const tess = await kubeconfigOf("tess", TENANT);
  await kube.kubectl(["--kubeconfig", tess, "apply", "-f", "-"], { input: JSON.stringify(object) });
}

Deno.test("a tenant's pod that claims to be the controller's is not asked: get --stop fetches the real evidence before it goes", async () => {
  await capture(namespace);
  const node = (await kube.pod(namespace, "ledger")).spec.nodeName!;
  await makeAsTenant(await impostor(node));
  await kube.ready(TENANT, "impostor");
  const listed = await installed.run(["list", "-o", "json"]);
  assert.equal(listed.code, 0, listed.stderr);
  assert.deepEqual(JSON.parse(listed.stdout).captures.map(({ pod }: { pod: string }) => pod), ["ledger"]);
  const got = await installed.run(["get", "-n", namespace, "ledger", "--stop", "-o", "evidence.pcapng"]);
  assert.equal(got.code, 0, got.stderr);
  assert.ok(await pings("evidence.pcapng") > 0, "the evidence has been deleted, and what was fetched is made up");
  assert.equal(await isAnnotated(namespace), false);
});

Deno.test("a tenant's DaemonSet that looks like the chart's stops no command", async () => {
  const { spec } = testPod({ name: "x", namespace: TENANT });
  await makeAsTenant({
    apiVersion: "apps/v1",
    kind: "DaemonSet",
    metadata: { name: release.name, namespace: TENANT, labels: RELEASE_LABELS },
    spec: {
      selector: { matchLabels: RELEASE_LABELS },
      template: { metadata: { labels: RELEASE_LABELS }, spec },
    },
  } as KubeObject);
  for (const args of [[], ["--release", release.name], ["--annotation-key", KEY]]) {
    const { code, stdout, stderr } = await installed.run(["list", "-n", namespace, ...args]);
    assert.deepEqual([code, stdout, stderr], [0, "", `No captures in namespace ${namespace} on 2 nodes\n`]);
  }
});

Deno.test("a developer with rights in one namespace starts, lists, fetches, streams and stops there", async () => {
  const kubeconfig = await kubeconfigOf("dana");
  const dana = (args: readonly string[]) => installed.run(args, { kubeconfig });
  const node = (await kube.pod(namespace, "ledger")).spec.nodeName!;
  const started = await dana(["start", "-n", namespace, "ledger"]);
  assert.deepEqual([started.code, started.stdout], [
    0,
    `${namespace}/ledger: capturing on node ${node} (5 files of 1 MB)\n`,
  ], started.stderr);
  assert.equal(started.stderr, "");
  await waitFor("packets in her list", async () => {
    const { code, stdout, stderr } = await dana(["list", "-n", namespace, "-o", "json"]);
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout).captures.some(({ packets }: { packets: number }) => packets > 0);
  }, { everyMs: 1000 });
  const got = await dana(["get", "-n", namespace, "ledger", "-o", "dana.pcapng"]);
  assert.equal(got.code, 0, got.stderr);
  assert.ok(await pings("dana.pcapng") > 0);
  await streams(kubeconfig);
  const stopped = await dana(["stop", "-n", namespace, "ledger", "--yes"]);
  assert.equal(stopped.code, 0, stopped.stderr);
  assert.match(
    stopped.stderr,
    new RegExp(`^This ends the capture of ${namespace}/ledger and deletes \\d+ files?, .*B\\.\n$`),
  );
  assert.equal(await isAnnotated(namespace), false);
});

/** Streams until a ping comes, and ends it as Ctrl-C does. */
async function streams(kubeconfig: string): Promise<void> {
  const child = new Deno.Command(installed.kubectl, {
    args: ["packet-capture", "stream", "-n", namespace, "ledger", "--tshark"],
    env: installed.env({ kubeconfig }),
    stdin: "null",
    stdout: "piped",
    stderr: "null",
    signal: AbortSignal.timeout(120_000),
  }).spawn();
  let text = "";
  const reading = (async () => {
    for await (const chunk of child.stdout.pipeThrough(new TextDecoderStream())) text += chunk;
  })();
  await waitFor("a ping in her stream", () => /ICMP/.test(text));
  child.kill("SIGINT");
  const { code } = await child.status;
  await reading;
  assert.equal(code, 0);
}

Deno.test("what a developer may not read is one sentence with the right and the namespace, after one attempt", async () => {
  await capture(BANK);
  const kubeconfig = await kubeconfigOf("dana");
  const dana = (args: readonly string[]) => installed.run(args, { kubeconfig });
  const reading = `you lack the permission "get" on "captures.${KEY}" in namespace ${BANK}; ` +
    "ClusterRole packet-capture-read, bound there, has it; packet-capture-read-headers is enough for --headers-only";
  for (
    const [args, pattern] of [
      [
        ["get", "-n", BANK, "ledger", "-o", "bank.pcapng"],
        `error: ${BANK}/ledger: Cannot read packets of ${BANK}/ledger: ${reading}`,
      ],
      [
        ["stream", "-n", BANK, "ledger"],
        `${BANK}/ledger: the stream has ended: Cannot read packets of ${BANK}/ledger: ${reading}`,
      ],
      [
        ["list", "-n", BANK],
        `error: Cannot list captures of namespace ${BANK}: you lack the permission "list" on "captures.${KEY}" in namespace ${BANK}; .*`,
      ],
      [
        ["list"],
        `error: Cannot list captures of all namespaces: you lack the permission "administer" on "captures.${KEY}" in namespace ${release.namespace}; give -n NAMESPACE for those of one`,
      ],
    ] as const
  ) {
    const { code, stdout, stderr } = await dana(args);
    assert.deepEqual([code, stdout], [1, ""], stderr);
    assert.match(stderr, new RegExp(`^${pattern}\n$`));
  }
  await assert.rejects(Deno.stat(join(installed.dir, "bank.pcapng")), Deno.errors.NotFound);
  await kube.annotate(BANK, "ledger", { [KEY]: null });
});

Deno.test("a user who may read headers gets them with --headers-only, and nothing more", async () => {
  await capture(namespace);
  const kubeconfig = await kubeconfigOf("hedy");
  const whole = await installed.run(["get", "-n", namespace, "ledger", "-o", "hedy.pcapng"], { kubeconfig });
  assert.equal(whole.code, 1);
  assert.match(whole.stderr, /packet-capture-read-headers is enough for --headers-only\n$/);
  const args = ["get", "-n", namespace, "ledger", "--headers-only", "-o", "hedy.pcapng"];
  const { code, stderr } = await installed.run(args, { kubeconfig });
  assert.equal(code, 0, stderr);
  assert.ok(await pings("hedy.pcapng") > 0);
  const longer = ["-Y", "icmp && frame.cap_len == frame.len", "-T", "fields", "-e", "frame.number"];
  assert.equal(await run(["tshark", "-r", join(installed.dir, "hedy.pcapng"), ...longer]), "");
  await kube.annotate(namespace, "ledger", { [KEY]: null });
});
