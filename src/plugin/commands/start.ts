/** `start`: annotates existing pods, then reports of each what its controller made of it. */
import { messageOf } from "../../base/errors.ts";
import { mapConcurrent } from "../../base/map_concurrent.ts";
import { describe } from "../../spec/request.ts";
import type { NodeCapture } from "../fetch/captures.ts";
import { controllerNotReady, type Installation, type InstallationOptions, noController } from "../installation.ts";
import { annotate } from "../kubectl/annotate.ts";
import { checkTargetOptions, findTargets, type Target, type TargetOptions } from "../targets.ts";
import { type Announcement, Announcements } from "./announcements.ts";
import { CHANGES_AT_ONCE, type Context, installationIfAllowed, Report } from "./command.ts";
import { confirm, type Question } from "./confirm.ts";
import { noteNotLater, noteNotYet, warnOfMisplaced } from "./later_pods.ts";
import { changesNothing, differences, requestChanges, requestOf, type RequestOptions } from "./request.ts";

export interface StartOptions extends TargetOptions, InstallationOptions {
  readonly request: RequestOptions;
  /** Milliseconds to wait for the controllers' words; 0: do not wait. */
  readonly waitMs: number;
}

/** @returns the exit code: 0 if every pod is captured, or will be as soon as it has a node. */
export async function start(context: Context, options: StartOptions): Promise<number> {
  checkTargetOptions(options);
  const { kubectl, terminal } = context;
  const { installation, key } = await installationIfAllowed(context, options);
  const { changes, request } = requestChanges(key, options.request, installation?.env ?? {});
  const report = new Report(terminal);
  const found = await findTargets(kubectl, options).catch((error) => {
    noteNotYet(terminal, error, key, changes);
    throw error;
  });
  warnOfMisplaced(terminal, found, key);
  const targets = found.filter((target) => canBeCaptured(target, installation, report));

  // Before the change, so that later Events differ from earlier ones.
  const events = options.waitMs > 0 && targets.length > 0 ? await Announcements.ifAllowed(context, targets) : undefined;
  const questions: Question[] = [];
  const unchanged = new Set<string>();
  const annotated: Target[] = [];
  await mapConcurrent(targets, CHANGES_AT_ONCE, async (target) => {
    let { annotations } = target;
    try {
      if (changesNothing(annotations, changes)) unchanged.add(target.uid);
      else {
        annotations = await annotate(kubectl, target, changes);
        const changed = differences(key, target.annotations, changes);
        if (changed !== "") report.add(target, `changed: ${changed}`);
      }
    } catch (error) {
      kubectl.signal.throwIfAborted();
      return report.bad(target, `not annotated: ${messageOf(error)}`);
    }
    annotated.push(target);
    const words = wordsFor(target, unchanged);
    if (target.node === undefined) report.good(target, `${words}; it has no node yet and is captured from its start`);
    else if (options.waitMs === 0) report.good(target, words);
    // What was not changed is no news: no Event will come, and nobody can be asked.
    else if (installation === undefined && unchanged.has(target.uid)) report.good(target, words);
    else questions.push({ target, request: requestOf(key, annotations) });
  });
  noteNotLater(terminal, annotated, key, changes);
  if (questions.length === 0) return report.exitCode;

  const asked = describe(request);
  let isOldNamed = false;
  const sayThatItIsOld = (node: string | undefined) => {
    if (!isOldNamed) context.terminal.note(controllerTooOld(node ?? ""));
    isOldNamed = true;
  };
  const pendingBefore = new Set<string>();
  const isMute = installation === undefined && events === undefined;
  const silent = await confirm({
    ...{ kubectl, installation, events, questions },
    waitMs: isMute ? 0 : options.waitMs,
    answers: ({ target, request }, { row, unasked, heard }) => {
      if (row?.request !== undefined && row.request !== request) return false;
      if (row?.state === "pending") {
        // A sandbox that has just come is seen a moment later.
        const isSure = heard?.reason === "CapturePending" || pendingBefore.has(target.uid);
        pendingBefore.add(target.uid);
        if (isSure) {
          report.good(target, `${wordsFor(target, unchanged)}; captured once it runs, until then ${whyOf(row)}`);
        }
        return isSure;
      }
      if (row?.request !== undefined) return reportRow(report, target, row, asked, unchanged);
      if (unasked !== undefined && unchanged.has(target.uid)) {
        report.bad(target, `${wordsFor(target, unchanged)}, but no answer from its controller: ${unasked}`);
        return true;
      }
      const isOld = row !== undefined || heard?.request === undefined;
      if (heard === undefined || (unasked === undefined && row === undefined)) return false;
      if (!reportEvent(report, target, heard, asked)) return false;
      if (isOld) sayThatItIsOld(target.node);
      return true;
    },
  });
  for (const [{ target, request }, { row, unasked }] of silent) {
    const words = wordsFor(target, unchanged);
    const seconds = options.waitMs / 1000;
    const describePod = `(see: kubectl describe pod -n ${target.namespace} ${target.name})`;
    if (row?.request === request && row.state === "capturing") {
      report.bad(target, `${words}, but tcpdump does not listen after ${seconds} s ${describePod}`);
    } else if (row?.request === request) {
      report.bad(target, `${words}; ${whyOf(row)}`);
    } else if (row?.request !== undefined) {
      report.bad(
        target,
        `${words}, but after ${seconds} s its controller is still at work on an earlier request ${describePod}`,
      );
    } else if (row !== undefined) {
      sayThatItIsOld(target.node);
      const isTold = reportRow(report, target, { ...row, listening: true }, asked, unchanged);
      if (!isTold) report.bad(target, `${words}; ${whyOf(row)}`);
    } else if (installation === undefined) {
      const silence = events === undefined
        ? "its controller's answer cannot be read"
        : `no answer from its controller in ${seconds} s`;
      report.bad(target, `${words}, but ${silence} ${describePod}`);
    } else if (unasked !== undefined) {
      report.bad(target, `${words}, but no answer from its controller: ${unasked}`);
    } else {
      report.bad(target, `${words}, but its controller does not list it ${describePod}`);
    }
  }
  return report.exitCode;
}

