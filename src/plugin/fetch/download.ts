/**
 * Fetches one pod's capture from its controller, whole, starting again when the connection breaks. What the controller
 * itself refuses is not tried again. Each attempt finds the controller again. One download runs at a time per node,
 * and at most four streams, because of the reader's memory limit.
 */
import { backoffMs } from "../../base/backoff.ts";
import { messageOf } from "../../base/errors.ts";
import { count, formatBytes } from "../../base/format.ts";
import { pause } from "../../base/timeout.ts";
import { EXIT } from "../../spec/outcome.ts";
import type { CaptureState } from "../../spec/state.ts";
import { Failure } from "../failure.ts";
import { nameOf } from "../format.ts";
import type { Controller } from "../installation.ts";
import { Refused } from "../kubectl/explain.ts";
import { Idle, type Kubectl } from "../kubectl/kubectl.ts";
import { CommandFailed, deliver, remoteLines, whyFailed } from "./ask.ts";
import { fileFailure, type PartFile } from "./output_file.ts";
import type { Progress } from "./progress.ts";
import { checkWhole } from "./whole.ts";

/** Pauses between two attempts. Six of them span half a minute: time for a controller that is being replaced. */
const PAUSES = { firstMs: 1500, mostMs: 60_000 };

export interface DownloadOptions {
  readonly kubectl: Kubectl;
  readonly pod: { readonly namespace: string; readonly name: string };
  /** The controller's name for the capture: `NS/POD`, or the UID of one that is kept. */
  readonly capture: string;
  /** The controller to ask; called for each attempt, because an upgrade replaces controllers. */
  readonly controller: () => Promise<Controller>;
  /** Time of the last packets to fetch (`5m`); undefined: all. */
  readonly since?: string | undefined;
  /** Whether only headers are fetched. */
  readonly headersOnly: boolean;
  /** Times that it is begun before it is given up. */
  readonly attempts: number;
  /** Milliseconds without a byte after which the connection counts as broken. @default never */
  readonly idleMs?: number | undefined;
  /** The file to write. */
  readonly file: PartFile;
  readonly progress: Progress;
}

/** A capture that is there. */
export interface Download {
  readonly bytes: number;
  readonly packets: number;
  /** The part that the controller could not give, in its words: the file is whole, but the ring had overtaken the reader. */
  readonly warning: string | undefined;
}

/**
 * @throws {Failure} it cannot be had, after as many attempts as make sense.
 */
export async function download(options: DownloadOptions): Promise<Download> {
  const { kubectl, pod, progress, attempts } = options;
  for (let attempt = 1;; attempt++) {
    const got = { bytes: 0 };
    try {
      return await downloadOnce(options, await controllerFor(options, attempt), got);
    } catch (error) {
      progress.add(-got.bytes);
      if (!(error instanceof Broken)) throw error;
      if (attempt >= attempts) {
        throw new Failure(`the download failed ${count(attempts, "time")}, at last: ${error.message}`);
      }
      const pauseMs = backoffMs(attempt, PAUSES);
      progress.note(
        `${nameOf(pod)}: broken off after ${formatBytes(got.bytes)} (${error.message}); from the start in ${
          (pauseMs / 1000).toFixed(1)
        } s, attempt ${attempt + 1} of ${attempts}`,
      );
      await pause(pauseMs, kubectl.signal);
    }
  }
}

/** Its controller has nothing of the pod yet: no reason to do without the others' packets. */
export class NothingYet extends Failure {
  override readonly name = "NothingYet";
  /** @param fault That is not how it ought to be. */
  constructor(message: string, readonly fault: boolean) {
    super(message);
  }
}

/** The error of `cat` of version 0.1 then, which has no trailer, with the capture's state if it is known. */
const NO_PACKET = /: no packet has been captured yet(?:, it is (\w+))?/;
const NOT_SEEN = /^Cannot find a capture of /;
/** States in which it is nobody's fault that there are no packets. */
const QUIET_STATES: readonly (CaptureState | undefined)[] = [
  ...[undefined, "capturing", "pending", "finished", "completed", "held"] as const,
];

/** The connection broke, or what came is not whole: another attempt may help. */
class Broken extends Error {}

/** Finds the controller. Between two attempts it may be away for a while, which is no reason to give up. */
async function controllerFor({ controller, kubectl }: DownloadOptions, attempt: number): Promise<Controller> {
  try {
    return await controller();
  } catch (error) {
    kubectl.signal.throwIfAborted();
    if (attempt === 1 || error instanceof Refused || !(error instanceof Failure)) throw error;
    throw new Broken(error.message);
  }
}

async function downloadOnce(
  options: DownloadOptions,
  controller: Controller,
  got: { bytes: number },
): Promise<Download> {
  const { kubectl, capture, file, progress, since, headersOnly, idleMs } = options;
  const command = [
    ...["cat", capture, "--format", "pcapng"],
    ...(since === undefined ? [] : ["--since", since]),
    ...(headersOnly ? ["--headers-only"] : []),
  ];
  const { bytes, outcome } = deliver(kubectl, controller, command, idleMs === undefined ? {} : { idleMs });
  let idle: Failure | undefined;
  try {
    await writeTo(file, bytes, (length) => {
      got.bytes += length;
      progress.add(length);
    });
  } catch (error) {
    if (error instanceof Idle) idle = error;
    else throw error;
  }
  const { code, stderr } = await outcome;
  if (idle !== undefined) throw new Broken(idle.message);
  const { missing, packets } = await checkWhole(file.path, kubectl.signal);
  if (missing === undefined) {
    return { bytes: got.bytes, packets, warning: code === 0 ? undefined : remoteLines(stderr).join("; ") };
  }
  if (code === 0) throw new Broken(missing);
  const why = await whyFailed(kubectl, controller, command, code, stderr);
  if (why instanceof CommandFailed) throwNothingYet(why);
  // What the command itself refuses, and what is not allowed, another attempt does not change. 128 and more is a signal's doing.
  if (why instanceof Refused || (why instanceof CommandFailed && why.commandCode < 128)) throw why;
  throw new Broken(messageOf(why));
}

/** @throws {NothingYet} that is why the command failed: there is no packet, or no capture although the pod is annotated. */
function throwNothingYet({ message, commandCode, trailer }: CommandFailed): void {
  const old = trailer === undefined && commandCode === EXIT.failed ? NO_PACKET.exec(message) : null;
  if (commandCode === EXIT.nothingYet || old !== null) {
    const state = trailer?.state ?? old?.[1] as CaptureState | undefined;
    throw new NothingYet(message, !QUIET_STATES.includes(state));
  }
  if (commandCode === EXIT.notHere || (trailer === undefined && NOT_SEEN.test(message))) {
    throw new NothingYet(message, true);
  }
}

async function writeTo(
  { path, becomes }: PartFile,
  bytes: ReadableStream<Uint8Array<ArrayBuffer>>,
  wrote: (length: number) => void,
): Promise<void> {
  try {
    using file = await Deno.open(path, { write: true, create: true, truncate: true, mode: 0o600 });
    for await (const chunk of bytes) {
      for (let at = 0; at < chunk.length;) at += await file.write(chunk.subarray(at));
      wrote(chunk.length);
    }
  } catch (error) {
    throw fileFailure(error, becomes);
  }
}
