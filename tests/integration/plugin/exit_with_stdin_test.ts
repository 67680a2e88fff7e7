/** What the plugin's downloads rely on in the controller's pod: a reading command ends when its client has gone. */
import { deepStrictEqual, strictEqual } from "node:assert";
import { join } from "@std/path";
import { denoArgs, ROOT } from "../../rig/cli.ts";

Deno.test("exitWithStdin() ends a process whose output nobody reads as soon as its input ends, and not before", async () => {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-plugin-" });
  try {
    const module = new URL(`file://${join(ROOT, "src/reading/exit_with_stdin.ts")}`);
    // It writes until the pipe is full, and then waits for a reader, as containerd leaves it to.
    await Deno.writeTextFile(
      join(dir, "writer.ts"),
      `import { exitWithStdin } from ${
        JSON.stringify(module.href)
      };\nexitWithStdin();\nfor (;;) await Deno.stdout.write(new Uint8Array(65536));\n`,
    );
    const child = new Deno.Command(Deno.execPath(), {
      args: denoArgs("writer.ts", dir),
      cwd: ROOT,
      stdin: "piped",
      stdout: "piped",
      signal: AbortSignal.timeout(60_000),
    }).spawn();
    const reader = child.stdout.getReader();
    await reader.read(); // it writes
    const state = await Promise.race([child.status, new Promise((resolve) => setTimeout(resolve, 500, "runs"))]);
    strictEqual(state, "runs");
    await child.stdin.close();
    const { code, signal } = await child.status;
    deepStrictEqual([code, signal], [143, null]); // by itself, not by the deadline
    await reader.cancel();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
