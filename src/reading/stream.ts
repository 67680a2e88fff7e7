/** `packet-capture stream NS/POD`: what a capture holds, then each packet as it comes, as pcapng on stdout. */
import { count, times } from "../base/format.ts";
import { pause, settledWithin } from "../base/timeout.ts";
import { VERSION } from "../version.ts";
import { askFlush } from "./ask_controller.ts";
import { captureComments, CaptureInterfaces, HEADERS_ONLY } from "./description.ts";
import { Follower } from "./follow.ts";
import { FollowedManifest } from "./followed_manifest.ts";
import { mixedLinkTypes } from "../pcap/interfaces.ts";
import { type Io, ReaderGone, systemIo } from "./io.ts";
import { type Capture, findCapture } from "./locate.ts";
import { PcapReader } from "../pcap/pcap.ts";
import { commentOption } from "../pcap/pcapng_blocks.ts";
import { Refusal, refusing } from "./refusal.ts";
import { PacketWriter } from "../pcap/writer.ts";

/**
 * Milliseconds between two looks at a quiet capture. The kernel takes up to 0.8 s to hand a packet to tcpdump, and
 * 1.5 s are promised.
 */
const LOOK_MS = 100;
/** Bytes read at once after which it does not wait: a fast ring goes around meanwhile. */
const BUSY_BYTES = 256 * 1024;
/** Milliseconds between two flushes: tcpdump buffers what it writes. With the kernel's 800 that makes 1300. */
const FLUSH_MS = 500;
/** Milliseconds without a packet after which statistics are written. The write shows whether the reader has gone. */
const QUIET_MS = 10_000;
/** Milliseconds after the order to stop in which the reader can still take what has been read. */
const LAST_WRITE_MS = 2000;

export interface StreamOptions {
  readonly captureDir: string;
  /** `NS/POD`, or the UID of a kept capture. */
  readonly pod: string;
  /** Whether packets are cut after their headers. @default false */
  readonly headersOnly?: boolean;
}

/**
 * Runs `stream` with the process's own stdout and stderr, until `signal` is aborted.
 *
 * @param whileStdin It writes a trailer to stderr (outcome.ts).
 * @returns the exit code.
 */
export async function runStream(
  { signal, whileStdin, ...options }: StreamOptions & { readonly signal: AbortSignal; readonly whileStdin: boolean },
): Promise<number> {
  const io = systemIo(signal, { whileStdin });
  const code = await stream(options, io);
  io.end(code);
  return code;
}

/**
 * Writes the capture to `io` until its signal is aborted, nobody reads any more, or the capture has ended: it is completed, or
 * its files are deleted.
 *
 * @returns the exit code (outcome.ts): 1 also if the reader was too slow for all of it.
 */
export async function stream(options: StreamOptions, io: Io): Promise<number> {
  return await refusing(io, async () => {
    const capture = await findCapture(options.captureDir, options.pod);
    if (io.stdoutIsTerminal) {
      throw new Refusal(
        2,
        "Cannot write packets to a terminal; use a file or a pipe: stream NS/POD | tshark -r -",
      );
    }
    if (capture.damage) io.say(`${capture.damage}: names, filters and counters are missing from what is written`);
    using live = new LiveCapture(capture, options, io);
    try {
      await live.run();
    } catch (error) {
      if (error instanceof ReaderGone && !error.waited) return 0;
      if (!io.signal.aborted) throw error;
    }
    await live.end();
    return live.missed > 0 ? 1 : 0;
  });
}

class LiveCapture implements Disposable {
  /** Number of times that packets were overwritten before they were read. */
  missed = 0;
  readonly #capture: Capture;
  readonly #io: Io;
  readonly #follower: Follower;
  readonly #output: PacketWriter;
  readonly #headersOnly: boolean;
  readonly #interfaces: CaptureInterfaces;
  #reader: PcapReader | undefined;
  /** Number of the interface to which the file at hand belongs. */
  #to: number | undefined;
  #isMixed = false;
  /** Time of the last packet, for the comment on a gap. */
  #last = "";
  /** Run of the last packet. */
  #run: number | undefined;
  readonly #followed: FollowedManifest;
  #written = performance.now();
  readonly #captureDir: string;
  /** Aborted at its end. */
  readonly #over = new AbortController();
  /** Time of the last flush, and whether one is under way. */
  #flushed = -Infinity;
  #isFlushing = false;

  constructor(capture: Capture, { captureDir, headersOnly = false }: StreamOptions, io: Io) {
    this.#captureDir = captureDir;
    this.#capture = capture;
    this.#headersOnly = headersOnly;
    this.#interfaces = new CaptureInterfaces({ headersOnly });
    this.#followed = new FollowedManifest(capture, (line) => io.say(line));
    this.#io = io;
    this.#follower = new Follower(capture.folder, capture.pod);
    this.#output = new PacketWriter({ write: (bytes) => io.write(bytes) });
  }

  [Symbol.dispose](): void {
    this.#over.abort();
    this.#follower[Symbol.dispose]();
  }

