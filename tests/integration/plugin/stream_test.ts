/** `stream` with a scripted kubectl; what comes out is read by tshark and capinfos. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { blocksIn } from "../reading/rig.ts";
import { capinfos, type Made, makeCapture, packetsIn } from "./captures.ts";
import type { Rule } from "./fake_kubectl.ts";
import { capturedPod, clusterRules, eventually, list, pluginCommand, type Result, Sandbox } from "./rig.ts";

const WEB: readonly Made[] = [
  { pod: "web-0", node: "worker1", packets: 300 },
  { pod: "web-1", node: "worker2", packets: 200, offsetMs: 5 },
];

/** A sandbox whose controllers stream these captures. */
async function sandboxWith(made: readonly Made[], rule: (made: Made) => Partial<Rule> = () => ({})): Promise<Sandbox> {
  const sandbox = await Sandbox.create();
  for (const one of made) await makeCapture(sandbox.path(one.pod), one);
  await sandbox.follow([
    ...clusterRules([...new Set(made.map(({ node }) => node))], made.map(({ pod, node }) => ({ name: pod, node }))),
    ...made.map((one) => ({
      when: ["exec", one.node, `packet-capture stream default/${one.pod}`],
      file: sandbox.path(one.pod),
      ...rule(one),
    })),
  ]);
  return sandbox;
}

Deno.test("stream hands one pod's packets on as they came", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const { code, stdout, stderr } = await sandbox.run(["stream", "web-0"]);
  deepStrictEqual(stdout, await Deno.readFile(sandbox.path("web-0")));
  deepStrictEqual([code, stderr], [0, "default/web-0: the capture has ended\n"]);
});

Deno.test("stream merges several pods in order of time, each packet once, also when one is slow", async () => {
  await using sandbox = await sandboxWith(WEB, ({ pod }) => pod === "web-1" ? { bytesPerSecond: 10_000 } : {});
  const { code, stdout, stderr } = await sandbox.run(["stream", "-l", "app=web"]);
  strictEqual(code, 0, stderr);
  const file = sandbox.path("merged");
  await Deno.writeFile(file, stdout);
  strictEqual((await capinfos(file))["Strict time order"], "True");
  const packets = await packetsIn(file);
  for (const { pod, node, packets: count } of WEB) {
    const own = packets.filter(([name]) => name === `default/${pod}@${node}`).map(([, number]) => number);
    deepStrictEqual(own, Array.from({ length: count }, (_, i) => i));
  }
  strictEqual(packets.length, 500);
  // As the blocks of the file show them: what each controller says of its pod, and what it has counted.
  const all = await blocksIn(file);
  const blocks = all.filter(({ type }) => type !== "Enhanced Packet Block");
  deepStrictEqual(all.slice(-2), blocks.slice(-2));
  deepStrictEqual(blocks.map(({ type }) => type), [
    "Section Header Block",
    "Interface Description Block",
    "Interface Description Block",
    "Interface Statistics Block",
    "Interface Statistics Block",
  ]);
  for (const [i, { pod, packets: count }] of WEB.entries()) {
    match(blocks[1 + i]!.text, new RegExp(`Comment = default/${pod}`));
    match(blocks.at(i - 2)!.text, new RegExp(`delivered[^\n]*\\b${count}\\b`, "i"));
  }
});

Deno.test("stream names each pod of a selector that is not captured", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const plain = capturedPod({ name: "web-9", node: "worker2" });
  const { annotations: _, ...metadata } = plain.metadata;
  const pods = list([capturedPod({ name: "web-0", node: "worker1" }), { ...plain, metadata }]);
  await sandbox.follow([
    { when: ["get", " pods", "app=web"], stdout: pods },
    ...clusterRules(["worker1", "worker2"], []),
    { when: ["exec", "worker1", "stream default/web-0"], file: sandbox.path("web-0") },
  ]);
  const { code, stderr } = await sandbox.run(["stream", "-l", "app=web"]);
  strictEqual(code, 0, stderr);
  match(stderr, /^default\/web-9: left out: it is not captured, because it has no annotation tcpdump.antrea.io$/m);
});

Deno.test("stream does not wait for ever for a pod that is quiet", async () => {
  await using sandbox = await sandboxWith(
    WEB,
    ({ pod }) => pod === "web-1" ? { bytes: 0, hang: true } : { hang: true },
  );
  const written = collect(sandbox, ["stream", "-l", "app=web"]);
  await eventually(() => Promise.resolve(written.bytes() > 20_000));
  const { code } = await written.end("SIGINT");
  strictEqual(code, 0);
  await allGone(sandbox);
});

Deno.test("stream reports what a controller reports, and goes on with the others when one breaks off", async () => {
  await using sandbox = await sandboxWith(
    WEB,
    ({ pod }) =>
      pod === "web-1"
        ? { bytes: 10_000, stderr: "packet-capture: 7 packets \u001b[2J were missed\nerror: unexpected EOF\n", code: 1 }
        : {},
  );
  const { code, stdout, stderr } = await sandbox.run(["stream", "-l", "app=web"]);
  strictEqual(code, 1);
  deepStrictEqual(stderr.trimEnd().split("\n").sort(), [
    "default/web-0: the capture has ended",
    "default/web-1: 7 packets \\x1b[2J were missed",
    "default/web-1: the stream has ended: the connection broke within a packet",
  ]);
  await Deno.writeFile(sandbox.path("merged"), stdout);
  strictEqual((await packetsIn(sandbox.path("merged"))).filter(([name]) => name?.includes("web-0")).length, 300);
});

