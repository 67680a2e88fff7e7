/**
 * Whom the plugin believes, and which rights it needs: on a real API server with real kubectl, with objects that tenants made and users who
 * hold only their own rights. No kubelet runs: a call that gets past the API server ends at a node that does not answer.
 */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { ApiServer } from "../../rig/apiserver.ts";
import { waitFor } from "../../support/wait.ts";
import { clusterRole, controllerPod, install, makePod, plugin } from "./rig.ts";

const KEY = "tcpdump.antrea.io";
const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const LABELS = { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "packet-capture" };

let server: ApiServer;
let admin: string;
/** The real one's UID. */
let daemonSet: string;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  admin = join(server.dir, "admin.kubeconfig");
  for (const namespace of ["packet-capture", "tenant", "shop", "bank"]) await server.createNamespace(namespace);
  daemonSet = (await makeDaemonSet("packet-capture")).metadata.uid;
  await install(server, [controllerPod("worker1")]);
  await grantDeveloper("dev", "shop");
});
Deno.test.afterAll(() => server[Symbol.asyncDispose]());

function run(args: readonly string[], kubeconfig = admin) {
  return plugin(args, { env: { KUBECONFIG: kubeconfig } });
}

function makeDaemonSet(namespace: string) {
  const containers = [{ name: "packet-capture", image: "x", env: [{ name: "ANNOTATION_KEY", value: KEY }] }];
  return server.call("POST", `/apis/apps/v1/namespaces/${namespace}/daemonsets`, {
    metadata: { name: "packet-capture", labels: LABELS },
    spec: { selector: { matchLabels: LABELS }, template: { metadata: { labels: LABELS }, spec: { containers } } },
  });
}

/** What a tenant can make in a namespace of their own: pods that claim to be a DaemonSet's. */
async function claim(node: string, owner: { readonly apiVersion: string; readonly uid: string }): Promise<void> {
  const pod = controllerPod(node, { namespace: "tenant" });
  const owners = [{ ...owner, kind: "DaemonSet", name: "packet-capture", controller: true }];
  await makePod(server, { ...pod, metadata: { ...pod.metadata, ownerReferences: owners } });
}

/** The rights of a developer: `edit`'s on pods of a namespace, our rights there, and what `readPolicy.subjects` have. */
async function grantDeveloper(user: string, namespace: string): Promise<void> {
  await bind(user, namespace, [
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "patch"] },
    { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["get", "list", "watch"] },
    { apiGroups: [KEY], resources: ["captures"], verbs: ["create", "list", "get"] },
  ]);
  await bind(user, "packet-capture", [
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] },
    { apiGroups: [""], resources: ["pods/exec"], verbs: ["get", "create"] },
  ]);
  await bind(user, undefined, [{
    ...{ apiGroups: ["rbac.authorization.k8s.io"], resources: ["clusterroles"], verbs: ["get"] },
    resourceNames: [clusterRole().metadata.name],
  }]);
}

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}

/** Gives a user these rights in a namespace, or in the whole cluster; they hold when this returns. */
async function bind(user: string, namespace: string | undefined, rules: readonly Rule[]): Promise<void> {
  const metadata = { name: `${user}-${crypto.randomUUID()}` };
  const kind = namespace === undefined ? "ClusterRole" : "Role";
  const base = namespace === undefined ? `${RBAC}/cluster` : `${RBAC}/namespaces/${namespace}/`;
  await server.call("POST", `${base}roles`, { metadata, rules });
  await server.call("POST", `${base}rolebindings`, {
    metadata,
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name: metadata.name },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }],
  });
  const { apiGroups: [group], resources: [path = ""], verbs: [verb], resourceNames: [name] = [] } = rules.at(-1)!;
  const [resource, subresource] = path.split("/");
  const spec = { user, resourceAttributes: { group, resource, subresource, verb, name, namespace } };
  await waitFor(`${user}'s rights to hold`, async () => {
    const { status } = await server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", { spec });
    return status.allowed as boolean;
  });
}

async function kubeconfigOf(user: string): Promise<string> {
  return await server.kubeconfig(user, await server.authority.issue(user, `/CN=${user}`));
}

/** Nodes that could not be asked, for want of a kubelet. */
function askedNodes(stderr: string): string[] {
  return [...stderr.matchAll(/^Cannot ask node (\S+): /gm)].map(([, node]) => node!);
}

