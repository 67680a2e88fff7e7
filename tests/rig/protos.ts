/**
 * Generates the TypeScript of the project's .proto files: `tools/deno run -A tests/rig/protos.ts`. What comes out is committed;
 * a test generates it again and compares. buf brings its own compiler, so that no protoc is needed.
 */
import { basename, dirname, join } from "@std/path";
import { cacheDir } from "../support/cache.ts";
import { ROOT } from "../support/paths.ts";
import { run } from "../support/run.ts";

/** Versions of the two npm packages that make the code; protoc-gen-es is the version of the runtime in deno.json. */
const BUF = "1.75.0";
const PROTOC_GEN_ES = "2.17.0";

/** Generated code is neither linted nor formatted by us. */
const HEADER = "// deno-lint-ignore-file\n// deno-fmt-ignore-file\n";

/** The .proto files, relative to the repository; `x.proto` becomes `x_pb.ts` in the same folder. */
export const PROTOS: readonly string[] = ["src/sandboxes/cri.proto", "tests/rig/kubelet.proto"];

/** Path of the committed code of one of {@linkcode PROTOS}. */
export function generatedPath(proto: string): string {
  return join(ROOT, proto.replace(/\.proto$/, "_pb.ts"));
}

/** The code of one of {@linkcode PROTOS}, freshly generated. */
export async function generate(proto: string): Promise<string> {
  const { buf, plugin } = await tools();
  const out = await Deno.makeTempDir({ prefix: "packet-capture-protos-" });
  try {
    const template = JSON.stringify({
      version: "v2",
      plugins: [{
        local: [Deno.execPath(), "run", "-A", "--no-lock", "--unstable-detect-cjs", plugin],
        out,
        opt: ["target=ts", "import_extension=ts"],
      }],
    });
    await run([buf, "generate", "--template", template, "--path", join(ROOT, proto), join(ROOT, dirname(proto))]);
    return HEADER + await Deno.readTextFile(join(out, basename(generatedPath(proto))));
  } finally {
    await Deno.remove(out, { recursive: true });
  }
}

/** Paths of buf's executable and of the plugin's script, installed from npm on first use. */
async function tools(): Promise<{ buf: string; plugin: string }> {
  // buf's own package asks for the executables of all platforms, which not every mirror of npm has.
  const platform = `buf-linux-${Deno.build.arch === "aarch64" ? "aarch64" : "x64"}`;
  const dir = join(cacheDir(), `buf-${BUF}-${PROTOC_GEN_ES}`);
  const found = {
    buf: join(dir, "node_modules/@bufbuild", platform, "bin/buf"),
    plugin: join(dir, "node_modules/@bufbuild/protoc-gen-es/bin/protoc-gen-es"),
  };
  if (await Promise.all([Deno.stat(found.buf), Deno.stat(found.plugin)]).then(() => true, () => false)) return found;
  await Deno.mkdir(dir, { recursive: true });
  const dependencies = { [`@bufbuild/${platform}`]: BUF, "@bufbuild/protoc-gen-es": PROTOC_GEN_ES };
  await Deno.writeTextFile(join(dir, "package.json"), JSON.stringify({ dependencies }));
  await run([Deno.execPath(), "install", "--quiet"], { cwd: dir, timeoutMs: 120_000 });
  return found;
}

if (import.meta.main) {
  for (const proto of PROTOS) await Deno.writeTextFile(generatedPath(proto), await generate(proto));
}
