/** Lets esbuild find JSR packages where Deno finds them: in Deno's cache, or in the stand-ins of tools/offline. */
import type { Plugin } from "esbuild";
import { join } from "@std/path";

/** The part that is read here of what `deno info --json` prints. */
interface Info {
  modules: { specifier: string; local?: string; error?: string }[];
  redirects: Record<string, string>;
}

/**
 * @param root The project's root.
 * @param entry The module whose imports are resolved, relative to root.
 * @throws Error if JSR is used and one of its modules is not in Deno's cache.
 */
export async function jsrPlugin(root: string, entry: string): Promise<Plugin> {
  return Deno.env.has("PACKET_CAPTURE_IMPORT_MAP") ? offline(root) : await fromCache(root, entry);
}

async function offline(root: string): Promise<Plugin> {
  const folder = join(root, "tools/offline");
  const standIns: Record<string, string> = JSON.parse(await Deno.readTextFile(join(folder, "jsr.json")));
  return {
    name: "jsr-offline",
    setup(build) {
      build.onResolve({ filter: /^@std\// }, ({ path }) => {
        const where = standIns[path];
        if (where === undefined) return { errors: [{ text: `tools/offline/jsr.json has no stand-in for ${path}` }] };
        return where.startsWith("node:") ? { path: where, external: true } : { path: join(folder, where) };
      });
    },
  };
}

async function fromCache(root: string, entry: string): Promise<Plugin> {
  const { imports }: { imports: Record<string, string> } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const { code, stdout, stderr } = await new Deno.Command(join(root, "tools/deno"), {
    args: ["info", "--json", join(root, entry)],
    signal: AbortSignal.timeout(120_000),
  }).output();
  if (code !== 0) throw new Error(`Cannot ask Deno where the modules are: ${new TextDecoder().decode(stderr).trim()}`);
  const { modules, redirects }: Info = JSON.parse(new TextDecoder().decode(stdout));
  const local = new Map(modules.map((module) => [module.specifier, module.local]));
  // Deno writes a specifier with a subpath as `jsr:/@scope/…`.
  const plain = (specifier: string) => specifier.replace(/^jsr:\//, "jsr:");
  const next = new Map(Object.entries(redirects).map(([from, to]) => [plain(from), plain(to)]));

  return {
    name: "jsr",
    setup(build) {
      const find = (specifier: string) => {
        let found = plain(specifier);
        while (next.has(found)) found = next.get(found)!;
        const file = local.get(found);
        if (file === undefined) return { errors: [{ text: `${specifier} is not in Deno's cache` }] };
        return { path: found, namespace: "jsr", pluginData: file };
      };
      build.onResolve({ filter: /^@std\// }, ({ path }) => {
        const name = path.split("/").slice(0, 2).join("/");
        return find((imports[name] ?? name) + path.slice(name.length));
      });
      build.onResolve({ filter: /^jsr:/ }, ({ path }) => find(path));
      build.onResolve({ filter: /^\./, namespace: "jsr" }, ({ path, importer }) => find(new URL(path, importer).href));
      build.onLoad({ filter: /.*/, namespace: "jsr" }, async ({ pluginData }) => ({
        contents: await Deno.readTextFile(pluginData),
        loader: "ts",
      }));
    },
  };
}
