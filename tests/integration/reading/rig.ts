/** Real tools around the readers: tcpdump and a sender in a netns of their own, and Wireshark's programs to judge by. */
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { denoArgs, ROOT } from "../../rig/cli.ts";
import { linesOf } from "./lines.ts";

/** A network namespace with nothing but its loopback device. It ends with this process, however that ends: its stdin closes. */
export class Netns implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
  }

  static async create(): Promise<Netns> {
    const child = new Deno.Command("unshare", {
      args: ["--net", "sh", "-c", "ip link set lo up && echo ready && read _"],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    for await (const line of linesOf(child.stdout)) if (line === "ready") break;
    return new Netns(child);
  }

  /** By which it can be entered. */
  get path(): string {
    return `/proc/${this.#child.pid}/ns/net`;
  }

  /** A command to run inside. Its stdin is a pipe: `sh` closes it down when this process ends. */
  command(argv: readonly string[], options: Deno.CommandOptions = {}): Deno.Command {
    return new Deno.Command("nsenter", { args: [`--net=${this.path}`, "--", ...argv], ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close().catch(() => {});
    await this.#child.status;
  }
}

/** tcpdump in a netns, as the controller starts it; ended by `stop`, or when this process ends. */
export class Tcpdump implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #said: string[] = [];
  readonly #reading: Promise<void>;

  private constructor(child: Deno.ChildProcess) {
    this.#child = child;
    this.#reading = (async () => {
      for await (const line of linesOf(child.stderr)) this.#said.push(line);
    })();
  }

  static async start(netns: Netns, args: readonly string[]): Promise<Tcpdump> {
    // A large buffer, since packets that the kernel drops on a busy machine are not what is looked for here. The shell ends tcpdump when its stdin is closed, which also a kill of this process does.
    const script =
      'tcpdump -n -U -B 65536 -Z root "$@" & child=$!; (read _ <&3; kill $child 2>/dev/null) & wait $child';
    const options = { stdin: "piped", stderr: "piped", stdout: "null" } as const;
    const tcpdump = new Tcpdump(netns.command(["sh", "-c", `exec 3<&0; ${script}`, "sh", ...args], options).spawn());
    await waitFor("tcpdump to listen", () => tcpdump.#said.some((line) => line.includes("listening on")), {
      timeoutMs: 10_000,
      everyMs: 5,
    });
    return tcpdump;
  }

  /** Resolves when it has ended by itself (-c). */
  get ended(): Promise<void> {
    return this.#child.status.then(() => {});
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close().catch(() => {});
    await this.#child.status;
    await this.#reading;
  }
}

/** Numbered packets on their way. */
export class Sender implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  /** The number of packets sent so far, as last said. */
  sent = 0;

  /** @param count 0: until stopped */
  constructor(netns: Netns, { count, perSecond, size }: { count: number; perSecond: number; size: number }) {
    const args = [
      Deno.execPath(),
      ...denoArgs("tests/integration/reading/sender.ts"),
      ...[count, perSecond, size].map(String),
    ];
    const child = netns.command(args, { stdin: "piped", stdout: "piped", env: { NO_COLOR: "1" } }).spawn();
    this.#child = child;
    this.#reading = (async () => {
      for await (const line of linesOf(child.stdout)) this.sent = Number(line.split(" ")[1]);
    })();
  }

  /** Sends nothing until it is resumed. */
  pause(): void {
    this.#child.kill("SIGSTOP");
  }

  resume(): void {
    this.#child.kill("SIGCONT");
  }

  /** Waits until all are sent. @returns how many. */
  async done(): Promise<number> {
    await this.#child.status;
    await this.#reading;
    return this.sent;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.resume();
    await this.#child.stdin.close().catch(() => {});
    await this.done();
  }
}

