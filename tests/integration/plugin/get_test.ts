/** `get` with a scripted kubectl that breaks connections half way; what arrives is read by tshark and capinfos. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { capinfos, type Made, makeCapture, packetsIn } from "./captures.ts";
import type { Rule } from "./fake_kubectl.ts";
import {
  capturedPod,
  clusterRole,
  clusterRules,
  controllerPod,
  CONTROLLERS,
  eventually,
  list,
  PATCHED,
  pluginCommand,
  PODS,
  RELEASES,
  Sandbox,
} from "./rig.ts";

const WEB: readonly Made[] = [
  { pod: "web-0", node: "worker1", packets: 300 },
  { pod: "web-1", node: "worker2", packets: 200, offsetMs: 5 },
  { pod: "web-2", node: "worker1", packets: 100, offsetMs: 500 },
];

/** A sandbox with these captures; `faults` come before the rules by which all goes well. */
async function sandboxWith(
  made: readonly Made[],
  faults: (path: (pod: string) => string) => Rule[] = () => [],
): Promise<Sandbox> {
  const sandbox = await Sandbox.create();
  for (const one of made) await makeCapture(sandbox.path(one.pod), one);
  await sandbox.follow([
    ...faults((pod) => sandbox.path(pod)),
    ...clusterRules([...new Set(made.map(({ node }) => node))], made.map(({ pod, node }) => ({ name: pod, node }))),
    ...made.map(({ pod, node }) => ({ when: ["exec", node, `cat default/${pod}`], file: sandbox.path(pod) })),
  ]);
  return sandbox;
}

Deno.test("get merges pods of several nodes into one sorted file with a named interface each", async () => {
  await using sandbox = await sandboxWith(WEB);
  const { code, stderr, text } = await sandbox.run(["get", "-l", "app=web", "-o", "web.pcapng"]);
  strictEqual(code, 0, stderr);
  strictEqual(text, "");
  deepStrictEqual(await sandbox.files(), ["web.pcapng"]);
  match(stderr, /^default\/web-1: 200 packets, [0-9.]+ kB from node worker2$/m);
  match(stderr, /^web.pcapng: 600 packets of 3 pods, [0-9.]+ kB$/m);
  ok(!stderr.includes("\u001b")); // plain lines: stderr is no terminal

  const info = await capinfos(sandbox.path("work/web.pcapng"));
  strictEqual(info["Strict time order"], "True");
  strictEqual(info["Number of packets"], "600");
  const packets = await packetsIn(sandbox.path("work/web.pcapng"));
  for (const { pod, node, packets: count } of WEB) {
    const own = packets.filter(([name]) => name === `default/${pod}@${node}`).map(([, number]) => number);
    deepStrictEqual(own, Array.from({ length: count }, (_, i) => i));
  }
});

Deno.test("get begins again when the connection breaks, and the file has each packet once", async () => {
  await using sandbox = await sandboxWith(WEB, (path) => [
    {
      when: ["cat default/web-0"],
      times: 1,
      file: path("web-0"),
      bytes: 9000,
      code: 1,
      stderr: "error: unexpected EOF\n",
    },
    // Known of kubectl: the end is missing, and the exit code is 0.
    { when: ["cat default/web-1"], times: 2, file: path("web-1"), bytes: 12_000 },
  ]);
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "-o", "web.pcapng"]);
  strictEqual(code, 0, stderr);
  match(
    stderr,
    /^default\/web-0: broken off after 9.0 kB \(unexpected EOF\); from the start in [0-9.]+ s, attempt 2 of 6$/m,
  );
  match(stderr, /^default\/web-1: broken off after 12.0 kB \(a block is cut\); .* attempt 3 of 6$/m);
  strictEqual((await packetsIn(sandbox.path("work/web.pcapng"))).length, 600);
  strictEqual((await sandbox.calls()).filter(({ args }) => args.includes("cat")).length, 6);
});

Deno.test("get accepts nothing that the statistics do not confirm, cut wherever it is", async () => {
  // Behind a whole block, where nothing but the missing statistics tells; and within the statistics themselves.
  const [made] = WEB as [Made];
  await using sandbox = await sandboxWith([made], (path) => {
    const whole = Deno.statSync(path("web-0")).size;
    const behindPackets = whole - lastBlockLength(path("web-0"));
    return [
      { when: ["cat default/web-0"], times: 1, file: path("web-0"), bytes: behindPackets },
      { when: ["cat default/web-0"], times: 1, file: path("web-0"), bytes: whole - 4 },
      { when: ["cat default/web-0"], times: 1, stdout: "" },
      { when: ["cat default/web-0"], times: 1, stdout: "Welcome to the jungle, this is no capture at all" },
    ];
  });
  const { code, stderr } = await sandbox.run(["get", "web-0"]);
  strictEqual(code, 0, stderr);
  match(stderr, /the statistics of default\/web-0@worker1 are missing at its end/);
  match(stderr, /a block is cut/);
  match(stderr, /only its header came/);
  match(stderr, /what came is not pcapng/);
  strictEqual((await packetsIn(sandbox.path("work/web-0.pcapng"))).length, 300);
});

