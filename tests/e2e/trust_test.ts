/**
 * Who may ask and who may read, on a real cluster: an administrator, a developer with rights in one namespace, one who may read headers,
 * one who may edit everything but has no right to captures, and one with no right at all. Each has a kubeconfig and kubectl, nothing else.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { attempt, run, type RunResult } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import { fixture } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { PING_NODE, testPod } from "./pods.ts";
import { CONTROLLER, READER } from "./release.ts";

const KEY = "tcpdump.antrea.io";
const BANK = "e2e-trust-bank";
const READERS = ["e2e-developer", "e2e-headers"];
const { kube, release, namespace } = fixture("trust", {
  admissionPolicy: { enabled: true },
  readPolicy: { subjects: READERS.map((name) => ({ kind: "User", name })) },
});
const POLICY =
  /ValidatingAdmissionPolicy 'packet-capture-read\.packet-capture-trust\.packet-capture' .* denied request: /;
let dir: string | undefined;

/** SLL2, IPv4 and ICMP headers. */
const PING_HEADERS = 48;

interface Person {
  kubectl(...args: string[]): Promise<RunResult>;
  /** Runs a command in the chart's pod of the node. */
  exec(container: string, ...argv: string[]): Promise<RunResult>;
  /** `packet-capture …` in the reader. */
  read(...words: string[]): Promise<RunResult>;
}

let node: string;
let pod: string;

/** Somebody with a kubeconfig of their own, who is known to the cluster by this name. */
async function person(name: string): Promise<Person> {
  const config = JSON.parse(await kube.kubectl(["config", "view", "--raw", "-o", "json"]));
  for (const { user } of config.users) user.as = name;
  const kubeconfig = join(dir!, name);
  await Deno.writeTextFile(kubeconfig, JSON.stringify(config), { mode: 0o600 });
  const kubectl = (...args: string[]) =>
    attempt([tool("kubectl"), ...args], { env: { KUBECONFIG: kubeconfig }, timeoutMs: 60_000 });
  const exec = (container: string, ...argv: string[]) =>
    kubectl("exec", "-n", release.namespace, pod, "-c", container, "--", ...argv);
  return { kubectl, exec, read: (...words) => exec(READER, "packet-capture", ...words) };
}

function bind(user: string, role: string, where: string, kind = "ClusterRole"): KubeObject {
  return {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "RoleBinding",
    metadata: { name: `${user}-${role}`, namespace: where },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind, name: role },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }],
  } as KubeObject;
}

/** What lets somebody edit the release's namespace, and debug its pods. */
const insiders: KubeObject[] = [
  bind("e2e-editor", "edit", release.namespace),
  {
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "Role",
    metadata: { name: "e2e-debug", namespace: release.namespace },
    rules: [{ apiGroups: [""], resources: ["pods/ephemeralcontainers"], verbs: ["patch", "update"] }],
  } as KubeObject,
  bind("e2e-editor", "e2e-debug", release.namespace, "Role"),
];

const bank: KubeObject = { apiVersion: "v1", kind: "Namespace", metadata: { name: BANK } };
const administers = {
  apiVersion: "rbac.authorization.k8s.io/v1",
  kind: "ClusterRoleBinding",
  metadata: { name: "e2e-trust-admin" },
  roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
  subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "e2e-admin" }],
} as KubeObject;

Deno.test.beforeAll(async () => {
  dir = await Deno.makeTempDir({ prefix: "packet-capture-trust-" });
  await kube.remove(bank, administers);
  await kube.apply(bank, administers);
  await kube.serviceAccount(BANK);
  node = (await kube.workers())[0]!;
  pod = (await release.pod(node)).metadata.name;
  await kube.apply(...insiders);
  await kube.apply(
    bind("e2e-developer", "edit", namespace),
    bind("e2e-developer", "packet-capture-request", namespace),
    bind("e2e-developer", "packet-capture-read", namespace),
    bind("e2e-headers", "packet-capture-read-headers", namespace),
    bind("e2e-editor", "edit", namespace),
    testPod({ name: "web", namespace, node, command: PING_NODE }),
    testPod({ name: "ledger", namespace: BANK, node, command: PING_NODE, annotations: { [KEY]: "2" } }),
  );
  await Promise.all([kube.ready(namespace, "web"), kube.ready(BANK, "ledger")]);
});
Deno.test.afterAll(async () => {
  await kube.remove(bank, administers, ...insiders);
  if (dir !== undefined) await Deno.remove(dir, { recursive: true });
});

