import assert from "node:assert/strict";
import { join } from "@std/path";
import { run, type RunOptions, type Said } from "../../rig/cli.ts";
import { serveJsr } from "../../rig/jsr.ts";
import { type Tree, tree } from "../../rig/tree.ts";

/**
 * A clone with the wrapper, without node_modules; its caches are in `caches/`, so that nothing is known beforehand but the npm
 * packages that Deno has downloaded.
 */
async function clone(...more: string[]): Promise<Tree> {
  const project = await tree("deno.json", "deno.lock", "tools/deno", "tools/offline", ...more);
  await project.write(
    "main.ts",
    `import { join } from "@std/path"; import * as log from "@std/log"; import { getLogger } from "@std/log/get-logger"; import { Command } from "commander";
    console.log(join("a", "b"), typeof getLogger, typeof Command, "FROM_JSR" in log ? "JSR" : "stand-in");`,
  );
  await Deno.mkdir(join(project.path, "caches/deno"), { recursive: true });
  const caches = Deno.env.get("XDG_CACHE_HOME") ?? join(Deno.env.get("HOME")!, ".cache");
  await Deno.symlink(
    join(Deno.env.get("DENO_DIR") ?? join(caches, "deno"), "npm"),
    join(project.path, "caches/deno/npm"),
  );
  return project;
}

