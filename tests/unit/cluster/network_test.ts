import assert from "node:assert/strict";
import { run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";

/** Lets the bridge pc0-br past Docker, and takes that back, in a process that finds these programs only. */
async function inAndOut(path: string): Promise<Said> {
  const module = new URL("../../cluster/network.ts", import.meta.url);
  const code =
    `const { pastDocker } = await import("${module}"); await pastDocker("-I", "pc0-br"); await pastDocker("-D", "pc0-br");`;
  return await run(Deno.execPath(), ["eval", "--no-config", code], { env: { PATH: path } });
}

Deno.test("the local cluster's bridge is let through Docker's chain for users, both ways, as long as it is there", async () => {
  await using programs = await standIns({ iptables: "exit 0" });
  const { code, stderr } = await inAndOut(programs.path);
  assert.equal(code, 0, stderr);
  const rule = (
    action: string,
    side: string,
  ) => ["iptables", "-w", action, "DOCKER-USER", side, "pc0-br", "-j", "ACCEPT"];
  assert.deepEqual(await programs.calls(), [rule("-I", "-i"), rule("-I", "-o"), rule("-D", "-i"), rule("-D", "-o")]);
});

Deno.test("a machine without Docker's chain, or without iptables, has nothing to get past", async () => {
  await using programs = await standIns({
    iptables: "echo 'iptables: No chain/target/match by that name.' >&2; exit 1",
  });
  assert.equal((await inAndOut(programs.path)).code, 0);
  await using none = await standIns({});
  assert.equal((await inAndOut(none.folder)).code, 0);
});
