/** The commands as processes: their pipes, signals and exit codes. */
import { deepStrictEqual as assertEquals, fail, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { cli, denoArgs } from "../../rig/cli.ts";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { readTrailer, type Trailer } from "../../../src/spec/outcome.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import {
  type CaptureDir,
  captureDir,
  concat,
  header,
  packet,
  pcap,
  record,
  run as aRun,
} from "../../unit/reading/files.ts";
import { catCommand, readingCommand, tshark } from "./rig.ts";

/** Twenty megabytes, more than any pipe holds. */
async function large(dir: CaptureDir): Promise<void> {
  await dir.putManifest();
  const piece = record(packet(1, 100_000));
  using file = await Deno.open(join(dir.folder, "run-000001-000000.pcap"), { write: true, create: true });
  await file.write(header());
  for (let n = 0; n < 200; n++) for (let at = 0; at < piece.length;) at += await file.write(piece.subarray(at));
}

async function isLocked(dir: CaptureDir): Promise<boolean> {
  using lock = await Deno.open(join(dir.folder, ".reading"), { read: true, write: true });
  return !await lock.tryLock(true);
}

Deno.test("cat ends quietly when its reader has had enough, and gives the lock back", async () => {
  await using dir = await captureDir();
  await large(dir);
  const command = [Deno.execPath(), ...denoArgs("src/main.ts"), "cat", "default/web-0", "--capture-dir", dir.path];
  const script = '"$@" | head -c 1000 | wc -c; echo "${PIPESTATUS[0]}"';
  const { stdout, stderr } = await new Deno.Command("bash", {
    args: ["-c", script, "bash", ...command],
    env: { NO_COLOR: "1" },
  }).output();
  assertEquals(new TextDecoder().decode(stdout).split("\n").map((line) => line.trim()), ["1000", "1", ""]);
  same(new TextDecoder().decode(stderr), "");
  assert(!await isLocked(dir));
});

Deno.test("cat --while-stdin ends stderr with a trailer, holds nothing, and ends only when its input does", async () => {
  await using dir = await captureDir();
  await large(dir);
  const args = [...denoArgs("src/main.ts"), "cat", "default/web-0", "--capture-dir", dir.path, "--while-stdin"];
  const child = new Deno.Command(Deno.execPath(), { args, stdin: "piped", stdout: "piped", stderr: "piped" }).spawn();
  const reading = new Response(child.stdout).arrayBuffer();
  const lines = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!said.endsWith("}\n")) {
    const { value, done } = await lines.read();
    assert(!done, said);
    said += value;
  }
  const { outcome, bytes } = trailerIn(said);
  same(outcome, "done");
  assert(!await isLocked(dir));
  const state = await Promise.race([child.status, new Promise((resolve) => setTimeout(resolve, 500, "runs"))]);
  same(state, "runs");
  await child.stdin.close();
  same((await reading).byteLength, bytes);
  same((await child.status).code, 0);
  same((await lines.read()).done, true);
});

Deno.test("cat and stream --while-stdin write a trailer, and last the sentence that reports why they have nothing", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "waiting", reason: "no room" });
  for (
    const [args, code, outcome, state] of [
      [["cat", "default/web-0"], 3, "nothingYet", "waiting"],
      [["cat", "default/web-9"], 4, "notHere", undefined],
      [["stream", "default/web-9"], 4, "notHere", undefined],
      [["cat", "../etc"], 2, "usage", undefined],
    ] as const
  ) {
    const words = [...denoArgs("src/main.ts"), ...args, "--capture-dir", dir.path, "--while-stdin"];
    const child = new Deno.Command(Deno.execPath(), { args: words, stdin: "piped", stderr: "piped" }).spawn();
    const stderr = await new Response(child.stderr).text();
    same((await child.status).code, code);
    const [line = "", ...after] = stderr.trimEnd().split("\n");
    assertEquals(trailerIn(line), { trailer: 1, outcome, bytes: 0, ...(state ? { state } : {}) });
    // Plugins of version 0.1 show the last line as the reason.
    match(after.join("\n"), /^packet-capture: Cannot (read|find) .+$/);
    await child.stdin.close().catch(() => {});
  }
});

