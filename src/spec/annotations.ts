/** What a pod's annotations ask for. The only file that knows their words; pure. */
import { createHash } from "node:crypto";
import { type CaptureRequest, DEFAULT_FILE_SIZE_MB, DEFAULT_SNAPLEN } from "./request.ts";
import { formatDuration, parseDuration } from "../base/duration.ts";
import { quote } from "../base/quote.ts";

/** The bounds that an annotation's values must keep. */
export interface AnnotationLimits {
  /** Largest N. */
  readonly maxFiles: number;
  /** Largest file, in MB (10^6 bytes). */
  readonly maxFileSizeMB: number;
  /** Longest duration, in seconds. */
  readonly maxDurationSeconds: number;
}

export type ParsedAnnotations =
  /** The main annotation is not there. */
  | { readonly kind: "nothing" }
  /** `problem`: one sentence that names the annotation, what was read and what is accepted. */
  | { readonly kind: "invalid"; readonly problem: string }
  | { readonly kind: "valid"; readonly request: CaptureRequest; readonly hold: boolean };

/** The sub-keys: `<annotationKey>/<name>`. */
export const SUB_KEYS = [
  "filter",
  "file-size",
  "snaplen",
  "interface",
  "direction",
  "duration",
  "packets",
  "hold",
] as const;

const MIN_SNAPLEN = 64;
/** tcpdump reads -c into an int. */
const MAX_PACKETS = 2_147_483_647;
/** Far beyond any filter a person writes, far below the kernel's 128 KiB for one argument (MAX_ARG_STRLEN). */
const MAX_FILTER_LENGTH = 8192;
/** How much of a bad value is shown, in characters. */
const LONGEST_SHOWN = 64;
/** IFNAMSIZ, less the NUL. */
const MAX_INTERFACE_NAME = 15;
/** Names that libpcap gives to capture sources that are not network interfaces of the pod (its findalldevs and *_create functions). */
const NOT_AN_INTERFACE = /^(?:[0-9]+$|usbmon|nflog|nfqueue|bluetooth|dbus-|dag|snf|rdma|netmap|vale|dpdk)/;

/**
 * Identifies what a pod asks for, whether it is valid or not, so that an answer can be told from one to an earlier request.
 *
 * @param own our own annotations, as they stand: the main key and its sub-keys.
 * @returns 16 hexadecimal digits.
 */
export function requestHash(own: Readonly<Record<string, string>>): string {
  const entries = Object.keys(own).sort().map((key) => [key, own[key]]);
  return createHash("sha256").update(JSON.stringify(entries)).digest("hex").slice(0, 16);
}

/** Reads what a pod's annotations ask for. `annotations` may hold other keys too: they are ignored. */
export function readAnnotations(
  annotations: Readonly<Record<string, string>>,
  key: string,
  limits: AnnotationLimits,
): ParsedAnnotations {
  const main = annotations[key];
  if (main === undefined) return { kind: "nothing" };
  try {
    for (const name of Object.keys(annotations)) {
      if (!name.startsWith(`${key}/`)) continue;
      if (!(SUB_KEYS as readonly string[]).includes(name.slice(key.length + 1))) {
        throw new Refusal(
          `annotation ${quote(name, LONGEST_SHOWN)} is not known: it must be one of ${
            SUB_KEYS.map((sub) => `${key}/${sub}`).join(", ")
          }`,
        );
      }
    }
    const files = whole(key, main, 1, limits.maxFiles);
    const sub = <T>(name: (typeof SUB_KEYS)[number], read: (key: string, value: string) => T): T | undefined => {
      const value = annotations[`${key}/${name}`];
      return value === undefined ? undefined : read(`${key}/${name}`, value);
    };
    const filter = sub("filter", readFilter);
    const durationSeconds = sub("duration", (key, value) => readDuration(key, value, limits.maxDurationSeconds));
    const packets = sub("packets", (key, value) => whole(key, value, 1, MAX_PACKETS));
    const request: CaptureRequest = {
      files,
      fileSizeMB: sub("file-size", (key, value) => whole(key, value, 1, limits.maxFileSizeMB)) ?? DEFAULT_FILE_SIZE_MB,
      snaplen: sub("snaplen", (key, value) => whole(key, value, MIN_SNAPLEN, DEFAULT_SNAPLEN)) ?? DEFAULT_SNAPLEN,
      interface: sub("interface", readInterface) ?? "any",
      direction: sub("direction", readDirection) ?? "inout",
      ...(filter ? { filter } : {}),
      ...(durationSeconds === undefined ? {} : { durationSeconds }),
      ...(packets === undefined ? {} : { packets }),
    };
    return { kind: "valid", request, hold: sub("hold", readHold) ?? false };
  } catch (error) {
    if (error instanceof Refusal) return { kind: "invalid", problem: error.message };
    throw error;
  }
}

class Refusal extends Error {}

function refuse(key: string, value: string, mustBe: string): never {
  throw new Refusal(`annotation ${key} must be ${mustBe}: got ${quote(value, LONGEST_SHOWN)}`);
}

/** A decimal whole number of ASCII digits; blanks around it are allowed. */
function whole(key: string, value: string, least: number, most: number): number {
  const digits = /^[ \t\r\n]*([0-9]{1,15})[ \t\r\n]*$/.exec(value)?.[1];
  const number = Number(digits ?? NaN);
  if (!(number >= least && number <= most)) refuse(key, value, `a whole number from ${least} to ${most}`);
  return number;
}

function readFilter(key: string, value: string): string {
  // deno-lint-ignore no-control-regex
  if (value.length > MAX_FILTER_LENGTH || /[\u0000-\u0008\u000e-\u001f\u007f-\u009f]/.test(value)) {
    refuse(
      key,
      value,
      `a pcap filter expression of at most ${MAX_FILTER_LENGTH} characters without control characters`,
    );
  }
  return value.trim();
}

function readInterface(key: string, value: string): string {
  const name = value.trim();
  const sound = name.length <= MAX_INTERFACE_NAME && /^[A-Za-z0-9_.@][A-Za-z0-9_.:@-]*$/.test(name) && name !== "." &&
    name !== ".." && !NOT_AN_INTERFACE.test(name);
  if (!sound) refuse(key, value, "the name of a network interface in the pod, such as eth0, or any");
  return name;
}

function readDirection(key: string, value: string): "in" | "out" | "inout" {
  const direction = value.trim();
  if (direction === "in" || direction === "out" || direction === "inout") return direction;
  refuse(key, value, "in, out or inout");
}

function readDuration(key: string, value: string, most: number): number {
  const seconds = parseDuration(value.trim()) ?? NaN;
  if (!(seconds >= 1 && seconds <= most)) {
    refuse(key, value, `a duration such as 30s, 10m or 2h, from 1s to ${formatDuration(most)}`);
  }
  return seconds;
}

function readHold(key: string, value: string): boolean {
  const word = value.trim();
  if (word === "true" || word === "false") return word === "true";
  refuse(key, value, "true or false");
}
