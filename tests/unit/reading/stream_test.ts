import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { deleteFile } from "../../../src/store/delete_file.ts";
import { promote } from "../../../src/store/ring.ts";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { ReaderGone } from "../../../src/reading/io.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import { stream } from "../../../src/reading/stream.ts";
import {
  type CaptureDir,
  captureDir,
  concat,
  header,
  packet,
  pcap,
  record,
  REQUEST,
  run,
  type TestIo,
  testIo,
} from "./files.ts";

/** Does to files what tcpdump -C -W does, when asked to. */
class FakeTcpdump implements Disposable {
  #file: Deno.FsFile;
  #index = 0;

  constructor(readonly dir: CaptureDir, readonly files: number) {
    this.#file = this.#open();
  }

  #open(): Deno.FsFile {
    const path = join(this.dir.folder, `capture-web-0.pcap${this.#index}`);
    const file = Deno.openSync(path, { write: true, create: true, truncate: true });
    file.writeSync(header());
    return file;
  }

  write(...numbers: number[]): void {
    for (const n of numbers) this.#file.writeSync(record(packet(n)));
  }

  /** Writes bytes that are not a whole record. */
  writePart(bytes: Uint8Array): void {
    this.#file.writeSync(bytes);
  }

  rotate(): void {
    this.#file.close();
    this.#index = (this.#index + 1) % this.files;
    this.#file = this.#open();
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}

function read(bytes: Uint8Array) {
  const reader = new PcapngReader(new MemorySource(bytes));
  const numbers: number[] = [];
  const remarks: string[] = [];
  while (reader.next()) {
    numbers.push(reader.bytes[reader.start]!);
    const options = reader.bytes.subarray(reader.optionsStart, reader.optionsEnd);
    if (options.length > 0) remarks.push(new TextDecoder().decode(options.subarray(4)).replace(/\0+$/, ""));
  }
  return { reader, numbers, remarks };
}

async function until(isSo: () => boolean): Promise<void> {
  for (const deadline = performance.now() + 5000; !isSo();) {
    assert(performance.now() < deadline, "it has not come about within 5 s");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** How often this process has a file open. */
function timesOpen(path: string): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      return Deno.readLinkSync(`/proc/self/fd/${name}`) === path;
    } catch {
      return false; // closed meanwhile
    }
  }).length;
}

/** A stream under way. */
class Running {
  readonly #stop = new AbortController();
  readonly io: TestIo;
  readonly code: Promise<number>;

