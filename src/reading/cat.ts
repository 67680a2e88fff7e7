/** `packet-capture cat NS/POD`: all that a capture holds at one moment, in order of time, as one file on stdout. */
import { count } from "../base/format.ts";
import { abortable, pause } from "../base/timeout.ts";
import type { Manifest } from "../store/manifest.ts";
import { readManifest } from "../store/manifest_file.ts";
import { VERSION } from "../version.ts";
import type { CaptureFile } from "./capture_file.ts";
import { mayBeWritten } from "./alive.ts";
import { askFlush } from "./ask_controller.ts";
import { CaptureInterfaces } from "./description.ts";
import { mixedLinkTypes } from "../pcap/interfaces.ts";
import { type Io, systemIo } from "./io.ts";
import { untilReceived } from "./exit_with_stdin.ts";
import { type Capture, findCapture } from "./locate.ts";
import { EXIT } from "../spec/outcome.ts";
import { PcapReader } from "../pcap/pcap.ts";
import { PCAP_HEADER_BYTES } from "../pcap/pcap_format.ts";
import { Refusal, refusing } from "./refusal.ts";
import { disorderRemarks, missingOf, sectionComments } from "./remarks.ts";
import { NO_ROOM, type Snapshot, takeSnapshot } from "./snapshot.ts";
import { type Format, MixedLinkTypes, PacketWriter } from "../pcap/writer.ts";

/** The controller notices a step of the clock within this. */
const NOTICED_SECONDS = 2;
/** Packets older than asked for that are passed over without letting anything else happen: some 20 ms. */
const PASSED_AT_A_TIME = 50_000;

export interface CatOptions {
  readonly captureDir: string;
  /** `NS/POD`, or the UID of a kept capture. */
  readonly pod: string;
  /** @default "pcapng" */
  readonly format?: Format;
  /** Seconds before the newest packet that are written; undefined: all. */
  readonly sinceSeconds?: number;
  /** Whether packets are cut after their headers. @default false */
  readonly headersOnly?: boolean;
}

/**
 * Runs `cat` with the process's own stdout and stderr, until `signal` is aborted.
 *
 * @param whileStdin It writes a trailer to stderr (outcome.ts), and ends when standard input does. @default false
 * @returns the exit code.
 */
export async function runCat(
  { signal, whileStdin = false, ...options }: CatOptions & {
    readonly signal: AbortSignal;
    readonly whileStdin?: boolean;
  },
): Promise<number> {
  const io = systemIo(signal, { whileStdin });
  const code = await cat(options, io);
  if (!whileStdin) return code;
  // Plugins of version 0.1 wait for this sentence.
  if (io.written > 0) io.say(`all ${io.written} bytes are written`);
  io.end(code);
  return io.written > 0 ? await untilReceived(code, signal) : code;
}

/**
 * Writes the capture to `io`.
 *
 * @returns the exit code (outcome.ts). The reason for another than 0 is on stderr.
 */
export async function cat(options: CatOptions, io: Io): Promise<number> {
  return await refusing(io, async () => {
    if (io.stdoutIsTerminal) {
      throw new Refusal(2, "Cannot write packets to a terminal; use a file or a pipe: cat NS/POD > FILE");
    }
    const capture = await findCapture(options.captureDir, options.pod);
    if (capture.damage) io.say(`${capture.damage}: names, filters and counters are missing from the file written`);
    const mayBeBehind = await mayBeWritten(capture.folder, capture.manifest);
    if (mayBeBehind) await askFlush(options.captureDir, capture, io.signal);
    using snapshot = await takeSnapshot(capture, io.signal).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      throw justDeleted(options.pod);
    });
    const { unprotected } = snapshot;
    if (unprotected !== undefined && unprotected !== NO_ROOM) {
      io.say(
        `${options.pod}: read without a snapshot, ${unprotected}; what the ring overtakes meanwhile will be missing`,
      );
    }
    // Read again: the newest run may have begun meanwhile.
    const manifest = await readManifest(capture.folder).catch(() => undefined) ?? capture.manifest;
    const notes = await write({ ...capture, manifest }, snapshot, options, io);
    for (const note of notes) io.say(`${options.pod}: ${note}`);
    return notes.length > 0 ? 1 : 0;
  });
}

