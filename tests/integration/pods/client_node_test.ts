/** Tells when client-node can be used for more than its KubeConfig (docs/adr/0040). */
import assert from "node:assert/strict";
import { join } from "node:path";
import { run } from "../../support/run.ts";

Deno.test("client-node still hangs on Deno when a body is cut or reset, or idle: if this fails, upstream is mended, so reread ADR 0040", async () => {
  const program = join(import.meta.dirname!, "client_node_hang.ts");
  const deno = join(import.meta.dirname!, "../../../tools/deno");
  const output = await run([deno, "run", "--allow-all", "--no-check", program], { timeoutMs: 120_000 });
  // The native fetch shows that the body did end.
  const hangs = { native: "rejected", clientNode: "pending" };
  assert.deepEqual(JSON.parse(output), { cut: hangs, reset: hangs, idle: hangs });
});
