import assert from "node:assert/strict";
import { join } from "@std/path";
import { cli, cliCommand, type Said } from "../rig/cli.ts";
import { tree } from "../rig/tree.ts";
import { VERSION } from "../../src/version.ts";
import { captureDir, packet, pcap } from "./reading/files.ts";

function assertUsage(said: Said, sentence: RegExp | string): void {
  assert.equal(said.code, 2, said.stderr);
  assert.equal(said.stdout, "");
  assert.equal(said.stderr.split("\n").length, 2, `not one line: ${said.stderr}`);
  if (typeof sentence === "string") assert.equal(said.stderr, `packet-capture: ${sentence}\n`);
  else assert.match(said.stderr, sentence);
}

Deno.test("packet-capture version prints the version of deno.json", async () => {
  for (const args of [["version"], ["--version"], ["-V"]]) {
    assert.deepEqual(await cli(args), { code: 0, stdout: `packet-capture ${VERSION}\n`, stderr: "" });
  }
});

Deno.test("packet-capture --help lists the commands, and each command its flags", async () => {
  const { code, stdout } = await cli(["--help"]);
  assert.equal(code, 0);
  for (const command of ["controller", "list", "cat", "stream", "purge", "version"]) {
    assert.match(stdout, new RegExp(`^  ${command} `, "m"));
  }
  const controller = await cli(["controller", "--help"]);
  assert.match(
    controller.stdout,
    /--max-files <value>\s+.*a\s+whole\s+number\s+from\s+1\s+to\s+10000\s+\(MAX_FILES,\s+default\s+100\)/s,
  );
});

Deno.test("packet-capture without NODE_NAME reports it and exits 2", async () => {
  const sentence =
    /^packet-capture: NODE_NAME \(flag --node-name\) must be a name of lower-case letters.*: it is not set\n$/;
  assertUsage(await cli([]), sentence);
  assertUsage(await cli(["controller"]), sentence);
  assertUsage(await cli(["--http-port", "0"]), sentence);
});

Deno.test("packet-capture refuses what it does not know in one sentence and exits 2", async () => {
  assertUsage(await cli(["lsit"]), "unknown command 'lsit' (Did you mean list?)");
  assertUsage(await cli(["list", "--bad"]), "unknown option '--bad'");
  assertUsage(await cli(["--node-name", "a", "extra"]), /too many arguments/);
  assertUsage(await cli(["list", "-o", "yaml"]), /argument 'yaml' is invalid\. Allowed choices are table, json\./);
  assertUsage(await cli(["cat"]), /missing required argument 'namespace\/pod'/);
  assertUsage(
    await cli(["cat", "a/b", "--since", "5"]),
    /argument '5' is invalid\. It must be a duration such as 30s, 5m or 2h$/m,
  );
});

Deno.test("packet-capture list shows one namespace's captures, whichever way its flags are written", async () => {
  await using dir = await captureDir();
  const env = { CAPTURE_DIR: dir.path };
  const other = join(dir.path, "other", "db-0");
  await Deno.mkdir(other, { recursive: true });
  for (const flags of [["-n", "other"], ["-nother"], ["--namespace", "other"], ["--namespace=other"]]) {
    for (const output of [["-o", "json"], ["--output", "json"], ["--output=json"]]) {
      const { code, stdout } = await cli(["list", ...flags, ...output], { env });
      assert.equal(code, 0);
      assert.deepEqual(JSON.parse(stdout).map(({ pod }: { pod: string }) => pod), ["db-0"], flags.join(" "));
    }
  }
  assertUsage(
    await cli(["list", "-n", "../other"], { env }),
    /^packet-capture: Cannot list the namespace "\.\.\/other"/,
  );
});

Deno.test("packet-capture cat and stream take their flags in one word or two, before or after the pod", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "completed" });
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)]));
  const env = { CAPTURE_DIR: dir.path };
  const whole = await cli(["cat", "default/web-0", "--format", "pcap"], { env });
  assert.equal(whole.code, 0, whole.stderr);
  for (
    const args of [
      ["cat", "default/web-0", "--format=pcap"],
      ["cat", "--format=pcap", "--since=8760h", "default/web-0"],
      ["cat", "--since", "8760h", "default/web-0", "--format", "pcap"],
    ]
  ) {
    const { code, stdout } = await cli(args, { env });
    assert.equal(code, 0);
    assert.equal(stdout.length > 0, true);
  }
  assert.equal((await cli(["stream", "default/web-0", `--capture-dir=${dir.path}`])).code, 0);
  assert.equal((await cli(["stream", "--capture-dir", dir.path, "default/web-0"])).code, 0);
});

