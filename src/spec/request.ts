import { count } from "../base/format.ts";
import { type CaptureOptions, OPTION_NAMES, type OptionName, OPTIONS } from "./options.ts";

/** The request that a pod's annotations make, once they have been found valid. */
export interface CaptureRequest extends CaptureOptions {
  /** N: how many files the ring has. */
  readonly files: number;
}

/** Lists the options that are not the default, but for the filter, by the names of their annotations. */
export function optionsOf(request: CaptureRequest): Readonly<Record<string, string>> {
  return Object.fromEntries(
    OPTION_NAMES.filter((name) => name !== "filter" && isGiven(request, name)).map((name) => {
      const { field, text = String } = OPTIONS[name];
      return [name, text(request[field]!)];
    }),
  );
}

/** Describes a request in a few words, with every option that is not the default: "5 files of 1 MB, filter tcp port 80, for 10m". */
export function describe(request: CaptureRequest): string {
  const { files, fileSizeMB } = request;
  const clauses = OPTION_NAMES.filter((name) => isGiven(request, name)).flatMap((name) => {
    const { field, clause } = OPTIONS[name];
    return clause?.(request[field]!) ?? [];
  });
  return [`${count(files, "file")} of ${fileSizeMB} MB`, ...clauses].join(", ");
}

function isGiven(request: CaptureRequest, name: OptionName): boolean {
  const { field, initial } = OPTIONS[name];
  return request[field] !== initial;
}

/** Returns tcpdump's flags for the options that are its own, but for the size of a file and the filter. */
export function tcpdumpFlags(request: CaptureRequest): string[] {
  return OPTION_NAMES.flatMap((name) => {
    const { field, tcpdump } = OPTIONS[name];
    const value = request[field];
    return value === undefined ? [] : tcpdump?.(value) ?? [];
  });
}

/**
 * Returns what two requests share if they are the same capture; `hold` is not part of it. Manifests hold it, so an
 * option that the version before does not know comes last, and only where it is given.
 */
export function fingerprint(request: CaptureRequest): string {
  const { files, fileSizeMB, snaplen, interface: device, direction, filter, durationSeconds, packets, ...newer } =
    request;
  return JSON.stringify([
    ...[files, fileSizeMB, snaplen, device, direction, filter ?? null, durationSeconds ?? null, packets ?? null],
    ...Object.entries(newer),
  ]);
}

/** Returns what two requests share if one tcpdump can serve both: all but what only the controller counts. */
export function processFingerprint({ durationSeconds: _, ...request }: CaptureRequest): string {
  return fingerprint(request);
}

/**
 * Returns the most bytes a capture may hold for a moment: N files of its run, and as much again of what is there
 * before (ring.ts trims within 1 s) or is set aside for a reader.
 *
 * @param before bytes of the newest N files that the run does not overwrite.
 */
export function bytesClaimed(request: CaptureRequest, before: number): number {
  const ring = request.files * request.fileSizeMB * 1_000_000;
  return ring + Math.max(ring, before);
}
