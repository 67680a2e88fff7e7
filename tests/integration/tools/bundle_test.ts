import assert from "node:assert/strict";
import { join } from "@std/path";
import { run, type Said } from "../../rig/cli.ts";
import { serveJsr } from "../../rig/jsr.ts";
import { type Tree, tree } from "../../rig/tree.ts";
import { Spec, Validation } from "@cyclonedx/cyclonedx-library";
import { VERSION } from "../../../src/version.ts";

/** Runs tools/bundle.ts in a tree. */
async function bundle(project: Tree, env: Record<string, string> = {}): Promise<Said> {
  const home = Deno.env.get("HOME")!;
  const caches = Deno.env.get("XDG_CACHE_HOME") ?? join(home, ".cache");
  // What comes from a JSR of this test stays in the tree; the npm packages are those that Deno has.
  await Deno.mkdir(join(project.path, "caches"), { recursive: true });
  await Deno.symlink(join(Deno.env.get("DENO_DIR") ?? join(caches, "deno"), "npm"), join(project.path, "caches/npm"));
  const args = ["run", "--allow-all", "--no-check", "tools/bundle.ts"];
  const said = await run(join(project.path, "tools/deno"), args, {
    cwd: project.path,
    env: { XDG_CACHE_HOME: caches, DENO_DIR: join(project.path, "caches"), ...env },
  });
  assert.equal(said.code, 0, said.stderr);
  return said;
}

