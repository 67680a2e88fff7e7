/**
 * A credential plugin that asks for a code, as kubectl runs it: on a real API server with real kubectl, and a real terminal. No kubelet runs, so
 * that `exec` gets its credentials there and is answered by a script then.
 */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { ApiServer } from "../../rig/apiserver.ts";
import { capinfos, makeCapture } from "./captures.ts";
import { fakeKubectl, Terminal } from "./on_terminal.ts";
import { controllerPod, eventually, install, plugin, pluginCommand, Sandbox } from "./rig.ts";

const KEY = "tcpdump.antrea.io";
const PROMPT = /Code of ops: $/;
const PODS = ["web-0", "web-1"];
const MODES = ["IfAvailable", "Always"] as const;

let server: ApiServer;
/** What the plugin has for the right code. */
let token: string;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  for (const namespace of ["packet-capture", "shop"]) await server.createNamespace(namespace);
  await install(server, PODS.map((_, i) => controllerPod(`worker${i}`)));
  for (const [i, name] of PODS.entries()) {
    await server.createPod({ name, node: `worker${i}`, namespace: "shop", annotations: { [KEY]: "5" } });
  }
  const ops = await server.serviceAccount("ops");
  token = ops.token;
  await server.grant(ops.user, [
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "patch"] },
    { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["get", "list", "watch"] },
    { apiGroups: ["rbac.authorization.k8s.io"], resources: ["clusterroles"], verbs: ["get", "list"] },
  ]);
});
Deno.test.afterAll(() => server[Symbol.asyncDispose]());

/** What a plugin of this kind does: it asks on stderr, reads from standard input, and keeps what it got. */
const PLUGIN = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
print() { printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat token)"; }
echo "$KUBERNETES_EXEC_INFO" >> infos
[ -e cache ] && { print; exit; }
[ -e locked ] && { echo 'locked after a wrong code' >&2; exit 1; }
echo once >> asked
printf 'Code of ops: ' >&2
read -r code || { echo 'nobody is there' >&2; exit 1; }
[ "$code" = 123456 ] || { echo 'wrong code' >&2; : > locked; exit 1; }
[ -e no-cache ] || : > cache
print
`;

interface Ground extends AsyncDisposable {
  readonly sandbox: Sandbox;
  readonly env: Record<string, string>;
  /** How often the user was asked. */
  asked(): Promise<number>;
}

/** A kubeconfig with that plugin, and captures to be had of both pods. */
async function ground(interactiveMode: string, files: Record<string, string> = {}): Promise<Ground> {
  const sandbox = await Sandbox.create();
  const dir = sandbox.path("credentials");
  await Deno.mkdir(dir);
  await Deno.writeTextFile(join(dir, "ask"), PLUGIN, { mode: 0o755 });
  await Deno.writeTextFile(join(dir, "token"), token, { mode: 0o600 });
  for (const [name, content] of Object.entries(files)) await Deno.writeTextFile(join(dir, name), content);
  const exec = {
    ...{ apiVersion: "client.authentication.k8s.io/v1", command: join(dir, "ask") },
    ...{ interactiveMode, provideClusterInfo: true },
  };
  const config = JSON.parse(await Deno.readTextFile(join(server.dir, "admin.kubeconfig")));
  const kubeconfig = sandbox.path("kubeconfig");
  await Deno.writeTextFile(kubeconfig, JSON.stringify({ ...config, users: [{ name: "admin", user: { exec } }] }));
  const row = {
    ...{ namespace: "shop", state: "capturing", reason: "", since: null, oldest: null, newest: null, filter: null },
    ...{ files: 1, bytes: 1, packets: 1, dropped: 0 },
  };
  for (const [i, pod] of PODS.entries()) {
    await makeCapture(sandbox.path(pod), { namespace: "shop", pod, node: `worker${i}`, packets: 50 });
  }
  const bytes = (pod: string) => Deno.statSync(sandbox.path(pod)).size;
  await sandbox.follow([
    ...PODS.map((pod, i) => ({
      when: ["exec", `worker${i}`, "list "],
      stdout: JSON.stringify([{ ...row, pod, uid: pod }]),
    })),
    ...PODS.map((pod) => ({
      when: [`cat shop/${pod} --format pcapng --while-stdin`],
      file: sandbox.path(pod),
      stderr: `packet-capture: all ${bytes(pod)} bytes are written\n` +
        `packet-capture: {"trailer":1,"outcome":"done","bytes":${bytes(pod)}}\n`,
      untilStdin: true,
    })),
    ...PODS.map((pod) => ({ when: [`stream shop/${pod}`], file: sandbox.path(pod), untilStdin: true })),
  ]);
  await fakeKubectl(sandbox);
  return {
    sandbox,
    env: { KUBECONFIG: kubeconfig, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}`, FAKE_KUBECTL: sandbox.dir },
    async asked() {
      const text = await Deno.readTextFile(join(dir, "asked")).catch(() => "");
      return text.split("\n").length - 1;
    },
    [Symbol.asyncDispose]: () => sandbox[Symbol.asyncDispose](),
  };
}

