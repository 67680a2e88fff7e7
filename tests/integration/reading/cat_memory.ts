/**
 * `cat` as a process of its own that says at the end how much memory it took: the most that was resident at any time (VmHWM).
 *
 *     cat_memory.ts CAPTURE_DIR
 */
// deno-lint-ignore-file no-console
import { runCat } from "../../../src/reading/cat.ts";

const code = await runCat({
  captureDir: Deno.args[0]!,
  pod: "default/web-0",
  signal: new AbortController().signal,
  whileStdin: false,
});
console.error(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))?.[1]);
Deno.exit(code);
