/** Remarks on the packets that `cat` writes, and of those that are missing: sentences for people and for comments. */
import { count, times } from "../base/format.ts";
import type { PcapReader } from "../pcap/pcap.ts";
import { WINDOW_SECONDS } from "../pcap/reorder.ts";
import type { PacketWriter } from "../pcap/writer.ts";
import type { CaptureFile } from "./capture_file.ts";
import { captureComments, HEADERS_ONLY } from "./description.ts";
import type { Capture } from "./locate.ts";
import type { Snapshot } from "./snapshot.ts";

/** Returns what of a file could not be read, now that its reader has come to the end. */
export function missingOf(file: CaptureFile, reader: PcapReader): string[] {
  if (reader.isStuck && !file.overtaken) {
    // However the file goes on, this is no record that has yet to be written to its end.
    reader.growing = false;
    reader.next();
  }
  const notes: string[] = [];
  if (file.overtaken) {
    const missed = file.bytes - reader.offset;
    const how = file.isDeleted ? "deleted" : "overtaken by the ring";
    notes.push(`${file.name} was ${how} before it was read: ${missed} of its ${file.bytes} bytes are missing`);
  } else if (reader.loss.bytes > 0) {
    const { bytes, places, records } = reader.loss;
    notes.push(
      `${file.name} is damaged in ${count(places, "place")}: ${count(bytes, "byte")} and at least ` +
        `${count(records, "packet")} are missing`,
    );
  }
  return notes;
}

/** Writes the file's first comments: whose packets they are, how they were asked for, and what is known to be amiss. */
export function sectionComments(
  capture: Capture,
  { files, unprotected }: Snapshot,
  options: { readonly sinceSeconds?: number; readonly headersOnly?: boolean },
): string[] {
  const { sinceSeconds, headersOnly } = options;
  const comments = captureComments(capture);
  if (headersOnly) comments.push(HEADERS_ONLY);
  if (sinceSeconds !== undefined) comments.push(`only packets of the last ${sinceSeconds} s before the newest one`);
  for (const [i, file] of files.entries()) {
    const before = files.slice(0, i).findLast(({ firstSeconds }) => firstSeconds !== undefined)?.firstSeconds;
    if (before !== undefined && file.firstSeconds !== undefined && file.firstSeconds < before - WINDOW_SECONDS) {
      comments.push(
        `the clock was set back by ${before - file.firstSeconds} s or more before run ${file.run}, ${file.name}: ` +
          "packets are in order of the runs there, not of time",
      );
    }
  }
  if (unprotected !== undefined) {
    comments.push(
      `written without a snapshot, ${unprotected}: what the ring overtook is missing, and named in the first interface's statistics`,
    );
  }
  return comments;
}

/** Describes the order of the packets written, as far as it is worth knowing. */
export function disorderRemarks({ disorder }: PacketWriter): string[] {
  const remarks: string[] = [];
  if (disorder.steps > 0) {
    remarks.push(
      `the clock was set back ${times(disorder.steps)}, by ${
        disorder.stepSeconds.toFixed(3)
      } s in all: packets are in order of capture there`,
    );
  }
  if (disorder.unsorted > 0) {
    remarks.push(`${count(disorder.unsorted, "packet")} came too late to be put in order of time`);
  }
  return remarks;
}
