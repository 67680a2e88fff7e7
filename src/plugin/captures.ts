/** What the controllers hold: `packet-capture list -o json` of each node, asked in parallel. */
import type { Row } from "../reading/list.ts";
import { ask } from "./ask.ts";
import { bounded } from "./bounded.ts";
import { reasonOf } from "./failure.ts";
import type { Controller, Installation } from "./installation.ts";
import { controllerNotReady } from "./installation.ts";
import type { Kubectl } from "./kubectl.ts";

/** Nodes asked at once: each is a process here and a connection at the API server. */
export const NODES_AT_ONCE = 8;

/** A capture, as its controller lists it. */
export interface NodeCapture extends Row {
  readonly node: string;
}

export interface Captures {
  readonly captures: readonly NodeCapture[];
  /** Nodes whose controller could not be asked, and why. */
  readonly unreachable: readonly { readonly node: string; readonly reason: string }[];
}

/** Asks the controllers of the given nodes, or of all. Never throws for a node that cannot be reached: it is in the answer. */
export async function findCaptures(
  kubectl: Kubectl,
  installation: Installation,
  nodes: Iterable<string> = installation.controllers.keys(),
): Promise<Captures> {
  const controllers = [...new Set(nodes)].sort().flatMap((node) => installation.controllers.get(node) ?? []);
  const answers = await bounded(controllers, NODES_AT_ONCE, (controller) => askOne(kubectl, controller));
  return {
    captures: answers.flatMap(({ captures }) => captures),
    unreachable: answers.flatMap(({ unreachable }) => unreachable),
  };
}

async function askOne(kubectl: Kubectl, controller: Controller): Promise<Captures> {
  const { node } = controller;
  try {
    if (controller.notReady !== undefined) throw new Error(controllerNotReady(controller, controller.notReady));
    const rows = JSON.parse(await ask(kubectl, controller, ["list", "-o", "json"]));
    if (!Array.isArray(rows)) throw new SyntaxError();
    return { captures: rows.map((row: Row) => ({ ...row, node })), unreachable: [] };
  } catch (error) {
    kubectl.signal.throwIfAborted();
    const reason = error instanceof SyntaxError ? "its list is not JSON as this plugin knows it" : reasonOf(error);
    return { captures: [], unreachable: [{ node, reason }] };
  }
}

/** Bytes for people: "512 B", "4.2 kB", "1.3 GB" (powers of 1000, as the annotation's MB). */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** "3 files", "1 file". */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