/** @returns what of the snapshot could not be written, one sentence each. */
async function write(capture: Capture, snapshot: Snapshot, options: CatOptions, io: Io): Promise<string[]> {
  const { format = "pcapng", pod: target, headersOnly = false } = options;
  if (!snapshot.files.some((file) => file.header && !file.isEmpty)) {
    const foreign = snapshot.files.find((file) => file.bytes >= PCAP_HEADER_BYTES && !file.header);
    if (foreign) throw new Refusal(1, `Cannot read ${target}: ${foreign.name} is not a pcap file`);
    if (snapshot.files.some(({ isDeleted }) => isDeleted)) throw justDeleted(target);
    const why = `no packet has been captured yet${stateOf(capture.manifest)}`;
    throw new Refusal(EXIT.nothingYet, `Cannot read ${target}: ${why}`, capture.manifest?.state);
  }
  const interfaces = new CaptureInterfaces({ headersOnly });
  const since = sinceOf(snapshot, capture.manifest, options);
  const notes: string[] = [];
  let last: PcapReader | undefined;
  // One after the other through the same buffer: a hundred of them would be garbage.
  const readerOf = (file: CaptureFile) =>
    last = new PcapReader(file, { growing: file.growing, headersOnly, ...(last ? { buffer: last.bytes } : {}) });
  const inputs: { readonly file: CaptureFile; readonly to: number | undefined }[] = [];
  for (const file of snapshot.files) {
    const passed = await passOver(file, readerOf, since, io);
    if (passed) notes.push(...passed);
    // One with nothing to be written is no reason for an interface.
    else if (!file.header || file.isEmpty) inputs.push({ file, to: undefined });
    else inputs.push({ file, to: interfaces.numberOf(capture, file.header, file.run) });
  }
  if (interfaces.all.length === 0) {
    // Without one nothing would show that the file is whole.
    const newest = snapshot.files.findLast((file) => file.header && !file.isEmpty);
    if (newest?.header) interfaces.numberOf(capture, newest.header, newest.run);
  }
  const linkTypes = interfaces.all.map(({ described }) => described.linkType);
  if (format === "pcap" && new Set(linkTypes).size > 1) throw new MixedLinkTypes(linkTypes);
  const mixed = mixedLinkTypes(linkTypes);
  if (mixed) io.say(`${target}: ${mixed}`);
  const comments = [...sectionComments(capture, snapshot, options), ...(mixed ? [mixed] : [])];
  const output = new PacketWriter({ format, write: (bytes) => abortable(io.write(bytes), io.signal) });
  await output.begin(
    { application: `packet-capture ${VERSION}`, os: "Linux", comments },
    interfaces.all.map(({ described }) => described),
  );
  for (const { described, comments } of interfaces.all) await output.addInterface(described, comments);

  for (const { file, to } of inputs) {
    if (file.header) {
      const reader = readerOf(file);
      await copy(reader, to, since, output, io);
      notes.push(...missingOf(file, reader));
    } else if (file.bytes > 0) {
      notes.push(`${file.name} is not a pcap file: it is left out (${count(file.bytes, "byte")})`);
    }
  }
  await output.flush();
  await output.statistics(interfaces.counters(capture.manifest, [...notes, ...disorderRemarks(output)]));
  return notes;
}

/**
 * Reads a file to its end if none of its packets is asked for.
 *
 * @returns what of it could not be read then; undefined if it has such a packet: it has to be read from its front.
 */
async function passOver(
  file: CaptureFile,
  readerOf: (file: CaptureFile) => PcapReader,
  since: number,
  io: Io,
): Promise<string[] | undefined> {
  if (since === -Infinity || file.isEmpty || (file.firstSeconds ?? -Infinity) >= since) return undefined;
  const reader = readerOf(file);
  for (let passed = 0; reader.next();) {
    if (timeOf(reader) >= since) {
      file.rewind();
      return undefined;
    }
    if (++passed % PASSED_AT_A_TIME === 0) await letOthers(io);
  }
  return missingOf(file, reader);
}

/** Lets other things happen while gigabytes are passed over, as writing does. */
async function letOthers(io: Io): Promise<void> {
  await pause(0, io.signal);
}

function timeOf({ seconds, nanos }: PcapReader): number {
  return seconds + nanos / 1e9;
}

/**
 * Returns from when on packets are asked for, in seconds since the epoch. It is counted from the packet that was
 * captured last, by the clock of that time. Today's may have been set meanwhile, and what was captured a moment ago
 * would be hours old by it. Where the clock was set forward within that time, what came before has times that are as
 * much older.
 */
function sinceOf({ files }: Snapshot, manifest: Manifest | undefined, { sinceSeconds }: CatOptions): number {
  if (sinceSeconds === undefined) return -Infinity;
  const newest = files.toReversed().reduce<number | undefined>((found, file) => found ?? file.newestSeconds, undefined);
  if (newest === undefined) return -Infinity;
  let since = newest - sinceSeconds;
  for (const { at, seconds } of (manifest?.runs ?? []).flatMap(({ clockSteps = [] }) => clockSteps).reverse()) {
    const stepped = Date.parse(at) / 1000;
    // After the newest packet it does not matter; before the time that is asked for no other does.
    if (stepped > newest + NOTICED_SECONDS) continue;
    if (stepped <= since) break;
    if (seconds > 0) since -= seconds;
  }
  return since;
}

function justDeleted(target: string): Refusal {
  return new Refusal(1, `Cannot read ${target}: its files have just been deleted`);
}

/** Copies a file's packets. @param to the number of their interface; undefined: it has none. */
async function copy(
  reader: PcapReader,
  to: number | undefined,
  since: number,
  output: PacketWriter,
  io: Io,
): Promise<void> {
  for (let passed = 0; reader.next();) {
    if (to === undefined || timeOf(reader) < since) {
      if (++passed % PASSED_AT_A_TIME === 0) await letOthers(io);
      continue;
    }
    output.add(reader, to);
    if (output.isFull) {
      io.signal.throwIfAborted();
      await output.drain();
    }
  }
}

function stateOf(manifest: Manifest | undefined): string {
  if (!manifest) return "";
  return `, it is ${manifest.state}${manifest.reason ? `: ${manifest.reason}` : ""}`;
}
