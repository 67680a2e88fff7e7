/**
 * Bundles the programs into one file each: dist/packet-capture.cjs and dist/kubectl-packet_capture.js, with their source maps
 * and bills of materials (.cdx.json) beside them. The same sources give the same bytes. What is left out, and why, is in docs/adr/0011.
 */
// deno-lint-ignore-file no-console
import * as esbuild from "esbuild";
import { isBuiltin } from "node:module";
import { dirname, join } from "@std/path";
import { jsrPlugin } from "./jsr_plugin.ts";
import { sbom } from "./sbom.ts";

const root = dirname(import.meta.dirname!);

/** Modules that are never needed here but cost megabytes of memory, and what does not work without them. */
const LEFT_OUT: Readonly<Record<string, string>> = {
  "undici": "client-node's own HTTP calls do",
  "socks": "a SOCKS proxy does",
  "socks-proxy-agent": "a SOCKS proxy does",
  "hpagent": "an HTTP proxy does",
  "openid-client": "a kubeconfig user with the auth provider oidc does",
  "jsonpath-plus": "a kubeconfig user with the auth provider gcp or azure does",
};
const LEFT_OUT_API = "client-node's API classes do";
/** Node's modules that commander loads for what we do not use: they are a third of the time that a short command takes. */
const LEFT_OUT_COMMANDER = "sub-commands that are programs of their own do";

/** Parts of prom-client that load Node's network modules, and what does not work without them. */
const LEFT_OUT_METRICS: Readonly<Record<string, string>> = {
  "./lib/pushgateway": "prom-client's Pushgateway does",
  "./lib/cluster": "prom-client's AggregatorRegistry does",
  "./lib/defaultMetrics": "prom-client's default metrics do",
};

/** Puts in the place of what is left out a module whose every export says so when it is used. */
const leaveOut: esbuild.Plugin = {
  name: "leave-out",
  setup(build) {
    build.onResolve({ filter: /^[^.]/ }, ({ path }) => {
      const what = LEFT_OUT[path];
      return what === undefined ? undefined : { path, namespace: "left-out", pluginData: what };
    });
    build.onResolve({ filter: /^\.\/gen\/index\.js$/ }, ({ path, importer }) => {
      if (!importer.includes("/@kubernetes/client-node/")) return undefined;
      return { path: `@kubernetes/client-node/${path.slice(2)}`, namespace: "left-out", pluginData: LEFT_OUT_API };
    });
    build.onResolve({ filter: /^\.\/lib\// }, ({ path, importer }) => {
      const what = LEFT_OUT_METRICS[path];
      if (what === undefined || !importer.endsWith("/prom-client/index.js")) return undefined;
      return { path: `prom-client/${path.slice(2)}`, namespace: "left-out", pluginData: what };
    });
    build.onResolve({ filter: /^node:(child_process|fs)$/ }, ({ path, importer }) => {
      if (!importer.includes("/commander/")) return undefined;
      return { path, namespace: "left-out", pluginData: LEFT_OUT_COMMANDER };
    });
    build.onLoad({ filter: /.*/, namespace: "left-out" }, ({ path, pluginData }) => ({
      // Each export can be imported, extended and looked into, but not called: a CommonJS module whose prototype has them all.
      contents: `
        const refuse = () => { throw new Error(${
        JSON.stringify(`${pluginData} not work in this program: ${path} is not part of it`)
      }); };
        const left = new Proxy(function () {}, {
          apply: refuse,
          construct: refuse,
          get: (target, name) => typeof name === "symbol" || name === "prototype" ? target[name] : left,
        });
        module.exports = ${
        path.startsWith("prom-client/")
          ? "left"
          : `Object.create(new Proxy({}, { get: (_, name) => typeof name === "symbol" || name === "__esModule" ? undefined : left }))`
      };
      `,
    }));
  },
};

/** What client-node takes of Node's network modules where a token or a certificate is read, without those modules. */
const READY: Readonly<Record<string, string>> = {
  // An agent is made for each set of credentials and never used: our calls are fetch's.
  "node:https": "Agent: class { constructor(options) { this.options = options; } }",
  "node:http": "Agent: class { constructor(options) { this.options = options; } }",
  // Of KUBERNETES_SERVICE_HOST: a name or an address.
  "node:net": 'isIPv6: (host) => host.includes(":")',
};