/** Runs the bundle in a folder of its own, with nothing else to be had. */
async function runBundle(project: Tree, ...args: string[]): Promise<Said> {
  const folder = await Deno.makeTempDir({ prefix: "packet-capture-bundle-" });
  try {
    await Deno.copyFile(join(project.path, "dist/packet-capture.cjs"), join(folder, "packet-capture.cjs"));
    const alone = ["run", "--quiet", "--no-config", "--no-lock", "--no-npm", "--no-remote", "--allow-all"];
    return await run(Deno.execPath(), [...alone, "packet-capture.cjs", ...args], {
      cwd: folder,
      env: { DENO_DIR: join(folder, "cache") },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const tools = ["deno.json", "deno.lock", "node_modules", "tools"];

/** A tree whose two programs are this code; what the real ones are made of is there to be imported. */
async function programs(code: string): Promise<Tree> {
  const project = await tree(...tools, "src/log.ts", "src/base");
  await project.write("src/main.ts", code);
  await project.write("src/plugin/main.ts", "");
  return project;
}

/** Two clones with the bundles that were made there. */
const bundled: { project: Tree; said: Said }[] = [];

Deno.test.beforeAll(async () => {
  for (let i = 0; i < 2; i++) {
    const project = await tree(...tools, "src");
    bundled.push({ project, said: await bundle(project) });
  }
});

Deno.test.afterAll(async () => {
  for (const { project } of bundled) await project[Symbol.asyncDispose]();
});

Deno.test("the bundle runs by itself, and its bytes do not depend on where it was made", async () => {
  const bundles: string[] = [];
  for (const { project, said: { stdout } } of bundled) {
    const text = await project.read("dist/packet-capture.cjs");
    assert.ok(!text.includes(project.path), "it names the folder it was made in");
    assert.doesNotMatch(text, /sourceMappingURL/);
    assert.deepEqual(await runBundle(project, "version"), {
      code: 0,
      stdout: `packet-capture ${VERSION}\n`,
      stderr: "",
    });
    const { sources } = JSON.parse(await project.read("dist/packet-capture.cjs.map"));
    assert.ok(sources.some((source: string) => source.endsWith("src/main.ts")), "the map does not know src/main.ts");
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
    assert.match(stdout, new RegExp(`dist/packet-capture\\.cjs \\d+ KiB sha256:${digest}$`, "m"));
    bundles.push(text);
  }
  assert.equal(bundles[0], bundles[1]);
});

interface Bom {
  metadata: { component: { name: string; version: string } };
  components: { group?: string; name: string; version: string; purl: string; licenses?: unknown; hashes?: unknown }[];
}

Deno.test("the bundles' bills of materials are valid, the same each time, and name each package whose code is in them", async () => {
  const boms: string[] = [];
  for (const { project } of bundled) {
    for (const [file, map] of [["packet-capture", "cjs"], ["kubectl-packet_capture", "js"]]) {
      const text = await project.read(`dist/${file}.cdx.json`);
      assert.equal(await new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(text), null);
      const { metadata, components }: Bom = JSON.parse(text);
      assert.deepEqual([metadata.component.name, metadata.component.version], ["packet-capture", VERSION]);
      // The source map alone names what is in the bundle.
      const { sources }: { sources: string[] } = JSON.parse(await project.read(`dist/${file}.${map}.map`));
      const inBundle = new Set<string>();
      for (const source of sources) {
        const name = /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(source)?.[1];
        if (name !== undefined) inBundle.add(name);
      }
      const named = components.map(({ group, name }) => group === undefined ? name : `${group}/${name}`);
      assert.deepEqual(named.toSorted(), [...inBundle].sort());
      assert.ok(named.includes("commander"));
      for (const { purl, licenses, hashes } of components) {
        assert.ok(licenses && hashes, `${purl} has no licence or hash`);
      }
      boms.push(text);
    }
  }
  assert.deepEqual(boms.slice(0, 2), boms.slice(2));
});

Deno.test("what the bundle leaves out reports it in one sentence when it is used", async () => {
  const kubeconfig = (user: unknown) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1" } }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    });
  const oidc = {
    "auth-provider": {
      name: "oidc",
      config: {
        "id-token": "eyJhIjoxMjN9.eyJleHAiOjF9.eyJhIjoxMjN9",
        "client-id": "i",
        "refresh-token": "r",
        "idp-issuer-url": "https://127.0.0.1:1",
      },
    },
  };
  await using project = await programs(`
    import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
    import { Command } from "commander";
    import { AggregatorRegistry, collectDefaultMetrics, Pushgateway } from "prom-client";
    const config = new KubeConfig();
    const say = async (work) => { try { await work(); console.log("works"); } catch (error) { console.log(error.message); } };
    config.loadFromString(${JSON.stringify(kubeconfig({ token: "t" }))});
    (async () => {
    await say(() => config.applyToHTTPSOptions({}));
    await say(() => config.makeApiClient(class {}));
    config.loadFromString(${JSON.stringify(kubeconfig(oidc))});
    await say(() => config.applyToHTTPSOptions({}));
    await say(() => new Command("x").command("y", "a program of its own").parse(["y"], { from: "user" }));
    await say(() => new Pushgateway("http://127.0.0.1:1"));
    await say(() => new AggregatorRegistry());
    await say(() => collectDefaultMetrics());
    })();
  `);
  await bundle(project);
  const { stdout } = await runBundle(project);
  assert.deepEqual(stdout.trimEnd().split("\n"), [
    "works",
    "client-node's API classes do not work in this program: @kubernetes/client-node/gen/index.js is not part of it",
    "a kubeconfig user with the auth provider oidc does not work in this program: openid-client is not part of it",
    "sub-commands that are programs of their own do not work in this program: node:child_process is not part of it",
    "prom-client's Pushgateway does not work in this program: prom-client/lib/pushgateway is not part of it",
    "prom-client's AggregatorRegistry does not work in this program: prom-client/lib/cluster is not part of it",
    "prom-client's default metrics do not work in this program: prom-client/lib/defaultMetrics is not part of it",
  ]);
});

Deno.test("the bundle loads Node's network modules and child_process only where something of them is used", async () => {
  const credential = { apiVersion: "client.authentication.k8s.io/v1", kind: "ExecCredential", status: { token: "t" } };
  const user = {
    exec: { apiVersion: credential.apiVersion, command: "echo", args: [JSON.stringify(credential)] },
  };
  const kubeconfig = (user: unknown, server: string) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server, "insecure-skip-tls-verify": true } }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    });
  await using project = await programs(`
    import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
    import { Registry } from "prom-client";
    new Registry();
    (async () => {
      const config = new KubeConfig();
      const say = async () => {
        const options = {};
        await config.applyToHTTPSOptions(options);
        console.log(options.headers?.Authorization, options.agent !== undefined);
      };
      for (const server of ["https://127.0.0.1:1", "http://127.0.0.1:1"]) {
        config.loadFromString(JSON.stringify({ ...JSON.parse(${
    JSON.stringify(kubeconfig({ token: "s" }, "SERVER"))
  }.replace("SERVER", server)) }));
        await say();
      }
      config.loadFromString(${JSON.stringify(kubeconfig(user, "https://127.0.0.1:1"))});
      await say();
      for (const host of ["10.0.0.1", "fd00::1"]) {
        Object.assign(process.env, { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: "443" });
        const inCluster = new KubeConfig();
        inCluster.loadFromCluster();
        console.log(inCluster.getCurrentCluster().server);
      }
    })();
  `);
  await bundle(project);
  const { stdout, stderr } = await runBundle(project);
  assert.deepEqual([stdout.trimEnd().split("\n"), stderr], [[
    "Bearer s true",
    "Bearer s true",
    "Bearer t true",
    "https://10.0.0.1:443",
    "https://[fd00::1]:443",
  ], ""]);
  // Each is called for by a function that only a use of it runs.
  const text = await project.read("dist/packet-capture.cjs");
  for (const name of ["http", "https", "net", "tls", "child_process"]) {
    const calls = [...text.matchAll(new RegExp(`(.{0,20})require\\("node:${name}"\\)`, "g"))];
    assert.deepEqual(calls.map(([, before]) => before!.endsWith("void 0:")), calls.map(() => true), name);
  }
});

Deno.test("the bundle holds the JSR packages where JSR can be reached, the stand-ins where not", async () => {
  await using project = await programs(`
    import { getLog } from "./log.ts";
    import { dirname, join } from "@std/path";
    import * as logger from "@std/log/logger";
    getLog().info("FROM_JSR" in logger ? "JSR" : "stand-in", { path: join(dirname("/a/b"), "c") });
  `);
  await bundle(project, { PACKET_CAPTURE_JSR: "no" });
  assert.match((await runBundle(project)).stderr, /^level=info msg=stand-in path=\/a\/c time=/);

  await using again = await programs(await project.read("src/main.ts"));
  // An own node_modules folder, since the wrapper notes in it which source it was made for.
  await Deno.remove(join(again.path, "node_modules"));
  await using jsr = await serveJsr();
  await bundle(again, { PACKET_CAPTURE_JSR: "yes", JSR_URL: jsr.url });
  assert.match((await runBundle(again)).stderr, /^level=info msg=JSR path=\/a\/c time=/);
  const { components }: Bom = JSON.parse(await again.read("dist/packet-capture.cdx.json"));
  assert.deepEqual(components.map(({ purl }) => purl.replace(/@[\d.]+$/, "")), [
    "pkg:generic/jsr/%40std/log",
    "pkg:generic/jsr/%40std/path",
  ]);
});
