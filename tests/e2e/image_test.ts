/** The image as the cluster runs it. */
import assert from "node:assert/strict";
import { dirname } from "node:path";
import { run } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import { fixture } from "./fixture.ts";
import { BUNDLE, BUNDLE_IN_IMAGE } from "./release.ts";
import { waitFor } from "./kube.ts";
import project from "../../deno.json" with { type: "json" };

const { kube, release } = fixture("image");

async function inPod(...argv: string[]): Promise<string> {
  const [node] = await kube.workers();
  const result = await release.exec(node!, argv);
  assert.equal(result.code, 0, `${argv.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

Deno.test("image runs the bundle that this tree builds", async () => {
  const built = (await run(["sha256sum", BUNDLE])).split(" ")[0];
  for (const node of await kube.workers()) {
    assert.equal((await release.exec(node, ["sha256sum", BUNDLE_IN_IMAGE])).stdout.split(" ")[0], built);
  }
  assert.equal(await inPod("packet-capture", "version"), `packet-capture ${project.version}\n`);
});

Deno.test("image answers on a terminal with nothing but the answer", async () => {
  const [node] = await kube.workers();
  const pod = (await release.pod(node!)).metadata.name;
  const command = `kubectl exec -it -n ${release.namespace} ${pod} -- packet-capture version`;
  // `script` gives kubectl a terminal, which it hands on.
  const said = await run(["script", "-qec", command, "/dev/null"], {
    env: { ...kube.env, PATH: `${dirname(tool("kubectl"))}:${Deno.env.get("PATH")}` },
  });
  // ^@ is the terminal's echo of the input's end.
  assert.deepEqual(
    said.replaceAll("^@", "").split(/[\r\n]+/).filter((line) => line !== "" && !/^Defaulted container/.test(line)),
    [
      `packet-capture ${project.version}`,
    ],
  );
});

Deno.test("image names the packages in its bundle", async () => {
  const list = (file: string) => file.replace(/\.cjs$/, ".cdx.json");
  assert.equal(await inPod("cat", list(BUNDLE_IN_IMAGE)), await Deno.readTextFile(list(BUNDLE)));
});

Deno.test("image starts packet-capture under an init that reaps orphans", async () => {
  assert.match(await inPod("cat", "/proc/1/cmdline"), /^\/usr\/bin\/tini\0--\0\/usr\/local\/bin\/packet-capture\0/);
  await inPod("sh", "-c", "sleep 0.1 & exec true"); // its parent ends first
  await waitFor("the orphan to be reaped", async () => !/\bsleep\b/.test(await inPod("ps", "-o", "stat,args")), {
    timeoutMs: 10_000,
  });
});

Deno.test("image has the programs that reading captures needs, and the public authorities", async () => {
  const programs = (await inPod("ls", "/bin", "/sbin", "/usr/local/bin")).match(/^[\w.-]+$/gm)!.sort();
  const busybox =
    "busybox cat date df du env find grep head id kill ls mkdir ps rm sh sha256sum sleep sort stat tail tar wc";
  assert.deepEqual(programs, `${busybox} capsh nsenter packet-capture prlimit tcpdump tini unshare`.split(" ").sort());
  assert.match(await inPod("head", "-c", "11", "/etc/ssl/certs/ca-certificates.crt"), /^-----BEGIN/);
});

Deno.test("image has tcpdump where no AppArmor profile of the host is applied, and names of services and protocols", async () => {
  assert.equal(await inPod("sh", "-c", "command -v tcpdump"), "/usr/local/bin/tcpdump\n");
  await inPod("sh", "-c", "[ ! -e /usr/bin/tcpdump ] && [ ! -e /usr/sbin/tcpdump ]");
  await inPod("tcpdump", "-d", "-y", "EN10MB", "tcp port https");
  await inPod("tcpdump", "-d", "-y", "EN10MB", "ip proto ospf");
});

Deno.test("image lets kubectl cp work", async () => {
  const [node] = await kube.workers();
  const { name, namespace } = (await release.pod(node!)).metadata;
  const folder = await Deno.makeTempDir({ prefix: "packet-capture-cp-" });
  try {
    await kube.kubectl(["cp", `${namespace}/${name}:/etc/protocols`, `${folder}/protocols`]);
    assert.match(await Deno.readTextFile(`${folder}/protocols`), /^icmp\s+1\s/m);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