function onTerminal({ env, sandbox }: Ground, args: readonly string[], to?: string): Terminal {
  return new Terminal(pluginCommand(args), { env, cwd: sandbox.path("work"), to });
}

for (const mode of MODES) {
  Deno.test(`list shows the plugin's prompt on the terminal, takes the answer, and asks once (${mode})`, async () => {
    await using shop = await ground(mode);
    await using terminal = onTerminal(shop, ["list", "-n", "shop"]);
    await terminal.until(PROMPT);
    strictEqual(await shop.asked(), 1);
    terminal.type("123456\n");
    const { code, text } = await terminal.end();
    deepStrictEqual([code, await shop.asked()], [0, 1], text);
    for (const pod of PODS) match(text, new RegExp(`^shop +${pod} +worker. +capturing `, "m"));
    // kubectl told the plugin of the cluster, and that it may ask.
    const [info] = (await Deno.readTextFile(shop.sandbox.path("credentials/infos"))).split("\n");
    deepStrictEqual(
      [JSON.parse(info!).spec.interactive, JSON.parse(info!).spec.cluster.server],
      [true, server.url],
    );
  });

  Deno.test(`get of two nodes asks once, fetches all, and ends what it ran (${mode})`, async () => {
    await using shop = await ground(mode);
    await using terminal = onTerminal(shop, ["get", "-n", "shop", ...PODS, "-o", "shop.pcapng"]);
    await terminal.until(PROMPT);
    terminal.type("123456\n");
    const { code, text } = await terminal.end();
    deepStrictEqual([code, await shop.asked()], [0, 1], text);
    match(text, /shop.pcapng: 100 packets of 2 pods/);
    strictEqual((await capinfos(shop.sandbox.path("work/shop.pcapng")))["Number of packets"], "100");
    await allGone(shop);
  });

  Deno.test(`stream asks once and goes on until Ctrl-C (${mode})`, async () => {
    await using shop = await ground(mode);
    const file = shop.sandbox.path("streamed");
    await using terminal = onTerminal(shop, ["stream", "-n", "shop", "web-0"], file);
    await terminal.until(PROMPT);
    terminal.type("123456\n");
    const { size } = await Deno.stat(shop.sandbox.path("web-0"));
    await eventually(async () => (await Deno.stat(file)).size === size);
    terminal.type("\x03");
    const { code, text } = await terminal.end();
    deepStrictEqual([code, await shop.asked()], [0, 1], text);
    await allGone(shop);
  });

  Deno.test(`stop asks for the code, and then whether to go on (${mode})`, async () => {
    await server.createPod({
      ...{ name: `old-${mode.toLowerCase()}`, node: "worker0", namespace: "shop" },
      annotations: { [KEY]: "5" },
    });
    await using shop = await ground(mode);
    await using terminal = onTerminal(shop, ["stop", "-n", "shop", `old-${mode.toLowerCase()}`, "--wait", "1s"]);
    await terminal.until(PROMPT);
    terminal.type("123456\n");
    await terminal.until(/Continue\? \[y\/N\] $/);
    terminal.type("y\n");
    const { code, text } = await terminal.end();
    deepStrictEqual([code, await shop.asked()], [0, 1], text);
    const pod = await server.call("GET", `/api/v1/namespaces/shop/pods/old-${mode.toLowerCase()}`);
    strictEqual(pod.metadata.annotations, undefined);
  });

  Deno.test(`start asks once, and watches Events after it (${mode})`, async () => {
    const name = `new-${mode.toLowerCase()}`;
    await server.createPod({ name, node: "worker0", namespace: "shop" });
    await using shop = await ground(mode);
    await using terminal = onTerminal(shop, ["start", "-n", "shop", name, "--wait", "1s"]);
    await terminal.until(PROMPT);
    terminal.type("123456\n");
    const { code, text } = await terminal.end();
    strictEqual(await shop.asked(), 1, text);
    // No controller runs here, and so nobody says more.
    deepStrictEqual([code, /annotated, but its controller does not list it/.test(text)], [1, true], text);
    strictEqual((await server.call("GET", `/api/v1/namespaces/shop/pods/${name}`)).metadata.annotations[KEY], "5");
  });
}

