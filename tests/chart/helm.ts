/** The chart as Helm renders it: the real helm, no cluster. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { load, loadAll } from "js-yaml";
import { attempt, type RunResult } from "../support/run.ts";
import { tool } from "../support/tool.ts";

/** The chart's folder. */
export const CHART = join(import.meta.dirname!, "../../charts");

/** helm and kubectl: the cache's, put there by `tools/install kubectl`, else those in PATH. */
export const HELM = tool("helm");
export const KUBECTL = tool("kubectl");

/** Any JSON. Objects of Kubernetes are read by path here, not by type. */
// deno-lint-ignore no-explicit-any
export type Any = any;
export type Values = Record<string, unknown>;

export interface RenderOptions {
  /** @default "pc" */
  release?: string;
  /** @default "tools" */
  namespace?: string;
  /** @default CHART */
  chart?: string;
  /** More arguments for helm. */
  args?: readonly string[];
}

/** With nothing of the user's kubeconfig and Helm settings. */
export const ALONE = { KUBECONFIG: "/dev/null", HELM_NAMESPACE: "default" };

/** Runs `helm template` with these values in place of the defaults. */
export function template(values: Values, options: RenderOptions = {}): Promise<RunResult> {
  const { release = "pc", namespace = "tools", chart = CHART, args = [] } = options;
  const argv = [HELM, "template", release, chart, "--namespace", namespace, "-f", "-", ...args];
  return attempt(argv, { input: JSON.stringify(values), env: ALONE });
}

/** The objects of the chart, the test hook's included. */
export async function render(values: Values = {}, options: RenderOptions = {}): Promise<Rendered> {
  const { code, stdout, stderr } = await template(values, options);
  assert.equal(code, 0, stderr);
  return new Rendered(loadAll(stdout).filter((object) => object !== null && object !== undefined) as Any[]);
}

/** What Helm says of values that it must not accept, in one line. */
export async function refusal(values: Values, options: RenderOptions = {}): Promise<string> {
  const { code, stderr, stdout } = await template(values, options);
  assert.notEqual(code, 0, `accepted: ${JSON.stringify(values)}`);
  assert.equal(stdout, "");
  return stderr.replaceAll(/\s+/g, " ").trim();
}

/** Objects of a release. */
export class Rendered {
  constructor(readonly objects: readonly Any[]) {}

  /** The only object of this kind, and of this name where one is given. */
  one(kind: string, name?: string): Any {
    const found = this.all(kind).filter(({ metadata }) => name === undefined || metadata.name === name);
    assert.equal(found.length, 1, `${found.length} objects of kind ${kind} and name ${name ?? "any"}`);
    return found[0];
  }

  /** The controller's own ClusterRole, and its binding. */
  get controllerRole(): Any {
    return this.one("ClusterRole", this.one("ClusterRoleBinding").roleRef.name);
  }

  /** The policy that says who may annotate. */
  get admissionPolicy(): Any {
    return this.#policy(/^packet-capture[.]/);
  }

  /** The policy that says who may read. */
  get readPolicy(): Any {
    return this.#policy(/^packet-capture-read[.]/);
  }

  #policy(name: RegExp): Any {
    const found = this.all("ValidatingAdmissionPolicy").filter(({ metadata }) => name.test(metadata.name));
    assert.equal(found.length, 1, `${found.length} policies ${name}`);
    return found[0];
  }

  all(kind: string): Any[] {
    return this.objects.filter((object) => object.kind === kind);
  }

  get daemonSet(): Any {
    return this.one("DaemonSet");
  }

  /** The controller's pod. */
  get pod(): Any {
    return this.daemonSet.spec.template;
  }

  /** The controller's container. */
  get container(): Any {
    return this.#container("packet-capture");
  }

  /** The container in which captures are read. */
  get reader(): Any {
    return this.#container("reader");
  }

  #container(name: string): Any {
    const found = this.pod.spec.containers.filter((container: Any) => container.name === name);
    assert.equal(found.length, 1, `${found.length} containers named ${name}`);
    return found[0];
  }

  /** The controller's environment; fieldRefs as their paths. */
  get env(): Record<string, string> {
    return Object.fromEntries(
      this.container.env.map((entry: Any) => [entry.name, entry.value ?? entry.valueFrom?.fieldRef?.fieldPath]),
    );
  }

  volume(name: string): Any {
    return this.pod.spec.volumes.find((volume: Any) => volume.name === name);
  }

  mount(name: string): Any {
    return this.container.volumeMounts.find((mount: Any) => mount.name === name);
  }
}

/** The defaults, as values.yaml has them. */
export async function defaultValues(): Promise<Values> {
  return load(await Deno.readTextFile(join(CHART, "values.yaml"))) as Values;
}
