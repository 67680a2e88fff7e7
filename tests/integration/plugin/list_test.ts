/** `list` over several nodes, one of which does not answer. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import type { Rule } from "./fake_kubectl.ts";
import { clusterRules, controllerPod, daemonSet, list, Sandbox } from "./rig.ts";

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

const WORKER1: Rule = {
  when: ["exec", "worker1", "list -o json"],
  stdout: JSON.stringify([
    row("web-1"),
    row("web-0", { filter: "tcp port \u001b[31m80", newest: null, state: "waiting", reason: "no room\nhere" }),
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
    "tcp port \\x1b[31m80",
  ]);
  ok(!text.includes("\u001b"));
});

Deno.test("list names the nodes that cannot be asked, shows the others, and exits with 1", async () => {
  await using sandbox = await Sandbox.create([
    {
      when: ["daemonsets"],
      stdout: list([
        daemonSet(),
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
    "Node worker2 could not be asked: unable to upgrade connection: container not found",
    "Node worker3 could not be asked: The controller of node worker3 (pod packet-capture/packet-capture-worker3) is not ready: phase Pending, CrashLoopBackOff",
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
  deepStrictEqual(unreachable, [{ node: "worker2", reason: "its list is not JSON as this plugin knows it" }]);
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
  deepStrictEqual([code, stderr], [2, "Error: Give either -n NAMESPACE or --all-namespaces, not both\n"]);
});

Deno.test("list -n shows one namespace, and says when there is nothing", async () => {
  await using sandbox = await Sandbox.create([...clusterRules(["worker1", "worker2"], []), WORKER1, WORKER2]);
  match((await sandbox.run(["list", "-n", "data"])).text, /^NAMESPACE.*\ndata +db-0 .*\n$/);
  const none = await sandbox.run(["list", "-n", "empty"]);
  deepStrictEqual([none.code, none.text, none.stderr], [0, "", "No captures in namespace empty on 2 nodes\n"]);
});

Deno.test("stop says how many files and bytes it deletes, summed over nodes", async () => {
  const pods = [{ name: "web-0", node: "worker1" }, { name: "db-0", node: "worker2", namespace: "data" }];
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1", "worker2"], pods),
    { ...WORKER1, stdout: JSON.stringify([row("web-0", { uid: "uid-default-web-0" }), row("other")]) },
    { ...WORKER2, stdout: JSON.stringify([row("db-0", { uid: "uid-data-db-0", files: 1, bytes: 300_000 })]) },
    { when: ["patch"], stdout: "" },
  ]);
  const { code, stderr } = await sandbox.run(["stop", "-A", "-l", "x", "--yes", "--wait", "0s"]);
  deepStrictEqual([code, stderr], [0, "This ends the captures of 2 pods and deletes 6 files, 4.5 MB.\n"]);
});