Deno.test("get gives up after --attempts, and leaves nothing behind", async () => {
  await using sandbox = await sandboxWith(WEB, (path) => [
    {
      when: ["cat default/web-1"],
      file: path("web-1"),
      bytes: 5000,
      code: 1,
      stderr: "error: http2: client connection lost\n",
    },
  ]);
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "-o", "web.pcapng", "--attempts", "2"]);
  strictEqual(code, 1);
  match(stderr, /^error: default\/web-1: the download failed 2 times, at last: http2: client connection lost$/m);
  strictEqual((await sandbox.calls()).filter(({ args }) => args.includes("default/web-1")).length, 2);
  deepStrictEqual(await sandbox.files(), []);
});

Deno.test("get --partial writes what can be had, and reports by name and exit code what is missing", async () => {
  await using sandbox = await sandboxWith(WEB, () => [
    {
      when: ["cat default/web-1"],
      code: 1,
      stderr: "packet-capture: Cannot read default/web-1: no such capture\ncommand terminated with exit code 1\n",
    },
  ]);
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "--partial"]);
  strictEqual(code, 1);
  match(
    stderr,
    /^default\/web-1: left out: Cannot read default\/web-1: no such capture \(controller of node worker2\)$/m,
  );
  strictEqual((await packetsIn(sandbox.path("work/packet-capture.pcapng"))).length, 400);
});

Deno.test("get leaves out a pod without packets and fetches the others", async () => {
  await using sandbox = await sandboxWith(WEB, () => [
    {
      when: ["cat default/web-1"],
      code: 1,
      stderr: "Cannot read default/web-1: no packet has been captured yet\ncommand terminated with exit code 1\n",
    },
  ]);
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web"]);
  strictEqual(code, 0, stderr);
  match(stderr, /^default\/web-1: left out: Cannot read default\/web-1: no packet has been captured yet/m);
  strictEqual((await packetsIn(sandbox.path("work/packet-capture.pcapng"))).length, 400);
});

Deno.test("get names each pod of a selector that is not captured: exit code 1, 0 with --partial, the file is there", async () => {
  await using sandbox = await sandboxWith(WEB, () => {
    const pods = WEB.map(({ pod, node }) => capturedPod({ name: pod, node }));
    const plain = capturedPod({ name: "web-9", node: "worker2" });
    const { annotations: _, ...metadata } = plain.metadata;
    return [{ when: ["get", " pods", "app=web"], stdout: list([...pods, { ...plain, metadata }]) }];
  });
  for (const [more, expected] of [[[], 1], [["--partial"], 0]] as const) {
    const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "--force", ...more]);
    strictEqual(code, expected, stderr);
    match(stderr, /^default\/web-9: left out: it is not captured, because it has no annotation tcpdump.antrea.io$/m);
    strictEqual((await packetsIn(sandbox.path("work/packet-capture.pcapng"))).length, 600);
  }
});

Deno.test("get and list name the node whose exec a proxy refuses, and do not try again", async () => {
  const page = "error: unable to upgrade connection: <html>\n<head><title>403 Forbidden</title></head>\n</html>\n";
  const status = "Error from server (Forbidden): blocked by the proxy\n";
  for (
    const [stderr, words] of [
      [page, /node worker1 is refused on the way: unable to upgrade connection: 403 Forbidden; a proxy before/],
      [status, /blocked by the proxy/],
    ] as const
  ) {
    await using sandbox = await sandboxWith([WEB[0]!], () => [{ when: ["exec"], code: 1, stderr }]);
    const got = await sandbox.run(["get", "web-0"]);
    deepStrictEqual([got.code, got.stderr.split("\n").length], [1, 2], got.stderr);
    match(got.stderr, words);
    strictEqual((await sandbox.calls()).filter(({ args }) => args.includes("cat")).length, 1);
    const listed = await sandbox.run(["list"]);
    strictEqual(listed.code, 1);
    match(listed.stderr, words);
    match(listed.stderr, /worker1/);
  }
});

Deno.test("get ends a connection that delivers nothing, and begins again", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], (path) => [
    { when: ["cat default/web-0"], times: 1, file: path("web-0"), bytes: 3000, hang: true },
  ]);
  const { code, stderr } = await sandbox.run(["get", "web-0", "--timeout", "1s"]);
  strictEqual(code, 0, stderr);
  match(stderr, /^default\/web-0: broken off after 3.0 kB \(nothing came for 1 s\); from the start/m);
  await allGone(sandbox);
});