  constructor(dir: CaptureDir, write?: (bytes: Uint8Array) => Promise<void>) {
    this.io = testIo({ signal: this.#stop.signal, ...(write ? { write } : {}) });
    this.code = stream({ captureDir: dir.path, pod: "default/web-0" }, this.io);
  }

  get numbers(): number[] {
    return read(this.io.output).numbers;
  }

  /** Waits until all of these have come, in this order. */
  async sees(...numbers: number[]): Promise<void> {
    await until(() => this.numbers.length >= numbers.length).catch(() => {});
    assertEquals(this.numbers, numbers);
  }

  stop(): void {
    this.#stop.abort();
  }
}

Deno.test("stream() writes what is there, then what comes, through rotation, wrapping and renaming, each packet once", async () => {
  await using dir = await captureDir();
  await dir.putManifest({
    state: "capturing",
    runs: [
      run(1, { endedAt: "x", ended: "annotation changed" }),
      run(2, { request: { ...REQUEST, files: 3 } }),
    ],
  });
  await dir.put("run-000001-000000.pcap", pcap([packet(1), packet(2)]));
  using tcpdump = new FakeTcpdump(dir, 3);
  tcpdump.write(3);
  const running = new Running(dir);
  await running.sees(1, 2, 3);
  tcpdump.write(4);
  await running.sees(1, 2, 3, 4);
  tcpdump.rotate();
  tcpdump.write(5);
  tcpdump.rotate();
  tcpdump.write(6);
  await running.sees(1, 2, 3, 4, 5, 6);
  // Wraps: the first file is truncated in place.
  tcpdump.rotate();
  tcpdump.write(7);
  await running.sees(1, 2, 3, 4, 5, 6, 7);
  // What cat does.
  await promote(dir.folder, "web-0", 2);
  tcpdump.write(8);
  await running.sees(1, 2, 3, 4, 5, 6, 7, 8);
  tcpdump.rotate();
  tcpdump.write(9);
  const half = record(packet(10));
  tcpdump.writePart(half.subarray(0, 20));
  await running.sees(1, 2, 3, 4, 5, 6, 7, 8, 9);
  tcpdump.writePart(half.subarray(20));
  await running.sees(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
  running.stop();
  same(await running.code, 0);
  const restart = "not captured from x to 2026-01-31T11:00:00.000Z: annotation changed";
  assertEquals(running.io.said, [restart]);
  const { reader, remarks } = read(running.io.output);
  assertEquals(remarks, [`packet-capture: ${restart}`]);
  assertEquals([reader.interfaces.length, reader.interfaces[0]?.name, reader.interfaces[0]?.statistics?.delivered], [
    1,
    "default/web-0@worker1",
    10,
  ]);
  same(reader.statisticsBeforeEnd, false);
});

Deno.test("stream() goes on with a new run, which has its own interface if another filter was asked for", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  using first = new FakeTcpdump(dir, 5);
  first.write(1, 2);
  const running = new Running(dir);
  await running.sees(1, 2);
  first.write(3);
  await promote(dir.folder, "web-0", 1, { dropEmpty: true });
  await dir.putManifest({
    state: "capturing",
    runs: [run(1, { endedAt: "x" }), run(2, { request: { ...REQUEST, filter: "udp" } })],
  });
  using second = new FakeTcpdump(dir, 5);
  second.write(4);
  await running.sees(1, 2, 3, 4);
  running.stop();
  same(await running.code, 0);
  assertEquals(read(running.io.output).reader.interfaces.map(({ name, filter, packets }) => [name, filter, packets]), [
    ["default/web-0@worker1", undefined, 3],
    ["default/web-0@worker1#2", "udp", 1],
  ]);
});

Deno.test("stream() tells a reader that was too slow what it missed, in the file and on stderr", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1, { request: { ...REQUEST, files: 2 } })] });
  using tcpdump = new FakeTcpdump(dir, 2);
  tcpdump.write(1);
  const written: Uint8Array[] = [];
  const blocked = Promise.withResolvers<void>();
  let calls = 0;
  const running = new Running(dir, async (bytes) => {
    written.push(bytes.slice());
    // The section, the interface, the first packet: then the reader sleeps.
    if (++calls === 3) await blocked.promise;
  });
  await until(() => calls === 3);
  tcpdump.write(2);
  tcpdump.rotate();
  tcpdump.write(3);
  tcpdump.rotate();
  tcpdump.write(4);
  tcpdump.rotate();
  tcpdump.write(5);
  blocked.resolve();
  await until(() => read(concat(...written)).numbers.includes(5));
  running.stop();
  same(await running.code, 1);
  const { numbers, remarks, reader } = read(concat(...written));
  assertEquals(numbers, [1, 4, 5]);
  same(remarks.length, 1);
  match(
    remarks[0]!,
    /^packet-capture: packets between 2023-11-14T22:13:20\.001Z and 2023-11-14T22:13:20\.004Z are missing(, at least \d+ bytes?)?: the reader was slower than the ring/,
  );
  match(running.io.said.join("\n"), /^packets between .* are missing/);
  match(reader.interfaces[0]!.statistics!.comments.join(), /the reader was too slow and missed packets once/);
});

