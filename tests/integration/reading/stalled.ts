/**
 * Writes more than a pipe holds, as the reading commands do, and takes a reader for gone soon.
 *
 *     stalled.ts [while-stdin]       the reader is not taken for gone
 */
import { refusing } from "../../../src/reading/refusal.ts";
import { systemIo } from "../../../src/reading/io.ts";

const io = systemIo(new AbortController().signal, { whileStdin: Deno.args[0] === "while-stdin", goneMs: 300 });
Deno.exit(
  await refusing(io, async () => {
    for (let i = 0; i < 64; i++) await io.write(new Uint8Array(65_536));
    return 0;
  }),
);
