import { count } from "../base/format.ts";
import { formatDuration } from "../base/duration.ts";

/** What a pod's annotations ask for, once they have been found valid. */
export interface CaptureRequest {
  /** N: how many files the ring has. */
  readonly files: number;
  /** Megabytes (10^6 bytes) of each file: tcpdump's -C. */
  readonly fileSizeMB: number;
  /** Bytes kept of each packet: tcpdump's -s. */
  readonly snaplen: number;
  /** tcpdump's -i: an interface in the pod, or `any`. */
  readonly interface: string;
  /** tcpdump's -Q. */
  readonly direction: "in" | "out" | "inout";
  /** pcap filter expression; undefined: every packet. */
  readonly filter?: string;
  /** Seconds of capturing, summed over runs; undefined: until removed. */
  readonly durationSeconds?: number;
  /** Packets, summed over runs; undefined: until removed. */
  readonly packets?: number;
}

/** What tcpdump is asked for where an annotation does not say (its own default and maximum, MAXIMUM_SNAPLEN in netdissect.h). */
export const DEFAULT_SNAPLEN = 262_144;

/** Megabytes of each file where an annotation does not say. */
export const DEFAULT_FILE_SIZE_MB = 1;

/** Lists the options that are not the default, but for the filter, by the names of their annotations. */
export function optionsOf(request: CaptureRequest): Readonly<Record<string, string>> {
  const { fileSizeMB, snaplen, direction, durationSeconds, packets } = request;
  const options = {
    "file-size": fileSizeMB === DEFAULT_FILE_SIZE_MB ? undefined : fileSizeMB,
    snaplen: snaplen === DEFAULT_SNAPLEN ? undefined : snaplen,
    interface: request.interface === "any" ? undefined : request.interface,
    direction: direction === "inout" ? undefined : direction,
    duration: durationSeconds === undefined ? undefined : formatDuration(durationSeconds),
    packets,
  };
  return Object.fromEntries(
    Object.entries(options).flatMap(([name, value]) => value === undefined ? [] : [[name, String(value)]]),
  );
}

/** Describes a request in a few words, with every option that is not the default: "5 files of 1 MB, filter tcp port 80, for 10m". */
export function describe(request: CaptureRequest): string {
  const { files, fileSizeMB, snaplen, direction, filter, durationSeconds, packets } = request;
  return [
    `${count(files, "file")} of ${fileSizeMB} MB`,
    request.interface === "any" ? "" : `interface ${request.interface}`,
    direction === "inout" ? "" : `direction ${direction}`,
    snaplen === DEFAULT_SNAPLEN ? "" : `${snaplen} bytes of each packet`,
    filter === undefined ? "" : `filter ${filter}`,
    durationSeconds === undefined ? "" : `for ${formatDuration(durationSeconds)}`,
    packets === undefined ? "" : `for ${count(packets, "packet")}`,
  ].filter((word) => word !== "").join(", ");
}

/** Two requests that are the same capture have the same fingerprint; `hold` is not part of it. */
export function fingerprint(request: CaptureRequest): string {
  return JSON.stringify([
    request.files,
    request.fileSizeMB,
    request.snaplen,
    request.interface,
    request.direction,
    request.filter ?? null,
    request.durationSeconds ?? null,
    request.packets ?? null,
  ]);
}

/** Two requests with the same can be served by one tcpdump: all is equal but what only the controller counts. */
export function processFingerprint({ durationSeconds: _, ...request }: CaptureRequest): string {
  return fingerprint(request);
}

/**
 * The most bytes a capture may hold for a moment: N files of its run, and as much again of what is there before (ring.ts trims
 * within 1 s) or is set aside for a reader.
 *
 * @param before bytes of the newest N files that the run does not overwrite.
 */
export function bytesClaimed(request: CaptureRequest, before: number): number {
  const ring = request.files * request.fileSizeMB * 1_000_000;
  return ring + Math.max(ring, before);
}
