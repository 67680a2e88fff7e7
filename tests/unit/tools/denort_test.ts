/** tools/check-denort, with a file in the place of what `deno compile` downloads. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";
import { type Tree, tree } from "../../rig/tree.ts";

const NAME = "denort-x86_64-unknown-linux-gnu.zip";
const version = /^version=(.*)$/m.exec(await Deno.readTextFile(new URL("../../../tools/deno", import.meta.url)))![1]!;
const FILE = `cache/dl/release/v${version}/${NAME}`;

async function check(project: Tree, env: Record<string, string> = {}): Promise<Said> {
  return await run(join(project.path, "tools/check-denort"), [], {
    env: { DENO_DIR: join(project.path, "cache"), ...env },
  });
}

async function sumOf(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}

Deno.test("check-denort takes the pinned runtime, and removes another one", async () => {
  await using project = await tree("tools/check-denort", "tools/denort.sha256", "tools/deno");
  await project.write(FILE, "the runtime\n");
  const sum = await sumOf("the runtime\n");
  await project.write("tools/denort.sha256", `# pins\n${sum}  ${NAME}\n`);
  for (const env of [{}, { DENORT_CHECK: "required" }]) {
    assert.deepEqual(await check(project, env), { code: 0, stdout: "", stderr: "" });
  }
  await project.write(FILE, "another runtime\n");
  const { code, stderr } = await check(project);
  assert.equal(code, 1);
  const other = await sumOf("another runtime\n");
  assert.equal(stderr, `check-denort: ${NAME} is ${other}, it has to be ${sum}: it is removed\n`);
  await assert.rejects(project.read(FILE), Deno.errors.NotFound);
});

Deno.test("check-denort reports what is not pinned, and takes none of it for a release", async () => {
  await using project = await tree("tools/check-denort", "tools/denort.sha256", "tools/deno");
  const required = { DENORT_CHECK: "required" };
  assert.deepEqual(await check(project), { code: 0, stdout: "", stderr: "" });
  assert.match((await check(project, required)).stderr, /^check-denort: no denort was found in .*\n$/);
  await project.write(FILE, "the runtime\n");
  const loose = await check(project);
  assert.equal(loose.code, 0);
  assert.match(loose.stderr, /^check-denort: NOT CHECKED: tools\/denort\.sha256 has no hash of denort-.* \(it is /);
  const strict = await check(project, required);
  assert.equal(strict.code, 1);
  assert.equal(strict.stderr, `check-denort: tools/denort.sha256 has no hash of ${NAME}\n`);
  assert.equal((await check(project, { ...required, DENORT_BIN: "/bin/true" })).code, 1);
  assert.equal((await check(project, { DENORT_CHECK: "yes" })).code, 1);
});

Deno.test("make plugin for a release makes all platforms' files and their checksums, and nothing from another runtime", async () => {
  await using project = await tree("tools/check-denort", "tools/denort.sha256", "tools/plugin");
  await project.write("deno.json", '{"version": "1.2.3"}\n');
  await project.write("dist/kubectl-packet_capture.js", "the plugin\n");
  await project.write("dist/kubectl-packet_capture.cdx.json", "{}\n");
  const compiles =
    `for word; do [[ $last == --target ]] && target=$word; [[ $last == --output ]] && out=$word; last=$word; done
    mkdir -p "$DENO_DIR/dl/release/v${version}"; echo "$target" >"$DENO_DIR/dl/release/v${version}/denort-$target.zip"
    echo "program for $target" >"$out"`;
  await using programs = await standIns({ compiler: compiles });
  await project.write("tools/deno", `version=${version}\necho ${join(programs.folder, "compiler")}\n`);
  await Deno.chmod(join(project.path, "tools/deno"), 0o755);
  const env = { PATH: programs.path, DENO_DIR: join(project.path, "cache"), DENORT_CHECK: "required" };
  const release = () => run(join(project.path, "tools/plugin"), ["--release"], { env, cwd: project.path });
  const refused = await release();
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /^check-denort: tools\/denort\.sha256 has no hash of denort-/m);
  await assert.rejects(Deno.stat(join(project.path, "dist/release")), Deno.errors.NotFound);

  const targets = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu", "x86_64-apple-darwin"];
  targets.push("aarch64-apple-darwin", "x86_64-pc-windows-msvc", "aarch64-pc-windows-msvc");
  const pins = await Promise.all(
    targets.map(async (target) => `${await sumOf(`${target}\n`)}  denort-${target}.zip\n`),
  );
  await project.write("tools/denort.sha256", pins.join(""));
  const { code, stderr } = await release();
  assert.equal(code, 0, stderr);
  const names = [
    "darwin-amd64",
    "darwin-arm64",
    "linux-amd64",
    "linux-arm64",
    "windows-amd64.exe",
    "windows-arm64.exe",
  ];
  const files = [...names.map((name) => `kubectl-packet_capture-${name}`), "kubectl-packet_capture.cdx.json"].sort();
  const sums = await Promise.all(files.map(async (file) => {
    return `${await sumOf(await project.read(`dist/release/${file}`))}  ${file}\n`;
  }));
  assert.equal(await project.read("dist/release/SHA256SUMS"), sums.join(""));
  assert.equal(
    await project.read("dist/release/kubectl-packet_capture-windows-arm64.exe"),
    "program for aarch64-pc-windows-msvc\n",
  );
});
