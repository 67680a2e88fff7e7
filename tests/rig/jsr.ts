/**
 * A JSR registry on this machine, for tests of what happens where JSR can be reached: @std/path as a module over node:path, and
 * @std/log as our stand-in cut into the real one's subpaths.
 */
import { join } from "@std/path";
import { ROOT } from "./cli.ts";

export interface Jsr extends AsyncDisposable {
  /** For the environment variable JSR_URL, which gives Deno the address of JSR. */
  readonly url: string;
  /** Paths that were asked for. */
  readonly asked: ReadonlySet<string>;
}

const EXPORTS = {
  path: { ".": "./mod.ts" },
  log: {
    ".": "./mod.ts",
    "./setup": "./setup.ts",
    "./get-logger": "./get_logger.ts",
    "./base-handler": "./base_handler.ts",
    "./console-handler": "./console_handler.ts",
    "./levels": "./levels.ts",
    "./logger": "./logger.ts",
  },
};
const VERSIONS = { path: "1.1.6", log: "0.224.14" };

/** Serves it on a free port of 127.0.0.1. */
export async function serveJsr(): Promise<Jsr> {
  const standIn = await Deno.readTextFile(join(ROOT, "tools/offline/log.ts"));
  const files = new Map<string, string>();
  for (const name of ["path", "log"] as const) {
    const base = `/@std/${name}/${VERSIONS[name]}`;
    const sources: Record<string, string> = {};
    for (const file of new Set(Object.values(EXPORTS[name]))) {
      sources[file.slice(1)] = name === "path" ? `export * from "node:path";\n` : `export * from "./shared.ts";\n`;
    }
    if (name === "log") sources["/shared.ts"] = `${standIn}\nexport const FROM_JSR = true;\n`;
    const manifest: Record<string, { size: number; checksum: string }> = {};
    for (const [file, text] of Object.entries(sources)) {
      const bytes = new TextEncoder().encode(text);
      const checksum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
      manifest[file] = { size: bytes.length, checksum: `sha256-${checksum}` };
      files.set(base + file, text);
    }
    files.set(
      `/@std/${name}/meta.json`,
      JSON.stringify({ scope: "std", name, latest: VERSIONS[name], versions: { [VERSIONS[name]]: {} } }),
    );
    files.set(`${base}_meta.json`, JSON.stringify({ manifest, exports: EXPORTS[name] }));
  }
  const asked = new Set<string>();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    const { pathname } = new URL(request.url);
    asked.add(pathname);
    const text = files.get(pathname);
    const type = pathname.endsWith(".json") ? "application/json" : "text/typescript";
    return new Response(text ?? "not found", {
      status: text === undefined ? 404 : 200,
      headers: { "content-type": type },
    });
  });
  return { url: `http://127.0.0.1:${server.addr.port}/`, asked, [Symbol.asyncDispose]: () => server.shutdown() };
}
