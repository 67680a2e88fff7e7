/**
 * Makes the bill of materials of a bundle: the packages whose code is in it, by esbuild's metafile, in CycloneDX 1.6. The same
 * bundle gives the same bytes: no time and no serial number.
 */
import type { Metafile } from "esbuild";
import { dirname, join } from "@std/path";

/** The part that is read here of a package.json. */
interface Manifest {
  name?: string;
  version?: string;
  license?: string;
}

interface Component {
  type: "library";
  "bom-ref": string;
  group?: string;
  name: string;
  version: string;
  purl: string;
  hashes?: { alg: "SHA-512"; content: string }[];
  licenses?: [{ license: { id: string } }] | [{ expression: string }];
}

/**
 * @param root The project's root.
 * @throws Error if code in the bundle belongs to no package that is known.
 */
export async function sbom(root: string, { outputs }: Metafile): Promise<Record<string, unknown>> {
  const project: { version: string } = JSON.parse(await Deno.readTextFile(join(root, "deno.json")));
  const lock: Lock = JSON.parse(await Deno.readTextFile(join(root, "deno.lock")));
  const components = new Map<string, Component>();
  for (const { inputs } of Object.values(outputs)) {
    for (const [input, { bytesInOutput }] of Object.entries(inputs)) {
      const component = bytesInOutput === 0 ? undefined : await componentOf(root, input, lock);
      if (component !== undefined) components.set(component.purl, component);
    }
  }
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    version: 1,
    metadata: {
      lifecycles: [{ phase: "build" }],
      component: {
        type: "application",
        "bom-ref": "packet-capture",
        name: "packet-capture",
        version: project.version,
        licenses: [{ license: { id: "Apache-2.0" } }],
      },
    },
    components: [...components.values()].sort((a, b) => a.purl < b.purl ? -1 : 1),
  };
}

interface Lock {
  npm: Record<string, { integrity: string }>;
}

/** Gives the package that an input of a bundle is of. @returns undefined for the project's own sources */
async function componentOf(root: string, input: string, lock: Lock): Promise<Component | undefined> {
  const jsr = /^jsr:.*\/@([^/]+)\/([^/]+)\/(\d[^/]*)\//.exec(input);
  if (jsr !== null) {
    const [, scope, name, version] = jsr as unknown as [string, string, string, string];
    const purl = `pkg:generic/jsr/%40${scope}/${name}@${version}`;
    return { type: "library", "bom-ref": purl, group: `@${scope}`, name, version, purl };
  }
  // A module that says what is left out, or loads late, is our own (tools/bundle.ts), as are the sources and the stand-ins.
  if (/^(left-out:|late:|src\/|tools\/offline\/|deno\.json$)/.test(input)) return undefined;
  if (!/(^|\/)node_modules\//.test(input)) throw new Error(`Cannot tell the package of ${input} in the bundle`);
  const { name, version, license } = await manifestOf(join(root, input));
  const [scope, base] = name.startsWith("@") ? name.split("/") as [string, string] : [undefined, name];
  const purl = `pkg:npm/${scope === undefined ? "" : `${scope.replace("@", "%40")}/`}${base}@${version}`;
  const integrity = lock.npm[`${name}@${version}`]?.integrity;
  if (integrity === undefined) throw new Error(`Cannot find ${name} ${version} of the bundle in deno.lock`);
  return {
    type: "library",
    "bom-ref": purl,
    ...(scope === undefined ? {} : { group: scope }),
    name: base,
    version,
    purl,
    hashes: [{ alg: "SHA-512", content: Uint8Array.fromBase64(integrity.replace("sha512-", "")).toHex() }],
    ...(license === undefined ? {} : { licenses: licensesOf(license) }),
  };
}

function licensesOf(license: string): Component["licenses"] & object {
  return /[ ()]/.test(license) ? [{ expression: license }] : [{ license: { id: license } }];
}

/** Reads the package.json that a file belongs to: the nearest that has a name and a version. */
async function manifestOf(file: string): Promise<Manifest & { name: string; version: string }> {
  for (let folder = dirname(file); folder.includes("node_modules"); folder = dirname(folder)) {
    const text = await Deno.readTextFile(join(folder, "package.json")).catch(() => "{}"); // not in this folder
    const { name, version, license }: Manifest = JSON.parse(text);
    if (name && version) return { name, version, ...(license === undefined ? {} : { license }) };
  }
  throw new Error(`Cannot find the package.json of ${file}`);
}
