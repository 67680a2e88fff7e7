import assert from "node:assert/strict";
import { join } from "@std/path";
import { EFFECTS, leaves, valuesOf } from "./effects.ts";
import { CHART, defaultValues, render } from "./helm.ts";

const VALUES = await defaultValues();

Deno.test("every leaf of values.yaml is changed by a test that sees its effect", () => {
  assert.deepEqual(EFFECTS.map(({ name }) => name).sort(), leaves(VALUES).sort());
});

for (const effect of EFFECTS) {
  Deno.test(`${effect.name} shows in the objects`, async () => {
    const [before, after] = await Promise.all([render(valuesOf(effect, false)), render(valuesOf(effect, true))]);
    assert.notDeepEqual(effect.see(before), effect.expect);
    assert.deepEqual(effect.see(after), effect.expect);
  });
}

Deno.test("every value has a helm-docs comment", async () => {
  const lines = (await Deno.readTextFile(join(CHART, "values.yaml"))).split("\n");
  const names = documented(lines);
  // A value is documented by itself or by what it lies in (resources, tolerations).
  const bare = leaves(VALUES).filter((leaf) => !names.some((name) => leaf === name || leaf.startsWith(`${name}.`)));
  assert.deepEqual(bare, []);
});

/** Dotted names of the keys right after a comment that begins with "# --". */
function documented(lines: readonly string[]): string[] {
  const names: string[] = [];
  const path: string[] = [];
  let comment = false;
  for (const line of lines) {
    const key = /^( *)([A-Za-z_]+):/.exec(line);
    if (key !== null) {
      path.splice(key[1]!.length / 2, Infinity, key[2]!);
      if (comment) names.push(path.join("."));
    }
    comment = /^ *# -- \S/.test(line) || (comment && /^ *#/.test(line));
  }
  return names;
}
