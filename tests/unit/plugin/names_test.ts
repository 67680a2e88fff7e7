import { deepStrictEqual, throws } from "node:assert";
import { readNames } from "../../../src/plugin/names.ts";

function read(...names: string[]): string[] {
  return readNames(names).map(({ kind, namespace, name, given }) => `${kind} ${namespace ?? "-"} ${name} ${given}`);
}

Deno.test("readNames() distinguishes pods, workloads and what may be either", () => {
  deepStrictEqual(read("web-0", "pod/web-0", "PO/a.b", "default/web-0", "deploy/web", "rollouts.argoproj.io/web"), [
    "pod - web-0 web-0",
    "pod - web-0 pod/web-0",
    "pod - a.b PO/a.b",
    "either default web-0 default/web-0",
    "workload - web deploy/web",
    "workload - web rollouts.argoproj.io/web",
  ]);
});

Deno.test("readNames() takes TYPE NAME… only where the first of several words is a type", () => {
  deepStrictEqual(read("pods", "a", "b"), ["pod - a pods/a", "pod - b pods/b"]);
  deepStrictEqual(read("deployments.v1.apps", "a"), ["workload - a deployments.v1.apps/a"]);
  deepStrictEqual(read("Job", "a"), ["workload - a Job/a"]);
  deepStrictEqual(read("job"), ["pod - job job"]);
  deepStrictEqual(read("web", "pod"), ["pod - web web", "pod - pod pod"]);
  deepStrictEqual(readNames(["pods"], "app=web"), []);
  throws(() => readNames(["pods"]), /^UsageFailure: Cannot take "pods" alone/);
  throws(() => readNames(["pod", "shop/web-0"]), /^UsageFailure: Cannot read pod shop\/web-0: give either/);
});

Deno.test("readNames() refuses what can be no name", () => {
  for (const name of ["", "/", "a/", "/a", "a/b/c", "a//b"]) {
    throws(() => readNames([name]), /^UsageFailure: Cannot read name "/);
  }
});