Deno.test("cat ends at once by SIGTERM while its reader sleeps, reports it, and gives the lock back", async () => {
  await using dir = await captureDir();
  await large(dir);
  const child = catCommand(dir.path).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  assert(await isLocked(dir));
  const started = performance.now();
  child.kill("SIGTERM");
  const [{ code }, said] = await Promise.all([child.status, new Response(child.stderr).text()]);
  same(code, 143);
  same(said, "packet-capture: ended before all was written\n");
  assert(performance.now() - started < 3000);
  await reader.cancel();
  assert(!await isLocked(dir));
});

Deno.test("cat into a pipe that somebody has made non-blocking is whole", async () => {
  await using dir = await captureDir();
  await large(dir);
  const path = join(dir.path, "out.pcapng");
  const command = [Deno.execPath(), ...denoArgs("src/main.ts"), "cat", "default/web-0", "--capture-dir", dir.path];
  // The flag belongs to the open pipe, which both programs in the braces share.
  const script =
    `{ perl -e 'use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK | O_WRONLY) or die'; "$@"; echo $? >&3; } | { sleep 1; cat; } > ${path}`;
  const { stdout } = await new Deno.Command("bash", { args: ["-c", `exec 3>&1; ${script}`, "bash", ...command] })
    .output();
  same(new TextDecoder().decode(stdout).trim(), "0");
  match(await run(["capinfos", "-c", path]), /Number of packets: {3}200/);
});

Deno.test("the commands refuse bad flags with exit code 2 and what cannot be had with 3 or 4, in one sentence", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  const refusal = async (...args: string[]) => {
    const { code, stdout, stderr } = await cli([...args, "--capture-dir", dir.path]);
    same(stdout, "");
    same(stderr.trimEnd().split("\n").length, 1, stderr);
    return `${code} ${stderr.trimEnd()}`;
  };
  match(await refusal("cat", "default/web-0", "--format", "pcapx"), /^2 .*pcapx.*pcapng, pcap/);
  match(await refusal("cat", "default/web-0", "--since", "5 minutes"), /^2 .*5 minutes/);
  match(await refusal("cat", "../../etc"), /^2 .*\.\.\/\.\.\/etc/);
  match(await refusal("cat", "default/web-9"), /^4 .*default\/web-9/);
  match(await refusal("cat", "default/web-0"), /^3 .*no packet has been captured yet/);
  match(await refusal("stream", "web-0"), /^2 .*web-0/);
  match(await refusal("stream", "default/web-9"), /^4 .*default\/web-9/);
  match(await refusal("list", "-o", "yaml"), /^2 .*yaml.*table, json/);
});

Deno.test("list -o json is JSON, and a table without it", async () => {
  await using dir = await captureDir();
  await dir.putManifest();
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  const json = await cli(["list", "-o", "json", "--capture-dir", dir.path]);
  assertEquals([json.code, JSON.parse(json.stdout)[0].pod], [0, "web-0"]);
  const table = await cli(["list", "--capture-dir", dir.path]);
  match(table.stdout, /^POD .*\ndefault\/web-0 /);
});

Deno.test("a reader that takes nothing is taken for gone, which is reported; not while the command ends with its input", async () => {
  const start = (...args: string[]) =>
    new Deno.Command(Deno.execPath(), {
      args: [...denoArgs("tests/integration/reading/stalled.ts"), ...args],
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).spawn();
  const patient = start("while-stdin");
  const reader = patient.stdout.getReader();
  let bytes = (await reader.read()).value!.length;
  const other = start();
  // Of this one nothing is read until it has ended.
  const [{ code }, said] = await Promise.all([other.status, new Response(other.stderr).text()]);
  await other.stdout.cancel();
  assertEquals([code, said], [
    1,
    "packet-capture: Ended before all was written: nobody has read from stdout for 0.3 s\n",
  ]);
  for (let next; !(next = await reader.read()).done;) bytes += next.value.length;
  const [{ code: patientCode }, patientSaid] = await Promise.all([
    patient.status,
    new Response(patient.stderr).text(),
  ]);
  assertEquals([patientCode, patientSaid, bytes], [0, "", 64 * 65_536]);
});

/** Runs `cat` of default/web-0 on a copy of a captureDir that is on a disk of its own, to which something is done before. */
async function catOnDisk(dir: CaptureDir, options: string, before: string, out: string) {
  const mounted = await Deno.makeTempDir({ prefix: "packet-capture-disk-" });
  const command = [Deno.execPath(), ...denoArgs("src/main.ts"), "cat", "default/web-0", "--capture-dir", mounted];
  // In a namespace of its own, gone with the process.
  const script =
    `mount -t tmpfs -o ${options} none "$1" && cp -a "$2"/. "$1" && cd "$1" && { ${before}; } && out=$3 && shift 3 || exit 99
"$@" > "$out"; code=$?; ls default/web-0; exit $code`;
  try {
    const { code, stdout, stderr } = await new Deno.Command("unshare", {
      args: ["--mount", "sh", "-c", script, "sh", mounted, dir.path, out, ...command],
      env: { NO_COLOR: "1" },
      signal: AbortSignal.timeout(60_000),
    }).output();
    const [names, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)) as [string, string];
    return { code, said, names: names.trim().split("\n") };
  } finally {
    await Deno.remove(mounted);
  }
}

