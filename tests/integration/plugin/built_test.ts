/** The plugin as `make plugin` builds it, found and run by the real kubectl. */
import { deepStrictEqual, match, strictEqual } from "node:assert";
import { join } from "@std/path";
import { run } from "../../rig/cli.ts";
import { tree } from "../../rig/tree.ts";
import { VERSION } from "../../../src/version.ts";
import { clusterRules, Sandbox } from "./rig.ts";

Deno.test("make plugin makes one file that kubectl finds in PATH and runs", async () => {
  await using project = await tree("Makefile", "deno.json", "deno.lock", "node_modules", "tools", "src");
  const made = await run("make", ["plugin"], { cwd: project.path, deadlineMs: 400_000 });
  strictEqual(made.code, 0, made.stderr);
  await using sandbox = await Sandbox.create([
    ...clusterRules(["worker1"], []),
    { when: ["exec", "worker1", "list -n data -o json"], stdout: "[]" },
  ]);
  // Beside nothing else of the project, as in a folder of a user's PATH.
  const folder = sandbox.path("folder-of-path");
  await Deno.mkdir(folder);
  await Deno.copyFile(join(project.path, "dist/kubectl-packet_capture"), join(folder, "kubectl-packet_capture"));
  const kubectl = (await run("sh", ["-c", "command -v kubectl"])).stdout.trim();
  // The plugin's own kubectl is the scripted one, which stands first in PATH.
  const options = {
    env: { PATH: `${sandbox.path("bin")}:${folder}:${Deno.env.get("PATH")}`, FAKE_KUBECTL: sandbox.dir },
    cwd: sandbox.path("work"),
  };
  const said = await run(kubectl, ["packet-capture", "--version"], options);
  deepStrictEqual(said, { code: 0, stdout: `${VERSION}\n`, stderr: "" });
  const list = await run(kubectl, ["packet-capture", "list", "-n", "data"], options);
  deepStrictEqual([list.code, list.stdout, list.stderr], [0, "", "No captures in namespace data on 1 node\n"]);
  const refused = await run(kubectl, ["packet-capture", "get"], options);
  strictEqual(refused.code, 2);
  match(refused.stderr, /^error: Name the pods: /);
});
