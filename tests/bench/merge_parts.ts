/** The plugin's merge alone, as a process: merge_parts.ts TARGET PART… */
import { basename } from "@std/path";
import { mergeParts } from "../../src/plugin/fetch/merge_parts.ts";

const [target, ...parts] = Deno.args as [string, ...string[]];
await mergeParts(
  parts.map((path) => ({ name: basename(path), path })),
  "pcapng",
  { path: target, becomes: target },
  new AbortController().signal,
  () => {},
);
