/** `list`: the captures of all nodes, or of some pods, in one table; with `--watch` again as they change. */
import { backoffMs } from "../../base/backoff.ts";
import { messageOf } from "../../base/errors.ts";
import { count, formatBytes } from "../../base/format.ts";
import { jsonText } from "../../base/quote.ts";
import { compareText, tableLines } from "../../base/table.ts";
import { pause } from "../../base/timeout.ts";
import { droppedCell } from "../../spec/lost.ts";
import { optionsCell } from "../../spec/row.ts";
import { Failure, Interrupted, UsageFailure } from "../failure.ts";
import { everyNode, findCaptures, type NodeCapture, type NodeProblem, nodesOf } from "../fetch/captures.ts";
import { findKept } from "../fetch/kept.ts";
import { age, nameOf, yamlText } from "../format.ts";
import { findInstallation, type InstallationOptions, noControllers } from "../installation.ts";
import { checkTargetOptions, EITHER_NAMESPACE, findTargets, type TargetOptions } from "../targets.ts";
import type { Context } from "./command.ts";
import { warnOfMisplaced } from "./later_pods.ts";

/** Milliseconds between two looks with `--watch`; after a look that failed, doubled up to the longest. */
const WATCH_STEPS = { firstMs: 2000, mostMs: 30_000 };

export interface ListOptions extends TargetOptions, InstallationOptions {
  readonly output: "table" | "json" | "yaml";
  /** Show again what changes, until interrupted. */
  readonly watch: boolean;
}

type ShownRow = Omit<NodeCapture, "state"> & { readonly state: NodeCapture["state"] | "deleted" };

/** The result of one look at the nodes. */
interface Listing {
  readonly captures: readonly NodeCapture[];
  readonly unreachable: readonly NodeProblem[];
  readonly damaged: readonly NodeProblem[];
  /** The nodes that have answered. */
  readonly asked: ReadonlySet<string>;
  /** Remarks besides the captures. */
  readonly notes: readonly string[];
  /** Something could not be asked, read or found. */
  readonly isIncomplete: boolean;
}

/**
 * @returns the exit code: 1 if some controller could not be asked, not all of its list be read, or a pod that was asked for is not captured; each is
 * named. With `--watch` 0 when interrupted, which is how it ends.
 * @throws {Failure} there is no controller to ask.
 * @throws {Refused} the user may not ask, and so has nothing.
 */
export async function list(context: Context, options: ListOptions): Promise<number> {
  if (options.namespace !== undefined && options.allNamespaces) throw new UsageFailure(EITHER_NAMESPACE);
  if (namesPods(options)) checkTargetOptions(options);
  if (options.watch) return await watch(context, options);
  const { terminal } = context;
  const listing = await look(context, options);
  if (options.output !== "table") terminal.document(document(listing, options.output));
  else if (listing.captures.length > 0) {
    for (const row of tableLines([HEADINGS, ...listing.captures.map((capture) => cells(capture, Date.now()))])) {
      terminal.line(row);
    }
  }
  for (const note of listing.notes) terminal.note(note);
  return listing.isIncomplete ? 1 : 0;
}

function namesPods({ names, selector }: ListOptions): boolean {
  return names.length > 0 || selector !== undefined;
}