/** Loads those modules, and child_process, when something else of them is used: they take megabytes. */
const late: esbuild.Plugin = {
  name: "late",
  setup(build) {
    build.onResolve({ filter: /^node:(http|https|tls|net|child_process)$/ }, ({ path, importer }) => {
      return importer.includes("/@kubernetes/client-node/") ? { path, namespace: "late" } : undefined;
    });
    build.onLoad({ filter: /.*/, namespace: "late" }, ({ path }) => ({
      contents: `
        const ready = { ${READY[path] ?? ""} };
        const get = (_, name) => {
          if (Object.hasOwn(ready, name)) return ready[name];
          return typeof name === "symbol" || name === "__esModule" ? undefined : require("${path}")[name];
        };
        module.exports = Object.create(new Proxy({}, { get }));
      `,
    }));
  },
};

/** Deno finds Node's own modules under `node:` only. */
const nodePrefix: esbuild.Plugin = {
  name: "node-prefix",
  setup(build) {
    build.onResolve({ filter: /^[a-z0-9_/]+$/ }, ({ path }) => {
      return isBuiltin(path) ? { path: `node:${path}`, external: true } : undefined;
    });
  },
};

/** These packages do not say that an unused module of theirs may be dropped; it may. */
const noSideEffects: esbuild.Plugin = {
  name: "no-side-effects",
  setup(build) {
    build.onResolve({ filter: /^[.@]/ }, async ({ path, pluginData, ...options }) => {
      if (pluginData === "looked-up") return undefined;
      if (!path.startsWith("@kubernetes/client-node") && !options.importer.includes("/@kubernetes/client-node/")) {
        return undefined;
      }
      const resolved = await build.resolve(path, { ...options, pluginData: "looked-up" });
      return resolved.errors.length > 0 ? undefined : { ...resolved, sideEffects: false };
    });
  },
};

/**
 * Bundles one entry, relative to the project's root, into a file; the map gets the same name and `.map`. A `.cjs` file becomes a
 * CommonJS module: Deno hands it to V8 as it is, whereas it parses an ES module itself first and keeps that, 20 MiB for ours.
 */
async function bundle(entry: string, outfile: string): Promise<void> {
  const commonJs = outfile.endsWith(".cjs");
  const result = await esbuild.build({
    absWorkingDir: root,
    entryPoints: [entry],
    outfile,
    bundle: true,
    write: false,
    platform: "node",
    format: commonJs ? "cjs" : "esm",
    target: "esnext",
    external: ["node:*"],
    // Names stay, so that a stack trace says something without the map.
    minifyWhitespace: true,
    minifySyntax: true,
    legalComments: "none",
    sourcemap: "external",
    sourcesContent: false,
    metafile: true,
    // In an ES module what is left of require() has to be made.
    banner: commonJs
      ? {}
      : { js: 'import{createRequire}from"node:module";const require=createRequire(import.meta.url);' },
    plugins: [leaveOut, late, nodePrefix, await jsrPlugin(root, entry), noSideEffects],
    logLevel: "warning",
  });
  for (const file of result.outputFiles) await Deno.writeFile(file.path, file.contents);
  const bom = await sbom(root, result.metafile);
  await Deno.writeTextFile(outfile.replace(/\.c?js$/, ".cdx.json"), `${JSON.stringify(bom, null, 2)}\n`);
  const { contents } = result.outputFiles.find(({ path }) => path === outfile)!;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", Uint8Array.from(contents)));
  console.log(`${outfile} ${(contents.length / 1024).toFixed(0)} KiB sha256:${digest.toHex()}`);
}

if (import.meta.main) {
  const dist = join(root, "dist");
  await Deno.mkdir(dist, { recursive: true });
  try {
    await bundle("src/main.ts", join(dist, "packet-capture.cjs"));
    await bundle("src/plugin/main.ts", join(dist, "kubectl-packet_capture.js"));
  } finally {
    await esbuild.stop();
  }
}
