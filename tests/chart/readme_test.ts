import assert from "node:assert/strict";
import { leaves } from "./effects.ts";
import { defaultValues } from "./helm.ts";
import { makeReadme, README } from "./helm_docs.ts";

Deno.test("README.md is what helm-docs makes of values.yaml and the template", async () => {
  const now = await Deno.readTextFile(README);
  assert.equal(now, await makeReadme(), "run: tools/deno run -A tests/chart/helm_docs.ts");
});

Deno.test("README.md says of every value what it is", async () => {
  const rows = (await Deno.readTextFile(README)).split("\n").map((line) =>
    /^\| ([A-Za-z.]+) \| \w+ \| .+ \| (\S.*) \|$/.exec(line)?.[1]
  );
  const missing = leaves(await defaultValues()).filter((leaf) =>
    !rows.some((name) => name !== undefined && (leaf === name || leaf.startsWith(`${name}.`)))
  );
  assert.deepEqual(missing, []);
});