Deno.test("a tenant's pods that claim to be the release's are not asked", async () => {
  // The garbage collector leaves the first one alone: it does not know the kind.
  await claim("worker1", { apiVersion: "made.up/v1", uid: daemonSet });
  await claim("worker7", { apiVersion: "apps/v1", uid: daemonSet });
  const { code, stderr } = await run(["list"]);
  deepStrictEqual([code, askedNodes(stderr)], [1, ["worker1"]], stderr);

  await server.createPod({ name: "lonely", node: "worker7", namespace: "shop", annotations: { [KEY]: "2" } });
  const got = await run(["get", "-n", "shop", "lonely", "--stop", "-o", join(server.dir, "lonely.pcapng")]);
  match(got.stderr, /^error: shop\/lonely: Node worker7 has no controller: /m);
  strictEqual(got.code, 1);
  const pod = await server.call("GET", "/api/v1/namespaces/shop/pods/lonely");
  deepStrictEqual(pod.metadata.annotations, { [KEY]: "2" });
});

Deno.test("a tenant's DaemonSet with the chart's labels, and its pod, are ignored", async () => {
  const { metadata } = await makeDaemonSet("tenant");
  await claim("worker8", { apiVersion: "apps/v1", uid: metadata.uid });
  for (const args of [[], ["--release", "packet-capture"], ["--controller-namespace", "packet-capture"]]) {
    const { code, stderr } = await run(["list", ...args]);
    deepStrictEqual([code, askedNodes(stderr)], [1, ["worker1"]], stderr);
  }
});

const NO_PODS = "Release bank/second has no controller pods: the cluster may refuse them by a LimitRange, a quota or " +
  "Pod Security (see: kubectl describe daemonset -n bank second)";

Deno.test("several real releases ask to choose, each option chooses, and one without pods reports it", async () => {
  const { uid: _uid, ...metadata } =
    clusterRole({ release: "second", key: "second.example", namespace: "bank" }).metadata;
  await server.call("POST", `${RBAC}/clusterroles`, { metadata, rules: [] });
  try {
    const { code, stderr } = await run(["list"]);
    strictEqual(
      stderr,
      "error: 2 releases of packet-capture are installed: packet-capture/packet-capture (annotation tcpdump.antrea.io), " +
        "bank/second (annotation second.example); choose with --controller-namespace, --release or --annotation-key\n",
    );
    strictEqual(code, 2);
    for (const args of [["--controller-namespace=bank"], ["--release=second"], ["--annotation-key=second.example"]]) {
      const chosen = await run(["list", ...args]);
      deepStrictEqual([chosen.code, chosen.stderr], [1, `error: ${NO_PODS}\n`]);
    }
    await server.createPod({ name: "nowhere", node: "worker1", namespace: "shop" });
    const started = await run(["start", "-n", "shop", "nowhere", "--release=second"]);
    deepStrictEqual([started.code, started.text, started.stderr], [
      1,
      "",
      `shop/nowhere: not annotated: ${NO_PODS}\n`,
    ]);
  } finally {
    await server.call("DELETE", `${RBAC}/clusterroles/${metadata.name}`);
  }
});

Deno.test("start needs rights in one namespace alone, and takes the key from the ClusterRole", async () => {
  await server.createPod({ name: "mine", node: "worker1", namespace: "shop" });
  const { code, text, stderr } = await run(["start", "-n", "shop", "mine", "--wait", "0s"], await kubeconfigOf("dev"));
  deepStrictEqual([code, text, stderr], [0, "shop/mine: annotated\n", ""]);
  deepStrictEqual((await server.call("GET", "/api/v1/namespaces/shop/pods/mine")).metadata.annotations, { [KEY]: "5" });
});

Deno.test("list -n, get, stream and stop of a developer get as far as the node, with no right that she lacks", async () => {
  await server.createPod({ name: "hers", node: "worker1", namespace: "shop", annotations: { [KEY]: "5" } });
  const dev = await kubeconfigOf("dev");
  const output = join(server.dir, "hers.pcapng");
  for (
    const args of [
      ["list", "-n", "shop"],
      ["get", "-n", "shop", "hers", "-o", output, "--attempts", "1"],
      ["stream", "-n", "shop", "hers"],
      ["stop", "-n", "shop", "hers", "--yes", "--wait", "0s"],
    ]
  ) {
    const { stderr } = await run(args, dev);
    ok(!/lacks|Cannot look|Forbidden/.test(stderr), stderr);
    match(stderr, /worker1/, args.join(" "));
  }
  const { metadata } = await server.call("GET", "/api/v1/namespaces/shop/pods/hers");
  strictEqual(metadata.annotations, undefined);
});