Deno.test("stream() reports what it missed of the very file that it was reading", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1, { request: { ...REQUEST, files: 3 } })] });
  using tcpdump = new FakeTcpdump(dir, 3);
  tcpdump.write(1);
  const written: Uint8Array[] = [];
  const blocked = Promise.withResolvers<void>();
  let calls = 0;
  const { openSync } = Deno;
  const opened = new Set<string>();
  Deno.openSync = (path, options) => {
    const file = openSync(path, options);
    if (!options?.write) opened.add(String(path).slice(-5));
    return file;
  };
  try {
    const running = new Running(dir, async (bytes) => {
      written.push(bytes.slice());
      if (++calls === 3) await blocked.promise;
    });
    await until(() => calls === 3);
    tcpdump.write(2);
    for (const [name, number] of [["pcap1", 3], ["pcap2", 4]] as const) {
      tcpdump.rotate();
      tcpdump.write(number);
      await until(() => opened.has(name));
    }
    tcpdump.rotate();
    tcpdump.write(5);
    blocked.resolve();
    await until(() => read(concat(...written)).numbers.includes(5));
    running.stop();
    same(await running.code, 1);
    const { numbers, remarks } = read(concat(...written));
    assertEquals(numbers, [1, 3, 4, 5]);
    same(remarks.length, 1);
    match(remarks[0]!, /packets between 2023-11-14T22:13:20\.001Z and 2023-11-14T22:13:20\.003Z are missing/);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("stream() ends by itself when the capture is completed or deleted or its pod has finished, with all that was captured", async () => {
  for (const end of ["completed", "finished", "deleted"] as const) {
    await using dir = await captureDir();
    await dir.putManifest({ state: "capturing", runs: [run(1)] });
    using tcpdump = new FakeTcpdump(dir, 5);
    tcpdump.write(1);
    const running = new Running(dir);
    await running.sees(1);
    tcpdump.write(2);
    if (end === "deleted") await Deno.remove(dir.folder, { recursive: true });
    else await dir.putManifest({ state: end, runs: [run(1, { endedAt: "x" })] });
    same(await running.code, 0);
    assertEquals(running.numbers, [1, 2]);
    same(read(running.io.output).reader.interfaces[0]?.statistics?.delivered, 2);
  }
});

Deno.test("stream() of a capture that the controller deletes ends with 0 if it had read all, and else reports what is missing", async () => {
  for (const isSlow of [false, true]) {
    await using dir = await captureDir();
    await dir.putManifest({ state: "capturing", runs: [run(1)] });
    const deleted = Promise.withResolvers<void>();
    const begun = Promise.withResolvers<void>();
    const written: Uint8Array[] = [];
    const running = new Running(dir, async (bytes) => {
      written.push(bytes.slice());
      if (!isSlow) return;
      begun.resolve();
      await deleted.promise;
    });
    using tcpdump = new FakeTcpdump(dir, 5);
    const numbers = () => read(concat(...written)).numbers;
    tcpdump.write(1);
    if (isSlow) {
      await begun.promise;
      tcpdump.rotate();
      tcpdump.write(2);
      // The stream has it open too, however slow its reader is.
      await until(() => timesOpen(join(dir.folder, "capture-web-0.pcap1")) === 2);
    } else await until(() => numbers().length === 1);
    for (const { name } of [...Deno.readDirSync(dir.folder)]) await deleteFile(join(dir.folder, name));
    await Deno.remove(dir.folder);
    deleted.resolve();
    same(await running.code, isSlow ? 1 : 0);
    assertEquals(numbers(), isSlow ? [] : [1]);
    if (isSlow) match(running.io.said.join("\n"), /packets between the start and the end are missing/);
    else assertEquals(running.io.said, []);
  }
});

Deno.test("stream() ends with 0 when its reader has gone, and does not wait for one that is stuck when aborted", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  using tcpdump = new FakeTcpdump(dir, 5);
  tcpdump.write(1);
  same(await new Running(dir, () => Promise.reject(new ReaderGone())).code, 0);
  const begun = Promise.withResolvers<void>();
  const stuck = new Running(dir, () => {
    begun.resolve();
    return new Promise<void>(() => {});
  });
  await begun.promise;
  stuck.stop();
  const started = performance.now();
  same(await stuck.code, 0);
  assert(performance.now() - started < 4000);
});