Deno.test("packet-capture in the container reader only reads, and only what it was given", async () => {
  await using dir = await captureDir();
  const env = { CAPTURE_DIR: dir.path, READER: "true", NODE_NAME: "node-1" };
  const { code, stdout, stderr } = await cli(["list", "-n", "default"], { env });
  assert.equal(code, 0, stderr);
  assert.match(stdout, /^default\/web-0 /m);
  assert.equal((await cli(["version"], { env })).code, 0);
  for (const command of [["list"], ["cat", "default/web-0"], ["stream", "default/web-0"]]) {
    for (
      const flag of [["--capture-dir", "/"], ["--capture-dir=/etc"], ["--log-level", "debug"], ["--log-format=json"]]
    ) {
      assertUsage(
        await cli([...command, ...flag], { env }),
        `Cannot use ${flag[0]!.split("=")[0]}: the settings of the container reader are those of its environment`,
      );
    }
  }
  for (const command of [[], ["controller"], ["purge"], ["check", "a/b"]]) {
    assertUsage(
      await cli(command, { env }),
      `Cannot run ${
        command[0] ?? "controller"
      } in the container reader: it only reads; use the container packet-capture`,
    );
  }
  assertUsage(await cli(["list"], { env: { ...env, READER: "yes" } }), 'READER must be true or false: got "yes"');
  assert.equal((await cli(["list", "--capture-dir", dir.path], { env: { READER: "false" } })).code, 0);
});

Deno.test("packet-capture shows no control character of its arguments", async () => {
  assertUsage(await cli(["\x1b[31m\u202ered\n"]), "unknown command '\\x1b[31m\\u202ered\\n'");
});

Deno.test("packet-capture refuses a bad setting of environment or flag and exits 2", async () => {
  const env = { NODE_NAME: "node-1", MAX_FILES: "5x" };
  assertUsage(await cli([], { env }), 'MAX_FILES must be a whole number from 1 to 10000: got "5x"');
  assertUsage(await cli(["--max-files=0"], { env }), '--max-files must be a whole number from 1 to 10000: got "0"');
  assertUsage(
    await cli(["list"], { env: { CAPTURE_DIR: "captures" } }),
    /^packet-capture: CAPTURE_DIR must be an absolute path .*: got "captures"\n$/,
  );
});