for (
  const [version, said] of [
    ["now", (bytes: number) => JSON.stringify({ trailer: 1, outcome: "partial", bytes })],
    ["in version 0.1", (bytes: number) => `all ${bytes} bytes are written`],
  ] as const
) {
  Deno.test(`get closes standard input, for which cat waits, when it has all that was written, as cat writes it ${version}`, async () => {
    await using sandbox = await sandboxWith(WEB.slice(0, 1));
    const { size } = await Deno.stat(sandbox.path("web-0"));
    const delivered = (bytes: number): Rule => ({
      when: ["cat default/web-0"],
      file: sandbox.path("web-0"),
      stderr: `packet-capture: default/web-0: the ring has overtaken 3 packets\npacket-capture: ${said(bytes)}\n`,
      code: 1,
      untilStdin: true,
    });
    const cluster = clusterRules(["worker1"], [{ name: "web-0", node: "worker1" }]);
    await sandbox.follow([delivered(size), ...cluster]);
    const { code, stderr } = await sandbox.run(["get", "web-0"]);
    strictEqual(code, 1, stderr);
    match(stderr, /the ring has overtaken 3 packets/);
    ok(!/bytes are written|trailer/.test(stderr), stderr);
    strictEqual((await packetsIn(sandbox.path("work/web-0.pcapng"))).length, 300);

    // One byte is still to come: it would be lost.
    await sandbox.follow([delivered(size + 1), ...cluster]);
    const early = await sandbox.run(["get", "web-0", "--force", "--timeout", "2s", "--attempts", "1"]);
    match(early.stderr, /nothing came for 2 s/);
  });
}

Deno.test("get reports what the ring had overtaken, keeps the file, and exits with 1", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], (path) => [
    {
      when: ["cat default/web-0"],
      file: path("web-0"),
      code: 1,
      stderr: "default/web-0: run-1-2.pcap was overtaken by the ring\ncommand terminated with exit code 1\n",
    },
  ]);
  const { code, stderr } = await sandbox.run(["get", "web-0"]);
  strictEqual(code, 1);
  match(
    stderr,
    /^default\/web-0: not all that was captured could be read: default\/web-0: run-1-2.pcap was overtaken by the ring$/m,
  );
  deepStrictEqual(await sandbox.files(), ["web-0.pcapng"]);
});

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(`get leaves no file and no process when ended by ${signal} half way`, async () => {
    await using sandbox = await sandboxWith(WEB, (path) => [
      { when: ["cat default/web-0"], file: path("web-0"), bytesPerSecond: 2000 },
    ]);
    const downloading = async () => {
      const [folder] = await sandbox.files();
      if (folder === undefined) return false;
      return await Deno.stat(sandbox.path(`work/${folder}/0.pcapng`)).then(({ size }) => size > 0, () => false);
    };
    const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "-o", "web.pcapng"], {
      interrupt: { signal, until: downloading },
    });
    strictEqual(code, 130);
    ok(!/Error/.test(stderr), stderr);
    deepStrictEqual(await sandbox.files(), []);
    await allGone(sandbox);
  });
}

Deno.test("get -o - sends the merged file through a pipe, and nothing else", async () => {
  await using sandbox = await sandboxWith(WEB);
  const { code, stdout, stderr } = await sandbox.run(["get", "-l", "app=web", "-o", "-"]);
  strictEqual(code, 0, stderr);
  await Deno.writeFile(sandbox.path("piped.pcapng"), stdout);
  strictEqual((await packetsIn(sandbox.path("piped.pcapng"))).length, 600);
  deepStrictEqual(await sandbox.files(), []);
  ok(![...Deno.readDirSync(sandbox.dir)].some(({ name }) => name.startsWith("packet-capture.")));
});

Deno.test("get does not replace a file without --force", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const target = sandbox.path("work/web-0.pcapng");
  await Deno.writeTextFile(target, "mine");
  const refused = await sandbox.run(["get", "web-0"]);
  strictEqual(
    refused.stderr,
    "error: Cannot write web-0.pcapng: it exists already; give another name with -o, or --force to replace it\n",
  );
  strictEqual(refused.code, 1);
  strictEqual(await Deno.readTextFile(target), "mine");
  strictEqual((await sandbox.run(["get", "web-0", "--force"])).code, 0);
  strictEqual((await packetsIn(target)).length, 300);
});

