/**
 * Merges captures as the plugin does, in a process of its own that says at the end how much memory it took (VmHWM).
 *
 *     merge_memory.ts FILE…
 */
// deno-lint-ignore-file no-console
import { FileSource } from "../../../src/pcap/bytes.ts";
import { mergeCaptures } from "../../../src/pcap/merge.ts";

const sources = Deno.args.map((name) => ({ name, source: new FileSource(Deno.openSync(name)) }));
const { notes } = await mergeCaptures(sources, {
  application: "test",
  async write(bytes) {
    for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
  },
});
console.error(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))?.[1]);
Deno.exit(notes.length);
