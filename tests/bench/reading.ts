/** 6. `cat`, the merge of many pods' captures, and `stream`, against Wireshark's own programs on the same files. */
import { join } from "@std/path";
import { denoArgs, ROOT } from "../rig/cli.ts";
import { captureDir, header } from "../unit/reading/files.ts";
import { type Figure, median, range } from "./figures.ts";
import { program } from "./stage.ts";

const ROUNDS = 7;
const RING_MB = 100;
const MERGED_RINGS = 20;
const MERGE_ROUNDS = 3;
/** Packets as large as GSO makes them, as an Ethernet frame, and small ones. */
const SIZES = [30_000, 1000, 120] as const;
const MEMORY_MB = [10, 100, 1000, 2000] as const;

/** Writes a pcap file whose packets have `size` bytes and are `microseconds` apart. @returns how many there are. */
async function pcapFile(path: string, options: { bytes: number; size: number; first: number }): Promise<number> {
  const { bytes, size, first } = options;
  const content = new Uint8Array(bytes + 16 + size);
  const view = new DataView(content.buffer);
  content.set(header());
  let at = 24, number = first;
  for (; at < bytes; at += 16 + size, number++) {
    view.setUint32(at, 1_700_000_000 + Math.floor(number / 50_000), true);
    view.setUint32(at + 4, number % 50_000 * 20, true);
    view.setUint32(at + 8, size, true);
    view.setUint32(at + 12, size, true);
    view.setUint32(at + 16, number, true);
  }
  await Deno.writeFile(path, content.subarray(0, at));
  return number - first;
}

/** Fills a folder with a ring of so many MB, a file for each MB but 100 at most. */
async function ring(folder: string, megabytes: number, size: number): Promise<{ paths: string[]; packets: number }> {
  const files = Math.min(megabytes, 100);
  const paths: string[] = [];
  let packets = 0;
  for (let i = 0; i < files; i++) {
    paths.push(join(folder, `run-000001-${String(i).padStart(6, "0")}.pcap`));
    packets += await pcapFile(paths[i]!, { bytes: megabytes / files * 1_000_000, size, first: packets });
  }
  return { paths, packets };
}

/** Seconds that a program takes until it has written all to a pipe that `cat` empties. */
async function secondsOf(argv: readonly string[]): Promise<number> {
  const script = '"$@" | cat > /dev/null; test "${PIPESTATUS[0]}" = 0';
  const started = performance.now();
  const { success } = await new Deno.Command("bash", { args: ["-c", script, "bash", ...argv], stderr: "null" })
    .output();
  if (!success) throw new Error(`${argv.slice(0, 3).join(" ")} failed`);
  return (performance.now() - started) / 1000;
}

/** Runs all in turns, so that they meet the same weather; the first round fills the page cache. @returns MB/s of each. */
async function speeds(
  megabytes: number,
  rounds: number,
  programs: Readonly<Record<string, () => Promise<number>>>,
): Promise<Record<string, number[]>> {
  const found: Record<string, number[]> = {};
  for (let round = -1; round < rounds; round++) {
    for (const [name, seconds] of Object.entries(programs)) {
      const took = await seconds();
      if (round >= 0) (found[name] ??= []).push(megabytes / took);
    }
  }
  return found;
}

const ratio = (found: Record<string, number[]>, ours: string, theirs: string) =>
  median(found[ours]!) / median(found[theirs]!);

function beside(found: Record<string, number[]>, packetsPerMb: number): string {
  return Object.entries(found).map(([name, values]) =>
    `${name} ${range(values, "MB/s")}, ${(median(values) * packetsPerMb / 1000).toFixed(0)} thousand packets/s`
  ).join("; ");
}

/** `cat` and `stream` of a ring of 100 MB. */
async function oneRing(): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const size of SIZES) {
    await using dir = await captureDir();
    await dir.putManifest();
    const { paths, packets } = await ring(dir.folder, RING_MB, size);
    const cat = [...program(), "cat", "default/web-0", "--capture-dir", dir.path];
    const whole = join(dir.path, "whole.pcap");
    await pcapFile(whole, { bytes: RING_MB * 1_000_000, size, first: 0 });
    const found = await speeds(RING_MB, ROUNDS, {
      "cat": () => secondsOf(cat),
      "mergecap": () => secondsOf(["mergecap", "-w", "-", ...paths]),
      "stream": () => streamSeconds(dir.path, packets * (32 + Math.ceil(size / 4) * 4)),
      "editcap of one file": () => secondsOf(["editcap", whole, "-"]),
      "tshark -w of one file": () => secondsOf(["tshark", "-n", "-r", whole, "-w", "-"]),
    });
    const common = { part: "reading", unit: "×", better: "higher", stable: true } as const;
    figures.push({
      ...common,
      id: `cat-${size}`,
      what: `speed of cat of a ring of ${RING_MB} MB, packets of ${size} bytes, against mergecap`,
      value: ratio(found, "cat", "mergecap"),
      target: { atLeast: 0.8 },
      beside: beside(found, packets / RING_MB),
      samples: found,
    }, {
      ...common,
      id: `stream-${size}`,
      what: `speed of stream with what a ring of ${RING_MB} MB holds, packets of ${size} bytes, against mergecap`,
      value: ratio(found, "stream", "mergecap"),
      beside: `stream ${range(found["stream"]!, "MB/s")}`,
      samples: { stream: found["stream"]! },
    });
  }
  return figures;
}

