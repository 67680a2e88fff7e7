/** ApiClient against a real API server: credentials that change, connections that die. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { ApiClient, CREDENTIALS_MAX_AGE_MS } from "../../../src/pods/api.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { Authority } from "../../support/certificates.ts";
import { FaultProxy } from "../../rig/proxy.ts";

let server: ApiServer;
let proxy: FaultProxy;
let user: string;
let token: string;

Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  proxy = await FaultProxy.start(server);
  ({ user, token } = await server.serviceAccount("controller"));
});

Deno.test.afterAll(async () => {
  await proxy?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** Who the API server takes the client for. */
async function whoAmI(api: ApiClient): Promise<string> {
  const response = await api.fetch("/apis/authentication.k8s.io/v1/selfsubjectreviews", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "SelfSubjectReview" }),
  });
  const answer = await response.json();
  return response.ok ? answer.status.userInfo.username : `${response.status} ${answer.message}`;
}

async function viaProxy(name: string, bearer = token): Promise<ApiClient> {
  return await ApiClient.load({ kubeconfig: await server.kubeconfig(name, { token: bearer }, proxy.url) });
}

/** An executable that answers as an exec plugin, and writes down how it was called. */
async function plugin(name: string, script: string): Promise<string> {
  const path = join(server.dir, name);
  await Deno.writeTextFile(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

async function withPlugin(name: string, command: string): Promise<string> {
  const path = await server.kubeconfig(name, { token });
  const config = JSON.parse(await Deno.readTextFile(path));
  config.users[0].user = { exec: { apiVersion: "client.authentication.k8s.io/v1", command, interactiveMode: "Never" } };
  await Deno.writeTextFile(path, JSON.stringify(config));
  return path;
}

Deno.test("fetch() is who the kubeconfig names, by client certificate, token and token file", async () => {
  assert.equal(await whoAmI(server.admin), "admin");
  const leaf = await server.authority.issue("jane", "/O=developers/CN=jane");
  using jane = await ApiClient.load({ kubeconfig: await server.kubeconfig("jane", leaf) });
  assert.equal(await whoAmI(jane), "jane");
  using byToken = await ApiClient.load({ kubeconfig: await server.kubeconfig("token", { token }) });
  assert.equal(await whoAmI(byToken), user);
  await Deno.writeTextFile(join(server.dir, "token"), `${token}\n`);
  // Relative to the kubeconfig, as kubectl reads it.
  using byFile = await ApiClient.load({ kubeconfig: await server.kubeconfig("file", { tokenFile: "token" }) });
  assert.equal(await whoAmI(byFile), user);
});

Deno.test("load() finds the cluster that it runs in", async () => {
  const root = join(server.dir, "root");
  const folder = join(root, "var/run/secrets/kubernetes.io/serviceaccount");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.copyFile(server.authority.cert, join(folder, "ca.crt"));
  await Deno.writeTextFile(join(folder, "token"), token);
  Deno.env.set("KUBERNETES_SERVICE_HOST", "127.0.0.1");
  Deno.env.set("KUBERNETES_SERVICE_PORT", String(server.port));
  try {
    using api = await ApiClient.load({ root });
    assert.equal(api.server, server.url);
    assert.equal(await whoAmI(api), user);
    // The kubelet replaces the token; the old one is refused.
    const { token: next, user: nextUser } = await server.serviceAccount("next");
    await Deno.writeTextFile(join(folder, "token"), "expired");
    using late = await ApiClient.load({ root });
    assert.match(await whoAmI(late), /^401 /);
    await Deno.writeTextFile(join(folder, "token"), next);
    assert.equal(await whoAmI(late), nextUser, "read anew at the first 401");
  } finally {
    Deno.env.delete("KUBERNETES_SERVICE_HOST");
    Deno.env.delete("KUBERNETES_SERVICE_PORT");
  }
});

Deno.test("fetch() reads the token again at a 401, and keeps the old one while there is none to read", async () => {
  const tokenFile = join(server.dir, "rotated");
  await Deno.writeTextFile(tokenFile, "not-a-token");
  using api = await ApiClient.load({ kubeconfig: await server.kubeconfig("rotated", { tokenFile }) });
  assert.match(await whoAmI(api), /^401 /);
  await Deno.remove(tokenFile);
  assert.match(await whoAmI(api), /^401 /);
  assert.match(api.problem, /rotated/);
  await Deno.writeTextFile(tokenFile, token);
  assert.equal(await whoAmI(api), user);
  assert.equal(api.problem, "");
});

Deno.test("fetch() reads the token again every minute, though the old one is still taken", async () => {
  const tokenFile = join(server.dir, "replaced");
  await Deno.writeTextFile(tokenFile, token);
  let now = 1000;
  using api = await ApiClient.load({
    kubeconfig: await server.kubeconfig("replaced", { tokenFile }, proxy.url),
    now: () => now,
  });
  const { token: next, user: nextUser } = await server.serviceAccount("successor");
  await Deno.writeTextFile(tokenFile, next);
  now += CREDENTIALS_MAX_AGE_MS;
  assert.equal(await whoAmI(api), user, "files are not read for each call");
  now += 1;
  const from = proxy.requests.length;
  assert.equal(await whoAmI(api), nextUser);
  assert.deepEqual(proxy.requests.slice(from).map(({ status }) => status), [201], "no 401 was needed");
  // A volume that is being written: what was read last is used until there is something to read again.
  await Deno.writeTextFile(tokenFile, "");
  await Deno.remove(tokenFile);
  now += CREDENTIALS_MAX_AGE_MS + 1;
  assert.equal(await whoAmI(api), nextUser);
  assert.match(api.problem, /replaced/);
  assert.equal(CREDENTIALS_MAX_AGE_MS, 60_000);
});

Deno.test("fetch() goes on with its client certificate when the file is replaced by something that is none", async () => {
  const leaf = await server.authority.issue("half-written", "/O=developers/CN=half-written");
  let now = 0;
  using api = await ApiClient.load({ kubeconfig: await server.kubeconfig("half-written", leaf), now: () => now });
  assert.equal(await whoAmI(api), "half-written");
  await Deno.writeTextFile(leaf.cert, "-----BEGIN CERTIF");
  now += CREDENTIALS_MAX_AGE_MS + 1;
  assert.equal(await whoAmI(api), "half-written");
  assert.match(api.problem, /^Cannot use the kubeconfig's client certificate: /);
  api.renew();
  assert.equal(await whoAmI(api), "half-written");
});

Deno.test("fetch() accepts a CA that has been replaced on disk", async () => {
  const dir = join(server.dir, "other");
  await Deno.mkdir(dir);
  const other = await Authority.create(dir, "other-ca");
  const leaf = await other.issue("server", "/CN=server", ["IP:127.0.0.1"]);
  await using elsewhere = Deno.serve({
    hostname: "127.0.0.1",
    port: 0,
    cert: await Deno.readTextFile(leaf.cert),
    key: await Deno.readTextFile(leaf.key),
    onListen: () => {},
  }, () => Response.json({ code: 200 }));
  const path = await server.kubeconfig("ca", { token }, `https://127.0.0.1:${elsewhere.addr.port}`);
  const config = JSON.parse(await Deno.readTextFile(path));
  const ca = config.clusters[0].cluster["certificate-authority"] = join(dir, "ca.crt");
  await Deno.copyFile(server.authority.cert, ca);
  await Deno.writeTextFile(path, JSON.stringify(config));
  using api = await ApiClient.load({ kubeconfig: path });
  await assert.rejects(api.fetch("/"), /certificate|UnknownIssuer/);
  await Deno.copyFile(other.cert, ca);
  assert.deepEqual(await (await api.fetch("/")).json(), { code: 200 });
});

Deno.test("fetch() runs an exec plugin with what it is for, and again when its answer has expired", async () => {
  const command = await plugin(
    "plugin",
    `printf '%s\\n' "$KUBERNETES_EXEC_INFO" >> ${server.dir}/asked
printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat ${server.dir}/plugin-token)"`,
  );
  await Deno.writeTextFile(join(server.dir, "plugin-token"), "expired");
  using api = await ApiClient.load({ kubeconfig: await withPlugin("exec", command) });
  assert.match(await whoAmI(api), /^401 /);
  await Deno.writeTextFile(join(server.dir, "plugin-token"), token);
  assert.equal(await whoAmI(api), user);
  const asked = (await Deno.readTextFile(join(server.dir, "asked"))).trim().split("\n");
  assert.equal(asked.length, 3, "at load, and at each 401");
  assert.equal(await whoAmI(api), user);
  assert.equal((await Deno.readTextFile(join(server.dir, "asked"))).trim().split("\n").length, 3, "its answer is kept");
  assert.deepEqual(JSON.parse(asked[0]!), {
    apiVersion: "client.authentication.k8s.io/v1",
    kind: "ExecCredential",
    spec: { interactive: false },
  });
});

Deno.test("load() reports in one sentence what is wrong with an exec plugin", async () => {
  await assert.rejects(
    ApiClient.load({ kubeconfig: await withPlugin("missing", "no-such-plugin") }),
    /^KubeConfigError: Cannot run the kubeconfig's exec plugin "no-such-plugin": it is not installed, or not in PATH$/,
  );
  const failing = await plugin("failing", "echo 'please log in first' >&2; exit 1");
  await assert.rejects(
    ApiClient.load({ kubeconfig: await withPlugin("failing", failing) }),
    /KubeConfigError: Cannot get credentials from the kubeconfig's exec plugin ".*failing": please log in first$/,
  );
  const garbage = await plugin("garbage", "echo hello");
  await assert.rejects(
    ApiClient.load({ kubeconfig: await withPlugin("garbage", garbage) }),
    /exec plugin ".*garbage": /,
  );
});

Deno.test("fetch() keeps to its deadline when nobody answers, and the next call does not use the broken connection", async () => {
  using api = await viaProxy("deadline");
  // Three connections that wait to be used again, all of which die.
  const before = proxy.connections;
  await Promise.all(Array.from({ length: 3 }, () => api.fetch("/readyz")));
  assert.ok(proxy.connections - before >= 2);
  proxy.blackhole();
  const begun = performance.now();
  await assert.rejects(api.fetch("/readyz", { timeoutMs: 300 }), {
    name: "TimeoutError",
    message: "no answer within 0.3 s",
  });
  assert.ok(performance.now() - begun < 2000);
  assert.ok(proxy.count("blackhole bytes") > 0);
  await proxy.calm();
  assert.equal((await api.fetch("/readyz", { timeoutMs: 3000 })).status, 200);
});

Deno.test("fetch() keeps to its deadline in the middle of a body", async () => {
  using api = await viaProxy("body");
  // A watch never ends by itself.
  await assert.rejects(
    server.admin.fetch("/api/v1/namespaces?watch=1", { timeoutMs: 300 }),
    { name: "TimeoutError" },
  );
  proxy.cutNextBody(() => true);
  await assert.rejects(api.fetch("/openapi/v2", { timeoutMs: 10_000 }), TypeError);
  assert.ok(proxy.count("cut") >= 1);
  await proxy.calm();
});

Deno.test("fetch() and open() end when their signal is aborted", async () => {
  const abort = new AbortController();
  const path = "/api/v1/namespaces?watch=1";
  const waiting = server.admin.fetch(path, { signal: abort.signal });
  const stream = await server.admin.open(path, { signal: abort.signal });
  const reading = stream.text();
  abort.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  await assert.rejects(reading, /enough/);
  await assert.rejects(server.admin.fetch("/readyz", { signal: abort.signal }), /enough/);
});

Deno.test("fetch() uses one connection for calls one after the other; renew() ends its use but not its calls", async () => {
  using api = await viaProxy("reuse");
  const before = proxy.connections;
  for (let i = 0; i < 20; i++) assert.equal((await api.fetch("/readyz")).status, 200);
  assert.equal(proxy.connections - before, 1);
  const abort = new AbortController();
  await server.grant(user, [{ apiGroups: [""], resources: ["namespaces"], verbs: ["watch"] }]);
  const stream = await api.open("/api/v1/namespaces?watch=1&resourceVersion=0", { signal: abort.signal });
  const events = stream.body!.getReader();
  // The stream has taken the connection, so this one makes another, which waits to be used again.
  assert.equal((await api.fetch("/readyz")).status, 200);
  assert.equal(proxy.connections - before, 2);
  api.renew();
  await server.createNamespace("after-renew");
  let text = "";
  while (!text.includes("after-renew")) {
    const { value, done } = await events.read();
    assert.ok(!done, "the stream has ended");
    text += new TextDecoder().decode(value);
  }
  assert.equal((await api.fetch("/readyz")).status, 200);
  assert.equal(proxy.connections - before, 3, "a call after renew() uses a new connection");
  abort.abort();
});

Deno.test("no error has the token", async () => {
  const secret = "s3cr3t-t0ken";
  using api = await viaProxy("secret", secret);
  const said: unknown[] = [await whoAmI(api), api];
  await proxy.refuse();
  said.push(await api.fetch("/readyz").catch((error) => error));
  await proxy.calm();
  proxy.blackhole();
  said.push(await api.fetch("/readyz", { timeoutMs: 100 }).catch((error) => error));
  await proxy.calm();
  assert.equal(said.length, 4);
  for (const one of said) {
    assert.ok(!Deno.inspect(one, { depth: 10, showHidden: true }).includes(secret));
    assert.ok(!String((one as Error).stack ?? one).includes(secret));
  }
});
