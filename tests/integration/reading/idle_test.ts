/** What the chart starts the container `reader` with (charts/files/reader-idle.sh), among real processes in a PID namespace of their own. */
import { deepStrictEqual } from "node:assert";
import { join } from "@std/path";
import { ROOT } from "../../rig/cli.ts";
import { waitFor } from "../../support/wait.ts";

/** Seconds between two looks; the chart's are 300. */
const LOOKS = "2";
const FILE_BYTES = 8_000_000;
/** What SIGTERM ends a process with. */
const ENDED = 143;

Deno.test("the idle reader ends what nobody reads from, and nothing else", async () => {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-idle-" });
  const file = join(dir, "file");
  await Deno.writeFile(file, new Uint8Array(FILE_BYTES));
  const script = await Deno.readTextFile(join(ROOT, "charts/files/reader-idle.sh"));
  const idle = new Deno.Command("unshare", {
    args: [..."--pid --fork --kill-child --mount-proc busybox sh -c".split(" "), script, "reader-idle", LOOKS],
  }).spawn();
  // With its first process all of the namespace ends.
  const end = () => {
    try {
      idle.kill("SIGKILL");
    } catch { /* It has ended. */ }
  };
  const deadline = setTimeout(end, 60_000);
  try {
    let first = "";
    await waitFor("its first process", async () => {
      first = (await Deno.readTextFile(`/proc/${idle.pid}/task/${idle.pid}/children`)).trim();
      return first !== "";
    }, { everyMs: 20 });
    /** Starts a process next to it, as `kubectl exec` does. */
    const exec = (...command: string[]) =>
      new Deno.Command("nsenter", {
        args: ["--target", first, "--pid", "--mount", "--", "busybox", ...command],
        ...{ stdin: "piped", stdout: "piped", stderr: "null" },
      }).spawn();

    const unread = [
      exec("tar", "cf", "-", file),
      exec("cat", file),
      exec("tail", "-c", "+1", file),
      // As kubectl cp continues what has broken off.
      exec("sh", "-c", `tar cf - ${file} | tail -c +1`),
    ];
    const slow = exec("cat", file), quiet = exec("cat"), shell = exec("sh");
    let isOver = false;
    const slowly = (async () => {
      let bytes = 0;
      for await (const chunk of slow.stdout) {
        bytes += chunk.length;
        if (!isOver) await new Promise((resolve) => setTimeout(resolve, 100));
      }
      return bytes;
    })();

    const ends = await Promise.all(unread.map(async ({ status }) => (await status).code));
    deepStrictEqual(ends, [ENDED, ENDED, ENDED, ENDED]);
    isOver = true;
    deepStrictEqual([await slowly, (await slow.status).code], [FILE_BYTES, 0]);
    const writer = quiet.stdin.getWriter();
    await writer.write(new TextEncoder().encode("still here"));
    await writer.close();
    deepStrictEqual([await new Response(quiet.stdout).text(), (await quiet.status).code], ["still here", 0]);
    await shell.stdin.close();
    deepStrictEqual([await new Response(shell.stdout).text(), (await shell.status).code], ["", 0]);
    await Promise.all(unread.map(async ({ stdin, stdout }) => {
      await stdin.close().catch(() => {});
      await stdout.cancel();
    }));
  } finally {
    clearTimeout(deadline);
    end();
    await idle.status;
    await Deno.remove(dir, { recursive: true });
  }
});
