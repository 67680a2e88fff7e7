/** `list` of pods, as YAML, and again and again: real API server, real kubectl, whose `exec` answers what a file says. */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { load, loadAll } from "js-yaml";
import { tool } from "../../support/tool.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { controllerPod, eventually, install, pluginCommand, Sandbox } from "./rig.ts";

let server: ApiServer;
let sandbox: Sandbox;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  await server.createNamespace("packet-capture");
  await install(server, [controllerPod("worker1"), controllerPod("worker2")]);
  for (const name of ["web-0", "web-1"]) {
    uids[name] = (await server.createPod({ name, node: "worker1" })).metadata.uid;
  }
  sandbox = await Sandbox.create();
  await Deno.writeTextFile(
    sandbox.path("bin/kubectl"),
    `#!/bin/bash\n[[ $1 == exec ]] || exec '${tool("kubectl")}' "$@"\n` +
      `echo "$*" >>'${sandbox.path("looks")}'\n[[ -e '${
        sandbox.path("broken")
      }' ]] && { echo 'error: broken' >&2; exit 1; }\n` +
      `[[ -e '${sandbox.path("hang")}' ]] && { echo $$ >>'${sandbox.path("pids")}'; exec sleep 300; }\n` +
      `case "$*" in *worker1*) cat '${sandbox.path("rows.json")}';; *) echo '[]';; esac\n`,
  );
});
Deno.test.afterAll(async () => {
  await sandbox?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});
Deno.test.beforeEach(async () => {
  for (const name of ["broken", "hang", "looks"]) await Deno.remove(sandbox.path(name)).catch(() => {});
});

const uids: Record<string, string> = {};

function row(pod: string, more: Record<string, unknown> = {}) {
  const times = { since: null, oldest: null, newest: null };
  const counts = { files: 5, bytes: 4_200_000, packets: 1234, dropped: 0 };
  const its = { namespace: "default", pod, uid: uids[pod] ?? `uid-${pod}`, state: "capturing", reason: "" };
  return { ...its, ...times, ...counts, filter: null, ...more };
}

async function rows(...rows: readonly unknown[]): Promise<void> {
  await Deno.writeTextFile(sandbox.path("rows.new"), JSON.stringify(rows));
  await Deno.rename(sandbox.path("rows.new"), sandbox.path("rows.json"));
}

const env = () => ({ KUBECONFIG: join(server.dir, "admin.kubeconfig") });

async function looks(): Promise<string[]> {
  return (await Deno.readTextFile(sandbox.path("looks")).catch(() => "")).split("\n").filter(Boolean);
}

Deno.test("list NAME shows those pods alone, asks only their nodes, and names what is not captured: exit code 1", async () => {
  await rows(row("web-0"), row("other"));
  for (const form of [["web-0"], ["pod", "web-0"], ["default/web-0"], ["-n", "default", "pod/web-0"]]) {
    const { code, text, stderr } = await sandbox.run(["list", ...form], { env: env() });
    deepStrictEqual([code, stderr], [0, ""], form.join(" "));
    match(text, /^NAMESPACE.*\ndefault +web-0 +worker1 +capturing .*\n$/);
  }
  ok((await looks()).every((line) => line.includes("packet-capture-worker1") && line.includes("list -n default -o")));
  const { code, text, stderr } = await sandbox.run(["list", "web-0", "web-1"], { env: env() });
  deepStrictEqual([code, stderr], [1, "Not captured: default/web-1\n"]);
  match(text, /web-0/);
  const none = await sandbox.run(["list", "none"], { env: env() });
  deepStrictEqual([none.code, none.text, none.stderr], [
    1,
    "",
    "error: There is no pod none in namespace default (the current context's)\n",
  ]);
});

Deno.test("list -o yaml has in blocks what -o json has, and has no character that a terminal obeys", async () => {
  const reason = "unknown host '\u009b31m\u202e' \u001b[31m\nyes";
  for (const more of [{}, { reason, filter: "yes" }]) {
    await rows(row("web-0", more), row("web-1"));
    const yaml = await sandbox.run(["list", "-o", "yaml"], { env: env() });
    const json = await sandbox.run(["list", "-o=json"], { env: env() });
    deepStrictEqual([yaml.code, yaml.stderr], [0, ""]);
    match(yaml.text, /^captures:\n {2}- namespace: "?default"?\n {4}pod: "?web-0"?\n/);
    match(yaml.text, /^[\n\u0020-\u007e]*$/);
    deepStrictEqual(load(yaml.text), JSON.parse(json.text));
  }
});

