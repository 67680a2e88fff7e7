/**
 * The options of a capture: all that a pod can ask for besides the number of files. Each is one row of `OPTIONS`, from which come its
 * annotation, its flag of the plugin, its place in lists and descriptions, tcpdump's flag, and what a manifest may hold.
 *
 * To add an option, write a field and a row. The field is optional, because manifests of the version before lack it.
 */
import { count } from "../base/format.ts";
import { formatDuration, parseDuration } from "../base/duration.ts";

/** The bounds that an annotation's values must keep. */
export interface AnnotationLimits {
  /** Largest N. */
  readonly maxFiles: number;
  /** Largest file, in MB (10^6 bytes). */
  readonly maxFileSizeMB: number;
  /** Largest buffer of the kernel for a capture, in MB (2^20 bytes). */
  readonly maxBufferMB: number;
  /** Longest duration, in seconds. */
  readonly maxDurationSeconds: number;
}

export interface CaptureOptions {
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
  /** Megabytes (2^20 bytes) of the kernel's buffer: tcpdump's -B; undefined: `DEFAULT_BUFFER_MB`. */
  readonly bufferMB?: number;
}

type Field = keyof CaptureOptions;
type ValueOf<F extends Field> = NonNullable<CaptureOptions[F]>;

/** Reader of a value in a text. */
export interface Reader<T> {
  /** Returns the end of the sentence "annotation … must be …". */
  mustBe(limits: AnnotationLimits): string;
  /** Reads a text. @returns undefined if it is not acceptable; empty if nothing is requested. */
  read(text: string, limits: AnnotationLimits): T | "" | undefined;
}

/** An option; its name is that of its annotation and of its flag. */
interface Option<F extends Field> extends Reader<ValueOf<F>> {
  readonly field: F;
  readonly type: "text" | "amount";
  /** The value where no annotation gives one; undefined: none. */
  readonly initial: CaptureOptions[F];
  /** Text that a user reads where there is no such value. @default "none" */
  readonly otherwise?: string;
  /** Returns the value as a user writes it. @default String */
  text?(value: ValueOf<F>): string;
  /**
   * Returns the clause of a description for a value that is not the default.
   *
   * @default none: it has a place of its own
   */
  clause?(value: ValueOf<F>): string;
  /** Returns the words that tcpdump gets for it. @default none: the controller counts it, or tcpdump.ts places it */
  tcpdump?(value: ValueOf<F>): readonly string[];
  /** The flag of `kubectl packet-capture start`. */
  readonly flag: { readonly value: string; readonly help: string };
}

/** The snaplen where an annotation gives none (tcpdump's own default and maximum, MAXIMUM_SNAPLEN in netdissect.h). */
export const DEFAULT_SNAPLEN = 262_144;
/** Megabytes of each file where an annotation gives none. */
export const DEFAULT_FILE_SIZE_MB = 1;
/** Megabytes of the kernel's buffer where an annotation gives none: no loss in bursts where tcpdump's own 2 MiB lose. */
export const DEFAULT_BUFFER_MB = 4;

const MIN_SNAPLEN = 64;
/** tcpdump reads -c into an int. */
const MAX_PACKETS = 2_147_483_647;
/** Far beyond any filter a person writes, far below the kernel's 128 KiB for one argument (MAX_ARG_STRLEN). */
const MAX_FILTER_LENGTH = 8192;
/** IFNAMSIZ, less the NUL. */
const MAX_INTERFACE_NAME = 15;
/** Names that libpcap gives to capture sources that are not network interfaces of the pod (its findalldevs and *_create functions). */
const NOT_AN_INTERFACE = /^(?:[0-9]+$|usbmon|nflog|nfqueue|bluetooth|dbus-|dag|snf|rdma|netmap|vale|dpdk)/;

