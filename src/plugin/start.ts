/** `start`: annotates existing pods, then says of each what its controller made of it. */
import { annotate } from "./annotate.ts";
import { type Announcement, Announcements } from "./announcements.ts";
import { bounded } from "./bounded.ts";
import { findCaptures, nodesOf } from "./captures.ts";
import { CHANGES_AT_ONCE, type Context, installationIfAllowed, Report } from "./command.ts";
import { reasonOf } from "./failure.ts";
import { controllerNotReady, type Installation, type InstallationOptions, noController } from "./installation.ts";
import { describe } from "../captures/request.ts";
import { changesNothing, requestChanges, type RequestOptions } from "./request.ts";
import { checkTargetOptions, findTargets, type Target, type TargetOptions } from "./targets.ts";

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
  const targets = (await findTargets(kubectl, options)).filter((target) => canBeCaptured(target, installation, report));

  // Before the change, so that what is said after it can be told from what was said before.
  const before = options.waitMs > 0 && targets.length > 0 ? await Announcements.ifAllowed(context, targets) : undefined;
  const waiting = new Map<string, Target>();
  const unchanged = new Set<string>();
  await bounded(targets, CHANGES_AT_ONCE, async (target) => {
    try {
      if (changesNothing(target.annotations, changes)) unchanged.add(target.uid);
      else await annotate(kubectl, target, changes);
    } catch (error) {
      kubectl.signal.throwIfAborted();
      return report.bad(target, `not annotated: ${reasonOf(error)}`);
    }
    const words = unchanged.has(target.uid) ? "annotated like this already" : "annotated";
    if (target.node === undefined) report.good(target, `${words}; it has no node yet and is captured from its start`);
    else if (options.waitMs === 0) report.good(target, words);
    else waiting.set(target.uid, target);
  });

  const awaited = new Set([...waiting.keys()].filter((uid) => !unchanged.has(uid)));
  if (before !== undefined && awaited.size > 0) {
    await before.listen(options.waitMs, (announcement) => {
      const target = awaited.has(announcement.uid) ? waiting.get(announcement.uid) : undefined;
      if (target !== undefined && tell(report, target, announcement, describe(request))) {
        waiting.delete(target.uid);
        awaited.delete(target.uid);
      }
      return awaited.size === 0;
    });
  }
  if (waiting.size > 0) {
    await askAbout(context, installation, waiting, unchanged, before && options.waitMs / 1000, report);
  }
  return report.exitCode;
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

/** @returns whether that Event answers the question what became of the request. */
function tell(report: Report, target: Target, { reason, note }: Announcement, asked: string): boolean {
  switch (reason) {
    case "CaptureStarted":
    case "CaptureRestarted":
      report.good(target, `capturing on node ${target.node} (${asked})`);
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

/**
 * Without an Event (they can be switched off, and one that repeats is held back) the controller itself is asked.
 *
 * @param heardSeconds For how long Events were listened for; undefined: they could not be.
 */
async function askAbout(
  { kubectl }: Context,
  installation: Installation | undefined,
  waiting: ReadonlyMap<string, Target>,
  unchanged: ReadonlySet<string>,
  heardSeconds: number | undefined,
  report: Report,
): Promise<void> {
  const { captures, unreachable, damaged } = installation === undefined
    ? { captures: [], unreachable: [], damaged: [] }
    : await findCaptures(kubectl, installation, nodesOf(waiting.values()));
  for (const [uid, target] of waiting) {
    const words = unchanged.has(uid) ? "annotated like this already" : "annotated";
    const capture = captures.find((one) => one.uid === uid);
    const unasked = [...unreachable, ...damaged].find(({ node }) => node === target.node);
    if (capture?.state === "capturing" || capture?.state === "completed") {
      report.good(target, `${words}; ${capture.state} on node ${target.node}`);
    } else if (capture !== undefined) {
      report.bad(target, `${words}; ${capture.state}${capture.reason ? `: ${capture.reason}` : ""}`);
    } else if (unasked !== undefined) {
      report.bad(target, `${words}, but no word from its controller: ${unasked.reason}`);
    } else if (unchanged.has(uid) && installation === undefined) {
      report.good(target, words);
    } else {
      const silence = installation !== undefined
        ? "its controller does not list it"
        : heardSeconds === undefined
        ? "what its controller makes of it cannot be seen"
        : `no word from its controller in ${heardSeconds} s`;
      report.bad(target, `${words}, but ${silence} (see: kubectl describe pod -n ${target.namespace} ${target.name})`);
    }
  }
}