for (
  const [what, options, before, why] of [
    ["is read-only", "size=64m", 'mount -o remount,ro "$1"', "Read-only file system"],
    [
      "has no inode left",
      "size=64m,nr_inodes=40",
      'i=0; while touch "fill$i" 2>/dev/null; do i=$((i+1)); done',
      "No space left on device",
    ],
  ] as const
) {
  Deno.test(`cat reads what a disk holds that ${what}, and reports what it then cannot promise`, async () => {
    await using dir = await captureDir();
    await dir.putManifest({ state: "capturing", runs: [aRun(1)] });
    for (const n of [0, 1, 2]) {
      await dir.put(`capture-web-0.pcap${n}`, pcap([packet(2 * n + 1), packet(2 * n + 2)]));
      await Deno.utime(join(dir.folder, `capture-web-0.pcap${n}`), 100 + n, 100 + n);
    }
    const out = await Deno.makeTempFile({ suffix: ".pcapng" });
    try {
      const running = await catOnDisk(dir, options, before, out);
      same(running.code, 0, running.said);
      const reason = "because the disk of captureDir takes nothing new: ";
      assert(
        running.said.startsWith(`packet-capture: default/web-0: read without a snapshot, ${reason}${why}`),
        running.said,
      );
      match(running.said, /; what the ring overtakes meanwhile will be missing\n$/);
      match(await run(["capinfos", out]), new RegExp(`written without a snapshot, ${reason}${why}`));
      same((await tshark(out, "frame.number")).length, 6);
      assertEquals(running.names, [
        "capture-web-0.pcap0",
        "capture-web-0.pcap1",
        "capture-web-0.pcap2",
        "capture.json",
      ]);
      // Nothing can be overtaken of what is not captured any more.
      await dir.putManifest({ state: "held", runs: [aRun(1, { endedAt: "x" })] });
      const held = await catOnDisk(dir, options, before, out);
      assertEquals([held.code, held.said], [0, ""]);
      same((await tshark(out, "frame.number")).length, 6);
    } finally {
      await Deno.remove(out);
    }
  });
}

Deno.test("stream ends when its reader has gone, though nothing was ever captured", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "pending", reason: "no sandbox yet", runs: [] });
  const child = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const reader = child.stdout.getReader();
  // The head of the file, all of which has to have been written before.
  for (let bytes = 0; bytes < 100;) bytes += (await reader.read()).value!.length;
  await reader.cancel();
  const [{ code }, said] = await Promise.all([child.status, new Response(child.stderr).text()]);
  assertEquals([code, said], [0, "packet-capture: nothing is captured: it is pending: no sandbox yet\n"]);
});

Deno.test("stream ends when its reader has gone, though nothing is captured any more", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [aRun(1)] });
  await dir.put("run-000001-000000.pcap", pcap([packet(1)]));
  const child = readingCommand(["stream", "default/web-0", "--capture-dir", dir.path]).spawn();
  const reader = child.stdout.getReader();
  // The one packet that there is comes last.
  for (let seen = concat(), n = 0; n === 0;) {
    const { value } = await reader.read();
    seen = concat(seen, value!);
    const packets = new PcapngReader(new MemorySource(seen));
    while (packets.next()) n++;
  }
  await reader.cancel();
  const [{ code }] = await Promise.all([child.status, child.stderr.cancel()]);
  same(code, 0);
});

/** The last line of stderr, as a program reads it. */
function trailerIn(stderr: string): Trailer {
  const last = stderr.trimEnd().split("\n").at(-1)!.replace(/^packet-capture: /, "");
  return readTrailer(last) ?? fail(stderr);
}
