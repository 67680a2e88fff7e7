/** Reads what the controllers hold: `packet-capture list -o json` of each node, asked in parallel. */
import { messageOf } from "../../base/errors.ts";
import { count } from "../../base/format.ts";
import { mapConcurrent } from "../../base/map_concurrent.ts";
import { type Controller, type Installation, READER } from "../installation.ts";
import { Blocked, Refused } from "../kubectl/explain.ts";
import type { Kubectl } from "../kubectl/kubectl.ts";
import { ask } from "./ask.ts";
import { type CaptureRow, rowIn } from "./capture_row.ts";

/** Nodes asked at once: each is a process here and a connection at the API server. */
export const NODES_AT_ONCE = 8;
/** A node is asked for so many namespaces one by one; for more, it is asked for all, which only administrators may. */
const NAMESPACES_ONE_BY_ONE = 4;

/** A capture, as its controller lists it. */
export interface NodeCapture extends CaptureRow {
  readonly node: string;
}

/** A node of which something is not known, and why. */
export interface NodeProblem {
  readonly node: string;
  readonly reason: string;
}

export interface Captures {
  readonly captures: readonly NodeCapture[];
  /** Nodes whose controller could not be asked. */
  readonly unreachable: readonly NodeProblem[];
  /** Nodes whose list is not whole, or cannot be read in part. */
  readonly damaged: readonly NodeProblem[];
  /** The user may not ask; `unreachable` has each node for which that was so. */
  readonly refused?: Refused | undefined;
}

/** Namespaces to ask each node for, by node; undefined: all. */
export type Scope = ReadonlyMap<string, readonly string[] | undefined>;

/** Returns all nodes, for one namespace or for all. */
export function everyNode(installation: Installation, namespace?: string): Scope {
  const namespaces = namespace === undefined ? undefined : [namespace];
  return new Map([...installation.controllers.keys()].map((node) => [node, namespaces]));
}

/** Returns the nodes of some pods, each for the namespaces of the pods there. */
export function nodesOf(
  pods: Iterable<{ readonly namespace: string; readonly node: string | undefined }>,
): Scope {
  const byNode = Map.groupBy(pods, ({ node }) => node ?? "");
  byNode.delete("");
  return new Map([...byNode].map(([node, own]) => [node, [...new Set(own.map(({ namespace }) => namespace))].sort()]));
}

/** Asks the controllers. Never throws for a node that cannot be asked: it is in the answer. */
export async function findCaptures(kubectl: Kubectl, installation: Installation, scope: Scope): Promise<Captures> {
  const calls = [...scope].sort(([a], [b]) => a < b ? -1 : 1).flatMap(([node, namespaces]) => {
    const controller = installation.controllers.get(node);
    if (controller === undefined) return [];
    const oneByOne = controller.container === READER && namespaces !== undefined &&
      namespaces.length <= NAMESPACES_ONE_BY_ONE;
    const commands = oneByOne ? namespaces.map((one) => ["list", "-n", one, "-o", "json"]) : [["list", "-o", "json"]];
    return [{ controller, commands, namespaces }];
  });
  const answers = (await mapConcurrent(calls, NODES_AT_ONCE, async ({ controller, commands, namespaces }) => {
    const answers: Captures[] = [];
    for (const command of commands) answers.push(await askOne(kubectl, controller, command, namespaces));
    return answers;
  })).flat();
  return {
    captures: answers.flatMap(({ captures }) => captures),
    unreachable: answers.flatMap(({ unreachable }) => unreachable),
    damaged: answers.flatMap(({ damaged }) => damaged),
    refused: answers.find(({ refused }) => refused)?.refused,
  };
}

async function askOne(
  kubectl: Kubectl,
  controller: Controller,
  command: readonly string[],
  namespaces: readonly string[] | undefined,
): Promise<Captures> {
  const { node } = controller;
  try {
    const { stdout, warning } = await ask(kubectl, controller, command);
    const values: unknown = JSON.parse(stdout);
    if (!Array.isArray(values)) throw new SyntaxError();
    const rows = values.map(rowIn);
    const lost = rows.filter((row) => row === undefined).length;
    const captures = rows.flatMap((row) =>
      row !== undefined && (namespaces?.includes(row.namespace) ?? true) ? [{ ...row, node }] : []
    );
    const reasons = [...(warning ? [warning] : []), ...(lost === 0 ? [] : [`${count(lost, "row")} cannot be read`])];
    return { captures, unreachable: [], damaged: reasons.map((reason) => ({ node, reason })) };
  } catch (error) {
    kubectl.signal.throwIfAborted();
    const reason = error instanceof SyntaxError ? "its list is not the JSON that this plugin reads" : messageOf(error);
    const refused = error instanceof Refused && !(error instanceof Blocked) ? error : undefined;
    return { captures: [], unreachable: [{ node, reason }], damaged: [], refused };
  }
}
