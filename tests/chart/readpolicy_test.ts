/** The policy that says who may read, on a real API server: every way into the pods, tried by users who hold only their own rights. */
import assert from "node:assert/strict";
import { waitFor } from "../support/wait.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { type Any, render } from "./helm.ts";
import { putPolicy } from "./policy.ts";

const KEY = "tcpdump.antrea.io";
const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const POD = "pc-x7x7x";

type Verdict = "allowed" | RegExp;

const NOT_THIS =
  /Cannot run this command in pods of tools\/pc: user "\w+" lacks the right "administer" on captures\.tcpdump\.antrea\.io in namespace "tools"; without it these run in the container reader/;
const NOT_HERE = /Cannot use pods\/\w+ of tools\/pc: user "\w+" lacks the right "administer" on captures\.tcpdump/;
const NO_LIST =
  /Cannot list captures of namespace "[a-z0-9-]+": user "\w+" lacks the right "list" on captures\.tcpdump\.antrea\.io there; the ClusterRole "pc-read", bound in that namespace, gives it$/;
const NO_READ =
  /Cannot read captures of namespace "[a-z0-9-]+": user "\w+" lacks the right "get" .* there; the ClusterRole "pc-read", bound in that namespace, gives it, and with --headers-only "pc-read-headers" is enough$/;
const NOT_WHOLE =
  /Cannot read whole packets of namespace "mine": user "\w+" lacks the right "get" on captures\.tcpdump\.antrea\.io there; add --headers-only, or have the ClusterRole "pc-read" bound/;

/** Commands that read namespace `mine`, as the plugin and people write them. */
const READS = [
  "cat mine/web-0",
  "cat --format pcapng --since 5m mine/web-0",
  "cat mine/web-0 --format=pcap --since=30s --while-stdin",
  "cat --while-stdin mine/a.b.c --format pcapng",
  "stream mine/web-0",
  "stream --while-stdin mine/web-0",
];
const LISTS = ["list -n mine", "list -n mine -o json", "list -o json -n mine", "list --namespace=mine --output=table"];

/** What only an administrator may run, as argument vectors. */
const FOREIGN: readonly (readonly string[])[] = [
  ["sh"],
  ["sh", "-c", "packet-capture cat mine/web-0"],
  ["/usr/local/bin/packet-capture", "cat", "mine/web-0"],
  ["packet-capture"],
  ["packet-capture", "list"],
  ["packet-capture", "list", "-o", "json"],
  ["packet-capture", "list", "-n", "mine", "-n", "bank"],
  ["packet-capture", "list", "--namespace", "bank", "-n", "mine"],
  ["packet-capture", "list", "-n", "mine", "bank"],
  ["packet-capture", "list", "-nmine"],
  ["packet-capture", "list", "-n", ""],
  ["packet-capture", "list", "-n", "--namespace=mine"],
  ["packet-capture", "cat"],
  ["packet-capture", "cat", "0b0e2a1c-8f0f-4a51-9d3b-7b1c3f0c5d11"],
  ["packet-capture", "cat", "mine/web-0", "bank/ledger"],
  ["packet-capture", "cat", "bank/ledger", "mine/web-0"],
  ["packet-capture", "cat", "mine/../bank"],
  ["packet-capture", "cat", "mine/../../etc/passwd"],
  ["packet-capture", "cat", "../mine/web-0"],
  ["packet-capture", "cat", ".retained/mine"],
  ["packet-capture", "cat", "mine/web-0/x"],
  ["packet-capture", "cat", "/mine/web-0"],
  ["packet-capture", "cat", "--", "mine/web-0"],
  ["packet-capture", "cat", "mine/web-0", "--capture-dir", "/captures/bank"],
  ["packet-capture", "cat", "mine/web-0", "--capture-dir=/captures/.retained"],
  ["packet-capture", "cat", "mine/web-0", "--log-level", "debug"],
  ["packet-capture", "cat", "mine/web-0", "--format", "text"],
  ["packet-capture", "cat", "mine/web-0", "--since", "5d"],
  ["packet-capture", "cat", "mine/web-0", "--since", "--headers-only"],
  ["packet-capture", "cat", "mine/web-0", "--no-headers-only"],
  ["packet-capture", "stream", "mine/web-0", "--format", "pcap"],
  ["packet-capture", "cat mine/web-0"],
  ["packet-capture cat mine/web-0"],
  ["packet-capture", "cat", "mine/web-0 --capture-dir /x"],
  ["packet-capture", "cat", "mine/web-0\n"],
  ["packet-capture", "cat", "mine/web-0\nbank/ledger"],
  ["packet-capture", "cat\nmine/web-0"],
  ["packet-capture", "cat", "mine/web-0", ""],
  ["", "packet-capture", "cat", "mine/web-0"],
  ["packet-capture", "cat", "mine/web-0\u00a0"],
  ["packet-capture", "cat", "mıne/web-0"],
  ["packet-capture", "Cat", "mine/web-0"],
  ["packet-capture", "purge"],
  ["packet-capture", "version", "-x"],
  ["packet-capture", "--version"],
  ["packet-capture", "cat", "mine/web-0", "--help"],
  ["ls", "/captures"],
  ["tar", "cf", "-", "/captures/mine/web-0"],
  ["nsenter", "-t", "1", "-a"],
];