/** @param isFirst Whether to give hints, once. */
async function look({ kubectl, terminal }: Context, options: ListOptions, isFirst = true): Promise<Listing> {
  const installation = await findInstallation(kubectl, options);
  if (installation.controllers.size === 0) throw new Failure(noControllers(installation));
  const targets = namesPods(options)
    ? await findTargets(
      kubectl,
      options,
      (name, namespace) =>
        findKept(kubectl, installation, name, { ...options, namespace: namespace ?? options.namespace }),
    )
    : undefined;
  if (isFirst && targets !== undefined) warnOfMisplaced(terminal, targets, installation.release.annotationKey);
  const scope = targets ? nodesOf(targets) : everyNode(installation, options.namespace);
  const found = await findCaptures(kubectl, installation, scope);
  const uids = targets && new Set(targets.map(({ uid }) => uid));
  const captures = found.captures.filter(({ uid }) => uids?.has(uid) ?? true)
    .toSorted((a, b) =>
      compareText(a.namespace, b.namespace) || compareText(a.pod, b.pod) || compareText(a.uid, b.uid)
    );
  const { unreachable, damaged, refused } = found;
  if (refused !== undefined && captures.length === 0) throw refused;
  const problems = [...unreachable, ...damaged];
  const listed = new Set(captures.map(({ uid }) => uid));
  const missing = (targets ?? []).filter(({ uid, node }) =>
    !listed.has(uid) && !problems.some((problem) => problem.node === node)
  );
  const where = options.namespace === undefined ? "" : ` in namespace ${options.namespace}`;
  const asked = new Set(
    [...scope.keys()].filter((node) =>
      installation.controllers.has(node) && !unreachable.some((problem) => problem.node === node)
    ),
  );
  const notes = [
    ...(installation.warning === undefined ? [] : [installation.warning]),
    ...(missing.length === 0 ? [] : [`Not captured: ${missing.map(nameOf).join(", ")}`]),
    ...(targets === undefined && captures.length === 0 && asked.size > 0
      ? [`No captures${where} on ${count(asked.size, "node")}`]
      : []),
    ...unreachable.map(({ node, reason }) => `Cannot ask node ${node}: ${reason}`),
    ...damaged.map(({ node, reason }) => `Cannot read the whole list of node ${node}: ${reason}`),
  ];
  return { captures, unreachable, damaged, asked, notes, isIncomplete: problems.length + missing.length > 0 };
}

function document({ captures, unreachable, damaged }: Listing, output: "json" | "yaml"): string {
  const value = { captures, unreachable, damaged };
  return output === "json" ? `${jsonText(value)}\n` : yamlText(value);
}

/** Looks again and again, and shows each row that has changed, each document, and each note that is new. */
async function watch(context: Context, options: ListOptions): Promise<number> {
  const { terminal, kubectl: { signal } } = context;
  const shown = new Map<string, NodeCapture>();
  const widths: number[] = [];
  let text = "", notes: readonly string[] = [], failures = 0;
  const note = (next: readonly string[]) => {
    for (const one of next) if (!notes.includes(one)) terminal.note(one);
    notes = next;
  };
  try {
    for (let isFirst = true;; isFirst = false) {
      try {
        const listing = await look(context, options, isFirst);
        const rows = changes(shown, listing).map((capture) => cells(capture, Date.now()));
        if (options.output !== "table") {
          const next = document(listing, options.output);
          if (next !== text) terminal.document(options.output === "yaml" ? `---\n${next}` : next);
          text = next;
        } else if (rows.length > 0) {
          if (widths.length === 0) rows.unshift(HEADINGS);
          for (const line of tableLines(rows, widths)) terminal.line(line);
        }
        note(listing.notes);
        failures = listing.unreachable.length > 0 ? failures + 1 : 0;
      } catch (error) {
        signal.throwIfAborted();
        // What cannot be from the start is no matter of time.
        if (isFirst || !(error instanceof Failure)) throw error;
        note([`${messageOf(error)}; trying again`]);
        failures++;
      }
      await pause(backoffMs(failures + 1, WATCH_STEPS), signal);
    }
  } catch (error) {
    if (error instanceof Interrupted) return 0;
    throw error;
  }
}

/**
 * Finds what has changed since the last look, and notes it: a row that a node no longer lists has the state
 * `deleted`.
 */
function changes(shown: Map<string, NodeCapture>, { captures, asked, damaged }: Listing): ShownRow[] {
  const changed: ShownRow[] = [];
  const keyOf = ({ uid, namespace, pod, node }: NodeCapture) => [node, namespace, pod, uid].join("/");
  for (const capture of captures) {
    if (JSON.stringify(shown.get(keyOf(capture))) !== JSON.stringify(capture)) changed.push(capture);
    shown.set(keyOf(capture), capture);
  }
  const present = new Set(captures.map(keyOf));
  for (const [key, capture] of shown) {
    if (present.has(key) || !asked.has(capture.node) || damaged.some(({ node }) => node === capture.node)) continue;
    shown.delete(key);
    changed.push({ ...capture, state: "deleted", reason: "" });
  }
  return changed;
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

function cells(capture: ShownRow, now: number): string[] {
  return [
    capture.namespace,
    capture.pod,
    capture.node,
    capture.state + (capture.reason ? `: ${capture.reason}` : ""),
    age(capture.since, now),
    String(capture.files),
    formatBytes(capture.bytes),
    String(capture.packets),
    droppedCell(capture.dropped, capture.lostPercent),
    age(capture.oldest, now),
    age(capture.newest, now),
    optionsCell(capture.options),
    capture.filter ?? "-",
  ];
}
