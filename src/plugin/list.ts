/** `list`: the captures of all nodes in one table. */
import { count, formatBytes } from "../base/format.ts";
import { everyNode, findCaptures, type NodeCapture } from "./captures.ts";
import { type Context, installationFor } from "./command.ts";
import { Failure, UsageFailure } from "./failure.ts";
import { type InstallationOptions, noControllers } from "./installation.ts";
import { optionsCell } from "../spec/row.ts";
import { compareText, tableLines } from "../base/table.ts";
import { EITHER_NAMESPACE } from "./targets.ts";
import { jsonText } from "../base/quote.ts";

export interface ListOptions extends InstallationOptions {
  /** Only captures of pods in it. @default all */
  readonly namespace?: string | undefined;
  readonly allNamespaces?: boolean | undefined;
  readonly output: "table" | "json";
}

/**
 * @returns the exit code: 1 if some controller could not be asked, or not all of its list be read; it then is named.
 * @throws {Failure} there is no controller to ask.
 * @throws {Refused} the user may not ask, and so has nothing.
 */
export async function list(context: Context, options: ListOptions): Promise<number> {
  if (options.namespace !== undefined && options.allNamespaces) throw new UsageFailure(EITHER_NAMESPACE);
  const { kubectl, terminal } = context;
  const installation = await installationFor(context, options);
  if (installation.controllers.size === 0) throw new Failure(noControllers(installation));
  const scope = everyNode(installation, options.namespace);
  const { captures: all, unreachable, damaged, refused } = await findCaptures(kubectl, installation, scope);
  if (refused !== undefined && all.length === 0) throw refused;
  const captures = all
    .toSorted((a, b) =>
      compareText(a.namespace, b.namespace) || compareText(a.pod, b.pod) || compareText(a.uid, b.uid)
    );
  if (options.output === "json") {
    terminal.document(`${jsonText({ captures, unreachable, damaged })}\n`);
  } else if (captures.length > 0) {
    for (const row of tableLines([HEADINGS, ...captures.map((capture) => cells(capture, Date.now()))])) {
      terminal.line(row);
    }
  } else if (unreachable.length === 0 || unreachable.length < installation.controllers.size) {
    const where = options.namespace === undefined ? "" : ` in namespace ${options.namespace}`;
    terminal.note(`No captures${where} on ${count(installation.controllers.size - unreachable.length, "node")}`);
  }
  for (const { node, reason } of unreachable) terminal.note(`Node ${node} could not be asked: ${reason}`);
  for (const { node, reason } of damaged) terminal.note(`The list of node ${node} is not whole: ${reason}`);
  return unreachable.length + damaged.length === 0 ? 0 : 1;
}

const HEADINGS = [
  "NAMESPACE",
  "POD",
  "NODE",
  "STATE",
  "SINCE",
  "FILES",
  "BYTES",
  "PACKETS",
  "DROPPED",
  "OLDEST",
  "NEWEST",
  "OPTIONS",
  "FILTER",
];

function cells(capture: NodeCapture, now: number): string[] {
  return [
    capture.namespace,
    capture.pod,
    capture.node,
    capture.state + (capture.reason ? `: ${capture.reason}` : ""),
    age(capture.since, now),
    String(capture.files),
    formatBytes(capture.bytes),
    String(capture.packets),
    String(capture.dropped),
    age(capture.oldest, now),
    age(capture.newest, now),
    optionsCell(capture.options),
    capture.filter ?? "-",
  ];
}

/** How long ago an ISO 8601 time was, as kubectl says it: "42s", "5m", "3h", "2d". */
export function age(time: string | null | undefined, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(time ?? "")) / 1000));
  if (Number.isNaN(seconds)) return "-";
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}
