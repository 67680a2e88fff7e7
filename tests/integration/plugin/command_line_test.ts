/** The command line as kubectl's users write it, on a real API server with the real kubectl, whose calls are recorded. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { tool } from "../../support/tool.ts";
import { waitFor } from "../../support/wait.ts";
import { VERSION } from "../../../src/version.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { clusterRules, controllerPod, install, PATCHED, type Result, Sandbox } from "./rig.ts";

const KEY = "tcpdump.antrea.io";

let server: ApiServer;
let sandbox: Sandbox;
/** Has the contexts `nowhere`, which is the current one, and `prod`, whose namespace is `shop`. */
let kubeconfig: string;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  for (const namespace of ["packet-capture", "shop", "bank"]) await server.createNamespace(namespace);
  await install(server, [controllerPod("worker1")]);

  sandbox = await Sandbox.create();
  await Deno.writeTextFile(
    sandbox.path("bin/kubectl"),
    `#!/bin/bash\nprintf '%s\\0' "$@" >>'${sandbox.path("args")}'; echo >>'${sandbox.path("args")}'\n` +
      `exec '${tool("kubectl")}' "$@"\n`,
  );
  const config = JSON.parse(await Deno.readTextFile(join(server.dir, "admin.kubeconfig")));
  config.clusters.push({ name: "nowhere", cluster: { server: "https://127.0.0.1:1" } });
  config.contexts = [
    { name: "nowhere", context: { cluster: "nowhere", user: "admin" } },
    { name: "prod", context: { cluster: "rig", user: "admin", namespace: "shop" } },
  ];
  config.users.push({ name: "token", user: {} });
  config["current-context"] = "nowhere";
  kubeconfig = join(server.dir, "two.kubeconfig");
  await Deno.writeTextFile(kubeconfig, JSON.stringify(config));
});
Deno.test.afterAll(async () => {
  await sandbox?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** Runs the plugin. @returns its result and the arguments of each call of kubectl */
async function run(args: readonly string[]): Promise<Result & { readonly calls: string[][] }> {
  await Deno.writeTextFile(sandbox.path("args"), "");
  const result = await sandbox.run(args, { env: { KUBECONFIG: kubeconfig } });
  const calls = (await Deno.readTextFile(sandbox.path("args"))).split("\0\n").filter(Boolean);
  return { ...result, calls: calls.map((line) => line.split("\0")) };
}

async function annotationsOf(namespace: string, name: string): Promise<Record<string, string>> {
  return (await server.call("GET", `/api/v1/namespaces/${namespace}/pods/${name}`)).metadata.annotations ?? {};
}

Deno.test("kubectl's flags stand before the command or after it, in each form that kubectl takes, and go to each call", async () => {
  await server.createPod({ namespace: "bank", name: "web-0", node: "worker1" });
  const forms = [
    ["-n", "bank", "--context", "prod", "start", "web-0"],
    ["--context=prod", "--namespace", "bank", "start", "web-0"],
    ["-n=bank", "start", "web-0", "--context", "prod"],
    ["start", "-nbank", "--context=prod", "web-0"],
    ["--insecure-skip-tls-verify=false", "--context=prod", "start", "web-0", "-n", "bank", "--warnings-as-errors=true"],
  ];
  for (const [i, form] of forms.entries()) {
    const { code, text, stderr, calls } = await run([...form, "--wait", "0s", "--files", `${i + 1}`]);
    deepStrictEqual([code, stderr], [0, ""], form.join(" "));
    match(text, /^bank\/web-0: annotated.*\n$/);
    ok(calls.length >= 4 && calls.every((args) => args.includes("--context=prod")), JSON.stringify(calls));
    strictEqual((await annotationsOf("bank", "web-0"))[KEY], `${i + 1}`);
    const strict = calls.filter((args) => args.includes("--warnings-as-errors"));
    strictEqual(strict.length, i === 4 ? calls.length : 0);
    ok(!calls.flat().some((word) => word.startsWith("--insecure")));
  }
  const nowhere = await run(["-n", "bank", "start", "web-0", "--wait", "0s"]);
  deepStrictEqual([nowhere.code, nowhere.text], [1, ""]);
  match(nowhere.stderr, /^error: The connection to the server 127\.0\.0\.1:1 was refused/);
});

Deno.test("each flag of `kubectl options` is taken before the command and after it, and handed on", async () => {
  const { stdout } = await new Deno.Command(tool("kubectl"), { args: ["options"] }).output();
  const options = [...new TextDecoder().decode(stdout).matchAll(/^ +(-(\w), )?(--[\w-]+)=(.*):$/gm)].map(
    ([, , short, long = "", value]) => ({ short, long, value }),
  ).filter(({ long }) => long !== "--namespace");
  ok(options.length > 25, JSON.stringify(options));
  const given = options.map(({ long, value }) => value === "false" ? long : `${long}=some${long}`);
  const twice = options.filter(({ value }) => value === "[]").map(({ long }) => `${long}=other`);
  const shorts = options.filter(({ short }) => short !== undefined);
  const separate = shorts.flatMap(({ short, long }) => [`-${short}`, `some${long}`]);
  const longOnly = given.filter((word) => !shorts.some(({ long }) => word.startsWith(`${long}=`)));
  await using scripted = await Sandbox.create([
    ...clusterRules(["worker1"], [{ name: "web-0", node: "worker1" }]),
    PATCHED,
  ]);
  const command = ["start", "web-0", "--files", "7", "--wait", "0s"];
  for (
    const args of [
      [...given, ...twice, ...command],
      [...command, ...given, ...twice],
      [...longOnly.flatMap((word) => word.split(/=(.*)/s).slice(0, 2)), ...twice, ...separate, ...command],
    ]
  ) {
    await Deno.remove(scripted.path("calls.jsonl")).catch(() => {});
    const { code, stderr } = await scripted.run(args);
    deepStrictEqual([code, stderr], [0, ""], args.join(" "));
    const calls = await scripted.calls();
    strictEqual(calls.length, 4);
    for (const { args: words } of calls) {
      deepStrictEqual(words.filter((word) => given.includes(word) || twice.includes(word)).sort(), [
        ...[...given, ...twice].sort(),
      ]);
    }
  }
});

Deno.test("a token is handed on and shown nowhere: not where it is refused, nor misspelt, nor by -v", async () => {
  const { token, user } = await server.serviceAccount("reader", "bank");
  const cluster = ["--context=prod", "--user=token", `--token=${token}`, "-n", "bank"];
  const refused = await run([...cluster, "start", "web-0", "--wait", "0s"]);
  match(refused.stderr, new RegExp(`User ${user} lacks the permission "get" on "pods" in namespace bank`));
  ok(refused.calls.every((args) => args.includes(`--token=${token}`)));

  const secret = "very-secret-token";
  for (
    const args of [
      ["--context=prod", "--user=token", "--token", secret, "list"],
      ["--context=prod", "--user=token", "list", `--token=${secret}`, "-v=10"],
      ["--context=nowhere", "list", `--token=${secret}`, "-v", "9"],
      ["--context=prod", "--user=token", "list", `--token=${secret}`, "--username=me", `--password=${secret}`],
      ["--context=prod", `--tokn=${secret}`, "list"],
      ["--context=prod", "list", `--tokens=${secret}`],
      ["--context=prod", "--user=token", `--token=${secret}\n${secret}`, "list"],
    ]
  ) {
    const { code, text, stderr } = await run(args);
    ok(code !== 0 && stderr !== "", args.join(" "));
    ok(!`${text}${stderr}`.includes(secret), stderr);
  }
});

/** Makes pods of namespaces, and what the workload `web` in `shop` needs to own `web-0` and `web-1`. */
async function makeShop(): Promise<void> {
  const template = { metadata: { labels: { app: "web" } }, spec: { containers: [{ name: "a", image: "x" }] } };
  const selector = { matchLabels: { app: "web" } };
  const set = await server.call("POST", "/apis/apps/v1/namespaces/shop/statefulsets", {
    metadata: { name: "web" },
    spec: { selector, template, serviceName: "web" },
  });
  await server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
    metadata: { name: "rollouts.example.org" },
    spec: {
      group: "example.org",
      scope: "Namespaced",
      names: { plural: "rollouts", singular: "rollout", kind: "Rollout" },
      versions: [{
        name: "v1",
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true } },
      }],
    },
  });
  const rollouts = "/apis/example.org/v1/namespaces/shop/rollouts";
  const made = { apiVersion: "example.org/v1", kind: "Rollout", metadata: { name: "web" }, spec: { selector } };
  const rollout = await waitFor("the resource type", () => server.call("POST", rollouts, made).catch(() => undefined));
  const owner = (kind: string, apiVersion: string, uid: string) => [
    { apiVersion, kind, name: "web", uid, controller: true },
  ];
  const ofSet = owner("StatefulSet", "apps/v1", set.metadata.uid);
  const ofRollout = owner("Rollout", "example.org/v1", rollout.metadata.uid);
  for (const [name, ownerReferences] of Object.entries({ "web-0": ofSet, "web-1": ofSet, "web-2": ofRollout })) {
    await server.call("POST", "/api/v1/namespaces/shop/pods", {
      metadata: { name, labels: { app: "web" }, ownerReferences },
      spec: { nodeName: "worker1", containers: [{ name: "a", image: "x" }] },
    });
  }
}