Deno.test("get in a plugin's mode Always reports what the controller reports of a capture that is not whole", async () => {
  await using shop = await ground("Always");
  const { size } = await Deno.stat(shop.sandbox.path("web-0"));
  const rules = JSON.parse(await Deno.readTextFile(shop.sandbox.path("rules.json")));
  const stderr = "packet-capture: shop/web-0: 3 packets were overtaken\n" +
    `packet-capture: {"trailer":1,"outcome":"partial","bytes":${size}}\n`;
  await shop.sandbox.follow([
    { when: ["cat shop/web-0"], file: shop.sandbox.path("web-0"), stderr, untilStdin: true, code: 1 },
    ...rules,
  ]);
  await using terminal = onTerminal(shop, ["get", "-n", "shop", "web-0"]);
  await terminal.until(PROMPT);
  terminal.type("123456\n");
  const { code, text } = await terminal.end();
  strictEqual(code, 1, text);
  match(text, /shop\/web-0: not all that was captured could be read: shop\/web-0: 3 packets were overtaken\r/);
});

Deno.test("a plugin that keeps nothing is answered once for each call, one after the other", async () => {
  await using shop = await ground("IfAvailable", { "no-cache": "" });
  await using terminal = onTerminal(shop, ["list", "-n", "shop"]);
  // The release, its pods, two nodes.
  for (let call = 0; call < 4; call++) {
    await terminal.until(PROMPT);
    terminal.type("123456\n");
  }
  const { code, text } = await terminal.end();
  strictEqual(code, 0, text);
  for (const pod of PODS) match(text, new RegExp(`^shop +${pod} `, "m"));
});

Deno.test("a wrong code is reported in one sentence, and nothing of it twice", async () => {
  await using shop = await ground("IfAvailable");
  await using terminal = onTerminal(shop, ["list", "-n", "shop"]);
  await terminal.until(PROMPT);
  terminal.type("1\n");
  // kubectl itself tries several times more.
  await terminal.until(/wrong code\r\nlocked after/);
  const { code, text } = await terminal.end();
  strictEqual(code, 1);
  match(
    text,
    /^error: Cannot get credentials for the cluster: exec: executable \S+\/ask failed with exit code 1 \(it says: locked after a wrong code\); log in first, in a terminal, for example with: kubectl get pods\r\n$/m,
  );
  ok(!/memcache|Unable to connect/.test(text), text);
});

Deno.test("what kubectl itself writes to a terminal is printed once, as a sentence", async () => {
  await using shop = await ground("IfAvailable", { cache: "" });
  await using terminal = onTerminal(shop, ["list", "--release", "absent"]);
  const { code, text } = await terminal.end();
  strictEqual(code, 1);
  match(text, /^error: No packet-capture with release name absent is installed/);
  const { token: mere } = await server.serviceAccount("mere");
  await using poor = await ground("IfAvailable", { cache: "", token: mere });
  await using refused = onTerminal(poor, ["list"]);
  const { text: words } = await refused.end();
  ok(!/Error from server/.test(words), words);
  match(words, /lacks the permission/);
});

Deno.test("without a terminal the sentence has what to do", async () => {
  for (const mode of MODES) {
    await using shop = await ground(mode);
    const { code, stderr, text } = await plugin(["list", "-n", "shop"], { env: shop.env });
    deepStrictEqual([code, text], [1, ""]);
    match(
      stderr,
      mode === "Always"
        ? /^error: Cannot get credentials for the cluster: .* not a terminal; run this in a terminal, because the kubeconfig has interactiveMode: Always\n$/
        : /^error: Cannot get credentials for the cluster: exec: executable \S+ failed with exit code 1 \(it says: Code of ops: nobody is there\); log in first, in a terminal, for example with: kubectl get pods\n$/,
    );
  }
});

Deno.test("once logged in by kubectl itself, nothing is asked without a terminal", async () => {
  await using shop = await ground("IfAvailable", { cache: "" });
  const { code, stderr } = await plugin(["get", "-n", "shop", ...PODS, "-o", shop.sandbox.path("all")], {
    env: shop.env,
  });
  deepStrictEqual([code, await shop.asked()], [0, 0], stderr);
});

/** No kubectl that was started is left. */
async function allGone({ sandbox }: Ground): Promise<void> {
  for (const { pid } of await sandbox.calls()) {
    await eventually(async () => !await Deno.stat(`/proc/${pid}`).then(() => true, () => false));
  }
}