/** Runs the clone's wrapper with this test's Deno first in PATH. */
function wrapper(project: Tree, args: string[], { env = {}, ...options }: RunOptions = {}): Promise<Said> {
  const path = {
    PATH: `${Deno.execPath().replace(/\/[^/]*$/, "")}:${Deno.env.get("PATH")}`,
    XDG_CACHE_HOME: join(project.path, "caches"),
  };
  const passed: Record<string, string> = {};
  // What this machine needs to reach the npm registry.
  for (const name of ["SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "npm_config_registry"]) {
    const value = Deno.env.get(name);
    if (value !== undefined) passed[name] = value;
  }
  return run(join(project.path, "tools/deno"), args, {
    env: { ...passed, ...path, ...env },
    cwd: project.path,
    ...options,
  });
}

const nowhere = { JSR_URL: "http://127.0.0.1:9/" };

Deno.test("tools/deno installs the packages and stands in for JSR where it cannot be reached, and reports it in one line", async () => {
  await using project = await clone();
  const lock = await project.read("deno.lock");
  const said = await wrapper(project, ["run", "main.ts"], { env: nowhere });
  assert.equal(said.stdout, "a/b function function stand-in\n", said.stderr);
  assert.equal(
    said.stderr,
    "tools/deno: JSR is not reachable: @std/path and @std/log are the stand-ins in tools/offline\n",
  );
  assert.equal(said.code, 0);
  assert.equal(await project.read("deno.lock"), lock);
});

Deno.test("tools/deno takes both packages from JSR where it can be reached, reports it, and leaves deno.lock alone", async () => {
  await using project = await clone();
  await using jsr = await serveJsr();
  const lock = await project.read("deno.lock");
  const env = { JSR_URL: jsr.url };
  for (let i = 0; i < 2; i++) {
    const said = await wrapper(project, ["run", "main.ts"], { env, deadlineMs: 120_000 });
    assert.equal(said.stdout, "a/b function function JSR\n", said.stderr);
    assert.match(said.stderr, /^tools\/deno: @std\/path and @std\/log come from JSR$/m);
    assert.equal(said.code, 0);
  }
  assert.ok(jsr.asked.has("/@std/path/meta.json"));
  assert.equal(await project.read("deno.lock"), lock);
  assert.match(await project.read("node_modules/.packet-capture/deno.lock"), /"@std\/log@0\.224\.14"/);
});

Deno.test("tools/deno with PACKET_CAPTURE_FROZEN takes what deno.jsr.lock has, and refuses all else", async () => {
  await using project = await clone();
  await using jsr = await serveJsr();
  const env = { JSR_URL: jsr.url, PACKET_CAPTURE_JSR: "yes", PACKET_CAPTURE_FROZEN: "1" };
  const frozen = () => wrapper(project, ["run", "main.ts"], { env, deadlineMs: 120_000 });
  const refused = async (words: RegExp) => {
    const { code, stdout, stderr } = await frozen();
    assert.deepEqual([code === 0, stdout], [false, ""], stderr);
    assert.match(stderr, words);
  };
  await refused(
    /^tools\/deno: PACKET_CAPTURE_FROZEN is set, but there is no deno\.jsr\.lock: run `make lock` where JSR/m,
  );
  // As `make lock` does.
  await wrapper(project, ["run", "main.ts"], { env: { ...env, PACKET_CAPTURE_FROZEN: "" }, deadlineMs: 120_000 });
  const lock = await project.read("node_modules/.packet-capture/deno.lock");
  await project.write("deno.jsr.lock", lock);
  assert.equal((await frozen()).stdout, "a/b function function JSR\n");
  assert.equal(await project.read("deno.jsr.lock"), lock);
  // What a lock made without JSR has is not enough.
  await project.write("deno.jsr.lock", await project.read("deno.lock"));
  await refused(/lockfile is out of date/i);
  // Another package under the same name and version.
  await Deno.remove(join(project.path, "caches/deno"), { recursive: true });
  const integrity = /("@std\/path@1\.1\.6": \{\s*"integrity": ")[0-9a-f]{8}/;
  assert.match(lock, integrity);
  await project.write("deno.jsr.lock", lock.replace(integrity, "$100000000"));
  await refused(/integrity|checksum/i);
  const unreachable = await wrapper(project, ["run", "main.ts"], { env: { ...env, PACKET_CAPTURE_JSR: "no" } });
  assert.equal(unreachable.code, 1);
  assert.match(unreachable.stderr, /^tools\/deno: PACKET_CAPTURE_FROZEN is set, but JSR cannot be reached$/m);
});

Deno.test("tools/deno asks JSR once and believes the answer for a while", async () => {
  await using project = await clone();
  await using jsr = await serveJsr();
  await wrapper(project, ["run", "main.ts"], { env: nowhere });
  const said = await wrapper(project, ["run", "main.ts"], { env: { JSR_URL: jsr.url } });
  assert.match(said.stdout, /stand-in\n$/);
  assert.equal(jsr.asked.size, 0);
  const answer = (await Array.fromAsync(Deno.readDir(join(project.path, "caches/packet-capture")))).find(({ name }) =>
    name.startsWith("jsr-")
  );
  const old = new Date(Date.now() - 2 * 3600_000);
  await Deno.utime(join(project.path, "caches/packet-capture", answer!.name), old, old);
  await wrapper(project, ["run", "main.ts"], { env: { JSR_URL: jsr.url } });
  assert.ok(jsr.asked.size > 0);
});

Deno.test("tools/deno hands everything else to Deno as it is, without packages or JSR", async () => {
  await using project = await clone();
  const said = await wrapper(project, ["eval", "console.log(1); Deno.exit(7)"]);
  assert.deepEqual(said, { code: 7, stdout: "1\n", stderr: "" });
});

Deno.test("tools/deno refuses a PACKET_CAPTURE_JSR other than yes and no", async () => {
  await using project = await clone();
  const said = await wrapper(project, ["run", "main.ts"], { env: { PACKET_CAPTURE_JSR: "maybe" } });
  assert.deepEqual(said, {
    code: 1,
    stdout: "",
    stderr: 'tools/deno: PACKET_CAPTURE_JSR is "maybe": it takes yes or no\n',
  });
});

/** A PATH with these commands of the machine and these scripts, and nothing else. */
async function path(project: Tree, commands: string[], scripts: Record<string, string>): Promise<{ PATH: string }> {
  const bin = join(project.path, "bin");
  await Deno.mkdir(bin, { recursive: true });
  for (const command of commands) {
    const { stdout } = await run("sh", ["-c", `command -v ${command}`]);
    await Deno.symlink(stdout.trim(), join(bin, command));
  }
  for (const [name, script] of Object.entries(scripts)) {
    await Deno.writeTextFile(join(bin, name), `#!/bin/sh\n${script}`, { mode: 0o755 });
  }
  return { PATH: bin };
}

const commands = [
  "bash",
  "env",
  "sh",
  "mkdir",
  "mktemp",
  "rm",
  "mv",
  "find",
  "head",
  "chmod",
  "uname",
  "dirname",
  "cat",
  "cp",
];
const version = /^version=(.*)$/m.exec(await Deno.readTextFile(new URL("../../../tools/deno", import.meta.url)))![1]!;
/** Stands for npm: puts a deno of this version where npm's package deno has it. */
const npm = (version: string) => `
  mkdir -p node_modules/@deno/linux-x64-glibc
  printf '#!/bin/sh\\n[ "$1" = --version ] && echo "deno ${version} (stable)" || echo "ran $*"\\n' > node_modules/@deno/linux-x64-glibc/deno
`;

Deno.test("tools/deno installs the right Deno by npm once where PATH has none or another version", async () => {
  await using project = await clone();
  const other = `[ "$1" = --version ] && echo "deno 1.0.0 (stable)" || echo wrong`;
  const env = await path(project, commands, { npm: npm(version), deno: other });
  const first = await wrapper(project, ["fmt"], { env });
  assert.equal(first.stdout, "ran fmt\n", first.stderr);
  assert.match(
    first.stderr,
    new RegExp(`^tools/deno: installing Deno ${version} from npm into .*/caches/packet-capture/deno-${version}\n$`),
  );
  await Deno.remove(join(env.PATH, "npm"));
  assert.deepEqual(await wrapper(project, ["fmt"], { env }), { code: 0, stdout: "ran fmt\n", stderr: "" });
});

Deno.test("tools/deno reports in one sentence what is missing where there is neither Deno nor npm", async () => {
  await using project = await clone();
  const said = await wrapper(project, ["fmt"], { env: await path(project, commands, {}) });
  assert.equal(said.code, 1);
  assert.equal(
    said.stderr,
    `tools/deno: Deno ${version} is needed: put it in PATH, or install npm so that it can be fetched as npm's package deno\n`,
  );
});

Deno.test("tools/deno keeps nothing of a Deno that npm brought but that is not the right one", async () => {
  await using project = await clone();
  const said = await wrapper(project, ["fmt"], { env: await path(project, commands, { npm: npm("2.0.0") }) });
  assert.equal(said.code, 1);
  assert.match(
    said.stderr,
    /\ntools\/deno: npm's package deno .* gave no executable that runs here .*: put Deno .* in PATH\n$/,
  );
  assert.deepEqual(await Array.fromAsync(Deno.readDir(join(project.path, "caches/packet-capture"))), []);
});

Deno.test("every JSR package of deno.json has a stand-in", async () => {
  await using project = await clone();
  await project.write(
    "deno.json",
    (await project.read("deno.json")).replace("@std/path@", "@std/path-of-another-name@").replace(
      '"@std/path"',
      '"@std/yaml"',
    ),
  );
  const said = await wrapper(project, ["run", "main.ts"], { env: nowhere });
  assert.equal(said.code, 1);
  assert.match(said.stderr, /Cannot stand in for @std\/yaml: tools\/offline\/jsr\.json does not name it/);
});
