/** `stop`: removes the annotations, which deletes the files, or with `--keep` holds the capture and keeps them. */
import { messageOf } from "../../base/errors.ts";
import { count, formatBytes } from "../../base/format.ts";
import { mapConcurrent } from "../../base/map_concurrent.ts";
import { Failure } from "../failure.ts";
import { type Captures, findCaptures, type NodeCapture, nodesOf } from "../fetch/captures.ts";
import { nameOf } from "../format.ts";
import type { InstallationOptions } from "../installation.ts";
import { annotate, type Changes } from "../kubectl/annotate.ts";
import { checkTargetOptions, findTargets, type Target, type TargetOptions } from "../targets.ts";
import { Announcements } from "./announcements.ts";
import { CHANGES_AT_ONCE, type Context, installationIfAllowed, Report } from "./command.ts";
import type { Question } from "./confirm.ts";
import { warnOfMisplaced, warnOfNextPods } from "./later_pods.ts";
import { removalChanges, requestOf } from "./request.ts";

export interface StopOptions extends TargetOptions, InstallationOptions {
  /** Do not ask. */
  readonly yes: boolean;
  /** Stop capturing, keep the files. */
  readonly keep: boolean;
  /** Milliseconds to wait for the controllers' words; 0: do not wait. */
  readonly waitMs: number;
}

/** @returns the exit code: 0 if all were stopped, or the user has answered no. */
export async function stop(context: Context, options: StopOptions): Promise<number> {
  checkTargetOptions(options);
  const { kubectl, terminal } = context;
  const { installation, key } = await installationIfAllowed(context, options);
  const found = await findTargets(kubectl, options);
  warnOfMisplaced(terminal, found, key);
  const targets = annotatedOnly(found, key);
  const held = installation && await findCaptures(kubectl, installation, nodesOf(targets));

  if (!options.keep) {
    const question = whatIsDeleted(targets, held);
    if (options.yes) terminal.note(question);
    else if (
      !await terminal.confirm(
        `${question} Continue?`,
        "give --yes to delete them, or --keep to keep the files",
        kubectl.signal,
      )
    ) {
      terminal.note("Nothing was changed");
      return 0;
    }
  }
  const report = new Report(terminal);
  await stopAll(context, targets, key, options, held, report);
  return report.exitCode;
}

/**
 * Returns those that carry the annotation; others are passed over if they came by selector or workload.
 *
 * @throws {Failure} a pod that was named does not carry it, or none does.
 */
export function annotatedOnly(targets: readonly Target[], key: string): Target[] {
  const annotated = targets.filter((target) => key in target.annotations || target.kept);
  const missing = targets.find((target) => target.named && !annotated.includes(target));
  if (missing !== undefined) throw new Failure(`Pod ${nameOf(missing)} is not captured: it has no annotation ${key}`);
  if (annotated.length === 0) {
    throw new Failure(`None of ${count(targets.length, "pod")} is captured: none has annotation ${key}`);
  }
  return annotated;
}

/**
 * Returns the words for a pod of a workload or selector that `annotatedOnly` passes over, where that makes an answer
 * less than whole.
 */
export function notCaptured(key: string): string {
  return `left out: it is not captured, because it has no annotation ${key}`;
}

/**
 * Un-annotates pods, or holds their captures, and reports what their controllers did.
 *
 * @param held The captures that the controllers hold, if they are known: only a controller with something to end
 * reports an end.
 */
export async function stopAll(
  context: Context,
  targets: readonly Target[],
  key: string,
  { keep, waitMs }: { readonly keep: boolean; readonly waitMs: number },
  held: Captures | undefined,
  report: Report,
): Promise<void> {
  const { kubectl } = context;
  const before = waitMs === 0 ? undefined : await Announcements.ifAllowed(context, targets);
  const waiting = new Map<string, Question>();
  const words = keep ? "capture held, its files are kept" : "annotation removed, its files are deleted";
  await mapConcurrent(targets, CHANGES_AT_ONCE, async (target) => {
    const changes: Changes = keep ? { [`${key}/hold`]: "true" } : removalChanges(key, target.annotations);
    let annotations;
    try {
      annotations = await annotate(kubectl, target, changes);
    } catch (error) {
      kubectl.signal.throwIfAborted();
      return report.bad(target, `not changed: ${messageOf(error)}`);
    }
    if (before !== undefined && answers(target, held, keep)) {
      waiting.set(target.uid, { target, request: requestOf(key, annotations) });
    } else report.good(target, words);
  });
  if (waiting.size > 0) {
    await before?.listen(waitMs, ({ uid, reason, note, request }) => {
      const question = waiting.get(uid);
      // An older controller does not name the request that it answers.
      if (question !== undefined && reason === "CaptureStopped" && (request ?? question.request) === question.request) {
        report.good(question.target, note);
        waiting.delete(uid);
      }
      return waiting.size === 0;
    });
  }
  for (const { target } of waiting.values()) {
    report.good(target, `${words} (no answer from its controller in ${waitMs / 1000} s)`);
  }
  await warnOfNextPods(context, targets, key);
}

/** Returns whether its controller will record an Event. */
function answers({ uid, node }: Target, held: Captures | undefined, keep: boolean): boolean {
  if (node === undefined) return false;
  if (held === undefined || [...held.unreachable, ...held.damaged].some((one) => one.node === node)) return true;
  return held.captures.some((capture) =>
    capture.uid === uid && (capture.state === "capturing" || (!keep && capture.files > 0))
  );
}

function whatIsDeleted(targets: readonly Target[], held: Captures | undefined): string {
  const [first] = targets;
  const whose = targets.length === 1 && first !== undefined
    ? `the capture of ${nameOf(first)}`
    : `the captures of ${targets.length} pods`;
  if (held === undefined) return `This ends ${whose} and deletes the files; how many is unknown.`;
  if (held.refused !== undefined && held.captures.length === 0) {
    return `This ends ${whose} and deletes the files; how many is unknown: ${held.refused.message}.`;
  }
  const uids = new Set(targets.map(({ uid }) => uid));
  const deleted = held.captures.filter(({ uid }) => uids.has(uid));
  const sum = (of: (capture: NodeCapture) => number) => deleted.reduce((total, capture) => total + of(capture), 0);
  const amount = `${count(sum(({ files }) => files), "file")}, ${formatBytes(sum(({ bytes }) => bytes))}`;
  const unknown = [...held.unreachable, ...held.damaged].map(({ node, reason }) =>
    `; what node ${node} holds is unknown: ${reason}`
  )
    .join("");
  return `This ends ${whose} and deletes ${amount}${unknown}.`;
}