Deno.test("pods are named as kubectl takes them and as all output writes them, several of them, by start and by stop", async () => {
  await makeShop();
  const forms: [string[], string[]][] = [
    [["web-0", "web-1"], ["shop/web-0", "shop/web-1"]],
    [["pod", "web-0"], ["shop/web-0"]],
    [["pods", "web-0", "web-1"], ["shop/web-0", "shop/web-1"]],
    [["pod/web-0", "po/web-1"], ["shop/web-0", "shop/web-1"]],
    [["shop/web-0"], ["shop/web-0"]],
    [["shop/web-0", "bank/web-0", "web-1"], ["bank/web-0", "shop/web-0", "shop/web-1"]],
    [["-n", "bank", "bank/web-0"], ["bank/web-0"]],
    [["-n", "bank", "po", "web-0"], ["bank/web-0"]],
    [["-A", "bank/web-0", "web-1"], ["bank/web-0", "shop/web-1"]],
    [["sts", "web"], ["shop/web-0", "shop/web-1"]],
    [["statefulsets.apps", "web"], ["shop/web-0", "shop/web-1"]],
    [["-n", "shop", "sts/web"], ["shop/web-0", "shop/web-1"]],
    [["rollout/web"], ["shop/web-2"]],
    [["-n", "shop", "rollouts/web"], ["shop/web-2"]],
    [["rollouts.example.org/web", "bank/web-0"], ["bank/web-0", "shop/web-2"]],
    [["pods", "-l", "app=web"], ["shop/web-0", "shop/web-1", "shop/web-2"]],
  ];
  for (const [i, [form, pods]] of forms.entries()) {
    const started = await run(["--context=prod", "start", ...form, "--wait", "0s"]);
    deepStrictEqual(started.text.trimEnd().split("\n").map((line) => line.split(":")[0]).sort(), pods, started.stderr);
    strictEqual(started.code, 0, started.stderr);
    const ofWorkload = /^(StatefulSet|Rollout) shop\/web: pods that it \w+ later are not captured; [^\n]*\n$/;
    match(started.stderr, /sts|statefulset|rollout/.test(form.join(" ")) ? ofWorkload : /^$/, form.join(" "));
    if (i % 4 !== 0) continue;
    const stopped = await run(["--context=prod", "stop", ...form, "--wait", "0s", "--yes"]);
    deepStrictEqual(stopped.text.trimEnd().split("\n").map((line) => line.split(":")[0]).sort(), pods, stopped.stderr);
    strictEqual(stopped.code, 0, stopped.stderr);
  }
});