Deno.test("get does not replace a file that has appeared while it downloaded", async () => {
  await using sandbox = await sandboxWith(
    [WEB[0]!],
    (path) => [{ when: ["cat default/web-0"], file: path("web-0"), bytesPerSecond: 40_000 }],
  );
  const target = sandbox.path("work/web-0.pcapng");
  const running = sandbox.run(["get", "web-0"]);
  await eventually(async () => (await sandbox.files()).length > 0);
  await Deno.writeTextFile(target, "mine");
  const { code, stderr } = await running;
  match(stderr, /^error: Cannot write web-0.pcapng: it exists already/m);
  strictEqual(code, 1);
  strictEqual(await Deno.readTextFile(target), "mine");
  deepStrictEqual(await sandbox.files(), ["web-0.pcapng"]);
});

Deno.test("get reports in one sentence where it cannot write, before it downloads", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  await Deno.mkdir(sandbox.path("work/folder"));
  for (
    const [file, message] of [
      ["folder", "error: Cannot write folder: it is a folder; give the name of a file with -o\n"],
      ["nowhere/web.pcapng", "error: Cannot write nowhere/web.pcapng: the folder nowhere does not exist\n"],
      ["/proc/web.pcapng", /^error: (Cannot write \/proc\/web.pcapng: |Cannot write .*: the folder)/],
    ] as const
  ) {
    const { code, stderr } = await sandbox.run(["get", "web-0", "-o", file]);
    if (typeof message === "string") strictEqual(stderr, message);
    else match(stderr, message);
    strictEqual(code, 1);
  }
  strictEqual((await sandbox.calls()).filter(({ args }) => args.includes("cat")).length, 0);
});

for (
  const [when, kilobytes, made] of [
    ["while it downloads", 256, [{ ...WEB[0]!, packets: 20_000 }]],
    // Both parts have room, the merged file next to them has not.
    ["while it merges", 288, [{ ...WEB[0]!, packets: 1000 }, { ...WEB[1]!, packets: 1000 }]],
  ] as const
) {
  Deno.test(`get on a disk that is full ${when} reports it in one sentence and leaves nothing`, async () => {
    await using sandbox = await sandboxWith(made);
    // A disk of its own, mounted in a namespace of its own, gone with the process.
    const script = 'mount -t tmpfs -o size="$1" none "$2" && cd "$2" && shift 2 && "$@"; code=$?; ls -A; exit $code';
    const command = pluginCommand(["get", "-l", "app=web", "-o", "web.pcapng"]);
    const { code, stdout, stderr } = await new Deno.Command("unshare", {
      args: ["--mount", "sh", "-c", script, "sh", `${kilobytes}k`, sandbox.path("work"), ...command],
      env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
      signal: AbortSignal.timeout(60_000),
    }).output();
    match(
      new TextDecoder().decode(stderr).trimEnd().split("\n").at(-1)!,
      /^error: (default\/web-0: )?Cannot write web.pcapng: the disk is full; nothing was kept$/,
    );
    deepStrictEqual([code, new TextDecoder().decode(stdout)], [1, ""]);
  });
}

Deno.test("get asks a controller for one capture at a time, and the nodes' in parallel", async () => {
  const made = [...WEB, { pod: "web-3", node: "worker2", packets: 50 }];
  // Each download notes when it begins and ends.
  await using sandbox = await sandboxWith(made);
  const script = `#!/bin/sh
case "$*" in *"cat default/"*) echo "begin $*" >> '${sandbox.path("log")}'; sleep 0.5;; esac
'${sandbox.path("bin/scripted")}' "$@"; code=$?
case "$*" in *"cat default/"*) echo "end $*" >> '${sandbox.path("log")}';; esac
exit $code\n`;
  await Deno.rename(sandbox.path("bin/kubectl"), sandbox.path("bin/scripted"));
  await Deno.writeTextFile(sandbox.path("bin/kubectl"), script, { mode: 0o755 });
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web"]);
  strictEqual(code, 0, stderr);
  const running = new Map([["worker1", 0], ["worker2", 0]]);
  let together = 0;
  for (const line of (await Deno.readTextFile(sandbox.path("log"))).trim().split("\n")) {
    const node = line.includes("packet-capture-worker1") ? "worker1" : "worker2";
    running.set(node, running.get(node)! + (line.startsWith("begin") ? 1 : -1));
    ok(running.get(node)! <= 1, line);
    together = Math.max(together, running.get("worker1")! + running.get("worker2")!);
  }
  strictEqual(together, 2);
});

Deno.test("get --format pcap writes what tcpdump reads, and refuses mixed link types", async () => {
  await using sandbox = await sandboxWith(WEB);
  const { code, stderr } = await sandbox.run(["get", "-l", "app=web", "--format", "pcap", "-o", "web.pcap"]);
  strictEqual(code, 0, stderr);
  const info = await capinfos(sandbox.path("work/web.pcap"));
  match(info["File type"] ?? "", /pcap$/);
  strictEqual(info["Number of packets"], "600");
  await using mixed = await sandboxWith([WEB[0]!, { ...WEB[1]!, linkType: 276 }]);
  const refused = await mixed.run(["get", "-l", "app=web", "--format", "pcap"]);
  match(refused.stderr, /^error: .*link types/m);
  strictEqual(refused.code, 1);
  deepStrictEqual(await mixed.files(), []);
});