Deno.test("stream() gives the new content of a file once that is overwritten before it is begun, and reports what is missing", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1, { request: { ...REQUEST, files: 3 } })] });
  for (const n of [0, 1, 2]) {
    await dir.put(`capture-web-0.pcap${n}`, pcap([packet(2 * n + 1), packet(2 * n + 2)]));
    await Deno.utime(join(dir.folder, `capture-web-0.pcap${n}`), 10 + n, 10 + n);
  }
  const { openSync } = Deno;
  Deno.openSync = (path, options) => {
    if (String(path).endsWith("pcap2")) {
      Deno.openSync = openSync;
      // The first look has opened the oldest file, and not yet read it.
      Deno.writeFileSync(join(dir.folder, "capture-web-0.pcap0"), pcap([packet(7)]));
    }
    return openSync(path, options);
  };
  try {
    const running = new Running(dir);
    await running.sees(3, 4, 5, 6, 7);
    running.stop();
    same(await running.code, 1);
    assertEquals(running.numbers, [3, 4, 5, 6, 7]);
    assertEquals(read(running.io.output).remarks, [
      "packet-capture: packets between the start and 2023-11-14T22:13:20.003Z are missing: the reader was slower than the ring",
    ]);
  } finally {
    Deno.openSync = openSync;
  }
});

Deno.test("stream() reports what it missed though no packet came after it", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1, { request: { ...REQUEST, files: 2 } })] });
  using tcpdump = new FakeTcpdump(dir, 2);
  tcpdump.write(1);
  const blocked = Promise.withResolvers<void>();
  let calls = 0;
  const running = new Running(dir, async () => {
    if (++calls === 3) await blocked.promise;
  });
  await until(() => calls === 3);
  tcpdump.write(2);
  tcpdump.rotate();
  tcpdump.rotate();
  blocked.resolve();
  await dir.putManifest({ state: "completed", runs: [run(1, { endedAt: "x" })] });
  same(await running.code, 1);
  assertEquals(running.io.said, [
    "packets between 2023-11-14T22:13:20.001Z and the end are missing: the reader was slower than the ring",
  ]);
});

Deno.test("stream() leaves out a file that is no capture file, and reports it", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  await dir.put("run-000001-000000.pcap", "something else, longer than a file header");
  const running = new Running(dir);
  await until(() => running.io.said.length > 0);
  using tcpdump = new FakeTcpdump(dir, 2);
  tcpdump.write(1);
  await running.sees(1);
  running.stop();
  same(await running.code, 0);
  assertEquals(running.io.said, ["run-000001-000000.pcap is not a pcap file: it is left out"]);
});

Deno.test("stream() reports why nothing comes, when packets are captured again, and for how long they were not", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "paused", reason: "the disk is nearly full", runs: [run(1)] });
  using first = new FakeTcpdump(dir, 5);
  first.write(1);
  const running = new Running(dir);
  await running.sees(1);
  assertEquals(running.io.said, ["nothing is captured: it is paused: the disk is nearly full"]);
  await promote(dir.folder, "web-0", 1);
  const ended = { endedAt: "2026-01-31T11:30:00.000Z", ended: "the disk was full" };
  await dir.putManifest({
    state: "capturing",
    runs: [run(1, ended), run(2, { endedAt: "y" }), run(3, { startedAt: "2026-01-31T11:35:00.000Z" })],
  });
  using second = new FakeTcpdump(dir, 5);
  second.write(2);
  await running.sees(1, 2);
  running.stop();
  same(await running.code, 0);
  const gaps = [
    "not captured from 2026-01-31T11:30:00.000Z to 2026-01-31T11:00:00.000Z: the disk was full",
    "not captured from y to 2026-01-31T11:35:00.000Z",
  ];
  assertEquals(running.io.said.slice(1), ["packets are captured again", ...gaps]);
  assertEquals(read(running.io.output).remarks, [`packet-capture: ${gaps.join("; ")}`]);
});