Deno.test("what is not there is named with its namespace, the current context's too; contradictions are named", async () => {
  const cases: [string[], number, string][] = [
    [["none"], 1, "There is no pod none in namespace shop (the current context's)"],
    [["pod", "none"], 1, "There is no pod none in namespace shop (the current context's)"],
    [["sts/none"], 1, "There is no sts/none in namespace shop (the current context's)"],
    [["rollout/none"], 1, "There is no rollout/none in namespace shop (the current context's)"],
    [["-l", "app=none"], 1, "No pod matches -l app=none in namespace shop (the current context's)"],
    [["bank/none"], 1, "There is no pod none in namespace bank"],
    [["void/none"], 1, "There is no pod none in namespace void"],
    [["-A", "bank/none"], 1, "There is no pod none in namespace bank"],
    [["-n", "bank", "none"], 1, "There is no pod none in namespace bank"],
    [
      ["-n", "shop", "bank/web-0"],
      2,
      "Cannot take bank/web-0 with -n shop: it names namespace bank; give one of the two",
    ],
    [["pod", "bank/web-0"], 2, "Cannot read pod bank/web-0: give either TYPE NAME or TYPE/NAME"],
    [["sts", "pod/web-0"], 2, "Cannot read sts pod/web-0: give either TYPE NAME or TYPE/NAME"],
    [["pods"], 2, 'Cannot take "pods" alone: name the pods, or give -l SELECTOR'],
    [["pods", "web-0", "-l", "app=web"], 2, "Give either names or -l SELECTOR, not both"],
    ...["a/b/c", "/web-0", "shop/"].map((name): [string[], number, string] => [
      [name],
      2,
      `Cannot read name "${name}": it must be POD, NAMESPACE/POD, or TYPE/NAME such as deployment/web`,
    ]),
  ];
  for (const [args, code, words] of cases) {
    const result = await run(["--context=prod", "stop", "--yes", ...args]);
    deepStrictEqual([result.code, result.text, result.stderr], [code, "", `error: ${words}\n`]);
  }
});

