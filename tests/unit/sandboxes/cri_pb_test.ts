import { strictEqual as assertSame } from "node:assert/strict";
import { generate, generatedPath, PROTOS } from "../../rig/protos.ts";

for (const proto of PROTOS) {
  Deno.test(`generate() makes of ${proto} what is committed`, async () => {
    const committed = await Deno.readTextFile(generatedPath(proto));
    assertSame(await generate(proto), committed, "generate it again: tools/deno run -A tests/rig/protos.ts");
  });
}