Deno.test("a user who may not look for releases gets what to ask for, and --controller-namespace does without", async () => {
  await bind("plain", "packet-capture", [
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] },
    { apiGroups: [""], resources: ["pods/exec"], verbs: ["get", "create"] },
  ]);
  const plain = await kubeconfigOf("plain");
  const { code, stderr } = await run(["list", "-n", "shop", "--release", "pc"], plain);
  deepStrictEqual([code, stderr], [
    1,
    'error: User plain lacks the permission "get" on "clusterroles.rbac.authorization.k8s.io" in the whole cluster; ' +
    "it is needed for pc-read alone, or give --controller-namespace\n",
  ]);
  const named = await run(["list", "-n", "shop", "--controller-namespace", "packet-capture"], plain);
  deepStrictEqual(askedNodes(named.stderr), ["worker1"], named.stderr);
});

Deno.test("an older chart is asked in the controller's container, only with --controller-namespace, in one line", async () => {
  await server.createNamespace("old");
  await makePod(server, controllerPod("worker5", { namespace: "old", release: "old", containers: ["packet-capture"] }));
  const without = await run(["list", "--release", "old"]);
  deepStrictEqual([without.code, without.stderr], [
    1,
    "error: No packet-capture with release name old is installed: no ClusterRole old-read says where; " +
    "charts older than this plugin need --controller-namespace\n",
  ]);
  const { stderr } = await run(["list", "--controller-namespace", "old"]);
  const [first, second, ...rest] = stderr.split("\n");
  strictEqual(
    first,
    "The chart of release old/old is older than this plugin: captures of worker5 are read in the controller's container, " +
      "which only node administrators may; upgrade the chart",
  );
  match(second!, /^Cannot ask node worker5: /);
  deepStrictEqual(rest, [""]);
});

Deno.test("a policy's refusal of exec, as kubectl and the API server word it, is one sentence and not tried again", async () => {
  await server.createPod({ name: "safe", node: "worker1", namespace: "bank", annotations: { [KEY]: "5" } });
  await bind("dev", "bank", [{ apiGroups: [""], resources: ["pods"], verbs: ["get", "list"] }]);
  const policies = "/apis/admissionregistration.k8s.io/v1";
  const policy = "packet-capture-read.packet-capture.packet-capture";
  const rule = { apiGroups: [""], apiVersions: ["*"], operations: ["CONNECT"], resources: ["pods/exec"] };
  await server.call("POST", `${policies}/validatingadmissionpolicies`, {
    metadata: { name: policy },
    spec: {
      matchConstraints: { resourceRules: [rule] },
      validations: [{ expression: "false", reason: "Forbidden", message: "none may" }],
    },
  });
  await server.call("POST", `${policies}/validatingadmissionpolicybindings`, {
    metadata: { name: policy },
    spec: { policyName: policy, validationActions: ["Deny"] },
  });
  const dev = await kubeconfigOf("dev");
  const args = ["get", "-n", "bank", "safe", "-o", join(server.dir, "safe.pcapng")];
  // A policy holds some time after it is made.
  const { code, stderr } = await waitFor("the policy to hold", async () => {
    const result = await run([...args, "--attempts", "1"], dev);
    return result.stderr.includes("you lack") ? result : undefined;
  });
  const sentence = 'Cannot read packets of bank/safe: you lack the permission "get" on ' +
    '"captures.tcpdump.antrea.io" in namespace bank; ClusterRole packet-capture-read, bound there, has it; ' +
    "packet-capture-read-headers is enough for --headers-only\n";
  deepStrictEqual([code, stderr], [1, `error: bank/safe: ${sentence}`]);
  const patient = await run(args, dev);
  strictEqual(patient.stderr, `error: bank/safe: ${sentence}`);
  const headers = await run([...args, "--headers-only"], dev);
  match(headers.stderr, /: you lack the permission "get" on "captures.tcpdump.antrea.io\/headers" in namespace bank; /);
  const streamed = await run(["stream", "-n", "bank", "safe"], dev);
  deepStrictEqual([streamed.code, streamed.stderr], [1, `bank/safe: the stream has ended: ${sentence}`]);
});
