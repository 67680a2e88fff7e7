/** The container in which captures are read, on real nodes: what it has, what it lacks, and that reading works there. */
import assert from "node:assert/strict";
import { fixture, forThisMachine } from "./fixture.ts";
import { waitFor } from "./kube.ts";
import { sendToken, testPod } from "./pods.ts";
import { READER } from "./release.ts";
import { token, tokensIn } from "./tokens.ts";

const { kube, release, namespace } = fixture("reader");
const KEY = "tcpdump.antrea.io";
/** Idle it is an init and a `sleep`. */
const IDLE_MIB = 4;

async function said(node: string, script: string): Promise<string> {
  const { code, stdout, stderr } = await release.read(node, ["sh", "-c", script]);
  assert.equal(code, 0, stderr);
  return stdout;
}

/** What the first process of the container says in its status, such as `CapEff`. */
async function status(node: string, field: string): Promise<string> {
  const line = (await said(node, "cat /proc/1/status")).split("\n").find((line) => line.startsWith(`${field}:`));
  return line!.slice(field.length + 1).trim();
}

for (
  const [what, values] of [
    ["by default", {}],
    ["with hostPath, of a privileged controller", {
      storage: { type: "hostPath" },
      privilege: { mode: "privileged" },
    }],
  ] as const
) {
  Deno.test(`the reader reads, and has nothing but the files (${what})`, async () => {
    await release.upgrade(await forThisMachine(kube, values));
    const [node] = await kube.workers() as [string];
    await using _pod = await kube.having(testPod({ name: "talker", namespace, node, annotations: { [KEY]: "3" } }));
    await kube.ready(namespace, "talker");
    await waitFor("the capture", async () => {
      const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
      return JSON.parse(stdout).some((row: { pod: string; state: string; files: number }) =>
        row.pod === "talker" && row.state === "capturing" && row.files > 0
      );
    }, { timeoutMs: 30_000 });
    const word = token();
    await kube.exec(namespace, "talker", sendToken(word, "127.0.0.1"));
    await waitFor("the packet", async () => {
      return (await tokensIn(release, node, namespace, "talker", [word]))[0]! > 0;
    }, { timeoutMs: 30_000, everyMs: 500 });
    assert.match(
      (await release.read(node, ["packet-capture", "version"])).stdout,
      /^packet-capture \d+\.\d+\.\d+\n$/,
    );

    for (const field of ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]) {
      assert.match(await status(node, field), /^0+$/, field);
    }
    assert.equal(await status(node, "NoNewPrivs"), "1");
    assert.equal(await status(node, "Seccomp"), "2");
    // Neither token, nor socket, nor a network namespace of others, nor a place to write besides the files.
    const absent = ["/var/run/secrets", "/run/secrets", "/run/containerd", "/run/netns", "/host"];
    assert.equal(await said(node, `for path in ${absent.join(" ")}; do [ ! -e $path ] || echo $path; done`), "");
    const places = ["/", "/etc", "/usr/local/bin", "/tmp", "/var"];
    assert.equal(
      await said(
        node,
        `for path in ${places.join(" ")}; do touch $path/.written 2>/dev/null && echo $path; done; true`,
      ),
      "",
    );
    assert.equal(
      await said(node, `touch "$CAPTURE_DIR/.e2e" && rm "$CAPTURE_DIR/.e2e" && echo written`),
      "written\n",
    );
    // It sees the processes of its own container alone.
    assert.doesNotMatch(await said(node, "ps -o args"), /tcpdump/);
  });
}

Deno.test("an idle reader takes a few MiB, and ends at once", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const [node] = await kube.workers() as [string];
  const { metadata: { uid } } = await release.pod(node);
  const mib = await idleMiB(node);
  assert.ok(mib > 0 && mib < IDLE_MIB, `${mib} MiB`);

  const started = performance.now();
  await kube.kubectl([
    ...["delete", "pod", "-n", release.namespace, (await release.pod(node)).metadata.name, "--wait"],
  ], { timeoutMs: 60_000 });
  const seconds = (performance.now() - started) / 1000;
  assert.ok(seconds < 20, `the pod took ${seconds} s to end`);
  assert.notEqual((await release.pod(node)).metadata.uid, uid);
});

Deno.test("a reader that lost its client, as kubectl cp's tar does, is ended", async () => {
  await release.upgrade(await forThisMachine(kube, {}));
  const [node] = await kube.workers() as [string];
  const { metadata: { name }, spec: { containers } } = await kube.get<Containers>(
    ...["pod", (await release.pod(node)).metadata.name, "-n", release.namespace],
  );
  const script = containers.find(({ name }) => name === READER)!.command[4]!;
  // Far more than all buffers between the tar and the client hold, some 30 MB of sockets; and no byte on the disk.
  await said(node, `truncate -s 1G "$CAPTURE_DIR/.e2e"`);
  try {
    const args = ["exec", "-n", release.namespace, name, "-c", READER, "--", "tar", "cf", "-", "/captures/.e2e"];
    const client = new Deno.Command("kubectl", { args, env: kube.env, stdout: "piped", stderr: "null" }).spawn();
    const reader = client.stdout.getReader();
    await reader.read();
    client.kill("SIGKILL");
    await client.status;
    await reader.cancel();
    // It has nobody to write to any more, and stays.
    const pid = /^ *(\d+) tar cf /m.exec(await said(node, "ps -o pid,args"))?.[1];
    assert.ok(pid, "the tar has ended by itself");

    // The script that the container idles with, but looking every three seconds.
    const until = 'sh -c "$1" reader-idle 3 & idle=$!; while kill -0 "$2" 2>/dev/null; do sleep 1; done; kill $idle';
    const { code, stderr } = await release.read(node, ["sh", "-c", until, "e2e", script, pid]);
    assert.equal(code, 0, stderr);
    const left = await said(node, "ps -o args");
    assert.doesNotMatch(left, /^tar cf /m);
    assert.match(left, /reader-idle 300$/m);
  } finally {
    await said(node, `rm "$CAPTURE_DIR/.e2e"`);
  }
});

interface Containers {
  readonly metadata: { readonly name: string };
  readonly spec: { readonly containers: readonly { readonly name: string; readonly command: readonly string[] }[] };
}

/** Memory of the reader's processes on a node, by the kernel's count of what is theirs alone. */
async function idleMiB(node: string): Promise<number> {
  const pod = await kube.get<{ status: { containerStatuses: { name: string; containerID: string }[] } }>(
    ...["pod", (await release.pod(node)).metadata.name, "-n", release.namespace],
  );
  const id = pod.status.containerStatuses.find(({ name }) => name === READER)!.containerID.replace(/^\w+:\/\//, "");
  const script = `for file in $(find /sys/fs/cgroup -path "*$1*" -name cgroup.procs); do
      for pid in $(cat "$file"); do grep -h '^Pss:' "/proc/$pid/smaps_rollup"; done; exit
    done`;
  const { stdout, code, stderr } = await kube.nodeExec(node, ["sh", "-c", script, "sh", id]);
  assert.equal(code, 0, stderr);
  const kib = [...stdout.matchAll(/^Pss: +(\d+) kB$/gm)].map(([, kib]) => Number(kib));
  assert.ok(kib.length >= 2, `an init and a sleep were looked for: ${stdout}`);
  return kib.reduce((sum, one) => sum + one, 0) / 1024;
}
