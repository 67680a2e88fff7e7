/** A chart that is not the repository's: a copy with a mistake, or another version. */
import assert from "node:assert/strict";
import { join } from "node:path";

const CHART = join(import.meta.dirname!, "../../charts");

/** A copy of the chart with texts in one of its files replaced; gone when the scope ends. */
export async function changedChart(
  file: string,
  changes: Readonly<Record<string, string>>,
): Promise<AsyncDisposable & { path: string }> {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-chart-" });
  const path = join(dir, "charts");
  await copy(CHART, path);
  let text = await Deno.readTextFile(join(path, file));
  for (const [find, replace] of Object.entries(changes)) {
    assert.ok(text.includes(find), `${find} is not in ${file}`);
    text = text.replace(find, replace);
  }
  await Deno.writeTextFile(join(path, file), text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(dir, { recursive: true }) };
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    await (isDirectory ? copy : Deno.copyFile)(join(from, name), join(to, name));
  }
}
