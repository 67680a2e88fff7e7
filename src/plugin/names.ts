/** The words of a command line that name pods, as kubectl and our own output write them. Pure. */
import { UsageFailure } from "./failure.ts";

/** The meaning of one name. */
export interface Named {
  /** Name as it was given; `TYPE NAME` as `TYPE/NAME`. */
  readonly given: string;
  /**
   * `pod`; `workload`: `TYPE/NAME`; `either`: `NAMESPACE/POD`, as all output writes it, unless `NAMESPACE` is a
   * resource type that only the API server has.
   */
  readonly kind: "pod" | "workload" | "either";
  /** The pod's. */
  readonly name: string;
  readonly namespace?: string;
}

const POD_TYPES = ["pod", "pods", "po"];
/** Types of workloads, which need not be looked up. No namespace of that name can be given as `NAMESPACE/POD`. */
const WORKLOAD_TYPES = [
  ...["deployment", "deployments", "deploy", "statefulset", "statefulsets", "sts", "daemonset", "daemonsets", "ds"],
  ...["replicaset", "replicasets", "rs", "replicationcontroller", "replicationcontrollers", "rc"],
  ...["job", "jobs", "cronjob", "cronjobs", "cj", "service", "services", "svc"],
];

/**
 * Reads all names, `TYPE NAME…` too. A type alone stands with a selector, as in `pods -l app=web`.
 *
 * @throws {UsageFailure} what is given cannot be a name.
 */
export function readNames(names: readonly string[], selector?: string): Named[] {
  const [first = "", ...rest] = names;
  const type = first.toLowerCase().replace(/(\.v1)?\.(apps|batch)$/, "");
  const isPods = POD_TYPES.includes(type);
  if (rest.length === 0 && isPods) {
    if (selector !== undefined) return [];
    throw new UsageFailure(`Cannot take "${first}" alone: name the pods, or give -l SELECTOR`);
  }
  if (rest.length === 0 || !(isPods || WORKLOAD_TYPES.includes(type))) return names.map(readName);
  return rest.map((name) => {
    if (name.includes("/")) throw new UsageFailure(`Cannot read ${first} ${name}: give either TYPE NAME or TYPE/NAME`);
    return readName(`${first}/${name}`);
  });
}

function readName(given: string): Named {
  const parts = given.split("/");
  const [before = "", name = ""] = parts;
  if (parts.some((part) => part === "") || parts.length > 2) {
    throw new UsageFailure(
      `Cannot read name "${given}": it must be POD, NAMESPACE/POD, or TYPE/NAME such as deployment/web`,
    );
  }
  if (parts.length === 1) return { given, kind: "pod", name: before };
  const type = before.toLowerCase();
  if (POD_TYPES.includes(type)) return { given, kind: "pod", name };
  // A namespace's name has no dot; a type may be written with its group.
  if (WORKLOAD_TYPES.includes(type) || before.includes(".")) return { given, kind: "workload", name };
  return { given, kind: "either", name, namespace: before };
}