Deno.test("get hands --since on to the controllers, and refuses what is not a time", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  strictEqual((await sandbox.run(["get", "web-0", "--since", "5m"])).code, 0);
  const [call] = (await sandbox.calls()).filter(({ args }) => args.includes("cat"));
  deepStrictEqual(call?.args.slice(-8), [
    "packet-capture",
    "cat",
    "default/web-0",
    "--format",
    "pcapng",
    "--since",
    "5m",
    "--while-stdin",
  ]);
  strictEqual((await sandbox.run(["get", "web-0", "--since", "yesterday"])).code, 2);
});

Deno.test("get --stop removes the annotations once the file is there, and never when it is not", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], () => [{ ...PATCHED, when: ["patch", "web-0"] }]);
  const { code, stderr, text } = await sandbox.run(["get", "web-0", "--stop", "--wait", "0s"]);
  strictEqual(code, 0, stderr);
  strictEqual(text, "default/web-0: annotation removed, its files are deleted\n");
  const patch = (await sandbox.calls()).find(({ args }) => args.includes("patch"));
  deepStrictEqual(JSON.parse(patch!.args[patch!.args.indexOf("-p") + 1]!), {
    metadata: { uid: "uid-default-web-0", annotations: { "tcpdump.antrea.io": null } },
  });

  await using failing = await sandboxWith(
    [WEB[0]!],
    () => [{ when: ["cat"], code: 1, stderr: "no\ncommand terminated with exit code 1\n" }],
  );
  strictEqual((await failing.run(["get", "web-0", "--stop"])).code, 1);
  ok(!(await failing.calls()).some(({ args }) => args.includes("patch")));
});

Deno.test("get finds the controller again that was replaced while it delivered", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], (path) => {
    const next = { ...controllerPod("worker1"), metadata: { ...controllerPod("worker1").metadata, name: "next" } };
    return [
      { when: CONTROLLERS, times: 1, stdout: list([controllerPod("worker1")]) },
      { when: CONTROLLERS, times: 1, stdout: list([]) },
      { when: CONTROLLERS, stdout: list([next]) },
      {
        when: ["exec", "packet-capture-worker1"],
        file: path("web-0"),
        bytes: 4000,
        code: 1,
        stderr: 'Error from server (NotFound): pods "packet-capture-worker1" not found\n',
      },
      { when: ["exec", " next ", "cat"], file: path("web-0") },
    ];
  });
  const { code, stderr } = await sandbox.run(["get", "web-0"]);
  strictEqual(code, 0, stderr);
  strictEqual((await packetsIn(sandbox.path("work/web-0.pcapng"))).length, 300);
});

/** A kept capture, as a controller lists it. */
const keptRow = (uid: string, namespace = "default") => ({
  namespace,
  pod: "web-0",
  uid,
  state: "retained",
  reason: "",
  since: null,
  files: 1,
  bytes: 1,
  packets: 1,
  dropped: 0,
  oldest: null,
  newest: null,
  filter: null,
});

Deno.test("get fetches the capture that a deleted pod has left, by name or UID", async () => {
  const row = keptRow;
  await using sandbox = await sandboxWith([WEB[0]!], (path) => [
    { when: PODS, stdout: "" },
    { when: ["config", "view"], stdout: "" },
    { when: ["list -n default -o json"], times: 1, stdout: JSON.stringify([row("1234abcd")]) },
    { when: ["list -n default -o json"], stdout: JSON.stringify([row("1234abcd"), row("5678abcd")]) },
    { when: ["list -o json"], stdout: JSON.stringify([row("1234abcd"), row("5678abcd")]) },
    // By name in the form that a user with rights in the namespace alone may use, by UID for administrators.
    { when: ["cat default/web-0"], file: path("web-0") },
    { when: ["cat 1234abcd"], file: path("web-0") },
  ]);
  const { code, stderr } = await sandbox.run(["get", "web-0"]);
  strictEqual(code, 0, stderr);
  strictEqual((await packetsIn(sandbox.path("work/web-0.pcapng"))).length, 300);
  const two = await sandbox.run(["get", "web-0", "-o", "two.pcapng"]);
  match(
    two.stderr,
    /^error: 2 pods named web-0 were deleted and left a capture: give one of the UIDs 1234abcd \(default, node worker1\), 5678/,
  );
  strictEqual(two.code, 2);
  strictEqual((await sandbox.run(["get", "1234abcd", "-o", "uid.pcapng"])).code, 0);
});

