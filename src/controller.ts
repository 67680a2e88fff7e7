/** Builds the parts of the controller, joins them, and stops them in order. */
import { CaptureDir, DirectoryHeld, DirectoryRefused } from "./store/capture_dir.ts";
import { Control } from "./captures/control.ts";
import { Captures } from "./captures/captures.ts";
import { CAPTURE_TIMING, type CaptureTiming } from "./timing.ts";
import { pause } from "./base/timeout.ts";
import { endStrays } from "./tcpdump/tcpdump.ts";
import { canFlush } from "./tcpdump/tcpdump_buffer.ts";
import { serve } from "./http.ts";
import { getLog } from "./log.ts";
import { Metrics } from "./metrics.ts";
import { ApiClient } from "./pods/api.ts";
import { PodEvents } from "./pods/events.ts";
import { getPod } from "./pods/get.ts";
import { statusOf } from "./pods/status.ts";
import { PodWatch, type WatchTiming } from "./pods/watch.ts";
import { Sandboxes } from "./sandboxes/sandboxes.ts";
import type { Settings } from "./settings.ts";

/** Times that the controller waits, in milliseconds. */
export interface ControllerTiming {
  /** Time without a turn of its loops after which only a restart helps (/healthz). */
  readonly stalled: number;
  /** The runtime must have answered within this (design: /readyz). */
  readonly runtimeSilent: number;
  /** Time between two tries of a held directory. */
  readonly heldRetry: number;
}

const CONTROLLER_TIMING: ControllerTiming = { stalled: 60_000, runtimeSilent: 30_000, heldRetry: 1000 };

export interface ControllerOptions {
  /** Times for tests, which cannot wait as long as the controller does. */
  readonly timing?: {
    readonly controller?: Partial<ControllerTiming>;
    readonly watch?: Partial<WatchTiming>;
    readonly health?: Partial<CaptureTiming["health"]>;
  };
}
/** Milliseconds that the API may take to answer for one pod. */
const LOOK_TIMEOUT_MS = 10_000;
/** Milliseconds that Events still to be sent may take at the end. */
const EVENTS_CLOSE_MS = 2000;

/**
 * Runs the controller until `signal` is aborted.
 *
 * @returns the exit code: 0 after a stop, 1 after a failure, 2 if captureDir is not ours.
 * @throws {KubeConfigError} if the API server cannot be found or the way to it cannot be used.
 */