function refused({ code, stdout, stderr }: RunResult, words: RegExp): void {
  assert.notEqual(code, 0, stdout);
  assert.equal(stdout, "");
  assert.match(stderr, words);
}

/** Captured and original length of each ping in a pcapng file. */
async function pings(bytes: string): Promise<[number, number][]> {
  const file = join(dir!, `${crypto.randomUUID()}.pcapng`);
  await Deno.writeFile(file, Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0)));
  const fields = ["-T", "fields", "-e", "frame.cap_len", "-e", "frame.len"];
  const text = await run(["tshark", "-n", "-r", file, "-Y", "icmp", ...fields]);
  return text.split("\n").filter(Boolean).map((line) => line.split("\t").map(Number) as [number, number]);
}

/** What somebody's `cat` writes; kubectl's own output, byte by byte. */
async function cat(name: string, ...flags: string[]): Promise<[number, number][]> {
  const script = '"$0" "$@" | base64 -w0';
  const args = ["exec", "-n", release.namespace, pod, "-c", READER, "--", "packet-capture", "cat", ...flags];
  const { code, stdout, stderr } = await attempt(
    ["bash", "-o", "pipefail", "-c", script, tool("kubectl"), ...args, `${namespace}/web`],
    { env: { KUBECONFIG: join(dir!, name) }, timeoutMs: 60_000 },
  );
  assert.equal(code, 0, stderr);
  return await pings(stdout);
}

Deno.test("a developer asks for, lists and reads her own pods' captures, with rights in her namespace alone", async () => {
  const developer = await person("e2e-developer");
  const editor = await person("e2e-editor");
  refused(
    await editor.kubectl("annotate", "pod", "web", "-n", namespace, `${KEY}=3`),
    /Cannot set, change or remove tcpdump\.antrea\.io: user "e2e-editor" lacks the right "create" on captures\.tcpdump\.antrea\.io in namespace "e2e-trust"; the ClusterRole "packet-capture-request", bound there, gives it/,
  );
  const asked = await developer.kubectl("annotate", "pod", "web", "-n", namespace, `${KEY}=3`);
  assert.equal(asked.code, 0, asked.stderr);
  await waitFor("her capture in her list", async () => {
    const { code, stdout, stderr } = await developer.read("list", "-n", namespace, "-o", "json");
    assert.equal(code, 0, stderr);
    const rows: { namespace: string; packets: number }[] = JSON.parse(stdout);
    assert.ok(rows.every((row) => row.namespace === namespace), stdout);
    return rows.some(({ packets }) => packets > 2);
  }, { timeoutMs: 40_000 });
  const whole = await waitFor("whole pings", async () => {
    const found = await cat("e2e-developer");
    return found.length > 0 ? found : undefined;
  }, { timeoutMs: 30_000, everyMs: 500 });
  for (const [captured, original] of whole) assert.ok(captured === original && original > PING_HEADERS);
});

Deno.test("she is refused other namespaces, other commands and other ways, and gets what she lacks", async () => {
  const developer = await person("e2e-developer");
  const there =
    /user "e2e-developer" lacks the right "(get|list)" on captures\.tcpdump\.antrea\.io there; the ClusterRole/;
  for (const words of [["cat", `${BANK}/ledger`], ["stream", `${BANK}/ledger`], ["list", "-n", BANK]]) {
    const answer = await developer.read(...words);
    refused(answer, POLICY);
    assert.match(answer.stderr, there);
  }
  for (
    const [container, ...argv] of [
      [READER, "sh"],
      [READER, "sh", "-c", `packet-capture cat ${BANK}/ledger`],
      [READER, "ls", "/captures"],
      [READER, "packet-capture", "list"],
      [READER, "packet-capture", "cat", `${namespace}/web`, "--capture-dir", `/captures/${BANK}`],
      [READER, "packet-capture", "cat", `${namespace}/web ${BANK}/ledger`],
      [CONTROLLER, "packet-capture", "cat", `${namespace}/web`],
      [CONTROLLER, "sh"],
    ] as const
  ) {
    const answer = await developer.exec(container, ...argv);
    refused(answer, POLICY);
    assert.match(answer.stderr, /user "e2e-developer" lacks the right "administer"/);
  }
  // Not even RBAC lets her go other ways.
  const forbidden = /Error from server \(Forbidden\)|is forbidden/;
  for (const way of waysIn()) {
    const { code, stderr } = await developer.kubectl(...way);
    assert.notEqual(code, 0, way.join(" "));
    assert.match(stderr, forbidden);
  }
  const { stdout } = await developer.kubectl("auth", "can-i", "--list", "-n", release.namespace);
  const pods = stdout.split("\n").filter((line) => /^(pods|secrets|serviceaccounts|daemonsets)/.test(line));
  assert.deepEqual(pods.map((line) => line.trim().split(/\s+/)[0]).sort(), ["pods", "pods/exec"]);
});

