/** tools/image with an engine that only writes down what it is asked: docker and podman themselves build in the workflows. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";
import { type Tree, tree } from "../../rig/tree.ts";
import { VERSION } from "../../../src/version.ts";

/** Saves an image whose two layers have 3 and 2 MB, the first compressed as new versions of docker have it. */
const SAVE = `
  case "$1" in
    info) exit "\${INFO:-0}" ;;
    save)
      work=$(mktemp -d)
      head -c 3000000 /dev/zero | gzip >"$work/one"
      head -c 2000000 /dev/zero >"$work/two"
      printf '[{"Config":"c","RepoTags":["x"],"Layers":["one","two"]}]' >"$work/manifest.json"
      tar -C "$work" -cf "$3" manifest.json one two
      rm -r "$work"
      ;;
  esac`;

/** A fresh clone: nothing is built in it. */
function clone(): Promise<Tree> {
  return tree("deno.json", "deno.lock", "node_modules", "tools", "src");
}

async function image(project: Tree, path: string, env: Record<string, string> = {}): Promise<Said> {
  return await run(join(project.path, "tools/image"), [], {
    cwd: project.path,
    env: { PATH: path, SOURCE_DATE_EPOCH: "1700000000", ...env },
    deadlineMs: 120_000,
  });
}

const buildArgs = [
  "--build-arg",
  "BUNDLE=context",
  "--build-arg",
  "RUNTIME=auto",
  "--build-arg",
  `VERSION=${VERSION}`,
  "--build-arg",
  "REVISION=unknown",
  "--build-arg",
  "SOURCE_DATE_EPOCH=1700000000",
];

Deno.test("tools/image builds with docker where it runs, from the bundle that it makes first", async () => {
  await using project = await clone();
  // What the tests compare the image with is made out here: a clone has no dist/.
  const there = `[[ $1 != build || -f dist/packet-capture.cjs ]] || exit 9; ${SAVE}`;
  await using programs = await standIns({ docker: there, podman: SAVE, buildah: "exit 1" });
  const { code, stderr } = await image(project, programs.path);
  assert.equal(code, 0, stderr);
  const name = `localhost/packet-capture:${VERSION}`;
  assert.deepEqual(await programs.calls(), [
    ["docker", "info"],
    ["docker", "build", "--tag", name, ...buildArgs, "."],
    ["docker", "save", "--output", "dist/image.tar", name],
  ]);
  assert.match(stderr, new RegExp(`^image: building ${name} with docker$`, "m"));
  assert.match(stderr, new RegExp(`^image: ${name} is in dist/image\\.tar, 5 MB unpacked$`, "m"));
  for (const file of ["packet-capture.cjs", "kubectl-packet_capture.js"]) {
    assert.ok((await Deno.stat(join(project.path, "dist", file))).size > 0);
  }
});

Deno.test("tools/image takes podman where docker is there but does not run, with the time of all files", async () => {
  await using project = await clone();
  await using programs = await standIns({ docker: "exit 1", podman: SAVE, buildah: "exit 1" });
  const { code, stderr } = await image(project, programs.path, { IMAGE_REPOSITORY: "registry.example.com/pc" });
  assert.equal(code, 0, stderr);
  const name = `registry.example.com/pc:${VERSION}`;
  assert.deepEqual(await programs.calls(), [
    ["docker", "info"],
    ["podman", "info"],
    ["podman", "build", "--timestamp", "1700000000", "--tag", name, ...buildArgs, "."],
    ["podman", "save", "--output", "dist/image.tar", name],
  ]);
});

Deno.test("tools/image with buildah takes bases that are made here, and reports that they are not the pinned ones", async () => {
  await using project = await clone();
  // All base images are there; the image is pushed to a file.
  const buildah = `case " $* " in *" push "*) set -- save --output dist/image.tar; ${SAVE} ;; esac`;
  await using programs = await standIns({ docker: "exit 1", podman: "exit 1", buildah });
  const { code, stderr } = await image(project, programs.path, { XDG_CACHE_HOME: join(project.path, "caches") });
  assert.equal(code, 0, stderr);
  assert.match(
    stderr,
    /^image: the bases are made here from Debian's packages .*: not those that the Dockerfile pins/m,
  );
  const build = (await programs.calls()).find((call) => call.includes("build"))!;
  const bases = build.filter((word) => /^(DENO|DEBIAN)_IMAGE=localhost\/packet-capture-/.test(word));
  assert.equal(bases.length, 2);
  assert.ok(build.includes("--pull-never"));
});

Deno.test("tools/image reports what to do where nothing can build, and which engines there are", async () => {
  await using project = await clone();
  const needed = ["bash", "env", "dirname", "sed", "head", "git", "timeout"];
  await using programs = await standIns({ docker: "exit 1" }, needed);
  const { code, stderr } = await image(project, programs.folder);
  assert.equal(code, 1, stderr);
  assert.match(
    stderr,
    /^image: neither docker nor podman runs here, and buildah is not installed: run tools\/install image$/m,
  );
  const other = await image(project, programs.folder, { IMAGE_ENGINE: "kaniko" });
  assert.equal(other.code, 1);
  assert.equal(other.stderr, 'image: IMAGE_ENGINE is "kaniko": docker, podman and buildah are accepted\n');
});

