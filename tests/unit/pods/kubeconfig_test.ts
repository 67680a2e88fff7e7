import assert from "node:assert/strict";
import { join } from "node:path";
import { type Credentials, CredentialSource, KubeConfigError } from "../../../src/pods/kubeconfig.ts";

interface Parts {
  readonly cluster?: Record<string, unknown>;
  readonly user?: Record<string, unknown>;
  readonly text?: (config: string) => string;
}

/** Reads a kubeconfig that works but for what is given. */
async function read(
  { cluster = {}, user = { token: "t" }, text = (config) => config }: Parts = {},
): Promise<Credentials> {
  const dir = await Deno.makeTempDir();
  try {
    const config = {
      clusters: [{ name: "c", cluster: { server: "https://api.example:6443", ...cluster } }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    const path = join(dir, "config");
    await Deno.writeTextFile(path, text(JSON.stringify(config)));
    await Deno.writeTextFile(join(dir, "token"), "from-file\n");
    return await new CredentialSource({ kubeconfig: path }).read();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

async function refused(parts: Parts, sentence: RegExp): Promise<void> {
  const error = await read(parts).then(() => undefined, (thrown) => thrown);
  assert.ok(error instanceof KubeConfigError, `accepted, or another error: ${error}`);
  assert.match(error.message, sentence);
  assert.ok(!error.message.includes("\n"));
  assert.doesNotMatch(error.message, /\.$/);
}

const pem = (label: string) => btoa(`-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`);

Deno.test("read() gives address, headers and PEM texts", async () => {
  const user = { "client-certificate-data": pem("CERTIFICATE"), "client-key-data": pem("EC PRIVATE KEY") };
  const credentials = await read({ cluster: { "certificate-authority-data": pem("CERTIFICATE") }, user });
  assert.equal(credentials.server, "https://api.example:6443");
  assert.match(credentials.ca!, /^-----BEGIN CERTIFICATE/);
  assert.match(credentials.cert!, /^-----BEGIN CERTIFICATE/);
  assert.match(credentials.key!, /^-----BEGIN EC PRIVATE KEY/);
  assert.deepEqual(credentials.headers, {});
});

Deno.test("read() gives the token, the token file's content before it, or name and password", async () => {
  assert.equal((await read({ user: { token: "t" } })).headers["Authorization"], "Bearer t");
  const both = await read({ user: { token: "t", tokenFile: "token" } });
  assert.equal(both.headers["Authorization"]!.trim(), "Bearer from-file");
  const basic = await read({ user: { username: "jané", password: "pä:ss" } });
  assert.equal(
    basic.headers["Authorization"],
    `Basic ${btoa(String.fromCharCode(...new TextEncoder().encode("jané:pä:ss")))}`,
  );
});

Deno.test("read() passes on who is to be impersonated, and a path in the address", async () => {
  const { server, headers } = await read({
    cluster: { server: "https://rancher.example/k8s/clusters/c-1/" },
    user: { token: "t", as: "jane" },
  });
  assert.equal(server, "https://rancher.example/k8s/clusters/c-1");
  assert.equal(headers["Impersonate-User"], "jane");
});

Deno.test("read() refuses what Deno's TLS or client-node cannot do, rather than do something else", async (t) => {
  const cases: Record<string, [Parts, RegExp]> = {
    "plain http": [
      { cluster: { server: "http://localhost:8001" } },
      /^Cannot use cluster "c" .*server "http:\/\/localhost:8001" is not supported; it must be an https:\/\/ address$/,
    ],
    "insecure-skip-tls-verify": [
      { cluster: { "insecure-skip-tls-verify": true } },
      /insecure-skip-tls-verify.*certificate-authority/,
    ],
    "tls-server-name": [{ cluster: { "tls-server-name": "other" } }, /tls-server-name is not supported/],
    "proxy-url": [{ cluster: { "proxy-url": "socks5://p" } }, /proxy-url.*HTTPS_PROXY/],
    "auth-provider": [
      { user: { "auth-provider": { name: "oidc", config: {} } } },
      /auth-provider "oidc" is not supported/,
    ],
    "encrypted key, PKCS 8": [
      { user: { "client-certificate-data": pem("CERTIFICATE"), "client-key-data": pem("ENCRYPTED PRIVATE KEY") } },
      /client key of user "u".*encrypted/,
    ],
    "encrypted key, older form": [
      {
        user: {
          "client-certificate-data": pem("CERTIFICATE"),
          "client-key-data": btoa(
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n",
          ),
        },
      },
      /encrypted/,
    ],
    "certificate without key": [{ user: { "client-certificate-data": pem("CERTIFICATE") } }, /without its key/],
    "key without certificate": [{ user: { "client-key-data": pem("PRIVATE KEY") } }, /without its certificate/],
    "missing CA file": [{ cluster: { "certificate-authority": "nowhere.crt" } }, /^Cannot read .*nowhere\.crt/],
    "missing token file": [{ user: { tokenFile: "/nowhere/token" } }, /^Cannot read .*\/nowhere\/token/],
    "no such context": [
      { text: (config) => config.replace(`"current-context":"x"`, `"current-context":"y"`) },
      /current-context "y"/,
    ],
    "no current context": [
      { text: (config) => config.replace(`"current-context":"x"`, `"a":"x"`) },
      /current-context ""/,
    ],
    "no such cluster": [{ text: (config) => config.replace(`"cluster":"c"`, `"cluster":"d"`) }, /names no cluster/],
    "no such user": [{ text: (config) => config.replace(`"user":"u"`, `"user":"v"`) }, /names no user/],
    "not YAML": [{ text: () => "{ a: [" }, /^Cannot read the kubeconfig .*config: /],
    "an empty file": [{ text: () => "" }, /^Cannot read the kubeconfig .*config: /],
    "an address that is none": [{ cluster: { server: "https://a b:99999" } }, /server "https:\/\/a b:99999" is not/],
    "a CA that is none": [
      { cluster: { "certificate-authority-data": btoa("half a certif") } },
      /^Cannot use the CA of cluster "c" of the kubeconfig: .*; it must be PEM$/,
    ],
  };
  for (const [name, [parts, sentence]] of Object.entries(cases)) {
    await t.step(name, () => refused(parts, sentence));
  }
});

Deno.test("read() refuses a token that no header can hold, without showing it", async () => {
  for (const token of ["s3cr3t\nt0ken", "s3cr3t\u0000", "s3cr3t…"]) {
    const error = await read({ user: { token } }).then(() => undefined, (thrown) => thrown);
    assert.ok(error instanceof KubeConfigError, `accepted, or another error: ${error}`);
    assert.match(error.message, /^Cannot use the credentials of user "u" of the kubeconfig: header Authorization/);
    assert.ok(!Deno.inspect(error, { depth: 10, showHidden: true }).includes("s3cr3t"));
  }
});

Deno.test("read() reports which file or variable is missing", async () => {
  await assert.rejects(
    new CredentialSource({ kubeconfig: "/nowhere/config" }).read(),
    /Cannot read the kubeconfig \/nowhere\/config: /,
  );
  await assert.rejects(new CredentialSource({ kubeconfig: "" }).read(), /KUBERNETES_SERVICE_HOST.*KUBECONFIG/);
});

Deno.test("read() takes each name from the first of several files that has a current context", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const file = (name: string, token: string) => ({
      clusters: [{ name, cluster: { server: `https://${name}.example` } }],
      users: [{ name, user: { token } }],
      contexts: [{ name, context: { cluster: name, user: name } }],
      "current-context": name,
    });
    const paths = [join(dir, "a"), join(dir, "b")];
    await Deno.writeTextFile(paths[0]!, JSON.stringify(file("a", "one")));
    await Deno.writeTextFile(paths[1]!, JSON.stringify(file("b", "two")));
    assert.equal((await new CredentialSource({ kubeconfig: paths.join(":") }).read()).server, "https://a.example");
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