  async run(): Promise<void> {
    const comments = [...captureComments(this.#capture), ...(this.#headersOnly ? [HEADERS_ONLY] : [])];
    await this.#meanwhile(this.#output.begin({ application: `packet-capture ${VERSION}`, os: "Linux", comments }, []));
    for (;;) {
      // Asked before the look, so that what was written before the end is seen by it.
      const over = this.#follower.ended || await this.#followed.hasEnded();
      if (!over) this.#askFlush();
      await this.#look();
      const bytes = await this.#readAll(over);
      await this.#meanwhile(this.#output.flush());
      if (over && this.#follower.queue.length === 0) return;
      if (bytes > 0) this.#written = performance.now();
      if (performance.now() - this.#written > QUIET_MS) {
        await this.#meanwhile(this.#output.beat(this.#interfaces.counters(this.#followed.manifest)));
        this.#written = performance.now();
      }
      if (bytes < BUSY_BYTES && !over) await pause(LOOK_MS, this.#io.signal);
    }
  }

  /** Writes what has been read, and the statistics with which a whole file ends. */
  async end(): Promise<void> {
    const last = (async () => {
      await this.#output.flush();
      // Nothing came after it by which it would have been noticed.
      if (this.#follower.missed !== undefined) this.#reportMissed("the end");
      const comments = this.missed > 0 ? [`the reader was too slow and missed packets ${times(this.missed)}`] : [];
      await this.#output.statistics(this.#interfaces.counters(this.#followed.manifest, comments));
    })();
    if (await settledWithin(LAST_WRITE_MS, last)) await last;
  }

  /** Makes tcpdump write what it has buffered, once a second; the next look finds what it then has written. */
  #askFlush(): void {
    const now = performance.now();
    if (!this.#followed.isWritten || this.#isFlushing || now - this.#flushed < FLUSH_MS) return;
    this.#flushed = now;
    this.#isFlushing = true;
    void askFlush(this.#captureDir, this.#capture, this.#over.signal).finally(() => this.#isFlushing = false);
  }

  async #look(): Promise<void> {
    await this.#follower.look(async () => {
      // The file may be the first of a new run, or of another pod of this name.
      await this.#followed.read();
      return this.#followed.isAnother ? undefined : this.#followed.manifest?.runs.at(-1)?.n ?? 0;
    });
  }

  /** Waits for something to be written, keeping an eye on the ring however long the reader takes. */
  async #meanwhile(writing: Promise<void>): Promise<void> {
    let done = false;
    const finished = writing.finally(() => done = true);
    finished.catch(() => {});
    while (!done) {
      await settledWithin(LOOK_MS, finished, this.#io.signal);
      if (!done) await this.#look();
    }
    await finished;
  }

  /** Reads all that is there. @param over the last file will not grow either. @returns how many bytes that was. */
  async #readAll(over: boolean): Promise<number> {
    const { queue } = this.#follower;
    let bytes = 0;
    for (let file; (file = queue[0]);) {
      if (!this.#reader) file.follow();
      const reader = this.#reader ??= new PcapReader(file, { headersOnly: this.#headersOnly });
      const from = reader.offset;
      // With another one after it, or no tcpdump that writes, this one is finished.
      const finished = queue.length > 1 || over || !this.#followed.isWritten;
      reader.growing = !finished;
      let options: Uint8Array | undefined;
      while (reader.next()) {
        if (this.#to === undefined) options = await this.#beginFile(reader, file.run);
        this.#output.add(reader, this.#to!, options);
        options = undefined;
        if (this.#output.isFull) await this.#meanwhile(this.#output.drain());
      }
      if (reader.seconds > 0) this.#last = timeOf(reader);
      bytes += reader.offset - from;
      if (file.overtaken) {
        // The newest is deleted only when all are: nothing is missing if it was read as far as it had been seen.
        const isRead = queue.length === 1 && file.isDeleted && file.offsetOf(reader.offset) >= file.seenBytes;
        if (!isRead) this.#follower.missed ??= 0;
      } else if (reader.foreign) this.#io.say(`${file.name} is not a pcap file: it is left out`);
      else if (!finished) return bytes;
      else if (reader.loss.bytes > 0) {
        this.#io.say(`${file.name} is damaged: ${count(reader.loss.bytes, "byte")} left out`);
      }
      this.#reader = this.#to = undefined;
      this.#follower.shift(reader.foreign ? Infinity : file.offsetOf(reader.offset));
    }
    return bytes;
  }

  /** Writes the interface of a file's first packet. @returns the comment for that packet. */
  async #beginFile(reader: PcapReader, run: number): Promise<Uint8Array | undefined> {
    const to = this.#interfaces.numberOf({ ...this.#capture, manifest: this.#followed.manifest }, reader.header!, run);
    for (let n = this.#output.delivered.length; n <= to; n++) {
      const { described, comments } = this.#interfaces.all[n]!;
      const mixed = mixedLinkTypes(this.#interfaces.all.slice(0, n + 1).map(({ described }) => described.linkType));
      if (mixed && !this.#isMixed) this.#io.say(mixed);
      this.#isMixed ||= mixed !== undefined;
      await this.#meanwhile(this.#output.addInterface(described, comments).then(() => {}));
    }
    this.#to = to;
    const remarks = [
      ...this.#reportRestarts(run),
      ...(this.#follower.missed === undefined ? [] : [this.#reportMissed(timeOf(reader))]),
    ];
    return remarks.length > 0 ? commentOption(`packet-capture: ${remarks.join("; ")}`) : undefined;
  }

  /** Reports what was overwritten before it was read. @returns the same, for the packet after the gap. */
  #reportMissed(until: string): string {
    const { missed = 0 } = this.#follower;
    this.#follower.missed = undefined;
    this.missed++;
    const what = `packets between ${this.#last || "the start"} and ${until} are missing` +
      `${missed > 0 ? `, at least ${count(missed, "byte")}` : ""}: the reader was slower than the ring`;
    this.#io.say(what);
    return what;
  }

  /** Reports when tcpdump did not run between the last packet and one of this run. @returns the same, for the packet after that. */
  #reportRestarts(run: number): string[] {
    const last = this.#run;
    this.#run = run;
    if (last === undefined || run <= last) return [];
    const restarts = this.#followed.restarts(last, run);
    for (const each of restarts) this.#io.say(each);
    return restarts;
  }
}

function timeOf({ seconds, nanos }: PcapReader): string {
  return new Date(seconds * 1000 + nanos / 1e6).toISOString();
}