/** The values of some of tshark's fields, a row for each packet. */
export async function tshark(path: string, ...fields: string[]): Promise<string[][]> {
  const argv = ["tshark", "-n", "-r", path, "-T", "fields", ...fields.flatMap((field) => ["-e", field])];
  const text = await run(argv, { timeoutMs: 300_000 });
  return text.split("\n").slice(0, -1).map((line) => line.split("\t"));
}

/** The numbers in the packets of a file, by tshark alone: what the sender put into the first eight bytes of each. */
export async function numbersIn(path: string): Promise<number[]> {
  const rows = await tshark(path, "udp.payload");
  return rows.flatMap(([payload]) => payload ? [Number.parseInt(payload.replaceAll(":", "").slice(0, 16), 16)] : []);
}

/** The bytes of all packets as tshark prints them, and their times. */
export async function packetsIn(path: string): Promise<string> {
  const hex = await run(["tshark", "-n", "-r", path, "-x"], { timeoutMs: 300_000 });
  const rows = await tshark(path, "frame.time_epoch", "frame.len", "frame.cap_len", "frame.encap_type");
  return `${rows.map((row) => row.join(" ")).join("\n")}\n${hex}`;
}

/** The blocks of a small pcapng file in their order, with all that is in them, as tshark shows the file's own format. */
export async function blocksIn(path: string): Promise<{ readonly type: string; readonly text: string }[]> {
  const argv = ["tshark", "-n", "-r", path, "-X", "read_format:MIME Files Format", "-V"];
  const [, ...blocks] = (await run(argv, { timeoutMs: 120_000 })).split(/^ {4}Block: /m);
  return blocks.map((text) => ({ type: /^.* Block/.exec(text)?.[0] ?? text, text }));
}

/** What capinfos says of a file, by name. */
export async function capinfos(path: string): Promise<Map<string, string>> {
  const text = await run(["capinfos", "-M", path]);
  return new Map(
    text.split("\n").flatMap((line) => {
      const match = /^([^:]+):\s+(.*)$/.exec(line);
      return match ? [[match[1]!, match[2]!]] : [];
    }),
  );
}

/** `packet-capture cat` as a process, from its sources. */
export function catCommand(captureDir: string, args: readonly string[] = []): Deno.Command {
  return readingCommand(["cat", "default/web-0", "--capture-dir", captureDir, ...args]);
}

export function readingCommand(args: readonly string[], stdout: "piped" | "null" = "piped"): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...denoArgs("src/main.ts"), ...args],
    cwd: ROOT,
    stdin: "null",
    stdout,
    stderr: "piped",
    env: { NO_COLOR: "1" },
  });
}

/** Writes what comes into a file, at most so many bytes a second, until it need not be slow. @returns how many there were. */
export async function save(
  from: ReadableStream<Uint8Array>,
  path: string,
  bytesPerSecond = Infinity,
  fastFrom: Promise<unknown> = new Promise(() => {}),
): Promise<number> {
  using file = await Deno.open(path, { write: true, create: true, truncate: true });
  const started = performance.now();
  let fast = false;
  const hurry = fastFrom.then(() => fast = true);
  let bytes = 0;
  const reader = from.getReader({ mode: "byob" } as never) as unknown as ReadableStreamBYOBReader;
  for (let buffer = new Uint8Array(65_536);;) {
    const { value, done } = await reader.read(buffer);
    if (done || !value) return bytes;
    for (let at = 0; at < value.length;) at += await file.write(value.subarray(at));
    bytes += value.length;
    const due = bytes / bytesPerSecond * 1000;
    const early = due - (performance.now() - started);
    if (early > 0 && !fast) {
      const rest = Promise.withResolvers<void>();
      const timer = setTimeout(rest.resolve, early);
      await Promise.race([rest.promise, hurry]);
      clearTimeout(timer);
    }
    buffer = new Uint8Array(value.buffer as ArrayBuffer);
  }
}

/** Files with their sizes, for a folder. */
export function filesIn(folder: string): Map<string, number> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.includes(".pcap"));
  return new Map(names.map((name) => [name, Deno.statSync(join(folder, name)).size]));
}
