/** `list` over several nodes, one of which does not answer. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import type { Rule } from "./fake_kubectl.ts";
import { clusterRole, clusterRules, controllerPod, CONTROLLERS, list, PATCHED, RELEASES, Sandbox } from "./rig.ts";

function row(pod: string, more: Record<string, unknown> = {}) {
  return {
    namespace: "default",
    pod,
    uid: `uid-${pod}`,
    state: "capturing",
    reason: "",
    since: new Date(Date.now() - 300_000).toISOString(),
    files: 5,
    bytes: 4_200_000,
    packets: 1234,
    dropped: 0,
    oldest: new Date(Date.now() - 240_000).toISOString(),
    newest: new Date(Date.now() - 1000).toISOString(),
    filter: null,
    ...more,
  };
}

const OPTIONS = { options: { "file-size": "2", interface: "e\u001b[2J" } };
const WORKER1: Rule = {
  when: ["exec", "worker1", "list -o json"],
  stdout: JSON.stringify([
    row("web-1"),
    row("web-0", {
      filter: "tcp port \u001b[31m80",
      newest: null,
      state: "waiting",
      reason: "no room\nhere",
      ...OPTIONS,
    }),
  ]),
};
const WORKER2: Rule = {
  when: ["exec", "worker2", "list -o json"],
  stdout: JSON.stringify([row("db-0", { namespace: "data" })]),
};

Deno.test("list shows the captures of all nodes in one table, safe for the terminal", async () => {
  await using sandbox = await Sandbox.create([...clusterRules(["worker1", "worker2"], []), WORKER1, WORKER2]);
  const { code, text, stderr } = await sandbox.run(["list"]);
  deepStrictEqual([code, stderr], [0, ""]);
  const rows = text.trimEnd().split("\n").map((line) => line.split(/ {2,}/));
  deepStrictEqual(rows[0]?.slice(0, 4), ["NAMESPACE", "POD", "NODE", "STATE"]);
  deepStrictEqual(rows.slice(1).map(([namespace, pod, node]) => `${namespace}/${pod}@${node}`), [
    "data/db-0@worker2",
    "default/web-0@worker1",
    "default/web-1@worker1",
  ]);
  deepStrictEqual(rows[2]?.slice(3), [
    "waiting: no room\\nhere",
    "5m",
    "5",
    "4.2 MB",
    "1234",
    "0",
    "4m",
    "-",
    "file-size=2 interface=e\\x1b[2J",
    "tcp port \\x1b[31m80",
  ]);
  ok(!text.includes("\u001b"));
});

Deno.test("list names the nodes that cannot be asked, shows the others, and exits with 1", async () => {
  await using sandbox = await Sandbox.create([
    { when: RELEASES, stdout: list([clusterRole()]) },
    {
      when: CONTROLLERS,
      stdout: list([
        controllerPod("worker1"),
        controllerPod("worker2"),
        controllerPod("worker3", { ready: false, waiting: "CrashLoopBackOff" }),
      ]),
    },
    WORKER1,
    { when: ["exec", "worker2"], code: 1, stderr: "error: unable to upgrade connection: container not found\n" },
  ]);
  const { code, text, stderr } = await sandbox.run(["list"]);
  strictEqual(code, 1);
  match(text, /web-0/);
  deepStrictEqual(stderr.trimEnd().split("\n"), [
    "Cannot ask node worker2: unable to upgrade connection: container not found",
    "Cannot ask node worker3: The controller of node worker3 (pod packet-capture/packet-capture-worker3) is not ready: phase Pending, CrashLoopBackOff",
  ]);
});

Deno.test("list -o json is one document with the unreachable nodes in it", async () => {
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], []),
    WORKER1,
    { when: ["exec", "worker2"], stdout: "not json" },
  ]);
  const { code, text } = await sandbox.run(["list", "-o", "json"]);
  strictEqual(code, 1);
  const { captures, unreachable } = JSON.parse(text);
  deepStrictEqual(captures.map(({ pod, node }: { pod: string; node: string }) => [pod, node]), [["web-0", "worker1"], [
    "web-1",
    "worker1",
  ]]);
  deepStrictEqual(unreachable, [{ node: "worker2", reason: "its list is not the JSON that this plugin reads" }]);
});

Deno.test("list -o json leaves no character in it that a terminal obeys", async () => {
  const reason = "unknown host '\u009b31m\u202e'";
  const answer: Rule = { ...WORKER1, stdout: JSON.stringify([row("web-0", { reason })]) };
  await using sandbox = await Sandbox.create([...clusterRules(["worker1"], []), answer]);
  const { text } = await sandbox.run(["list", "-o", "json"]);
  match(text, /^[\n\u0020-\u007e]*$/);
  strictEqual(JSON.parse(text).captures[0].reason, reason);
});

Deno.test("list refuses one namespace and all of them at once: exit code 2", async () => {
  await using sandbox = await Sandbox.create();
  const { code, stderr } = await sandbox.run(["list", "-n", "data", "-A"]);
  deepStrictEqual([code, stderr], [2, "error: Give either -n NAMESPACE or --all-namespaces, not both\n"]);
});

Deno.test("list -n asks for one namespace alone, shows nothing else, and reports when there is nothing", async () => {
  const rows = JSON.stringify([row("db-0", { namespace: "data" }), row("other", { namespace: "bank" })]);
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], []),
    { when: ["exec", "worker2", "list -n data -o json"], stdout: rows },
    { when: ["exec", "list -n"], stdout: "[]" },
  ]);
  match((await sandbox.run(["list", "-n", "data"])).text, /^NAMESPACE.*\ndata +db-0 .*\n$/);
  const exec = (await sandbox.calls()).find(({ args }) => args.includes("packet-capture-worker1"));
  deepStrictEqual(exec?.args, [
    ...["exec", "-n", "packet-capture", "packet-capture-worker1", "-c", "reader", "--"],
    ...["packet-capture", "list", "-n", "data", "-o", "json"],
  ]);
  const none = await sandbox.run(["list", "-n", "empty"]);
  deepStrictEqual([none.code, none.text, none.stderr], [0, "", "No captures in namespace empty on 2 nodes\n"]);
  await sandbox.follow([...clusterRules(["worker1"], []), { when: ["exec", "list -n"], stdout: "[]" }]);
  strictEqual((await sandbox.run(["list", "-n", "empty"])).stderr, "No captures in namespace empty on 1 node\n");
});

Deno.test("list shows the rows that can be read next to one that cannot, names the node, and exits with 1", async () => {
  const broken = [{ ...row("bad"), bytes: "many" }, null, row("--capture-dir=/etc")];
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], []),
    { when: ["exec", "worker1", "list -o json"], stdout: JSON.stringify([row("web-0"), ...broken, row("web-1")]) },
    WORKER2,
  ]);
  const { code, text, stderr } = await sandbox.run(["list"]);
  deepStrictEqual(text.trimEnd().split("\n").map((line) => line.split(/ +/)[1]), ["POD", "db-0", "web-0", "web-1"]);
  deepStrictEqual([code, stderr], [1, "Cannot read the whole list of node worker1: 3 rows cannot be read\n"]);
  const { damaged } = JSON.parse((await sandbox.run(["list", "-o", "json"])).text);
  deepStrictEqual(damaged, [{ node: "worker1", reason: "3 rows cannot be read" }]);
});

Deno.test("list shows what a reader lists that cannot read one capture, with the reader's reason, and exits with 1", async () => {
  const stderr = "packet-capture: /captures/shop/web-1/capture.json is damaged\ncommand terminated with exit code 1\n";
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], []),
    { ...WORKER1, code: 1, stderr },
    WORKER2,
  ]);
  const result = await sandbox.run(["list"]);
  deepStrictEqual(result.text.trimEnd().split("\n").map((line) => line.split(/ +/)[1]), [
    ...["POD", "db-0", "web-0", "web-1"],
  ]);
  deepStrictEqual([result.code, result.stderr], [
    1,
    "Cannot read the whole list of node worker1: /captures/shop/web-1/capture.json is damaged\n",
  ]);
});

/** What kubectl prints when the read policy has refused `exec`. */
const REFUSED: Partial<Rule> = {
  code: 1,
  stderr:
    `Error from server (Forbidden): pods "packet-capture-worker1" is forbidden: ValidatingAdmissionPolicy 'packet-capture-read.packet-capture.packet-capture' ` +
    "with binding 'packet-capture.read' denied request: no\n",
};