/** Seconds until `stream` has written so many bytes; it would go on for ever. */
async function streamSeconds(captureDir: string, bytes: number): Promise<number> {
  const [command, ...args] = [...program(), "stream", "default/web-0", "--capture-dir", captureDir];
  const started = performance.now();
  const child = new Deno.Command(command!, { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
  const reader = child.stdout.getReader({ mode: "byob" });
  let left = bytes;
  for (let buffer = new Uint8Array(262_144); left > 0;) {
    const { value, done } = await reader.read(buffer);
    if (done) throw new Error(`stream ended ${left} bytes early`);
    left -= value.length;
    buffer = new Uint8Array(value.buffer);
  }
  const seconds = (performance.now() - started) / 1000;
  child.kill("SIGKILL");
  await reader.cancel();
  await child.status;
  return seconds;
}

/** MiB: the most that `cat` of a ring of so many MB has taken. */
async function peakOf(megabytes: number): Promise<number> {
  await using dir = await captureDir();
  await dir.putManifest();
  await ring(dir.folder, megabytes, 1000);
  const [command, ...args] = [...program(), "cat", "default/web-0", "--capture-dir", dir.path];
  const child = new Deno.Command(command!, { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
  let peak = 0;
  const look = setInterval(() => {
    try {
      const status = Deno.readTextFileSync(`/proc/${child.pid}/status`);
      peak = Math.max(peak, Number(/^VmHWM:\s+([0-9]+)/m.exec(status)?.[1] ?? 0) / 1024);
    } catch {
      // It has ended.
    }
  }, 5);
  for await (const _ of child.stdout);
  clearInterval(look);
  if (!(await child.status).success) throw new Error(`cat of ${megabytes} MB failed`);
  return peak;
}

async function memory(): Promise<Figure> {
  const peaks: number[] = [];
  for (const megabytes of MEMORY_MB) peaks.push(await peakOf(megabytes));
  return {
    id: "cat-memory",
    part: "reading",
    what: "most memory that cat of a ring of 2 GB takes, against one of 10 MB",
    value: peaks.at(-1)! / peaks[0]!,
    unit: "×",
    target: { atMost: 1.25 },
    beside: `peak RSS MiB at ${MEMORY_MB.map((size, i) => `${size} MB: ${peaks[i]!.toFixed(0)}`).join(", ")}`,
    stable: true,
    better: "lower",
    samples: { MB: MEMORY_MB, "peak MiB": peaks },
  };
}

/** What `kubectl packet-capture get` does once it has downloaded the captures of many pods. */
async function merge(): Promise<Figure> {
  await using dir = await captureDir();
  const parts: string[] = [];
  for (let i = 0; i < MERGED_RINGS; i++) {
    const pcap = join(dir.path, `${i}.pcap`);
    parts.push(join(dir.path, `${i}.pcapng`));
    await pcapFile(pcap, { bytes: RING_MB * 1_000_000, size: 1000, first: i });
    await new Deno.Command("editcap", { args: [pcap, parts[i]!] }).output();
    await Deno.remove(pcap);
  }
  const out = join(dir.path, "out.pcapng");
  const timed = async (command: string, args: readonly string[]) => {
    await Deno.remove(out).catch(() => {});
    const started = performance.now();
    const { success, stderr } = await new Deno.Command(command, { args: [...args], cwd: ROOT, stdout: "null" })
      .output();
    if (!success) throw new Error(new TextDecoder().decode(stderr));
    return (performance.now() - started) / 1000;
  };
  const found = await speeds(MERGED_RINGS * RING_MB, MERGE_ROUNDS, {
    "merge": () => timed(Deno.execPath(), [...denoArgs("tests/bench/merge_parts.ts"), out, ...parts]),
    "mergecap": () => timed("mergecap", ["-w", out, ...parts]),
  });
  return {
    id: "merge-20",
    part: "reading",
    what: `speed of merging the captures of ${MERGED_RINGS} pods of ${RING_MB} MB each into one file, against mergecap`,
    value: ratio(found, "merge", "mergecap"),
    unit: "×",
    beside: beside(found, 1e6 / 1016),
    stable: true,
    better: "higher",
    samples: found,
  };
}

export async function reading(): Promise<Figure[]> {
  return [...await oneRing(), await memory(), await merge()];
}
