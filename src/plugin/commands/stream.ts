/** `stream`: packets as they are captured, to standard output or straight into Wireshark or tshark. */
import { messageOf } from "../../base/errors.ts";
import { pause } from "../../base/timeout.ts";
import { mergeLive } from "../../pcap/live_merge.ts";
import { VERSION } from "../../version.ts";
import { Failure, Interrupted, UsageFailure } from "../failure.ts";
import { commandWords, deliver, whyFailed } from "../fetch/ask.ts";
import { nameOf } from "../format.ts";
import { type Controller, controllerOn, type Installation, type InstallationOptions } from "../installation.ts";
import type { Delivery } from "../kubectl/kubectl.ts";
import { checkTargetOptions, findTargets, type Target, type TargetOptions } from "../targets.ts";
import { type Context, installationFor } from "./command.ts";
import { warnOfMisplaced } from "./later_pods.ts";
import { annotatedOnly, notCaptured } from "./stop.ts";
import { openViewer, type Sink, standardOutput, type Viewer } from "./viewer.ts";

/** Streams from one node: each takes 40 MiB of the reader's memory limit (256 MiB by default) as long as it lasts. */
const MOST_ON_A_NODE = 4;

export interface StreamOptions extends TargetOptions, InstallationOptions {
  /** Start it and show the packets there. @default standard output */
  readonly viewer?: Viewer | undefined;
  /** Whether only headers are shown: all that the right on `captures/headers` gives. */
  readonly headersOnly: boolean;
}

/** @returns the exit code: 0 when interrupted or when nobody reads any more, which is how a stream ends; 1 if a controller ended it. */
export async function stream(context: Context, options: StreamOptions): Promise<number> {
  checkTargetOptions(options);
  const { kubectl } = context;
  if (options.viewer === undefined && Deno.stdout.isTerminal()) {
    throw new UsageFailure(
      "Cannot write packets to a terminal: give --wireshark or --tshark, or send them through a pipe",
    );
  }
  try {
    const installation = await installationFor(context, options);
    const { annotationKey } = installation.release;
    const asked = await findTargets(kubectl, options);
    warnOfMisplaced(context.terminal, asked, annotationKey);
    const targets = annotatedOnly(asked, annotationKey);
    for (const target of asked) {
      if (!targets.includes(target)) context.terminal.note(`${nameOf(target)}: ${notCaptured(annotationKey)}`);
    }
    const controllers = targets.map((target) => controllerOf(installation, target));
    for (const [node, { length }] of Map.groupBy(targets, ({ node }) => node)) {
      if (length > MOST_ON_A_NODE) {
        throw new UsageFailure(
          `Cannot stream from ${length} pods on node ${node}: its controller has memory for ${MOST_ON_A_NODE} streams; name fewer pods`,
        );
      }
    }
    await using sink = options.viewer === undefined ? standardOutput() : openViewer(options.viewer);
    const flags = options.headersOnly ? ["--headers-only"] : [];
    return await flow(context, targets, controllers, flags, sink);
  } catch (error) {
    if (error instanceof Interrupted) return 0;
    throw error;
  }
}

/** A signal to all processes of a terminal has reached them all by then. */
const INTERRUPT_MS = 300;

async function flow(
  { kubectl: user, terminal }: Context,
  targets: readonly Target[],
  controllers: readonly Controller[],
  flags: readonly string[],
  sink: Sink,
): Promise<number> {
  const commandFor = (target: Target) => ["stream", nameOf(target), ...flags];
  const over = new AbortController();
  const kubectl = user.until(over.signal);
  sink.gone.then(() => over.abort(new ReaderGone()));
  /** The last line of each controller, so that it is not printed twice. */
  const said: string[] = [];
  const deliveries = targets.map((target, i) => {
    const onStderr = (line: string) => {
      const words = commandWords(line);
      if (words === undefined) return;
      said[i] = words;
      terminal.note(`${nameOf(target)}: ${words}`);
    };
    return deliver(kubectl, controllers[i] as Controller, commandFor(target), { onStderr });
  });
  let failed = false;
  const ended = async (index: number, error: unknown) => {
    if (user.signal.aborted || over.signal.aborted) return;
    const target = targets[index] as Target;
    const { code, stderr } = await (deliveries[index] as Delivery).outcome;
    // Ctrl-C on a terminal ends kubectl too, and its end may be seen before the signal.
    if (code !== 0 && await isInterrupted(user.signal)) return;
    if (error === undefined && code === 0) return terminal.note(`${nameOf(target)}: the capture has ended`);
    failed = true;
    const why = error ?? await whyFailed(user, controllers[index] as Controller, commandFor(target), code, stderr);
    const known = said[index] !== undefined && messageOf(why).startsWith(said[index]);
    terminal.note(`${nameOf(target)}: the stream has ended${known ? "" : `: ${messageOf(why)}`}`);
  };
  const endings: Promise<void>[] = [];
  try {
    const [only] = deliveries;
    if (deliveries.length === 1 && only !== undefined) {
      // As it came, with all comments of the controller.
      for await (const chunk of only.bytes) await sink.write(chunk);
      await ended(0, undefined);
    } else {
      await mergeLive(deliveries.map(({ bytes }) => bytes), {
        application: `kubectl packet-capture ${VERSION}`,
        write: (bytes) => sink.write(bytes),
        ended: (index, error) => endings.push(ended(index, error)),
      });
      await Promise.all(endings);
    }
  } catch (error) {
    if (!(error instanceof ReaderGone || error instanceof Deno.errors.BrokenPipe || over.signal.aborted)) throw error;
    user.signal.throwIfAborted();
    return await sink.exitCode();
  } finally {
    over.abort(new ReaderGone());
    await Promise.all(deliveries.map(({ outcome }) => outcome));
  }
  user.signal.throwIfAborted();
  return failed ? 1 : await sink.exitCode();
}

/** Returns whether the user ends the command, now or in a moment. */
async function isInterrupted(signal: AbortSignal): Promise<boolean> {
  return await pause(INTERRUPT_MS, signal).then(() => false, () => true);
}

/** Nobody reads the stream any more. */
class ReaderGone extends Failure {}

function controllerOf(installation: Installation, target: Target): Controller {
  if (target.node === undefined) throw new Failure(`${nameOf(target)}: it has no node yet, nothing is captured`);
  return controllerOn(installation, target.node);
}