Deno.test("packet-capture reports what is wrong with its kubeconfig and exits 2 before it takes captureDir", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const config = (user: Record<string, string>) =>
      JSON.stringify({
        clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1111" } }],
        users: [{ name: "u", user }],
        contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
        "current-context": "x",
      });
    await Deno.writeTextFile(`${dir}/words`, "not a kubeconfig");
    await Deno.writeTextFile(
      `${dir}/tls`,
      config({ "client-certificate-data": btoa("x"), "client-key-data": btoa("y") }),
    );
    const env = { NODE_NAME: "node-1", HTTP_PORT: "0", HTTP_HOST: "127.0.0.1", CAPTURE_DIR: `${dir}/captures` };
    const causes: [Record<string, string>, RegExp][] = [
      [
        { HOME: "" },
        /^packet-capture: Cannot find the API server: neither KUBERNETES_SERVICE_HOST .* nor KUBECONFIG .*/,
      ],
      [{ KUBECONFIG: `${dir}/none` }, /^packet-capture: Cannot read the kubeconfig .*\/none: .*/],
      [{ KUBECONFIG: `${dir}/words` }, /^packet-capture: Cannot use the kubeconfig: its current-context .*/],
      [
        { KUBECONFIG: `${dir}/tls` },
        /^packet-capture: Cannot use the kubeconfig's client certificate: .*; it must be a certificate with its key, both PEM$/,
      ],
    ];
    for (const [cause, sentence] of causes) {
      const { code, stderr } = await cli(["controller"], { env: { ...env, ...cause } });
      assert.equal(code, 2, stderr);
      const [last, ...log] = stderr.trimEnd().split("\n").reverse();
      assert.match(last!, sentence);
      for (const line of log) assert.match(line, /^level=info /);
      await assert.rejects(Deno.lstat(env.CAPTURE_DIR), Deno.errors.NotFound, "captureDir was made");
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

/** Runs `packet-capture controller` with this in the place of the real controller. */
async function withController(code: string, onStarted?: (child: Deno.ChildProcess) => void): Promise<Said> {
  const parts = ["main", "settings", "log", "version"].map((name) => `src/${name}.ts`);
  await using project = await tree("deno.json", "node_modules", "src/base", ...parts);
  await project.write("src/controller.ts", code);
  const child = cliCommand(["controller"], { env: { NODE_NAME: "node-1", MAX_FILES: "7" } }, project.path).spawn();
  const stdout = new Response(child.stdout).text();
  let stderr = "";
  for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
    stderr += text;
    if (stderr.includes("started\n")) {
      onStarted?.(child);
      onStarted = undefined;
    }
  }
  return { code: (await child.status).code, stdout: await stdout, stderr };
}

Deno.test("packet-capture hands the settings to the controller, logs them, and exits with its code", async () => {
  const { code, stderr } = await withController(`
    export const runController = ({ nodeName, limits }) => Promise.resolve(nodeName === "node-1" && limits.maxFiles === 7 ? 42 : 1);
  `);
  assert.equal(code, 42);
  assert.match(stderr, /^level=info msg=settings NODE_NAME=node-1 .* MAX_FILES=7 .*\n$/);
});

Deno.test("packet-capture leaves with the lines of its log written", async () => {
  const lines = `import { getLog } from "./log.ts";
    for (let i = 0; i < 1000; i++) getLog().info("line", { i });`;
  for (const [code, end] of [[0, "return 0"], [1, `throw new Error("why")`], [1, `Promise.reject("why")`]] as const) {
    const said = await withController(
      `export async function runController() { ${end}; await new Promise(() => {}); }\n${lines}`,
    );
    assert.equal(said.code, code, said.stderr);
    assert.equal(said.stderr.split("\n").filter((line) => line.includes(" msg=line ")).length, 1000);
  }
});

for (const name of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`packet-capture lets the controller end its work when it gets ${name}`, async () => {
    const { code, stderr } = await withController(
      `export async function runController(_, signal) {
        console.error("started");
        const alive = setInterval(() => {}, 1000);
        await new Promise((resolve) => signal.addEventListener("abort", resolve));
        clearInterval(alive);
        console.error(signal.reason.message);
        return 0;
      }`,
      (child) => child.kill(name),
    );
    assert.equal(code, 0);
    assert.ok(stderr.endsWith(`\nended by ${name}\n`), stderr);
  });
}

Deno.test("packet-capture logs what nobody caught and exits 1", async () => {
  const wait = "await new Promise((resolve) => setTimeout(resolve, 60_000));";
  const causes = {
    "unhandled rejection": `Promise.reject(new Error("why"));`,
    "uncaught error": `setTimeout(() => { throw new Error("why"); });`,
  };
  for (const [what, code] of Object.entries(causes)) {
    const said = await withController(`export async function runController() { ${code} ${wait} }`);
    assert.equal(said.code, 1, said.stderr);
    assert.match(
      said.stderr.split("\n")[1]!,
      new RegExp(`^level=error msg="${what}" error=why stack="Error: why.*controller\\.ts.*" time=`),
    );
    assert.equal(said.stderr.split("\n").length, 3, said.stderr);
  }
});

Deno.test("packet-capture reports in one sentence why the controller failed and exits 1, or 2 for a usage error", async () => {
  const failed = await withController(
    `export async function runController() { throw new Error("Cannot open x:\\nno"); }`,
  );
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /\npacket-capture: Cannot open x:\\nno\n$/);
  const usage = await withController(`
    import { UsageError } from "./settings.ts";
    export async function runController() { throw new UsageError("CAPTURE_DIR is another's"); }
  `);
  assert.equal(usage.code, 2);
  assert.match(usage.stderr, /\npacket-capture: CAPTURE_DIR is another's\n$/);
});