Deno.test("list reports in one sentence which right it takes, once for all nodes, and that -n helps", async () => {
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], []),
    { ...REFUSED, when: ["exec"] },
  ]);
  const all = await sandbox.run(["list"]);
  deepStrictEqual([all.code, all.text, all.stderr], [
    1,
    "",
    "error: Cannot list captures of all namespaces: you lack the permission " +
    '"administer" on "captures.tcpdump.antrea.io" in namespace packet-capture; give -n NAMESPACE for those of one\n',
  ]);
  const one = await sandbox.run(["list", "-n", "bank"]);
  deepStrictEqual([one.code, one.text, one.stderr], [
    1,
    "",
    "error: Cannot list captures of namespace bank: you lack the permission " +
    '"list" on "captures.tcpdump.antrea.io" in namespace bank; ClusterRole packet-capture-read or packet-capture-request, ' +
    "bound there, has it\n",
  ]);
});

Deno.test("stop reports how many files and bytes it deletes, summed over nodes", async () => {
  const pods = [{ name: "web-0", node: "worker1" }, { name: "db-0", node: "worker2", namespace: "data" }];
  const web = [row("web-0", { uid: "uid-default-web-0" }), row("other")];
  const db = [row("db-0", { uid: "uid-data-db-0", namespace: "data", files: 1, bytes: 300_000 })];
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], pods),
    { when: ["exec", "worker1", "list -n default -o json"], stdout: JSON.stringify(web) },
    { when: ["exec", "worker2", "list -n data -o json"], stdout: JSON.stringify(db) },
    PATCHED,
  ]);
  const { code, stderr } = await sandbox.run(["stop", "-A", "-l", "x", "--yes", "--wait", "0s"]);
  deepStrictEqual([code, stderr], [0, "This ends the captures of 2 pods and deletes 6 files, 4.5 MB.\n"]);
});

