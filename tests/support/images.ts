/**
 * The images of the test pods, made from this machine's Debian packages, without an engine and without a registry:
 * `localhost/pause:1` and `localhost/busybox:1` (sh, ping, nc, wget, httpd, dd …), and `localhost/nettools:1`, which adds iperf3.
 */
import { dirname, join } from "node:path";
import { cacheDir } from "./cache.ts";
import { isThere } from "./paths.ts";
import { run } from "./run.ts";

/** Rises when what is in the images changes, so that older ones in the cache are made again. */
const EDITION = 1;
const BUSYBOX = "/bin/busybox";

interface Recipe {
  readonly name: string;
  readonly command: string[];
  /** More programs of this machine to put in, with the libraries they need. */
  readonly programs: string[];
}

const RECIPES: readonly Recipe[] = [
  { name: "pause", command: ["/bin/sleep", "2147483647"], programs: [] },
  { name: "busybox", command: ["/bin/sh"], programs: [] },
  { name: "nettools", command: ["/bin/sh"], programs: ["/usr/bin/iperf3"] },
];

/** The tar of each image, made if this is the first time. */
export async function testImages(): Promise<string[]> {
  return await Promise.all(RECIPES.map(image));
}

async function image(recipe: Recipe): Promise<string> {
  const file = join(cacheDir(), "images", `${recipe.name}-${EDITION}-${Deno.build.arch}.tar`);
  if (await isThere(file)) return file;
  await Deno.mkdir(dirname(file), { recursive: true });
  const work = await Deno.makeTempDir({ prefix: "packet-capture-image-" });
  try {
    await fill(join(work, "root"), recipe);
    await archive(work, recipe);
    const part = `${file}.${crypto.randomUUID()}`; // several launchers may make it at once; each renames a whole one
    await Deno.copyFile(join(work, "image.tar"), part);
    await Deno.rename(part, file);
  } finally {
    await Deno.remove(work, { recursive: true });
  }
  return file;
}

async function fill(root: string, recipe: Recipe): Promise<void> {
  for (const dir of ["bin", "etc", "tmp", "var/tmp", "home", "root"]) {
    await Deno.mkdir(join(root, dir), { recursive: true });
  }
  await Deno.chmod(join(root, "tmp"), 0o1777);
  await Deno.copyFile(BUSYBOX, join(root, "bin/busybox"));
  for (const applet of (await run([BUSYBOX, "--list"])).trim().split("\n")) {
    if (applet !== "busybox") await Deno.symlink("busybox", join(root, "bin", applet));
  }
  for (const dir of ["usr/bin", "sbin", "usr/sbin"]) {
    await Deno.mkdir(join(root, dirname(dir)), { recursive: true });
    await Deno.symlink("/bin", join(root, dir));
  }
  await Deno.writeTextFile(
    join(root, "etc/passwd"),
    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
  );
  await Deno.writeTextFile(join(root, "etc/group"), "root:x:0:\nnogroup:x:65534:\n");
  for (const program of recipe.programs) {
    const libraries = (await run(["ldd", program])).matchAll(/(?:=> )?(\/\S+) \(0x/g);
    await Deno.copyFile(program, join(root, "bin", program.split("/").at(-1)!));
    for (const [, library] of libraries) {
      await Deno.mkdir(join(root, dirname(library!)), { recursive: true });
      await Deno.copyFile(library!, join(root, library!));
    }
  }
}

/** Makes `<work>/image.tar` of `<work>/root`, in the layout of `docker save`: one layer, its config, a manifest. */
async function archive(work: string, recipe: Recipe): Promise<void> {
  const own = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"];
  await run(["tar", "-C", join(work, "root"), ...own, "-cf", join(work, "layer.tar"), "."]);
  const layer = (await run(["sha256sum", join(work, "layer.tar")])).split(" ")[0]!;
  const config = {
    architecture: Deno.build.arch === "aarch64" ? "arm64" : "amd64",
    os: "linux",
    rootfs: { type: "layers", diff_ids: [`sha256:${layer}`] },
    config: { Cmd: recipe.command, Env: ["PATH=/bin"] },
  };
  const manifest = [{ Config: "config.json", RepoTags: [`localhost/${recipe.name}:1`], Layers: ["layer.tar"] }];
  await Deno.writeTextFile(join(work, "config.json"), JSON.stringify(config));
  await Deno.writeTextFile(join(work, "manifest.json"), JSON.stringify(manifest));
  await run(["tar", "-C", work, "-cf", join(work, "image.tar"), "config.json", "layer.tar", "manifest.json"]);
}