function wordsFor({ uid }: Target, unchanged: ReadonlySet<string>): string {
  return unchanged.has(uid) ? "annotated like this already" : "annotated";
}

function canBeCaptured(target: Target, installation: Installation | undefined, report: Report): boolean {
  if (target.finished !== undefined) {
    report.bad(target, `not annotated: it has finished (${target.finished}), there is nothing to capture`);
    return false;
  }
  if (target.node === undefined || installation === undefined) return true;
  const controller = installation.controllers.get(target.node);
  if (controller === undefined) {
    report.bad(target, `not annotated: ${noController(installation, target.node)}`);
    return false;
  }
  if (controller.notReady !== undefined) {
    report.warn(target, `${controllerNotReady(controller, controller.notReady)}; the capture starts when it is`);
  }
  return true;
}

/** The reason of "completed" where a list gives none. */
const REACHED = "its duration or packet count is reached, its files are kept";

/** @returns whether that row, which is of the request, answers the question what became of it. */
function reportRow(
  report: Report,
  target: Target,
  { state, reason, listening }: NodeCapture,
  asked: string,
  unchanged: ReadonlySet<string>,
): boolean {
  const words = unchanged.has(target.uid) ? "annotated like this already; " : "";
  switch (state) {
    case "capturing":
      if (listening) report.good(target, `${words}capturing on node ${target.node} (${asked})`);
      return listening === true;
    case "completed":
      report.good(target, `${words}completed on node ${target.node} (${asked}): ${reason || REACHED}`);
      return true;
    case "unknown":
      return false;
    default:
      report.bad(target, `${words}${whyOf({ state, reason })}`);
      return true;
  }
}

function whyOf({ state, reason }: Pick<NodeCapture, "state" | "reason">): string {
  return reason === "" ? state : `${state}: ${reason}`;
}

/** @returns whether that Event answers the question what became of the request. */
function reportEvent(report: Report, target: Target, { reason, note }: Announcement, asked: string): boolean {
  switch (reason) {
    case "CaptureStarted":
    case "CaptureRestarted":
      report.good(target, `capturing on node ${target.node} (${asked})`);
      return true;
    case "CaptureCompleted":
      report.good(target, `completed on node ${target.node} (${asked}): ${note}`);
      return true;
    case "CapturePending":
      report.good(target, `annotated; captured once it runs, until then pending: ${note}`);
      return true;
    case "CaptureRejected":
    case "CaptureFailed":
    case "CaptureWaiting":
    case "CapturePaused":
      report.bad(target, `${reason.slice("Capture".length).toLowerCase()}: ${note}`);
      return true;
    default:
      return false;
  }
}

function controllerTooOld(node: string): string {
  return `The controller of node ${node} is older than this plugin and does not name the request that it answers: ` +
    `an answer may be one to an earlier request`;
}
