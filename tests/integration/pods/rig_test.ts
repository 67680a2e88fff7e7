/** The rig itself: what a killed run leaves behind ends with it, and is gone after the next start. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { daemonsOf } from "../../support/daemon.ts";
import { waitFor } from "../../support/wait.ts";
import { ApiServer } from "../../rig/apiserver.ts";

Deno.test("an API server ends with the run that is killed; the next start deletes its folder, and nothing that is in use", async () => {
  const program = `import { ApiServer } from "${import.meta.resolve("../../rig/apiserver.ts")}";
    const server = await ApiServer.start();
    await Deno.stdout.write(new TextEncoder().encode(server.dir));
    await new Promise(() => setTimeout(() => {}, 600_000));`;
  const child = new Deno.Command(join(import.meta.dirname!, "../../../tools/deno"), {
    args: ["run", "--allow-all", "--no-check", `data:application/typescript;base64,${btoa(program)}`],
    stdin: "null",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  const dir = new TextDecoder().decode((await reader.read()).value);
  try {
    assert.equal((await daemonsOf(dir)).length, 2);
    {
      await using _living = await ApiServer.start();
      assert.equal((await daemonsOf(dir)).length, 2, "another run's are left alone");
    }
  } finally {
    child.kill("SIGKILL");
    await reader.cancel();
    await child.status;
  }
  await waitFor("the end of its processes", async () => (await daemonsOf(dir)).length === 0, { timeoutMs: 10_000 });
  assert.ok((await Deno.stat(dir)).isDirectory, "nobody has deleted its folder");
  await using server = await ApiServer.start();
  await assert.rejects(Deno.stat(dir), Deno.errors.NotFound);
  assert.equal((await daemonsOf(server.dir)).length, 2);
});