Deno.test("stream() of a capture whose manifest was damaged goes on when there is one again", async () => {
  await using dir = await captureDir();
  await dir.put("capture.json", "{");
  using tcpdump = new FakeTcpdump(dir, 5);
  tcpdump.write(1);
  const running = new Running(dir);
  await running.sees(1);
  await dir.putManifest({ state: "capturing", runs: [run(1)] });
  tcpdump.rotate();
  tcpdump.write(2);
  await running.sees(1, 2);
  running.stop();
  same(await running.code, 0);
});

Deno.test("stream() ends when another pod has the folder, with nothing of that one and its own counters", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "capturing", runs: [run(1, { received: 20 })] });
  using tcpdump = new FakeTcpdump(dir, 5);
  tcpdump.write(1);
  const running = new Running(dir);
  await running.sees(1);
  await dir.putManifest({ uid: "6f1c2d3e-0000-4000-8000-000000000002", runs: [run(1, { received: 99 })] });
  tcpdump.rotate();
  tcpdump.write(2);
  same(await running.code, 0);
  assertEquals(running.numbers, [1]);
  same(read(running.io.output).reader.interfaces[0]?.statistics?.received, 20);
});

Deno.test("stream() reports what is damaged in the newest file of a capture that nobody writes", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "held" });
  await dir.put("capture-web-0.pcap0", concat(pcap([packet(1)]), record(packet(2)).subarray(0, 30)));
  const running = new Running(dir);
  await until(() => running.io.said.some((line) => line.includes("damaged")));
  match(running.io.said.join(), /capture-web-0\.pcap0 is damaged: 30 bytes left out/);
  // What goes on is a new run, in a file of its own.
  await promote(dir.folder, "web-0", 1);
  await dir.putManifest({ state: "capturing", runs: [run(1, { endedAt: "x" }), run(2)] });
  using tcpdump = new FakeTcpdump(dir, 3);
  tcpdump.write(3);
  tcpdump.writePart(record(packet(4)).subarray(0, 30));
  await running.sees(1, 3);
  running.stop();
  same(await running.code, 0);
  same(running.io.said.filter((line) => line.includes("damaged")).length, 1);
});

Deno.test("stream() gives all interfaces one snaplen, and reports once that link types are mixed", async () => {
  await using dir = await captureDir();
  await dir.putManifest({ state: "completed" });
  await dir.put("run-000001-000000.pcap", pcap([packet(1)], { snaplen: 64 }));
  await dir.put("run-000001-000001.pcap", pcap([packet(2)], { linkType: 1 }));
  await dir.put("run-000001-000002.pcap", pcap([packet(3)], { linkType: 101, snaplen: 99 }));
  const running = new Running(dir);
  same(await running.code, 0);
  const { reader, numbers } = read(running.io.output);
  assertEquals(numbers, [1, 2, 3]);
  assertEquals(reader.interfaces.map(({ snaplen }) => snaplen), [262_144, 262_144, 262_144]);
  assertEquals(reader.interfaces.map(({ comments }) => comments.map((text) => text.split(":")[0])), [
    ["snaplen 64"],
    ["the packets have the link types LINUX_SLL2 and EN10MB"],
    ["snaplen 99", "the packets have the link types LINUX_SLL2 and RAW"],
  ]);
  assertEquals(running.io.said.map((line) => line.split(":")[0]), [
    "the packets have the link types LINUX_SLL2 and EN10MB",
  ]);
});