/** Other ways into the pods than exec. */
function waysIn(): string[][] {
  const there = ["-n", release.namespace];
  return [
    ["attach", ...there, pod, "-c", CONTROLLER],
    ["port-forward", ...there, pod, ":9090"],
    ["get", "--raw", `/api/v1/namespaces/${release.namespace}/pods/${pod}:9090/proxy/metrics`],
    ["debug", ...there, pod, "--image=localhost/busybox:1", `--target=${CONTROLLER}`, "--profile=general", "--", "sh"],
  ];
}

Deno.test("a user who may edit all of the release's namespace is kept out of its pods by the policy", async () => {
  const editor = await person("e2e-editor");
  for (const container of [READER, CONTROLLER]) refused(await editor.exec(container, "sh", "-c", "id"), POLICY);
  refused(await editor.read("cat", `${namespace}/web`), POLICY);
  for (const way of waysIn()) {
    const answer = await editor.kubectl(...way);
    assert.notEqual(answer.code, 0, answer.stdout);
    assert.match(answer.stderr, POLICY, way.join(" "));
    assert.match(answer.stderr, /Cannot use pods\/\w+ of .*: user "e2e-editor" lacks the right "administer"/);
  }
});

Deno.test("a user who may read headers gets packets cut after them, and no others", async () => {
  const headers = await person("e2e-headers");
  refused(
    await headers.read("cat", `${namespace}/web`),
    /Cannot read whole packets of namespace "e2e-trust": .*; add --headers-only, or have the ClusterRole "packet-capture-read" bound in that namespace/,
  );
  const cut = await cat("e2e-headers", "--headers-only");
  assert.ok(cut.length > 0);
  for (const [captured, original] of cut) assert.ok(captured <= PING_HEADERS && original > PING_HEADERS, `${captured}`);
  const listed = await headers.read("list", "-n", namespace);
  assert.match(listed.stdout, new RegExp(`^${namespace}/web `, "m"));
  refused(await headers.read("cat", "--headers-only", `${BANK}/ledger`), POLICY);
});

Deno.test("somebody without rights gets nowhere, and an administrator everywhere", async () => {
  const nobody = await person("e2e-nobody");
  refused(await nobody.read("list", "-n", namespace), /User "e2e-nobody" cannot get resource "pods"/);
  refused(await nobody.kubectl("get", "pods", "-n", release.namespace), /User "e2e-nobody" cannot list/);
  const admin = await person("e2e-admin");
  const listed = await admin.read("list");
  for (const one of [`${namespace}/web`, `${BANK}/ledger`]) assert.ok(listed.stdout.includes(one), listed.stderr);
  assert.match((await admin.exec(CONTROLLER, "sh", "-c", "id -u")).stdout, /^0$/m);
  const metrics = await admin.kubectl(...waysIn()[2]!);
  assert.match(metrics.stdout, /^packet_capture_active 2$/m);
});

Deno.test("the API server finds no mistake in the policies", async () => {
  for (const name of ["packet-capture-read", "packet-capture"]) {
    const { status } = await waitFor("the types to be checked", async () => {
      const policy = await kube.get<{ status?: { typeChecking?: { expressionWarnings?: unknown[] } } }>(
        ...["validatingadmissionpolicy", `${name}.${release.namespace}.${release.name}`],
      );
      return policy.status?.typeChecking === undefined ? undefined : policy;
    });
    assert.deepEqual(status?.typeChecking?.expressionWarnings ?? [], []);
  }
});