Deno.test("the policy of reading", async (t) => {
  await using server = await ApiServer.start();
  for (const namespace of ["tools", "other", "mine", "bank"]) await server.createNamespace(namespace);
  const rendered = await render({ readPolicy: { subjects: [{ kind: "Group", name: "developers" }] } });
  const container = (name: string) => ({ name, image: "localhost/busybox:1" });
  const spec = { nodeName: "worker1", containers: [container("packet-capture"), container("reader")] };
  for (
    const [namespace, name] of [["tools", POD], ["tools", "pc-2-x7x7x"], ["tools", "pcx"], ["tools", "pc-test"], [
      "other",
      POD,
    ]] as const
  ) {
    await server.call("POST", `/api/v1/namespaces/${namespace}/pods`, { metadata: { name }, spec });
  }
  for (const object of rendered.objects.filter(({ apiVersion }) => apiVersion === "rbac.authorization.k8s.io/v1")) {
    const where = object.metadata.namespace === undefined ? RBAC : `${RBAC}/namespaces/${object.metadata.namespace}`;
    await server.call("POST", `${where}/${object.kind.toLowerCase()}s`, object);
  }
  /** Binds a ClusterRole to a user in a namespace. */
  async function bind(user: string, role: string, namespace: string): Promise<void> {
    await server.call("POST", `${RBAC}/namespaces/${namespace}/rolebindings`, {
      metadata: { name: `${user}-${role}` },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: role },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: user }],
    });
  }
  // All have everything of the core API everywhere: what is refused, the policy refuses.
  const users = ["reader", "headers", "asker", "stranger"];
  for (const user of users) await server.grant(user, [{ apiGroups: [""], resources: ["*"], verbs: ["*"] }]);
  await bind("reader", "pc-read", "mine");
  await bind("headers", "pc-read-headers", "mine");
  await bind("asker", "pc-request", "mine");
  await server.grant("admin", [{ apiGroups: ["*"], resources: ["*"], verbs: ["*"] }]);
  await putPolicy(server, rendered);

  interface Way {
    readonly user: string;
    readonly part: string;
    readonly query?: readonly (readonly [string, string])[];
    readonly method?: string;
    readonly namespace?: string;
    readonly pod?: string;
    readonly body?: unknown;
  }
  /** Undefined: nothing refused it; there is no kubelet that could do it, which is said in other words. */
  async function refusal(
    { user, part, query = [], method = "POST", body, ...where }: Way,
  ): Promise<string | undefined> {
    const path = `/api/v1/namespaces/${where.namespace ?? "tools"}/pods/${where.pod ?? POD}/${part}`;
    const response = await server.admin.fetch(`${path}?${new URLSearchParams(query as [string, string][])}`, {
      method,
      headers: { "Impersonate-User": user, "Content-Type": "application/strategic-merge-patch+json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    if (response.status !== 403) return undefined;
    return JSON.parse(text).message;
  }
  function exec(
    user: string,
    argv: readonly string[],
    more: Partial<Way> & { container?: string; tty?: boolean } = {},
  ) {
    const { container = "reader", tty = false, ...way } = more;
    const query: [string, string][] = argv.map((word) => ["command", word]);
    if (container !== "") query.push(["container", container]);
    query.push(["stdout", "true"], ["stdin", "true"]);
    if (tty) query.push(["tty", "true"]);
    return refusal({ user, part: "exec", query, ...way });
  }
  const words = (command: string) => ["packet-capture", ...command.split(" ")];
  async function judged(what: string, answer: Promise<string | undefined>, verdict: Verdict): Promise<void> {
    const message = await answer;
    if (verdict === "allowed") assert.equal(message, undefined, what);
    else assert.ok(verdict.test(message ?? ""), `${what}: ${message ?? "was not refused"}`);
  }

  await waitFor("the policy and the roles", async () => {
    const answers = await Promise.all([
      exec("stranger", ["sh"]),
      exec("admin", ["sh"]),
      exec("reader", words("cat mine/x")),
      exec("headers", words("cat mine/x --headers-only")),
      exec("asker", words("list -n mine")),
    ]);
    return answers[0] !== undefined && answers.slice(1).every((answer) => answer === undefined);
  }, { timeoutMs: 20_000 });

  await t.step("each right gives what it is for, and nothing else", async () => {
    const commands = [
      ...LISTS.map((command) => [command, { reader: "allowed", headers: "allowed", asker: "allowed" }] as const),
      ...READS.map((command) => [command, { reader: "allowed", headers: NOT_WHOLE, asker: NO_READ }] as const),
      ...READS.map((command) =>
        [`${command} --headers-only`, { reader: "allowed", headers: "allowed", asker: NO_READ }] as const
      ),
    ];
    for (const [command, verdicts] of commands) {
      for (const user of users) {
        const nobody = command.startsWith("list") ? NO_LIST : NO_READ;
        const verdict = (verdicts as Record<string, Verdict>)[user] ?? nobody;
        await judged(`${user}: ${command}`, exec(user, words(command)), verdict);
        // kubectl execs by GET too, over a WebSocket.
        await judged(`${user}: ${command}`, exec(user, words(command), { method: "GET" }), verdict);
        const elsewhere = command.replace("mine", "bank");
        await judged(`${user}: ${elsewhere}`, exec(user, words(elsewhere)), nobody);
      }
      await judged(`admin: ${command}`, exec("admin", words(command)), "allowed");
    }
    for (const user of users) await judged(`${user}: version`, exec(user, words("version")), "allowed");
  });

  await t.step("a namespace is judged by its whole name", async () => {
    for (const namespace of ["mine-2", "m", "min", "mine2", "not-mine", "mine--x"]) {
      await judged(namespace, exec("reader", words(`cat ${namespace}/web-0`)), NO_READ);
      await judged(namespace, exec("reader", words(`list -n ${namespace}`)), NO_LIST);
    }
  });

  await t.step("every other command is an administrator's", async () => {
    for (const argv of FOREIGN) {
      await judged(
        JSON.stringify(argv),
        exec("reader", argv),
        /^pods "pc-x7x7x" is forbidden: .*denied request: Cannot /,
      );
      await judged(JSON.stringify(argv), exec("reader", argv), NOT_THIS);
      await judged(JSON.stringify(argv), exec("admin", argv), "allowed");
    }
  });

  await t.step("of the containers only the reader, and no terminal", async () => {
    const cat = words("cat mine/web-0");
    for (const container of ["packet-capture", "", "debugger", "reader2"]) {
      await judged(container, exec("reader", cat, { container }), NOT_THIS);
      await judged(container, exec("reader", words("version"), { container }), NOT_THIS);
    }
    await judged("helm test's", exec("reader", ["sh"], { pod: "pc-test", container: "test" }), NOT_THIS);
    await judged("tty", exec("reader", cat, { tty: true }), NOT_THIS);
    await judged("tty", exec("admin", ["sh"], { tty: true, container: "packet-capture" }), "allowed");
  });

  await t.step("attach, port-forward, proxy and ephemeral containers are an administrator's", async () => {
    const debug = {
      spec: { ephemeralContainers: [{ ...container("debugger"), targetContainerName: "packet-capture" }] },
    };
    const ways: readonly Omit<Way, "user">[] = [
      { part: "attach", query: [["container", "reader"], ["stdout", "true"]] },
      { part: "attach", method: "GET", query: [["container", "packet-capture"], ["stdout", "true"]] },
      { part: "portforward", query: [["ports", "9090"]] },
      { part: "portforward", method: "GET" },
      { part: "proxy/metrics", method: "GET" },
      { part: "proxy/metrics", method: "GET", pod: `${POD}:9090` },
      { part: "proxy/metrics", method: "GET", pod: `http:${POD}:my-port` },
      { part: "ephemeralcontainers", method: "PATCH", body: debug },
    ];
    for (const way of ways) {
      await judged(JSON.stringify(way), refusal({ ...way, user: "reader" }), NOT_HERE);
      await judged(JSON.stringify(way), refusal({ ...way, user: "admin" }), "allowed");
    }
  });

  await t.step("other pods of the namespace, and other namespaces, are not its business", async () => {
    for (const [namespace, pod] of [["tools", "pc-2-x7x7x"], ["tools", "pcx"], ["other", POD]] as const) {
      await judged(`${namespace}/${pod}`, exec("stranger", ["sh"], { namespace, pod }), "allowed");
    }
  });

  await t.step("the subjects have what they need to read, and no right besides", async () => {
    async function may(verb: string, group: string, resource: string, namespace = "tools", name?: string) {
      const [main, subresource] = resource.split("/");
      const resourceAttributes = { verb, group, resource: main, subresource, namespace, name };
      const spec = { user: "dev", groups: ["developers", "system:authenticated"], resourceAttributes };
      const { status } = await server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", { spec });
      return status.allowed as boolean;
    }
    const group = "rbac.authorization.k8s.io";
    for (const [verb, resource] of [["get", "pods"], ["list", "pods"], ["create", "pods/exec"], ["get", "pods/exec"]]) {
      assert.ok(await may(verb!, "", resource!), `${verb} ${resource}`);
      assert.ok(!await may(verb!, "", resource!, "mine"), `${verb} ${resource}`);
    }
    assert.ok(await may("get", group, "clusterroles", "", "pc-read"));
    for (
      const [verb, group, resource, namespace, name] of [
        ["get", "rbac.authorization.k8s.io", "clusterroles", "", "cluster-admin"],
        ["list", "rbac.authorization.k8s.io", "clusterroles", ""],
        ["bind", "rbac.authorization.k8s.io", "clusterroles", "", "pc-read"],
        ["watch", "", "pods"],
        ["create", "", "pods"],
        ["get", "", "pods/log"],
        ["create", "", "pods/attach"],
        ["create", "", "pods/portforward"],
        ["get", "", "pods/proxy"],
        ["patch", "", "pods/ephemeralcontainers"],
        ["get", "", "secrets"],
        ["create", "", "serviceaccounts/token"],
        ["get", KEY, "captures"],
        ["list", KEY, "captures", "mine"],
      ] as const
    ) {
      assert.ok(!await may(verb, group, resource, namespace, name), `${verb} ${resource}`);
    }
  });
});

Deno.test("the ClusterRoles to bind hold what they are for, in the API group of the annotation", async () => {
  const rendered = await render({ annotationKey: "capture.example.com" });
  const captures = { apiGroups: ["capture.example.com"], resources: ["captures"] };
  const rules = (name: string) =>
    rendered.one("ClusterRole", name).rules.map(({ verbs, ...rest }: Any) => ({ ...rest, verbs: verbs.toSorted() }));
  assert.deepEqual(rules("pc-request"), [{ ...captures, verbs: ["create", "list"] }]);
  assert.deepEqual(rules("pc-read"), [{ ...captures, verbs: ["get", "list"] }]);
  assert.deepEqual(rules("pc-read-headers"), [
    { ...captures, verbs: ["list"] },
    { apiGroups: ["capture.example.com"], resources: ["captures/headers"], verbs: ["get"] },
  ]);
  // No ClusterRole gives the right over all others.
  assert.ok(!JSON.stringify(rendered.all("ClusterRole")).includes("administer"));
});

Deno.test("the ClusterRole of readers names the installation", async () => {
  const rendered = await render({ annotationKey: "capture.example.com" });
  const { metadata } = rendered.one("ClusterRole", "pc-read");
  assert.deepEqual(metadata.annotations, {
    "packet-capture.antrea.io/annotation-key": "capture.example.com",
    "packet-capture.antrea.io/namespace": "tools",
  });
  const marked = rendered.objects.filter((object) =>
    object.metadata.annotations?.["packet-capture.antrea.io/namespace"]
  );
  assert.deepEqual(marked.map((object) => object.metadata.name), ["pc-read"]);
});

Deno.test("the policy of reading fails closed, and nobody gets into the pods by it where it is off", async () => {
  const rendered = await render({ annotationKey: "capture.example.com" }, { release: "a.b" });
  const { spec } = rendered.readPolicy;
  assert.equal(spec.failurePolicy, "Fail");
  assert.ok(!JSON.stringify(spec).includes(KEY));
  assert.match(spec.matchConditions[0].expression, /a\[\.\]b-.* request\.name == 'a--b-test'$/);
  assert.equal(rendered.one("Pod").metadata.name, "a--b-test");
  const binding = rendered.one("ValidatingAdmissionPolicyBinding").spec;
  assert.deepEqual(binding, { policyName: "packet-capture-read.tools.a.b", validationActions: ["Deny"] });
  const off = await render({ readPolicy: { enabled: false } });
  assert.deepEqual([...off.all("Role"), ...off.all("RoleBinding")], []);
});
