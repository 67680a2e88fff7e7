/**
 * Writes an import map for machines that cannot reach JSR: deno.json's imports with the JSR packages replaced by their
 * stand-ins (jsr.json). Arguments: the project's root, the file to write.
 */
const [root, target] = Deno.args;
if (root === undefined || target === undefined) throw new TypeError("Usage: import_map.ts ROOT FILE");

const { imports } = JSON.parse(Deno.readTextFileSync(`${root}/deno.json`)) as { imports: Record<string, string> };
const standIns = JSON.parse(Deno.readTextFileSync(`${root}/tools/offline/jsr.json`)) as Record<string, string>;

const map: Record<string, string> = {};
for (const [name, where] of Object.entries(imports)) {
  if (!where.startsWith("jsr:")) {
    map[name] = where;
    // Deno does this for the imports of a deno.json, but not for those of an import map.
    map[`${name}/`] = `${where.replace(/^npm:/, "npm:/")}/`;
  } else if (!(name in standIns)) {
    throw new Error(`Cannot stand in for ${name}: tools/offline/jsr.json does not name it`);
  }
}
// The map lies in node_modules/.packet-capture, and its addresses are relative to that.
for (const [name, where] of Object.entries(standIns)) map[name] = where.replace(/^\.\//, "../../tools/offline/");
Deno.writeTextFileSync(target, JSON.stringify({ imports: map }, null, 2) + "\n");