Deno.test("get takes a kept capture by name from the context's namespace only, unless -n gives another", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], (path) => [
    { when: PODS, stdout: "" },
    { when: ["config", "view", "--context=staging", "--minify"], stdout: "staging" },
    {
      when: ["get -o json", "staging/web-0"],
      code: 1,
      stderr: 'error: the server doesn\'t have a resource type "staging"\n',
    },
    { when: ["config", "view", "--context=none"], code: 1, stderr: "error: current-context must exist\n" },
    { when: ["config", "view"], stdout: "" },
    { when: ["list -n default -o json"], stdout: "[]" },
    ...["list -n staging -o json", "list -o json"].map((words) => ({
      when: [words],
      stdout: JSON.stringify([keptRow("1234abcd", "staging")]),
    })),
    ...["cat staging/web-0", "cat 1234abcd"].map((words) => ({ when: [words], file: path("web-0") })),
  ]);
  const other = await sandbox.run(["get", "web-0"]);
  deepStrictEqual([other.code, other.stderr], [
    1,
    "error: There is no pod web-0 in namespace default (the current context's)\n",
  ]);
  deepStrictEqual(await sandbox.files(), []);
  const unknown = await sandbox.run(["get", "web-0", "--context", "none"]);
  deepStrictEqual([unknown.code, unknown.stderr], [
    2,
    "error: Cannot tell the namespace of the current context: give -n NAMESPACE\n",
  ]);
  const forms = [["web-0", "--context", "staging"], ["web-0", "-n", "staging"], ["staging/web-0"], ["1234abcd"]];
  for (const [i, args] of forms.entries()) {
    const { code, stderr } = await sandbox.run(["get", ...args, "-o", `${i}.pcapng`]);
    strictEqual(code, 0, stderr);
  }
});

Deno.test("get names the node that may keep the capture of a pod that is not there", async () => {
  await using sandbox = await sandboxWith([WEB[0]!], () => [
    { when: PODS, stdout: "" },
    { when: ["config", "view"], stdout: "" },
    { when: ["list -n default -o json"], code: 1, stderr: "error: unable to upgrade connection\n" },
  ]);
  const { code, stderr } = await sandbox.run(["get", "web-0"]);
  deepStrictEqual([code, stderr], [
    1,
    "error: There is no pod web-0, and its capture may be kept: cannot ask node worker1: unable to upgrade connection\n",
  ]);
});

const trailer = (outcome: string, state?: string) => JSON.stringify({ trailer: 1, outcome, bytes: 0, state });
for (
  const [code, words, exitCode] of [
    [3, trailer("nothingYet", "capturing"), 0],
    [3, trailer("nothingYet", "pending"), 0],
    [3, trailer("nothingYet"), 0],
    [3, trailer("nothingYet", "waiting"), 1],
    [3, trailer("nothingYet", "rejected"), 1],
    [4, trailer("notHere"), 1],
    // A controller of version 0.1 has only sentences.
    [1, "Cannot read default/web-1: no packet has been captured yet, it is capturing", 0],
    [1, "Cannot read default/web-1: no packet has been captured yet, it is waiting: no room", 1],
    [1, "Cannot find a capture of default/web-1 on this node: the pod is not annotated", 1],
  ] as const
) {
  Deno.test(`get fetches the others' packets next to one that ends with ${code} and "${words}": exit code ${exitCode}`, async () => {
    const said = code === 1 ? words : "Nichts da";
    const stderr = [...new Set([said, words])].map((line) => `packet-capture: ${line}\n`).join("");
    await using sandbox = await sandboxWith(WEB, () => [
      { when: ["cat default/web-1"], code, stderr: `${stderr}command terminated with exit code ${code}\n` },
    ]);
    const result = await sandbox.run(["get", "-l", "app=web"]);
    strictEqual(result.code, exitCode, result.stderr);
    ok(result.stderr.includes(`default/web-1: left out: ${said} (controller of node worker2)\n`), result.stderr);
    strictEqual((await packetsIn(sandbox.path("work/packet-capture.pcapng"))).length, 400);
  });
}