export async function runController(
  settings: Settings,
  signal: AbortSignal,
  options: ControllerOptions = {},
): Promise<number> {
  const timing = { ...CONTROLLER_TIMING, ...options.timing?.controller };
  const log = getLog();
  const metrics = new Metrics();
  // Files that tcpdump makes are ours alone.
  Deno.umask(0o077);
  const stop = new AbortController();
  signal.addEventListener("abort", () => stop.abort(signal.reason), { once: true });
  let exitCode = 0;
  let notReady: () => string | undefined = () => "starting";
  let stalled: () => string | undefined = () => undefined;
  const http = serve({
    port: settings.httpPort,
    hostname: settings.httpHost,
    log: getLog("http"),
    healthy: () => stalled(),
    ready: () => notReady(),
    metrics: settings.metricsEnabled ? metrics : undefined,
  });
  log.info("serving http", { port: http.port });
  try {
    const flushing = canFlush();
    // First of all: what is wrong with the kubeconfig is found out before anything is taken or touched.
    using api = await ApiClient.load();
    using directory = await takeDirectory(settings, stop.signal, timing.heldRetry, (reason) => notReady = () => reason);
    if (!directory) return 0;
    const strays = await endStrays(directory.path, stop.signal);
    if (strays.length > 0) log.warn("stray tcpdump processes ended", { pids: strays.join(" ") });
    const events = new PodEvents({
      api,
      nodeName: settings.nodeName,
      instance: settings.podName,
      log: getLog("events"),
      enabled: settings.eventsEnabled,
    });
    const sandboxes = new Sandboxes({
      socket: settings.criSocket,
      netnsDir: settings.netnsDir,
      onChange: (owner) => captures.sandboxChanged(owner),
      log: getLog("sandboxes"),
    });
    const writesThrough = !await flushing;
    if (writesThrough) log.warn("tcpdump writes each packet at once, which takes more CPU: it cannot be flushed here");
    const captures: Captures = new Captures({
      settings,
      directory,
      metrics,
      log: getLog("captures"),
      record: (pod, event, request, isAnswer) => events.record(pod, event, request, isAnswer),
      sandboxes,
      statusOf: async (pod, signal) => {
        const object = await getPod(api, pod, { signal, timeoutMs: LOOK_TIMEOUT_MS });
        return object && statusOf(object);
      },
      timing: { ...CAPTURE_TIMING, health: { ...CAPTURE_TIMING.health, ...options.timing?.health } },
      writesThrough,
      signal: stop.signal,
      onDirectoryLost: () => {
        log.error("captureDir was replaced while in use: stopping, so that the kubelet restarts the controller", {
          path: directory.path,
        });
        exitCode = 1;
        stop.abort(new Error("captureDir was replaced"));
      },
    });
    await captures.adopt();
    await using _control = await Control.open({
      directory: directory.path,
      flush: (namespace, pod) => captures.flushBuffer(namespace, pod),
      count: () => captures.countNow(),
      log: getLog("control"),
    });
    const watch = new PodWatch({
      api,
      nodeName: settings.nodeName,
      annotationKey: settings.annotationKey,
      onPod: (pod) => captures.podUpdated(pod),
      kept: () => captures.kept(),
      onGone: (pod) => captures.podDeleted(pod),
      onSynced: () => captures.podsSynced(),
      log: getLog("watch"),
      metrics,
      timing: options.timing?.watch,
    });
    stalled = () => {
      const loops = { watch: watch.lastTurn, captures: captures.lastTurn };
      for (const [name, lastTurn] of Object.entries(loops)) {
        const ms = performance.now() - lastTurn;
        if (ms > timing.stalled) return `the ${name} loop has not turned for ${Math.round(ms / 1000)} s`;
      }
      return undefined;
    };
    notReady = () => {
      if (stop.signal.aborted) return "stopping";
      if (!watch.synced) return "the pods of this node have not been listed yet";
      const { lastAnswer } = sandboxes;
      if (lastAnswer === undefined) return `the container runtime at ${settings.criSocket} has not answered yet`;
      const ms = performance.now() - lastAnswer;
      return ms > timing.runtimeSilent
        ? `the container runtime at ${settings.criSocket} has not answered for ${Math.round(ms / 1000)} s`
        : undefined;
    };
    const parts = [sandboxes.run(stop.signal), watch.run(stop.signal), captures.run(stop.signal)];
    await aborted(stop.signal);
    log.info("stopping", { why: String(stop.signal.reason?.message ?? stop.signal.reason) });
    await captures.stop();
    await Promise.all(parts);
    await events.close(AbortSignal.timeout(EVENTS_CLOSE_MS));
    // Where nothing is kept, nothing of ours stays on the node; the next start makes the marker again.
    if (exitCode === 0) {
      await directory.giveUp().catch((error) => {
        log.warn("cannot give captureDir up: its marker stays", { path: directory.path, reason: error.message });
      });
    }
    log.info("stopped", { exitCode });
    return exitCode;
  } catch (error) {
    if (!(error instanceof DirectoryRefused)) throw error;
    log.error(error.message);
    return 2;
  } finally {
    stop.abort();
    await http.close();
  }
}

/** Takes the capture directory, however long another controller holds it. @returns undefined if stopped before. */
async function takeDirectory(
  settings: Settings,
  signal: AbortSignal,
  retryMs: number,
  onWait: (reason: string) => void,
): Promise<CaptureDir | undefined> {
  const log = getLog();
  let said = "";
  while (!signal.aborted) {
    try {
      return await CaptureDir.take({
        path: settings.captureDir,
        annotationKey: settings.annotationKey,
        release: settings.release,
        holder: `pod ${settings.podName} on node ${settings.nodeName} (process ${Deno.pid})`,
      });
    } catch (error) {
      if (!(error instanceof DirectoryHeld)) throw error;
      onWait(error.message);
      if (error.message !== said) log.warn("waiting for captureDir", { reason: error.message });
      said = error.message;
      await pause(retryMs, signal).catch(() => {}); // aborted
    }
  }
  return undefined;
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