Deno.test("a user without rights in a namespace gets the reason for NAMESPACE/POD, and may name a type like it", async () => {
  const { token, user } = await server.serviceAccount("clerk", "shop");
  await server.grant(user, [
    { apiGroups: ["example.org"], resources: ["rollouts"], verbs: ["get", "list"] },
    { apiGroups: ["rbac.authorization.k8s.io"], resources: ["clusterroles"], verbs: ["get", "list"] },
  ]);
  const flags = ["--context=prod", "--user=token", `--token=${token}`];
  const refused = await run([...flags, "stop", "bank/web-0", "--yes"]);
  match(refused.stderr, new RegExp(`error: User ${user} lacks the permission "get" on "pods" in namespace bank\n$`));
  const typed = await run([...flags, "stop", "rollout/web", "--yes"]);
  match(typed.stderr, new RegExp(`error: User ${user} lacks the permission "list" on "pods" in namespace shop\n$`));
});

const DIFFER = "The versions differ: use the plugin and the chart in the same version\n";

Deno.test("version reports the plugin's version and the controllers', that they differ, and who could not be asked", async () => {
  const versionOf = (node: string, stdout: string) => ({ when: ["exec", node, "-- packet-capture version"], stdout });
  const own = `packet-capture ${VERSION}\n`, nodes = ["worker1", "worker2", "worker3"];
  await using scripted = await Sandbox.create([
    ...clusterRules(nodes, []),
    ...nodes.map((node) => versionOf(node, own)),
  ]);
  const same = await scripted.run(["version"]);
  deepStrictEqual([same.code, same.text, same.stderr], [
    0,
    `Client: ${VERSION}\nControllers: ${VERSION} (3 nodes)\n`,
    "",
  ]);

  const old = "packet-capture 0.0.9\n";
  const rules = [
    ...clusterRules(nodes, []),
    versionOf("worker1", old),
    versionOf("worker2", own),
  ];
  await scripted.follow([...rules, versionOf("worker3", old)]);
  const differ = await scripted.run(["version"]);
  deepStrictEqual([differ.code, differ.text, differ.stderr], [
    0,
    `Client: ${VERSION}\nControllers: 0.0.9 (2 nodes: worker1, worker3)\nControllers: ${VERSION} (1 node)\n`,
    DIFFER,
  ]);
  await scripted.follow([...rules, { when: ["exec", "worker3"], code: 1, stderr: "error: broken\n" }]);
  const broken = await scripted.run(["version"]);
  deepStrictEqual([broken.code, broken.stderr], [1, `${DIFFER}Cannot ask node worker3: broken\n`]);
  match(broken.text, /0\.0\.9 \(1 node: worker1\)/);
});

Deno.test("version works without a cluster: alone with --client, and before the sentence that reports why there is no more", async () => {
  const client = await run(["version", "--client", "--context=nowhere"]);
  deepStrictEqual([client.code, client.text, client.stderr], [0, `Client: ${VERSION}\n`, ""]);
  deepStrictEqual(client.calls, []);
  const nowhere = await run(["version", "--context=nowhere"]);
  deepStrictEqual([nowhere.code, nowhere.text], [1, `Client: ${VERSION}\n`]);
  match(nowhere.stderr, /^error: The connection to the server 127\.0\.0\.1:1 was refused/);
});
