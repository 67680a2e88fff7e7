/** The image as `make image` has written it: these tests need no cluster. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../support/run.ts";
import { ROOT } from "../rig/cli.ts";
import { tree } from "../rig/tree.ts";
import { IMAGE, IMAGE_TAR } from "./release.ts";
import project from "../../deno.json" with { type: "json" };

const MAX_UNPACKED_MB = 150;

interface Manifest {
  readonly Config: string;
  readonly RepoTags: readonly string[];
  readonly Layers: readonly string[];
}

async function inTar(name: string): Promise<unknown> {
  return JSON.parse(await run(["tar", "-xOf", IMAGE_TAR, name]));
}

async function manifest(): Promise<Manifest> {
  const [only] = await inTar("manifest.json") as [Manifest];
  return only;
}

async function configuration() {
  const { Config } = await manifest();
  return await inTar(Config) as { created: string; config: { Labels: Record<string, string> } };
}

/** All that may be in the image, and why. Folders are what these are in. */
const CONTENT: readonly (readonly [file: RegExp, why: string])[] = [
  [/^usr\/local\/bin\/packet-capture$/, "the program"],
  [/^usr\/local\/lib\/packet-capture\/packet-capture\.cjs$/, "the bundle that it was made of: its hash says what runs"],
  [/^usr\/local\/lib\/packet-capture\/packet-capture\.cdx\.json$/, "the packages in the bundle, for scanners"],
  [/^usr\/local\/lib\/packet-capture\/deno$/, "runs the bundle where `deno compile` could not be had"],
  [/^usr\/local\/bin\/tcpdump$/, "captures, at a path that no host's AppArmor profile is for"],
  [/^usr\/bin\/nsenter$/, "starts tcpdump in a pod's network namespace"],
  [/^usr\/bin\/unshare$/, "lets tcpdump compile a filter where no resolver answers"],
  [/^usr\/bin\/capsh$/, "takes from tcpdump what it needs no more once it is in that namespace"],
  [/^usr\/bin\/prlimit$/, "bounds what a filter's compilation may take"],
  [/^usr\/bin\/tini$/, "is PID 1 and reaps what a killed controller leaves"],
  [/^usr\/bin\/busybox$/, "is sh, ls, cat, tar and the few below"],
  [/^usr\/bin\/(sh|ls|cat|tar)$/, "kubectl exec and kubectl cp"],
  [
    /^usr\/bin\/(date|df|du|env|find|grep|head|id|kill|mkdir|ps|rm|sha256sum|sleep|sort|stat|tail|wc)$/,
    "a look around",
  ],
  [/^usr\/lib\/[\w-]+\/lib[\w.-]+\.so[.\d]*$/, "a library that one of the programs is linked with"],
  [/^usr\/(lib|lib64)\/ld-linux[\w-]*\.so\.\d$/, "the loader"],
  [/^(bin|sbin|lib|lib64)$/, "links into usr/, where programs look"],
  [/^etc\/(services|protocols)$/, "names in filters, such as `tcp port http`"],
  [
    /^etc\/ssl\/certs\/ca-certificates\.crt$/,
    "trust in the API server's certificate, where it is a public authority's",
  ],
  [/^etc\/(passwd|group)$/, "root, and the user that tcpdump -r becomes"],
  [/^etc\/nsswitch\.conf$/, "how names are looked up"],
  [/^etc\/os-release$/, "tells scanners that these are Debian's files"],
  [/^usr\/share\/doc\/[\w.+-]+\/copyright$/, "the licence of a package that a file is from"],
  [/^var\/lib\/dpkg\/status\.d\/[\w.+-]+$/, "a package and its version, for scanners"],
];

Deno.test("image holds nothing but what is listed here with its reason, nothing setuid, all of it root's", async () => {
  const unlisted: string[] = [];
  const seen = new Set<RegExp>();
  for (const layer of (await manifest()).Layers) {
    for (
      const line of (await run(["sh", "-c", 'tar -xOf "$1" "$2" | gzip -dcf | tar -tvf -', "sh", IMAGE_TAR, layer]))
        .trim().split("\n")
    ) {
      const [mode, owner, , , , name] = line.split(/\s+/) as [string, string, string, string, string, string];
      assert.match(owner, /^(0\/0|root\/root)$/, line);
      assert.doesNotMatch(mode.replace(/t$/, ""), /[sStT]/, line);
      if (mode[0] === "d") continue;
      if (mode[0] === "-") assert.equal(mode[8], "-", `everybody may write ${name}`);
      const entry = CONTENT.find(([file]) => file.test(name));
      if (entry === undefined) unlisted.push(line);
      else seen.add(entry[0]);
    }
  }
  assert.deepEqual(unlisted, []);
  const unseen = CONTENT.filter(([file]) => !seen.has(file)).map(([file]) => file.source);
  assert.deepEqual(unseen.filter((file) => !file.includes("deno")), []);
});

Deno.test("image is the same bytes when the same commit is built again, elsewhere and later", async () => {
  await using copy = await tree("Dockerfile", ".dockerignore", "deno.json", "deno.lock", "tools", "src");
  // With packages of its own: the bundle has their paths, relative to it, as names of functions.
  await run(["cp", "-a", join(ROOT, "node_modules"), copy.path], { timeoutMs: 60_000 });
  const { created, config } = await configuration();
  const revision = config.Labels["org.opencontainers.image.revision"]!;
  // Another folder, files with another time and mode, built by another hand.
  const argv = ["sh", "-c", "umask 077 && chmod -R go-rwx src tools/*.ts && exec tools/image"];
  const env = { REVISION: revision, SOURCE_DATE_EPOCH: String(Date.parse(created) / 1000) };
  await run(argv, { cwd: copy.path, env, timeoutMs: 120_000 });
  const digest = async (file: string) => (await run(["sha256sum", file])).split(" ")[0];
  assert.equal(await digest(join(copy.path, "dist/image.tar")), await digest(IMAGE_TAR));
});

Deno.test("image is small and has labels of what it is", async () => {
  const { RepoTags, Layers } = await manifest();
  assert.deepEqual(RepoTags, [IMAGE]);
  let bytes = 0;
  for (const layer of Layers) {
    bytes += Number(await run(["sh", "-c", 'tar -xOf "$1" "$2" | gzip -dcf | wc -c', "sh", IMAGE_TAR, layer]));
  }
  assert.ok(bytes > 0 && bytes <= MAX_UNPACKED_MB * 1e6, `${bytes / 1e6} MB unpacked`);
  const labels = (await configuration()).config.Labels;
  const own = Object.fromEntries(Object.entries(labels).filter(([name]) => name.startsWith("org.opencontainers.")));
  const { "org.opencontainers.image.revision": revision, ...others } = own;
  assert.match(revision!, /^[0-9a-f]{40}$/);
  assert.deepEqual(others, {
    "org.opencontainers.image.title": "packet-capture",
    "org.opencontainers.image.description": "On-demand tcpdump for Kubernetes pods, asked for by an annotation",
    "org.opencontainers.image.version": project.version,
    "org.opencontainers.image.licenses": "Apache-2.0",
  });
});
