/**
 * `get`: the captures of many pods, from all their nodes, as one file.
 *
 * Nothing is written if one pod of several cannot be fetched, unless `--partial`. A pod without packets is passed
 * over, so that a quiet replica does not hide the others. If that pod should have packets (it waits, is paused,
 * fails or is rejected), the exit code is 1. `--stop` ends only the captures found whole, and is refused with
 * `--since`, because the rest would be deleted unseen.
 */
import { basename } from "node:path";
import { messageOf } from "../../base/errors.ts";
import { count, formatBytes } from "../../base/format.ts";
import { mapConcurrent } from "../../base/map_concurrent.ts";
import { Failure, UsageFailure } from "../failure.ts";
import { type Captures, findCaptures, NODES_AT_ONCE, nodesOf } from "../fetch/captures.ts";
import { type Download, download, NothingYet } from "../fetch/download.ts";
import { findKept } from "../fetch/kept.ts";
import { mergeParts } from "../fetch/merge_parts.ts";
import { OutputFile, type PartFile } from "../fetch/output_file.ts";
import { type Progress, showProgress } from "../fetch/progress.ts";
import { nameOf } from "../format.ts";
import { controllerOn, findInstallation, type Installation, type InstallationOptions } from "../installation.ts";
import { checkTargetOptions, findTargets, type Target, type TargetOptions } from "../targets.ts";
import { type Context, installationFor, Report } from "./command.ts";
import { warnOfMisplaced } from "./later_pods.ts";
import { annotatedOnly, notCaptured, stopAll } from "./stop.ts";

export interface GetOptions extends TargetOptions, InstallationOptions {
  /** The file; `-`: standard output. @default POD.pcapng, or packet-capture.pcapng for several */
  readonly output?: string | undefined;
  readonly format: "pcapng" | "pcap";
  /** Replace a file that is there. */
  readonly force: boolean;
  /** Time of the last packets to fetch (`5m`); undefined: all. */
  readonly since?: string | undefined;
  /** Whether only headers are fetched: all that the right on `captures/headers` gives. */
  readonly headersOnly: boolean;
  /** Remove the annotations once the file is there. */
  readonly stop: boolean;
  /** Be content with the pods that can be had. */
  readonly partial: boolean;
  /** Times that each download is begun before it is given up. */
  readonly attempts: number;
  /** Milliseconds without a byte after which a connection counts as broken. @default never */
  readonly idleMs?: number | undefined;
  /** Milliseconds to wait, as `stop` does. */
  readonly waitMs: number;
}

interface Part extends Download {
  readonly target: Target;
  readonly file: PartFile;
}

/** @returns the exit code: 0 if all that was asked for is in the file. */
export async function get(context: Context, options: GetOptions): Promise<number> {
  checkTargetOptions(options);
  const { kubectl, terminal } = context;
  if (options.output === "-" && Deno.stdout.isTerminal()) {
    throw new UsageFailure("Cannot write packets to a terminal: give -o FILE, or send them through a pipe");
  }
  if (options.stop && options.since !== undefined) {
    throw new UsageFailure(
      "Cannot take --stop with --since: --stop deletes all that was captured, --since fetches only a part; give one of the two",
    );
  }
  if (options.stop && options.headersOnly) {
    throw new UsageFailure(
      "Cannot take --stop with --headers-only: --stop deletes all that was captured, --headers-only fetches only a part; give one of the two",
    );
  }
  const installation = await installationFor(context, options);
  const kept = (name: string, namespace: string | undefined) =>
    findKept(kubectl, installation, name, { ...options, namespace: namespace ?? options.namespace });
  const { annotationKey } = installation.release;
  const asked = await findTargets(kubectl, options, kept);
  warnOfMisplaced(terminal, asked, annotationKey);
  const targets = annotatedOnly(asked, annotationKey);
  const [first] = targets;
  // A name from the cluster is the name of a file, nothing more.
  const name = targets.length === 1 && first !== undefined ? basename(first.name) : "packet-capture";
  const path = options.output ?? `${name}.${options.format}`;
  await using output = await OutputFile.create(path, options);

  const report = new Report(terminal);
  for (const target of asked) {
    if (targets.includes(target)) continue;
    if (options.partial) report.warn(target, notCaptured(annotationKey));
    else report.bad(target, notCaptured(annotationKey));
  }
  const parts = await downloadAll(context, options, installation, targets, output, report);
  const merged = await mergeParts(
    parts.map(({ target, file: { path } }) => ({ name: nameOf(target), path })),
    options.format,
    output.part(`merged.${options.format}`),
    kubectl.signal,
    (remark) => terminal.note(`${path === "-" ? "Standard output" : path}: ${remark}`),
  );
  if (path === "-") await toStdout(merged, kubectl.signal);
  else await output.publish(merged);

  const bytes = parts.reduce((sum, part) => sum + part.bytes, 0),
    packets = parts.reduce((sum, part) => sum + part.packets, 0);
  terminal.note(
    `${path === "-" ? "Standard output" : path}: ${count(packets, "packet")} of ${count(parts.length, "pod")}, ${
      formatBytes(bytes)
    }`,
  );
  if (options.stop) {
    const whole = parts.filter(({ warning }) => warning === undefined).map(({ target }) => target);
    for (const target of targets) {
      if (!whole.includes(target)) report.warn(target, "not stopped, because not all of it was fetched");
    }
    const stopped = whole.filter((target) => !target.kept);
    const { waitMs } = options;
    await stopAll(context, stopped, annotationKey, { keep: false, waitMs }, undefined, report);
  }
  return report.exitCode;
}

