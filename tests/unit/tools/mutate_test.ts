import assert from "node:assert/strict";
import { join } from "@std/path";
import { changedLines } from "../../../tools/mutate.ts";

const PRELOAD = join(import.meta.dirname!, "../../../tools/mutate_hits.ts");

Deno.test("changedLines() names the lines of src/ that are new or changed, and none that are gone", () => {
  const diff = `diff --git a/src/log.ts b/src/log.ts
--- a/src/log.ts
+++ b/src/log.ts
@@ -3 +3,2 @@ export
-old
+new
+newer
@@ -10,2 +11,0 @@
-gone
-gone
@@ -20,0 +20 @@
+one
diff --git a/src/gone.ts b/src/gone.ts
--- a/src/gone.ts
+++ /dev/null
@@ -1,2 +0,0 @@
-a
-b
diff --git a/docs/x.md b/docs/x.md
--- a/docs/x.md
+++ b/docs/x.md
@@ -1 +1 @@
-a
+b
`;
  assert.deepEqual(changedLines(diff), ["src/log.ts:3-4", "src/log.ts:20-20"]);
});

Deno.test("a test that a mistake makes run for ever ends where it comes by a hundred times as often", async () => {
  const folder = await Deno.makeTempDir({ prefix: "pc-mutate-" });
  try {
    const [test, hits] = [join(folder, "a_test.js"), join(folder, "hits.json")];
    // Counts and asks as the code that StrykerJS has changed does.
    await Deno.writeTextFile(
      test,
      `const ns = globalThis.__stryker__ ??= {};
       const counts = (ns.mutantCoverage ??= { static: {} }).static;
       function isActive(id) {
         counts[id] = (counts[id] ?? 0) + 1;
         if (ns.activeMutant !== id) return false;
         if (ns.hitCount !== undefined && ++ns.hitCount > ns.hitLimit) throw new Error("too often: " + ns.hitLimit);
         return true;
       }
       Deno.test("a loop", () => { for (let i = 0; i < 10 || isActive("7"); i++) isActive("7"); });`,
    );
    const run = async (mutant: Record<string, string>) => {
      const { code, stdout } = await new Deno.Command(Deno.execPath(), {
        args: ["test", "--allow-all", "--no-check", "--no-config", `--preload=${PRELOAD}`, test],
        env: { MUTATE_HITS: hits, NO_COLOR: "1", ...mutant },
        stdin: "null",
      }).output();
      return [code, /too often: \d+/.exec(new TextDecoder().decode(stdout))?.[0]];
    };
    assert.deepEqual(await run({}), [0, undefined]);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(hits)), { "7": 11 });
    assert.deepEqual(await run({ __STRYKER_ACTIVE_MUTANT__: "7" }), [1, "too often: 11100"]);
    assert.deepEqual(await run({ __STRYKER_ACTIVE_MUTANT__: "8" }), [0, undefined]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
