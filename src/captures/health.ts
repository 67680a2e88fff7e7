/** Looks after a running capture every second: whether its tcpdump is alive, hears anything, and keeps up. */
import type { PodEvent } from "../pods/events.ts";
import type { Capture, CaptureContext } from "./capture.ts";
import type { Running } from "./running.ts";
import type { Counters } from "./counters.ts";
import { listInterfaces } from "./tcpdump_queries.ts";

export const HEALTH_TIMING = {
  /** Seconds of silence from the start of a run after which it is said, with what there is to hear on. */
  silence: 60,
  /** Milliseconds after which more dropped packets are worth another word. */
  droppedAgain: 60_000,
};

/** A packet that was received so long ago has been captured, or never will be: the kernel hands it over after 1 s. */
const BUFFERED_SECONDS = 2;

/** What was asked and said of one run. */
export class RunHealth {
  /** Seconds of capturing when tcpdump was asked for its counters, and what it had answered until then. */
  asked: { seconds: number; counters: Counters | undefined } | undefined;
  saidNoPackets = false;
  /** Packets received as of the last look, and the seconds of capturing at which they had become so many. */
  received = { count: 0, seconds: 0 };
  /** How many dropped packets have been told, and performance.now() then. */
  told = { dropped: 0, at: -Infinity };
}

/** @param ask whether tcpdump is about to be asked for its counters. */
export async function watchHealth(capture: Capture, context: CaptureContext, ask: boolean): Promise<void> {
  const { running } = capture;
  if (!running) return;
  const hopeless = await running.hopeless() ??
    (ask && await running.writesToDeletedFile() ? "the file it wrote to was deleted" : undefined);
  // Ended meanwhile, and perhaps forgotten, with its series: nobody would take them away again.
  if (capture.running !== running) return;
  if (hopeless !== undefined) {
    context.log.warn("tcpdump killed", { ...capture.fields(), pid: running.pid, why: hopeless });
    // What follows from its end is the queue's business.
    running.giveUp(hopeless);
    return;
  }
  const { counters, health } = running;
  if (ask) {
    if (counters !== health.asked?.counters) health.asked = undefined;
    health.asked ??= { seconds: running.seconds, counters };
  }
  if (!counters) return;
  context.metrics.setCapture(capture, {
    packets: capture.packetsBefore + counters.captured,
    dropped: capture.droppedBefore + counters.dropped,
    ringBytes: capture.bytes,
  });
  sayDropped(capture, running, counters, context);
  // Only what has been answered since says something of the time until then.
  const seconds = health.asked && counters !== health.asked.counters ? health.asked.seconds : 0;
  if (counters.received !== health.received.count) {
    health.received = { count: counters.received, seconds: running.seconds };
  }
  if (isSilent(running) && seconds >= HEALTH_TIMING.silence && !health.saidNoPackets) {
    health.saidNoPackets = true;
    // Not waited for: other captures are to be looked after.
    void sayNoPackets(capture, running, seconds, context);
  }
}

/** Writes what tcpdump has counted and what the files take, both of now; as they were before where it does not answer. */
export async function countNow(capture: Capture): Promise<void> {
  const { running, ledger, files } = capture;
  const size = await running?.countNow() ? await files.size() : undefined;
  if (size && running?.counters && capture.running === running) ledger?.count(running.counters, size);
  await capture.saveProgress();
}

/** The numbers are for the log, the note is always the same: it is counted then, and others of the pod have room beside it. */
function sayDropped(capture: Capture, running: Running, counters: Counters, context: CaptureContext): void {
  const { told } = running.health;
  const now = performance.now();
  if (counters.dropped <= told.dropped || now - told.at < HEALTH_TIMING.droppedAgain) return;
  running.health.told = { dropped: counters.dropped, at: now };
  const { dropped, received } = counters;
  context.log.warn("packets dropped", { ...capture.fields(), more: dropped - told.dropped, dropped, received });
  record(capture, running, context, {
    type: "Warning",
    reason: "CapturePacketsDropped",
    note: "The kernel dropped packets because tcpdump was too slow (packet-capture list says how many): " +
      "a filter or a smaller snaplen helps",
  });
}

async function sayNoPackets(
  capture: Capture,
  running: Running,
  seconds: number,
  context: CaptureContext,
): Promise<void> {
  const { request, netnsPath } = running;
  const { tcpdump, nsenter } = context.settings;
  const interfaces = await listInterfaces({ tcpdump, nsenter, netnsPath }).catch(() => []);
  if (capture.running !== running || !isSilent(running)) return;
  record(capture, running, context, {
    type: "Normal",
    reason: "CaptureNoPackets",
    note: `No packets came in the first ${Math.floor(seconds)} s on interface ${request.interface}` +
      (request.filter === undefined ? "" : ` with filter ${request.filter}`) +
      // There is a loopback everywhere: none at all means that they could not be listed.
      (interfaces.length === 0 ? "" : `; the pod has ${interfaces.join(", ")}`),
  });
}

/**
 * Returns whether nothing was captured, nor may still be in the kernel's buffer. Packets that come between the opening of tcpdump's
 * socket and its filter count as received, and are thrown away.
 */
function isSilent({ counters, health: { received }, seconds }: Running): boolean {
  return counters?.captured === 0 && counters.received === received.count &&
    (received.count === 0 || seconds - received.seconds > BUFFERED_SECONDS);
}

/** On the pod that the run is of, not on a later one of its name. */
function record(capture: Capture, running: Running, context: CaptureContext, event: PodEvent): void {
  if (capture.pod?.uid === running.uid) context.record(capture.pod, event, running.requestHash, false);
}