/**
 * @returns what could be had.
 * @throws {Failure} some pod's capture cannot be had, and not all was asked to be partial; or none can.
 */
async function downloadAll(
  context: Context,
  options: GetOptions,
  installation: Installation,
  targets: readonly Target[],
  output: OutputFile,
  report: Report,
): Promise<Part[]> {
  const { terminal } = context;
  const failed = new AbortController();
  const kubectl = context.kubectl.until(failed.signal);
  const expected = terminal.showsProgress ? await expectedBytes(context, installation, targets) : undefined;
  using progress = showProgress(terminal, targets.length, expected);
  const one = async (target: Target): Promise<Part | undefined> => {
    try {
      const file = output.part(`${targets.indexOf(target)}.pcapng`);
      const done = await downloadOne({ ...context, kubectl }, options, installation, target, file, progress);
      return { ...done, target, file };
    } catch (error) {
      context.kubectl.signal.throwIfAborted();
      const nothing = error instanceof NothingYet;
      if (nothing || (options.partial && error instanceof Failure && !failed.signal.aborted)) {
        if (!nothing || error.fault) report.failures++;
        progress.note(`${nameOf(target)}: left out: ${error.message}`);
        return undefined;
      }
      // The others' work is of no use now.
      failed.abort(error);
      throw error instanceof Failure ? new Failure(`${nameOf(target)}: ${messageOf(error)}`) : error;
    }
  };
  // One after the other on a node, where each takes 40 MiB of the reader's memory limit; several nodes at once.
  const nodes = [...Map.groupBy(targets, ({ node }) => node).values()];
  const parts = await mapConcurrent(nodes, NODES_AT_ONCE, async (onNode) => {
    const done: Part[] = [];
    for (const target of onNode) {
      const part = await one(target);
      if (part !== undefined) done.push(part);
    }
    return done;
  });
  const had = parts.flat();
  if (had.length === 0) throw new Failure("There is nothing to fetch");
  for (const { target, warning } of had) {
    if (warning !== undefined) report.bad(target, `not all that was captured could be read: ${warning}`);
  }
  return had;
}

async function downloadOne(
  { kubectl }: Context,
  options: GetOptions,
  installation: Installation,
  target: Target,
  file: PartFile,
  progress: Progress,
): Promise<Download> {
  const { node } = target;
  if (node === undefined) throw new NothingYet("it has no node yet, nothing is captured", false);
  let known: Installation | undefined = installation;
  const controller = async () => {
    const found = controllerOn(known ?? await findInstallation(kubectl, options), node);
    known = undefined;
    return found;
  };
  const { since, headersOnly, attempts, idleMs } = options;
  const done = await download({
    kubectl,
    pod: target,
    capture: target.keptUid ?? nameOf(target),
    controller,
    since,
    headersOnly,
    attempts,
    idleMs,
    file,
    progress,
  });
  progress.done();
  progress.note(`${nameOf(target)}: ${count(done.packets, "packet")}, ${formatBytes(done.bytes)} from node ${node}`);
  return done;
}

async function expectedBytes(
  { kubectl }: Context,
  installation: Installation,
  targets: readonly Target[],
): Promise<number | undefined> {
  const { captures }: Captures = await findCaptures(kubectl, installation, nodesOf(targets));
  const uids = new Set(targets.map(({ uid }) => uid));
  const sum = captures.reduce((total, { uid, bytes }) => total + (uids.has(uid) ? bytes : 0), 0);
  return sum === 0 ? undefined : sum;
}

async function toStdout(path: string, signal: AbortSignal): Promise<void> {
  using file = await Deno.open(path);
  const buffer = new Uint8Array(256 * 1024);
  for (let length = await file.read(buffer); length !== null; length = await file.read(buffer)) {
    for (let at = 0; at < length;) {
      signal.throwIfAborted();
      at += await Deno.stdout.write(buffer.subarray(at, length));
    }
  }
}