Deno.test("stop asks a node for each namespace of up to four, and for all together where there are more", async () => {
  for (const [count, asked] of [[4, ["-n ns1", "-n ns2", "-n ns3", "-n ns4"]], [5, [""]]] as const) {
    const pods = Array.from({ length: count }, (_, i) => ({ name: "web-0", node: "worker1", namespace: `ns${i + 1}` }));
    await using sandbox = await Sandbox.create([
      ...clusterRules(["worker1"], pods),
      { when: ["exec"], stdout: "[]" },
      PATCHED,
    ]);
    strictEqual((await sandbox.run(["stop", "-A", "-l", "x", "--yes", "--wait", "0s"])).code, 0);
    const lists = (await sandbox.calls()).filter(({ args }) => args.includes("exec")).map(({ args }) => args.join(" "));
    deepStrictEqual(
      lists.map((line) => line.replace(/^.* packet-capture list ?/, "").replace(/ ?-o json$/, "")),
      [...asked],
    );
  }
});

Deno.test("stop reports what may be deleted unseen where the user may not list", async () => {
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1"], [{ name: "web-0", node: "worker1" }]),
    { ...REFUSED, when: ["exec"] },
    PATCHED,
  ]);
  const { code, stderr } = await sandbox.run(["stop", "web-0", "--yes", "--wait", "0s"]);
  match(
    stderr,
    /^This ends the capture of default\/web-0 and deletes the files; how many is unknown: Cannot list captures of .*\.\n$/,
  );
  strictEqual(code, 0);
});
