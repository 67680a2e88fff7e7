import assert from "node:assert/strict";
import { changedLines } from "../../../tools/mutate.ts";

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