Deno.test("get --stop goes on with what was not fetched whole, and reports it", async () => {
  await using sandbox = await sandboxWith(WEB, (path) => [
    PATCHED,
    {
      when: ["cat default/web-0"],
      file: path("web-0"),
      code: 1,
      stderr: "packet-capture: default/web-0: x is damaged\ncommand terminated with exit code 1\n",
    },
    {
      when: ["cat default/web-1"],
      code: 1,
      stderr:
        "packet-capture: Cannot read default/web-1: no packet has been captured yet\ncommand terminated with exit code 1\n",
    },
  ]);
  const { code, stderr, text } = await sandbox.run(["get", "-l", "app=web", "--stop", "--wait", "0s"]);
  strictEqual(code, 1);
  strictEqual(text, "default/web-2: annotation removed, its files are deleted\n");
  for (const pod of ["web-0", "web-1"]) {
    match(stderr, new RegExp(`^default/${pod}: not stopped, because not all of it was fetched$`, "m"));
  }
  deepStrictEqual(
    (await sandbox.calls()).filter(({ args }) => args.includes("patch")).map(({ args }) => args.includes("web-2")),
    [true],
  );
});

Deno.test("get refuses to delete with --stop what --since leaves out: exit code 2", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const { code, stderr } = await sandbox.run(["get", "web-0", "--stop", "--since", "5m"]);
  deepStrictEqual([code, stderr], [
    2,
    "error: Cannot take --stop with --since: --stop deletes all that was captured, --since fetches only a part; give one of the two\n",
  ]);
  deepStrictEqual(await sandbox.calls(), []);
});

Deno.test("get --force replaces files, not what else has a name", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const pipe = sandbox.path("work/pipe");
  await new Deno.Command("mkfifo", { args: [pipe] }).output();
  const { code, stderr } = await sandbox.run(["get", "web-0", "-o", "pipe", "--force"]);
  deepStrictEqual([code, stderr], [
    1,
    "error: Cannot write pipe: it is not a regular file; give the name of one, or - for a pipe\n",
  ]);
  ok((await Deno.lstat(pipe)).isFifo);
});

Deno.test("get waits as long as it takes with --timeout 0s, and refuses times that no timer takes", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  strictEqual((await sandbox.run(["get", "web-0", "--timeout", "0s", "--attempts", "1"])).code, 0);
  for (const flag of ["--timeout", "--wait"]) {
    const { code, stderr } = await sandbox.run(["get", "web-0", flag, "597h"]);
    strictEqual(code, 2);
    match(stderr, /597h.* It must be at most 596h$/m);
  }
});

Deno.test("get finishes its file though nobody reads its output", async () => {
  await using sandbox = await sandboxWith(WEB, (path) => [
    { when: ["cat default/web-0"], times: 1, file: path("web-0"), bytes: 9000, code: 1, stderr: "error: EOF\n" },
  ]);
  const command = pluginCommand(["get", "-l", "app=web", "-o", "web.pcapng"]).map((word) => `'${word}'`).join(" ");
  const { code } = await new Deno.Command("bash", {
    args: ["-c", `{ ${command} 2>&1 >/dev/null; echo $? >&3; } 3>code | true; exit "$(cat code)"`],
    cwd: sandbox.path("work"),
    env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
    signal: AbortSignal.timeout(60_000),
  }).output();
  strictEqual(code, 0);
  strictEqual((await packetsIn(sandbox.path("work/web.pcapng"))).length, 600);
});

const OLD = 'error: unknown command "cat"\ncommand terminated with exit code 2\n';
const CANNOT: readonly [string, Rule[], RegExp][] = [
  ["not annotated", [{
    when: PODS,
    stdout: list([{
      ...capturedPod({ name: "web-0", node: "worker1" }),
      metadata: { name: "web-0", namespace: "default", uid: "x" },
    }]),
  }], /^error: Pod default\/web-0 is not captured: it has no annotation tcpdump.antrea.io$/m],
  [
    "unknown pod",
    [
      { when: PODS, stdout: "" },
      { when: ["config", "view"], stdout: "" },
      { when: ["list -n default -o json"], stdout: "[]" },
    ],
    /^error: There is no pod web-0 in namespace default \(the current context's\)$/m,
  ],
  [
    "no controller on that node",
    [{ when: CONTROLLERS, stdout: list([controllerPod("worker2")]) }],
    /^error: default\/web-0: Node worker1 has no controller: /m,
  ],
  [
    "pending controller",
    [{
      when: CONTROLLERS,
      stdout: list([controllerPod("worker1", { ready: false, waiting: "ImagePullBackOff" })]),
    }],
    /^error: default\/web-0: The controller of node worker1 \(pod packet-capture\/packet-capture-worker1\) is not ready: phase Pending, ImagePullBackOff$/m,
  ],
  [
    "two releases",
    [{ when: RELEASES, stdout: list([clusterRole(), clusterRole({ release: "second", key: "x.example" })]) }],
    /^error: 2 releases of packet-capture are installed: packet-capture\/packet-capture \(annotation tcpdump.antrea.io\), packet-capture\/second \(annotation x.example\); choose with/m,
  ],
  ["no permission", [{
    when: ["exec"],
    code: 1,
    stderr:
      'Error from server (Forbidden): pods "packet-capture-worker1" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "packet-capture"\n',
  }], /^error: default\/web-0: User jane lacks the permission "create" on "pods\/exec" in namespace packet-capture$/m],
  [
    "old controller",
    [{ when: ["exec", "version"], stdout: "packet-capture 0.0.1\n" }, { when: ["exec"], code: 2, stderr: OLD }],
    /^error: default\/web-0: The controller of node worker1 has version 0.0.1 and does not support "packet-capture cat" as this plugin \(version [^)]+\) uses it: /m,
  ],
  [
    "controller without the program",
    [{
      when: ["exec"],
      code: 126,
      stderr:
        'OCI runtime exec failed: exec failed: unable to start container process: exec: "packet-capture": executable file not found in $PATH: unknown\ncommand terminated with exit code 126\n',
    }],
    /^error: default\/web-0: The controller of node worker1 reports no version and does not support "packet-capture cat"/m,
  ],
  [
    "an answer that is not JSON",
    [{ when: RELEASES, stdout: "<html>" }],
    /^error: kubectl get clusterroles.rbac.authorization.k8s.io returned something that is not JSON: <html>$/m,
  ],
];
for (const [what, faults, message] of CANNOT) {
  Deno.test(`get: ${what}: one sentence, exit code 1 or 2, no file`, async () => {
    await using sandbox = await sandboxWith([WEB[0]!], () => faults);
    const { code, stderr } = await sandbox.run(["get", "web-0"]);
    match(stderr, message);
    strictEqual(stderr.trimEnd().split("\n").length, 1, stderr);
    strictEqual(code, what === "two releases" ? 2 : 1);
    deepStrictEqual(await sandbox.files(), []);
  });
}

