/** `packet-capture list`: what this node captures, from the manifests and the files. */
import { formatBytes } from "../base/format.ts";
import { type CaptureRequest, optionsOf } from "../spec/request.ts";
import { droppedCell, lostPercent } from "../spec/lost.ts";
import { optionsCell, type Row } from "../spec/row.ts";
import { requestHash } from "../spec/annotations.ts";
import { listRing, type RingFile } from "../store/ring.ts";
import { messageOf } from "../base/errors.ts";
import { compareText, tableLines } from "../base/table.ts";
import { jsonText } from "../base/quote.ts";
import { askCount } from "./ask_controller.ts";
import { refusing } from "./refusal.ts";
import { type Io, systemIo } from "./io.ts";
import { allCaptures, type Capture, readNotCapturing } from "./locate.ts";
import { newestPacket } from "../pcap/newest.ts";
import { PCAP_HEADER_BYTES, peekPcap } from "../pcap/pcap_format.ts";

/** Bytes that hold a pcap file's header and its first record's. */
const FRONT_BYTES = 40;

export interface ListOptions {
  readonly captureDir: string;
  /** @default "table" */
  readonly output?: "table" | "json";
  /** Namespace whose captures are listed; undefined: all. */
  readonly namespace?: string;
}

/** Runs `list` with the process's own stdout and stderr. @returns the exit code. */
export function runList(options: ListOptions): Promise<number> {
  return list(options, systemIo(new AbortController().signal));
}

/**
 * Writes the captures of the node to `io`, as a table or as a JSON array.
 *
 * @returns the exit code: 1 if some of them could not be read, with the reason on stderr; they and all others are
 * listed.
 */
export async function list({ captureDir, output = "table", namespace }: ListOptions, io: Io): Promise<number> {
  return await refusing(io, async () => {
    // Without an answer the counters are at most 5 s old, and the sizes with them.
    await askCount(captureDir, io.signal);
    const { rows, isWhole } = await rowsOf(captureDir, namespace, (line) => io.say(line));
    const text = output === "json" ? jsonText(rows) : table(rows);
    await io.write(new TextEncoder().encode(`${text}\n`));
    return isWhole ? 0 : 1;
  });
}

/**
 * @returns the rows, and whether all of them could be read; what could not is written to stderr, one sentence for
 * each capture.
 */
async function rowsOf(
  captureDir: string,
  only: string | undefined,
  say: (line: string) => void,
): Promise<{ rows: Row[]; isWhole: boolean }> {
  const rows: Row[] = [];
  let isWhole = true;
  for (const capture of await allCaptures(captureDir, only)) {
    if (capture.isDamaged) isWhole = false;
    if (capture.damage) say(capture.damage);
    try {
      rows.push(await rowOf(capture));
    } catch (error) {
      // Deleted while it was looked at.
      if (error instanceof Deno.errors.NotFound) continue;
      // One that cannot be read is no reason to hide the others.
      isWhole = false;
      say(`Cannot read ${capture.folder}: ${messageOf(error)}`);
      const { namespace, pod, uid } = capture;
      rows.push({ namespace, pod, uid, state: "unknown", reason: "", since: null, ...NOTHING });
    }
  }
  for (const { namespace, pod, uid, state, reason, since, request, wanted } of await readNotCapturing(captureDir)) {
    if (rows.some((row) => row.uid === uid) || (only !== undefined && namespace !== only)) continue;
    rows.push({ namespace, pod, uid, state, reason, since, ...NOTHING, request, ...filterAndOptions(wanted) });
  }
  rows.sort((a, b) => compareText(a.namespace, b.namespace) || compareText(a.pod, b.pod) || compareText(a.uid, b.uid));
  return { rows, isWhole };
}

const NOTHING = {
  files: 0,
  bytes: 0,
  packets: 0,
  received: 0,
  dropped: 0,
  lostPercent: 0,
  oldest: null,
  newest: null,
  filter: null,
  options: {},
  request: "",
  listening: false,
} as const;

async function rowOf({ folder, namespace, pod, uid, manifest }: Capture): Promise<Row> {
  const files = await listRing(folder, pod, { blocking: true });
  const running = manifest?.runs.filter(({ endedAt }) => endedAt === undefined) ?? [];
  const sum = (counter: "received" | "dropped") => manifest?.runs.reduce((sum, run) => sum + run[counter], 0) ?? 0;
  const lost = { received: sum("received"), dropped: sum("dropped") };
  const there = { files: files.length, bytes: files.reduce((sum, { bytes }) => sum + bytes, 0) };
  return {
    namespace,
    pod,
    uid,
    state: manifest?.state ?? "unknown",
    reason: manifest?.reason ?? "",
    since: manifest?.since ?? null,
    // What the counters of a run in progress do not know of yet is left out.
    ...(running.length === 0 ? there : manifest?.size ?? there),
    packets: running.reduce((sum, { captured }) => sum + captured, manifest?.capturedPackets ?? 0),
    ...lost,
    lostPercent: lostPercent(lost),
    oldest: firstOf(files, oldestIn),
    newest: firstOf(files.toReversed(), newestIn),
    ...filterAndOptions(manifest?.request),
    request: manifest ? requestHash(manifest.annotations) : "",
    listening: running.at(-1)?.linkType !== undefined,
  };
}

function filterAndOptions(request: CaptureRequest | undefined): Pick<Row, "filter" | "options"> {
  return { filter: request?.filter ?? null, options: request ? optionsOf(request) : {} };
}

/** Returns the first time that some file gives; files go away and are empty just after a rotation. */
function firstOf(files: readonly RingFile[], timeIn: (file: Deno.FsFile) => number | undefined): string | null {
  for (const { path, bytes } of files) {
    if (bytes <= PCAP_HEADER_BYTES) continue;
    try {
      using file = Deno.openSync(path);
      const time = timeIn(file);
      if (time !== undefined) return new Date(time).toISOString();
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return null;
}

function oldestIn(file: Deno.FsFile): number | undefined {
  const front = new Uint8Array(FRONT_BYTES);
  const { first } = peekPcap(front.subarray(0, file.readSync(front) ?? 0));
  return first && milliseconds(first);
}

function newestIn(file: Deno.FsFile): number | undefined {
  const newest = newestPacket(file, file.statSync().size);
  return newest && milliseconds(newest);
}

function milliseconds({ seconds, nanos }: { seconds: number; nanos: number }): number {
  return seconds * 1000 + Math.floor(nanos / 1e6);
}

const HEADINGS = [
  ...["POD", "STATE", "SINCE", "FILES", "BYTES", "PACKETS", "DROPPED", "OLDEST", "NEWEST", "OPTIONS", "FILTER"],
];

function table(rows: readonly Row[]): string {
  return tableLines([
    HEADINGS,
    ...rows.map((row) => [
      `${row.namespace}/${row.pod}`,
      row.state + (row.reason ? `: ${row.reason}` : ""),
      toSeconds(row.since),
      ...[row.files, formatBytes(row.bytes), row.packets].map(String),
      droppedCell(row.dropped, row.lostPercent),
      toSeconds(row.oldest),
      toSeconds(row.newest),
      optionsCell(row.options),
      row.filter ?? "-",
    ]),
  ]).join("\n");
}

function toSeconds(time: string | null): string {
  return time === null ? "-" : time.replace(/\.\d+Z$/, "Z");
}