class Watching implements AsyncDisposable {
  readonly child: Deno.ChildProcess;
  stdout = "";
  stderr = "";
  readonly #reading: Promise<unknown>;

  constructor(...args: string[]) {
    const [program, ...rest] = pluginCommand(["list", "--watch", ...args]);
    const path = `${sandbox.path("bin")}:${Deno.env.get("PATH")}`;
    this.child = new Deno.Command(program!, {
      args: rest,
      ...{ stdin: "null", stdout: "piped", stderr: "piped" },
      env: { ...env(), PATH: path },
    }).spawn();
    const read = async (stream: ReadableStream<Uint8Array<ArrayBuffer>>, add: (text: string) => void) => {
      for await (const text of stream.pipeThrough(new TextDecoderStream())) add(text);
    };
    this.#reading = Promise.all([
      read(this.child.stdout, (text) => this.stdout += text),
      read(this.child.stderr, (text) => this.stderr += text),
    ]);
  }

  async interrupt(): Promise<number> {
    this.child.kill("SIGINT");
    await this.#reading;
    return (await this.child.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.child.kill("SIGKILL");
    } catch { /* It has ended. */ }
    await this.#reading;
  }
}

Deno.test("list --watch shows a row again when it has changed and once when it is gone, and ends on SIGINT with 0", async () => {
  await rows(row("web-0"), row("web-1"));
  await using watching = new Watching();
  const lines = () => watching.stdout.trimEnd().split("\n").map((line) => line.split(/ {2,}/).slice(1, 8).join(" "));
  await eventually(() => Promise.resolve(lines().length === 3));
  // Two more looks at what is as it was show nothing.
  const before = (await looks()).length;
  await eventually(async () => (await looks()).length >= before + 4);
  await rows(row("web-0", { packets: 1300 }), row("web-1"));
  await eventually(() => Promise.resolve(lines().length === 4));
  await rows(row("web-0", { packets: 1300, state: "completed", reason: "duration is reached" }));
  await eventually(() => Promise.resolve(lines().length === 6));
  strictEqual(await watching.interrupt(), 0);
  deepStrictEqual(lines(), [
    "POD NODE STATE SINCE FILES BYTES PACKETS",
    "web-0 worker1 capturing - 5 4.2 MB 1234",
    "web-1 worker1 capturing - 5 4.2 MB 1234",
    "web-0 worker1 capturing - 5 4.2 MB 1300",
    "web-0 worker1 completed: duration is reached - 5 4.2 MB 1300",
    "web-1 worker1 deleted - 5 4.2 MB 1234",
  ]);
  strictEqual(watching.stderr, "");
});

Deno.test("list --watch reports once that a node cannot be asked, takes nothing for deleted, asks less often, and goes on", async () => {
  await rows(row("web-0"));
  await using watching = new Watching("web-0");
  await eventually(() => Promise.resolve(watching.stdout.includes("web-0")));
  await Deno.writeTextFile(sandbox.path("broken"), "");
  const begin = performance.now(), before = (await looks()).length;
  await eventually(async () => (await looks()).length >= before + 3, 40_000);
  // At least half of 2, 4 and 8 seconds, less the first pause, which was on its way.
  ok(performance.now() - begin > 3000, `three looks in ${performance.now() - begin} ms`);
  strictEqual(watching.stderr, "Cannot ask node worker1: broken\n");
  await rows(row("web-0", { packets: 1300 }));
  await Deno.remove(sandbox.path("broken"));
  await eventually(() => Promise.resolve(watching.stdout.includes("1300")), 40_000);
  ok(!watching.stdout.includes("deleted"));
  strictEqual(await watching.interrupt(), 0);
});

Deno.test("list --watch -o yaml writes a document for each change, and leaves no kubectl behind when it is interrupted", async () => {
  await rows(row("web-0"));
  await using watching = new Watching("-o", "yaml");
  await eventually(() => Promise.resolve(watching.stdout !== ""));
  await rows(row("web-0", { packets: 1300 }));
  await eventually(() => Promise.resolve(watching.stdout.includes("1300")));
  await Deno.writeTextFile(sandbox.path("hang"), "");
  const pids = async () => (await Deno.readTextFile(sandbox.path("pids")).catch(() => "")).split("\n").filter(Boolean);
  await eventually(async () => (await pids()).length === 2);
  strictEqual(await watching.interrupt(), 0);
  for (const pid of await pids()) {
    await eventually(() => Deno.stat(`/proc/${pid}`).then(() => false, () => true));
  }
  const documents = loadAll(watching.stdout) as { captures: { packets: number }[] }[];
  deepStrictEqual(documents.map(({ captures }) => captures[0]?.packets), [1234, 1300]);
});