/** Runs what the Dockerfile's first stage runs, with a deno of this test's own. */
async function program(deno: string, env: Record<string, string>): Promise<Said & { out: Tree }> {
  const project = await tree("tools/image-program", "tools/check-denort", "tools/denort.sha256", "tools/deno");
  await project.write("dist/packet-capture.cjs", "the bundle\n");
  await project.write("dist/packet-capture.cdx.json", "{}\n");
  await using programs = await standIns({ deno });
  const said = await run("bash", ["tools/image-program", join(project.path, "out")], {
    cwd: project.path,
    env: { PATH: programs.path, ...env },
  });
  return { ...said, out: project };
}

/** `deno compile` that works: it writes what --output names. */
const COMPILES = `while [[ $1 != --output ]]; do shift; done; echo program >"$2"; chmod 755 "$2"`;
const CANNOT = "echo 'error: cannot download denort' >&2; exit 1";
const BUNDLE_IN_OUT = "out/lib/packet-capture/packet-capture.cjs";

Deno.test("image: deno compile makes the program, and the bundle lies next to it", async () => {
  const { code, stderr, out } = await program(COMPILES, { BUNDLE: "context", RUNTIME: "auto" });
  await using _out = out;
  assert.equal(code, 0, stderr);
  assert.equal(await out.read("out/bin/packet-capture"), "program\n");
  assert.equal(await out.read(BUNDLE_IN_OUT), "the bundle\n");
  assert.equal(await out.read("out/lib/packet-capture/packet-capture.cdx.json"), "{}\n");
  await assert.rejects(out.read("out/lib/packet-capture/deno"), Deno.errors.NotFound);
});

Deno.test("image: where deno compile cannot be had, the same bundle with deno is the same command, and that is said", async () => {
  const { code, stderr, out } = await program(CANNOT, { BUNDLE: "context", RUNTIME: "auto" });
  await using _out = out;
  assert.equal(code, 0, stderr);
  assert.match(stderr, /^image: deno compile did not work here \(its words are above;/m);
  assert.match(stderr, /^image: The image gets the same bundle with the deno executable instead: same command,/m);
  assert.match(
    await out.read("out/bin/packet-capture"),
    /^exec \/usr\/local\/lib\/packet-capture\/deno run .*\n.* \/usr\/local\/lib\/packet-capture\/packet-capture\.cjs "\$@"$/m,
  );
  assert.equal((await Deno.stat(join(out.path, "out/bin/packet-capture"))).mode! & 0o777, 0o755);
  assert.match(await out.read("out/lib/packet-capture/deno"), /^#!\/bin\/bash/);
  assert.equal(await out.read(BUNDLE_IN_OUT), "the bundle\n");
});

Deno.test("image: RUNTIME=compile takes nothing else, RUNTIME=deno does not try it", async () => {
  const compile = await program(CANNOT, { BUNDLE: "context", RUNTIME: "compile" });
  await using _compile = compile.out;
  assert.equal(compile.code, 1);
  const deno = await program(`touch "$PWD/called"; ${CANNOT}`, { BUNDLE: "context", RUNTIME: "deno" });
  await using _deno = deno.out;
  assert.equal(deno.code, 0, deno.stderr);
  await assert.rejects(deno.out.read("called"), Deno.errors.NotFound);
});

Deno.test("image: a runtime that is not the pinned one makes no image, also where deno compile need not work", async () => {
  // Stands for deno compile's download.
  const downloads =
    `mkdir -p "$DENO_DIR/dl/release/v2.9.6"; echo x >"$DENO_DIR/dl/release/v2.9.6/denort-a.zip"; ${COMPILES}`;
  const cache = await Deno.makeTempDir({ prefix: "packet-capture-denort-" });
  try {
    for (const RUNTIME of ["compile", "auto"]) {
      const { code, stderr, out } = await program(downloads, {
        BUNDLE: "context",
        RUNTIME,
        DENO_DIR: cache,
        DENORT_CHECK: "required",
      });
      await using _out = out;
      assert.equal(code, 1);
      assert.match(stderr, /^check-denort: tools\/denort\.sha256 has no hash of denort-a\.zip$/m);
    }
  } finally {
    await Deno.remove(cache, { recursive: true });
  }
});

Deno.test("image: a build argument with another value is refused with those that are accepted", async () => {
  for (
    const [env, words] of [
      [{ BUNDLE: "dist" }, 'image: BUNDLE is "dist": source and context are accepted\n'],
      [{ BUNDLE: "context", RUNTIME: "node" }, 'image: RUNTIME is "node": compile, deno and auto are accepted\n'],
    ] as const
  ) {
    const { code, stderr, out } = await program("exit 1", env);
    await using _out = out;
    assert.equal(code, 2);
    assert.equal(stderr, words);
  }
});