Deno.test("stream refuses more pods on a node than its controller has memory for: exit code 2", async () => {
  const pods = [1, 2, 3, 4, 5].map((n) => ({ pod: `web-${n}`, node: "worker1", packets: 1 }));
  await using sandbox = await sandboxWith(pods);
  const { code, stderr } = await sandbox.run(["stream", "-l", "app=web"]);
  strictEqual(
    stderr,
    "error: Cannot stream from 5 pods on node worker1: its controller has memory for 4 streams; name fewer pods\n",
  );
  strictEqual(code, 2);
  ok(!(await sandbox.calls()).some(({ args }) => args.includes("exec")));
});

Deno.test("stream names the missing right, exit code 1", async () => {
  const stderr =
    'Error from server (Forbidden): pods "packet-capture-worker1" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "packet-capture"\n';
  await using sandbox = await sandboxWith([WEB[0]!], () => ({ bytes: 0, code: 1, stderr }));
  const result = await sandbox.run(["stream", "web-0"]);
  strictEqual(
    result.stderr,
    'default/web-0: the stream has ended: User jane lacks the permission "create" on "pods/exec" in namespace packet-capture\n',
  );
  strictEqual(result.code, 1);
});

Deno.test("stream --tshark shows packets while the stream goes on, and Ctrl-C ends all of it", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], () => ({ hang: true }));
  const shown = collect(sandbox, ["stream", "web-0", "--tshark"]);
  await eventually(() => Promise.resolve(shown.text().trimEnd().split("\n").length === 300));
  const { code } = await shown.end("SIGINT");
  strictEqual(code, 0);
  await allGone(sandbox);
});

Deno.test("stream --wireshark starts it reading standard input; closing it ends the stream", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], () => ({ hang: true }));
  // Wireshark needs a display: a program of its name that keeps its arguments and all there is, and ends: while nothing more is
  // written, so that no broken pipe tells.
  const { size } = await Deno.stat(sandbox.path("web-0"));
  const script = `#!/bin/sh\necho "$@" > '${sandbox.path("args")}'\nhead -c ${size} > '${sandbox.path("seen")}'\n`;
  await Deno.writeTextFile(sandbox.path("bin/wireshark"), script, { mode: 0o755 });
  const { code, stderr } = await sandbox.run(["stream", "web-0", "--wireshark"]);
  deepStrictEqual([code, stderr], [0, ""]);
  strictEqual(await Deno.readTextFile(sandbox.path("args")), "-k -i -\n");
  deepStrictEqual(await Deno.readFile(sandbox.path("seen")), await Deno.readFile(sandbox.path("web-0")));
  await allGone(sandbox);
});

Deno.test("stream reports that the viewer is not installed, or failed", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], () => ({ hang: true }));
  const path = `${sandbox.path("bin")}`;
  const missing = await sandbox.run(["stream", "web-0", "--wireshark"], { env: { PATH: path } });
  strictEqual(missing.stderr, "error: Cannot find wireshark in PATH: install it, or send the stream through a pipe\n");
  strictEqual(missing.code, 1);
  await Deno.writeTextFile(sandbox.path("bin/wireshark"), "#!/bin/sh\nexit 3\n", { mode: 0o755 });
  const failed = await sandbox.run(["stream", "web-0", "--wireshark"]);
  deepStrictEqual([failed.code, failed.stderr], [1, "error: wireshark ended with exit code 3\n"]);
  await allGone(sandbox);
});

Deno.test("stream ends quietly when nobody reads any more", async () => {
  await using sandbox = await sandboxWith(WEB, () => ({ hang: true }));
  const command = pluginCommand(["stream", "-l", "app=web"]).map((word) => `'${word}'`).join(" ");
  const { code, stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", `set -o pipefail; ${command} | head -c 1000 | wc -c; exit \${PIPESTATUS[0]}`],
    env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
    signal: AbortSignal.timeout(60_000),
  }).output();
  deepStrictEqual([code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)], [0, "1000\n", ""]);
  await allGone(sandbox);
});

for (const args of [["stream", "web-0"], ["get", "web-0", "-o", "-"]]) {
  Deno.test(`${args[0]} does not write packets to a terminal: exit code 2`, async () => {
    await using sandbox = await sandboxWith([WEB[0]!]);
    const line = pluginCommand(args).map((word) => `'${word}'`).join(" ");
    const { code, stdout } = await new Deno.Command("script", {
      args: ["--quiet", "--return", "--command", line, "/dev/null"],
      env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
      signal: AbortSignal.timeout(60_000),
    }).output();
    match(new TextDecoder().decode(stdout), /^error: Cannot write packets to a terminal: give /);
    strictEqual(code, 2);
  });
}

/** Runs the plugin, and looks at what it writes while it runs. */
function collect(sandbox: Sandbox, args: readonly string[]) {
  const [program, ...rest] = pluginCommand(args);
  const child = new Deno.Command(program!, {
    args: rest,
    env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
    signal: AbortSignal.timeout(60_000),
  }).spawn();
  const chunks: Uint8Array[] = [];
  const reading = (async () => {
    for await (const chunk of child.stdout) chunks.push(chunk);
  })();
  return {
    bytes: () => chunks.reduce((sum, { length }) => sum + length, 0),
    text: () => new TextDecoder().decode(Uint8Array.from(chunks.flatMap((chunk) => [...chunk]))),
    async end(signal: Deno.Signal): Promise<Pick<Result, "code">> {
      child.kill(signal);
      await reading;
      return await child.status;
    },
  };
}

/** No kubectl of this sandbox runs any more. */
async function allGone(sandbox: Sandbox): Promise<void> {
  const pids = (await sandbox.calls()).map(({ pid }) => pid);
  ok(pids.length > 0);
  await eventually(() => Promise.resolve(!pids.some(isAlive)));
}

function isAlive(pid: number): boolean {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("fake_kubectl");
  } catch {
    return false;
  }
}
