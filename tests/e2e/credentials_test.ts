/** A credential plugin of the kubeconfig that asks, on a terminal: real downloads, whose reading commands end in the pod as they do otherwise. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { Terminal } from "../integration/plugin/on_terminal.ts";
import { fixture } from "./fixture.ts";
import { InstalledPlugin } from "./installed_plugin.ts";
import { waitFor } from "./kube.ts";
import { PING_NODE, testPod } from "./pods.ts";

const { kube, release, namespace } = fixture("credentials");
const PODS = ["one", "two"];
let installed: InstalledPlugin;
let nodes: string[];

Deno.test.beforeAll(async () => {
  installed = await InstalledPlugin.install(kube);
  nodes = await kube.workers();
  for (const [i, name] of PODS.entries()) {
    const annotations = { "tcpdump.antrea.io": "3" };
    await kube.apply(testPod({ name, namespace, node: nodes[i]!, command: PING_NODE, annotations }));
  }
});
Deno.test.afterAll(() => installed?.[Symbol.asyncDispose]());

/** Asks for a code, and gives the administrator's certificate for the right one. */
const PLUGIN = `#!/bin/sh
cd "$(dirname "$0")" || exit 1
[ -e cache ] || { printf 'Code: ' >&2; read -r code && [ "$code" = 123456 ] && : > cache || exit 1; }
cat credential
`;

/** The path of a kubeconfig with that plugin. */
async function kubeconfig(interactiveMode: string): Promise<string> {
  const dir = await Deno.makeTempDir({ dir: installed.dir });
  const config = JSON.parse(await kube.kubectl(["config", "view", "--minify", "--flatten", "-o", "json"]));
  const [{ name, user }] = config.users;
  const decode = (text: string) => atob(text);
  const status = {
    clientCertificateData: decode(user["client-certificate-data"]),
    clientKeyData: decode(user["client-key-data"]),
  };
  const apiVersion = "client.authentication.k8s.io/v1";
  const credential = JSON.stringify({ apiVersion, kind: "ExecCredential", status });
  await Deno.writeTextFile(join(dir, "credential"), credential, { mode: 0o600 });
  await Deno.writeTextFile(join(dir, "ask"), PLUGIN, { mode: 0o755 });
  const exec = { apiVersion, command: join(dir, "ask"), interactiveMode };
  await Deno.writeTextFile(join(dir, "config"), JSON.stringify({ ...config, users: [{ name, user: { exec } }] }));
  return join(dir, "config");
}

for (const mode of ["IfAvailable", "Always"]) {
  Deno.test(`get and stream work with a credential plugin that asks, and leave nothing in the reader (${mode})`, async () => {
    for (const name of PODS) await kube.ready(namespace, name);
    const config = await kubeconfig(mode);
    const onTerminal = (words: string[], to?: string) =>
      new Terminal([installed.kubectl, "packet-capture", ...words], {
        ...{ env: installed.env({ kubeconfig: config }), cwd: installed.dir, to },
      });
    const file = join(installed.dir, `${mode}.pcapng`);
    await using get = onTerminal(["get", "-n", namespace, ...PODS, "-o", file]);
    await get.until(/Code: $/);
    get.type("123456\n");
    const { code, text } = await get.end();
    assert.equal(code, 0, text);
    assert.equal(text.split("Code: ").length, 2, text);
    assert.match(await run(["capinfos", "-c", file]), /Number of packets: +[1-9]/);

    const streamed = join(installed.dir, `${mode}.stream`);
    await using stream = onTerminal(["stream", "-n", namespace, "one"], streamed);
    await waitFor("packets", async () => ((await Deno.stat(streamed).catch(() => undefined))?.size ?? 0) > 1000);
    stream.type("\x03");
    assert.equal((await stream.end()).code, 0);
    for (const node of nodes) {
      await waitFor("the end of the reading commands", async () => {
        return !/packet-capture (cat|stream)/.test((await release.read(node, ["ps", "-o", "args"])).stdout);
      });
    }
  });
}
