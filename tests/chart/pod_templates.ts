/** Walks all types of a real API server, and finds those from which pods could be made. */
import type { ApiServer } from "../rig/apiserver.ts";
import type { Any } from "./helm.ts";

export interface Embedding {
  readonly group: string;
  readonly kind: string;
  /** Its resource and sub-resources that take an object of this kind, such as `deployments` and `deployments/status`. */
  readonly resources: readonly string[];
  /** Dotted path of fields, "" for the object itself; lists are passed through. */
  readonly path: string;
  /** A pod template, a pod, or any JSON. */
  readonly what: "template" | "pod" | "any";
}

const TEMPLATE = "io.k8s.api.core.v1.PodTemplateSpec";
const POD = "io.k8s.api.core.v1.Pod";
const RAW = "io.k8s.apimachinery.pkg.runtime.RawExtension";
const WRITES = ["create", "update", "patch"];

/** Every group, version and kind that can be written is looked at; the same find in several versions is reported once. */
export async function embedding(server: ApiServer): Promise<Embedding[]> {
  const { paths } = await server.call("GET", "/openapi/v3");
  const found = new Map<string, Embedding>();
  for (const name of Object.keys(paths).filter((name) => /^apis?\/(\S+\/)?v\d\w*$/.test(name))) {
    const group = name === "api/v1" ? "" : name.split("/")[1]!;
    const { components } = await server.call("GET", `/openapi/v3/${name}`);
    const { resources } = await server.call("GET", `/${name}`);
    for (const [schemaName, schema] of Object.entries<Any>(components?.schemas ?? {})) {
      const kinds: Any[] = schema["x-kubernetes-group-version-kind"] ?? [];
      const [, version] = /\/?(v\d\w*)$/.exec(name)!;
      const kind = kinds.find((one) => one.group === group && one.version === version)?.kind;
      const own = resources.filter((one: Any) =>
        one.kind === kind && one.verbs.some((verb: string) => WRITES.includes(verb))
      );
      if (kind === undefined || own.length === 0) continue;
      for (const [path, what] of walk(components.schemas, schemaName)) {
        const names = own.map((one: Any) => one.name);
        found.set(`${group} ${kind} ${path}`, { group, kind, resources: names, path, what });
      }
    }
  }
  return [...found.values()];
}

function* walk(schemas: Any, name: string, path: string[] = [], above: readonly string[] = []): Generator<
  [string, Embedding["what"]]
> {
  const what = { [TEMPLATE]: "template", [POD]: "pod", [RAW]: "any" }[name] as Embedding["what"] | undefined;
  if (what !== undefined) {
    yield [path.join("."), what];
    return;
  }
  if (above.includes(name)) return; // a type that holds itself
  for (const [field, reference] of references(schemas[name])) {
    yield* walk(schemas, reference, field === "" ? path : [...path, field], [...above, name]);
  }
}

/** The types that a schema's fields refer to, through lists and maps. */
function* references(schema: Any, field = ""): Generator<[string, string]> {
  if (typeof schema !== "object" || schema === null) return;
  if (typeof schema.$ref === "string") yield [field, schema.$ref.split("/").at(-1)];
  for (const one of schema.allOf ?? []) yield* references(one, field);
  if (schema.items !== undefined) yield* references(schema.items, field);
  if (typeof schema.additionalProperties === "object") yield* references(schema.additionalProperties, field);
  for (const [key, value] of Object.entries<Any>(schema.properties ?? {})) yield* references(value, key);
}
