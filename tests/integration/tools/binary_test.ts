/**
 * `make binary` and `make plugin`. Their last step needs a download (denort) that many machines cannot have: all before it is seen
 * here in any case, and that the missing step is said.
 */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { ROOT, run, type Said } from "../../rig/cli.ts";
import { type Tree, tree } from "../../rig/tree.ts";
import { VERSION } from "../../../src/version.ts";

const parts = ["deno.json", "deno.lock", "node_modules", "tools"];

/** Where the bundles of these sources were made, once. */
let made: Tree;

Deno.test.beforeAll(async () => {
  made = await tree(...parts, "src");
  const { code, stderr } = await run(join(made.path, "tools/deno"), ["run", "-A", "--no-check", "tools/bundle.ts"], {
    cwd: made.path,
  });
  assert.equal(code, 0, stderr);
});

Deno.test.afterAll(async () => {
  await made?.[Symbol.asyncDispose]();
});

/** A clone with the bundles of these sources. */
async function bundled(): Promise<Tree> {
  const project = await tree(...parts, "src");
  await run("cp", ["-a", join(made.path, "dist"), project.path]);
  return project;
}

/** Nothing that is downloaded with these can be had, and nothing is there yet. */
function offline(project: Tree): Record<string, string> {
  return { HTTPS_PROXY: "http://127.0.0.1:9", DENO_DIR: join(project.path, "caches") };
}

function make(project: Tree, tool: string, env: Record<string, string> = {}): Promise<Said> {
  return run(join(project.path, "tools", tool), [], { cwd: project.path, env, deadlineMs: 300_000 });
}

const NO_EXECUTABLE =
  /^tools\/binary: NO EXECUTABLE WAS MADE: deno compile cannot download its runtime \(denort\) here\. All before that step worked:\ntools\/binary: the bundle runs by itself, is all that would be embedded, and has all permissions\. /m;

Deno.test("make binary makes an executable that runs, or reports that only its last step did not work", async () => {
  await using project = await bundled();
  const { code, stderr } = await make(project, "binary");
  const executable = join(project.path, "dist/packet-capture");
  if (code === 0) {
    assert.equal((await run(executable, ["version"])).stdout, `packet-capture ${VERSION}\n`);
    return;
  }
  assert.match(stderr, NO_EXECUTABLE);
  await assert.rejects(Deno.stat(executable), Deno.errors.NotFound);
});

Deno.test("make binary without its download ends with 1 and reports what worked, and no executable is there", async () => {
  await using project = await bundled();
  const { code, stderr } = await make(project, "binary", offline(project));
  assert.equal(code, 1, stderr);
  assert.match(stderr, NO_EXECUTABLE);
  await assert.rejects(Deno.stat(join(project.path, "dist/packet-capture")), Deno.errors.NotFound);
});

Deno.test("make binary refuses a bundle of another version, and to embed more than the bundle or less than all permissions", async () => {
  await using project = await tree(...parts);
  const version = `console.log("packet-capture ${VERSION}");`;
  const tried = async (bundle: string) => {
    await project.write("dist/packet-capture.cjs", bundle);
    const { code, stderr } = await make(project, "binary", offline(project));
    assert.equal(code, 1);
    return stderr;
  };
  assert.match(
    await tried(`console.log("packet-capture 0.0.0");`),
    new RegExp(`the bundle by itself says "packet-capture 0\\.0\\.0", it should be "packet-capture ${VERSION}"`),
  );
  const tool = await project.read("tools/binary");
  for (
    const [option, words] of [
      ["--include log --allow-all", /deno compile embeds more than the bundle$/m],
      ["--allow-read", /not all permissions are embedded: "permissions":\{"allow_env":null/],
    ] as const
  ) {
    await project.write("tools/binary", tool.replace("--no-check --allow-all", `--no-check ${option}`));
    assert.match(await tried(version), words);
  }
});

Deno.test("make plugin makes one file that runs, with no more permissions than it needs", async () => {
  await using project = await bundled();
  const { code, stderr } = await make(project, "plugin", offline(project));
  assert.equal(code, 0, stderr);
  assert.match(stderr, /deno compile cannot download its runtime \(denort\) here: .* is the same$/m);
  const file = join(project.path, "dist/kubectl-packet_capture");
  assert.deepEqual(await run(file, ["--version"]), { code: 0, stdout: `${VERSION}\n`, stderr: "" });
  const [first] = (await Deno.readTextFile(file)).split("\n");
  assert.deepEqual(first!.match(/--allow-\S+/g), ["--allow-run", "--allow-read", "--allow-write", "--allow-env"]);
  assert.match(first!, / --no-prompt /);
});

Deno.test("the targets binary and plugin bundle before they make anything", async () => {
  const makefile = await Deno.readTextFile(join(ROOT, "Makefile"));
  for (const target of ["binary", "plugin"]) {
    assert.match(makefile, new RegExp(`^${target}: bundle\\n\\t@tools/${target}$`, "m"));
  }
});