/** Rows by name, in the order in which they are shown. */
const ROWS = {
  filter: option({
    field: "filter",
    type: "text",
    initial: undefined,
    mustBe: () => `a pcap filter expression of at most ${MAX_FILTER_LENGTH} characters without control characters`,
    read: readFilter,
    clause: (filter) => `filter ${filter}`,
    flag: { value: "<expression>", help: "pcap filter, such as 'tcp port 80'" },
  }),
  "file-size": option({
    field: "fileSizeMB",
    type: "amount",
    initial: DEFAULT_FILE_SIZE_MB,
    ...whole(1, ({ maxFileSizeMB }) => maxFileSizeMB),
    flag: { value: "<MB>", help: "size of each file in MB (10^6 bytes)" },
  }),
  snaplen: option({
    field: "snaplen",
    type: "amount",
    initial: DEFAULT_SNAPLEN,
    ...whole(MIN_SNAPLEN, () => DEFAULT_SNAPLEN),
    clause: (bytes) => `${bytes} bytes of each packet`,
    tcpdump: (bytes) => ["-s", String(bytes)],
    flag: { value: "<bytes>", help: "bytes kept of each packet" },
  }),
  interface: option({
    field: "interface",
    type: "text",
    initial: "any",
    mustBe: () => "the name of a network interface in the pod, such as eth0, or any",
    read: readInterface,
    clause: (name) => `interface ${name}`,
    tcpdump: (name) => ["-i", name],
    flag: { value: "<name>", help: "interface in the pod, or any" },
  }),
  direction: option({
    field: "direction",
    type: "text",
    initial: "inout",
    mustBe: () => "in, out or inout",
    read: (text) => (["in", "out", "inout"] as const).find((direction) => direction === text.trim()),
    clause: (direction) => `direction ${direction}`,
    tcpdump: (direction) => direction === "inout" ? [] : ["-Q", direction],
    flag: { value: "<in|out|inout>", help: "of the packets, seen from the pod" },
  }),
  duration: option({
    field: "durationSeconds",
    type: "amount",
    initial: undefined,
    mustBe: ({ maxDurationSeconds: most }) => `a duration such as 30s, 10m or 2h, from 1s to ${formatDuration(most)}`,
    read(text, { maxDurationSeconds: most }) {
      const seconds = parseDuration(text.trim()) ?? NaN;
      return seconds >= 1 && seconds <= most ? seconds : undefined;
    },
    text: formatDuration,
    clause: (seconds) => `for ${formatDuration(seconds)}`,
    flag: { value: "<time>", help: "stop after capturing for this long: 30s, 10m, 2h" },
  }),
  packets: option({
    field: "packets",
    type: "amount",
    initial: undefined,
    ...whole(1, () => MAX_PACKETS),
    clause: (packets) => `for ${count(packets, "packet")}`,
    flag: { value: "<n>", help: "stop after this many packets" },
  }),
  "buffer-size": option({
    field: "bufferMB",
    type: "amount",
    initial: undefined,
    otherwise: String(DEFAULT_BUFFER_MB),
    ...buffer(),
    clause: (megabytes) => `buffer of ${megabytes} MB`,
    flag: { value: "<MB>", help: "size of the kernel's packet buffer in MB" },
  }),
};

export type OptionName = keyof typeof ROWS;

/** All options; a row gets only values of its own field. */
export const OPTIONS: Readonly<Record<OptionName, Option<Field>>> = ROWS;

export const OPTION_NAMES = Object.keys(ROWS) as readonly OptionName[];

/** Returns the value of an option that no annotation gives, as a user reads it. */
export function initialText(name: OptionName): string {
  const { initial, text = String, otherwise = "none" } = OPTIONS[name];
  return initial === undefined ? otherwise : text(initial);
}

/** Reads a decimal whole number of ASCII digits; blanks around it are allowed. */
export function whole(least: number, most: (limits: AnnotationLimits) => number): Reader<number> {
  return {
    mustBe: (limits) => `a whole number from ${least} to ${most(limits)}`,
    read(text, limits) {
      const digits = /^[ \t\r\n]*([0-9]{1,15})[ \t\r\n]*$/.exec(text)?.[1];
      const number = Number(digits ?? NaN);
      return number >= least && number <= most(limits) ? number : undefined;
    },
  };
}

/** Reads the size of a buffer. The default asks for nothing, so that requests of the version before, which knew none, are the same. */
function buffer(): Reader<number> {
  const { mustBe, read } = whole(1, ({ maxBufferMB }) => maxBufferMB);
  return {
    mustBe,
    read(text, limits) {
      const megabytes = read(text, limits);
      return megabytes === DEFAULT_BUFFER_MB ? "" : megabytes;
    },
  };
}

function readFilter(text: string): string | undefined {
  // deno-lint-ignore no-control-regex
  const isBad = text.length > MAX_FILTER_LENGTH || /[\u0000-\u0008\u000e-\u001f\u007f-\u009f]/.test(text);
  return isBad ? undefined : text.trim();
}

function readInterface(text: string): string | undefined {
  const name = text.trim();
  const isSound = name.length <= MAX_INTERFACE_NAME && /^[A-Za-z0-9_.@][A-Za-z0-9_.:@-]*$/.test(name) &&
    name !== "." && name !== ".." && !NOT_AN_INTERFACE.test(name);
  return isSound ? name : undefined;
}

function option<F extends Field>(row: Option<F>): Option<F> {
  return row;
}