Deno.test("get asks the container reader, whatever else was injected into its pod", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  await sandbox.run(["get", "web-0"]);
  const [call] = (await sandbox.calls()).filter(({ args }) => args.includes("exec"));
  deepStrictEqual(call?.args.slice(0, 8), [
    "exec",
    "-i",
    "-n",
    "packet-capture",
    "packet-capture-worker1",
    "-c",
    "reader",
    "--",
  ]);
});

Deno.test("get hands the kubeconfig flags on to every kubectl", async () => {
  await using sandbox = await sandboxWith([WEB[0]!]);
  const flags = ["--context", "prod", "--as", "jane", "--as-group", "dev", "--as-group", "ops", "--token", "t"];
  strictEqual((await sandbox.run(["get", "web-0", ...flags])).code, 0);
  const wanted = ["--context=prod", "--as=jane", "--as-group=dev", "--as-group=ops", "--token=t"];
  for (const { args } of await sandbox.calls()) {
    deepStrictEqual(wanted.filter((flag) => !args.includes(flag)), [], args.join(" "));
  }
});

Deno.test("without kubectl: one sentence, exit code 1", async () => {
  await using sandbox = await Sandbox.create();
  const { code, stderr } = await sandbox.run(["get", "web-0"], { env: { PATH: "/nonexistent" } });
  strictEqual(stderr, "error: Cannot find kubectl in PATH: the plugin works through it, so install kubectl first\n");
  strictEqual(code, 1);
});

Deno.test("get shows a bar on a terminal", async () => {
  await using sandbox = await sandboxWith(WEB, () => [{ when: ["list -n default -o json"], stdout: "[]" }]);
  const line = pluginCommand(["get", "-l", "app=web", "-o", "web.pcapng"]).map((word) => `'${word}'`).join(" ");
  const { code, stdout } = await new Deno.Command("script", {
    args: ["--quiet", "--return", "--command", line, "/dev/null"],
    cwd: sandbox.path("work"),
    env: { FAKE_KUBECTL: sandbox.dir, PATH: `${sandbox.path("bin")}:${Deno.env.get("PATH")}` },
    signal: AbortSignal.timeout(60_000),
  }).output();
  const text = new TextDecoder().decode(stdout);
  strictEqual(code, 0, text);
  match(text, /100% .*3\/3 pods/);
  deepStrictEqual(await sandbox.files(), ["web.pcapng"]);
});

/** No kubectl of this sandbox runs any more. */
async function allGone(sandbox: Sandbox): Promise<void> {
  const pids = (await sandbox.calls()).map(({ pid }) => pid);
  ok(pids.length > 0);
  await eventually(() => Promise.resolve(!pids.some((pid) => isAlive(pid))));
}

function isAlive(pid: number): boolean {
  try {
    return Deno.readTextFileSync(`/proc/${pid}/cmdline`).includes("fake_kubectl");
  } catch {
    return false;
  }
}

function lastBlockLength(path: string): number {
  const bytes = Deno.readFileSync(path);
  return new DataView(bytes.buffer).getUint32(bytes.length - 4, true);
}
