/** Capture files and folders for tests, made by hand so that the product's own writers do not vouch for its readers. */
import { join } from "@std/path";
import type { Manifest } from "../../../src/store/manifest.ts";
import type { CaptureRequest } from "../../../src/spec/request.ts";
import type { Io } from "../../../src/reading/io.ts";

export interface TestPacket {
  /** Nanoseconds since the epoch. */
  readonly time: bigint;
  readonly data: Uint8Array;
  /** @default data.length */
  readonly original?: number;
}

export interface PcapOptions {
  /** @default true */
  readonly littleEndian?: boolean;
  /** @default 6 */
  readonly digits?: 6 | 9;
  /** @default 276, LINUX_SLL2 */
  readonly linkType?: number;
  /** @default 262144 */
  readonly snaplen?: number;
}

export const START = 1_700_000_000_000_000_000n;

/** A packet whose bytes are `size` times its number, `number` milliseconds after START. */
export function packet(number: number, size = 60): TestPacket {
  return { time: START + BigInt(number) * 1_000_000n, data: new Uint8Array(size).fill(number) };
}

/** A record of a pcap file. */
export function record({ time, data, original }: TestPacket, options: PcapOptions = {}): Uint8Array {
  const { littleEndian = true, digits = 6 } = options;
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Number(time / 1_000_000_000n), littleEndian);
  view.setUint32(4, Number(digits === 9 ? time % 1_000_000_000n : time % 1_000_000_000n / 1000n), littleEndian);
  view.setUint32(8, data.length, littleEndian);
  view.setUint32(12, original ?? data.length, littleEndian);
  bytes.set(data, 16);
  return bytes;
}

export function header(
  { littleEndian = true, digits = 6, linkType = 276, snaplen = 262_144 }: PcapOptions = {},
): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, digits === 9 ? 0xa1b23c4d : 0xa1b2c3d4, littleEndian);
  view.setUint16(4, 2, littleEndian);
  view.setUint16(6, 4, littleEndian);
  view.setUint32(16, snaplen, littleEndian);
  view.setUint32(20, linkType, littleEndian);
  return bytes;
}

export function concat(...parts: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** A pcap file. */
export function pcap(packets: readonly TestPacket[], options: PcapOptions = {}): Uint8Array<ArrayBuffer> {
  return concat(header(options), ...packets.map((each) => record(each, options)));
}

export const REQUEST: CaptureRequest = {
  files: 5,
  fileSizeMB: 1,
  snaplen: 262_144,
  interface: "any",
  direction: "inout",
};

export function manifest(change: Partial<Manifest> = {}): Manifest {
  const time = "2026-01-31T12:00:00.000Z";
  return {
    version: 1,
    tool: "0.0.0",
    uid: "6f1c2d3e-0000-4000-8000-000000000001",
    namespace: "default",
    pod: "web-0",
    node: "worker1",
    annotations: { "tcpdump.antrea.io": "5" },
    request: REQUEST,
    state: "held",
    reason: "",
    since: time,
    runs: [run(1, { endedAt: time })],
    capturedSeconds: 1,
    capturedPackets: 7,
    updatedAt: time,
    ...change,
  };
}

export function run(n: number, change: Partial<Manifest["runs"][number]> = {}): Manifest["runs"][number] {
  const startedAt = "2026-01-31T11:00:00.000Z";
  return { n, startedAt, sandboxId: "s", request: REQUEST, captured: 10, received: 20, dropped: 3, ...change };
}

export interface CaptureDir extends AsyncDisposable {
  readonly path: string;
  /** default/web-0's folder. */
  readonly folder: string;
  /** Writes a file into it. */
  put(name: string, bytes: Uint8Array | string): Promise<void>;
  putManifest(change?: Partial<Manifest>): Promise<void>;
  /** From now on no controller holds it. */
  controllerGone(): void;
}

/** A captureDir, held as by a controller, with the folder of default/web-0 in it, without a manifest as yet. */
export async function captureDir(): Promise<CaptureDir> {
  const path = await Deno.makeTempDir({ prefix: "packet-capture-reading-" });
  const folder = join(path, "default", "web-0");
  await Deno.mkdir(folder, { recursive: true });
  const marker = await Deno.open(join(path, ".packet-capture"), { write: true, create: true });
  await marker.lock(true);
  let held = true;
  const controllerGone = () => {
    if (held) marker.close();
    held = false;
  };
  const put = async (name: string, bytes: Uint8Array | string) =>
    await (typeof bytes === "string"
      ? Deno.writeTextFile(join(folder, name), bytes)
      : Deno.writeFile(join(folder, name), bytes));
  return {
    path,
    folder,
    put,
    putManifest: (change) => put("capture.json", JSON.stringify(manifest(change))),
    controllerGone,
    async [Symbol.asyncDispose]() {
      controllerGone();
      await Deno.remove(path, { recursive: true });
    },
  };
}

export interface TestIo extends Io {
  readonly said: string[];
  /** All that was written so far. */
  readonly output: Uint8Array;
}

/** An Io in memory. @param write replaces what happens to written bytes. */
export function testIo(
  options: { signal?: AbortSignal; write?: (bytes: Uint8Array) => Promise<void>; terminal?: boolean } = {},
): TestIo {
  const written: Uint8Array[] = [];
  const said: string[] = [];
  return {
    // Copied: the caller may use its array again.
    write: options.write ?? ((bytes) => Promise.resolve(void written.push(bytes.slice()))),
    say: (line) => void said.push(line),
    refuse(code, words) {
      said.push(words);
      return code;
    },
    signal: options.signal ?? new AbortController().signal,
    stdoutIsTerminal: options.terminal ?? false,
    said,
    get output() {
      return concat(...written);
    },
  };
}
