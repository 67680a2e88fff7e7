/** What is merged as it comes, by a clock that stands still until it is moved. */
import { deepStrictEqual as assertEquals, ok as assert, rejects, strictEqual as same } from "node:assert/strict";
import { LONGEST_TIMER_MS } from "../../../src/base/timeout.ts";
import { MemorySource } from "../../../src/pcap/bytes.ts";
import { mergeLive } from "../../../src/pcap/live_merge.ts";
import { PcapngReader } from "../../../src/pcap/pcapng.ts";
import {
  interfaceDescription,
  interfaceStatistics,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
} from "../../../src/pcap/pcapng_blocks.ts";
import { concat } from "../reading/files.ts";

type Bytes = Uint8Array<ArrayBuffer>;

/** The front of a capture: its section and its interface. */
const front = (name: string) =>
  concat(
    sectionHeader({ application: "test", comments: [`of ${name}`] }),
    interfaceDescription({ name, linkType: 1, snaplen: 100, digits: 6 }, ["its own"]),
  );

/** A packet whose first byte is its time in milliseconds. */
function packet(millis: number, size = 4): Bytes {
  const bytes = new Uint8Array(PACKET_BLOCK_BYTES + size);
  const data = { bytes: new Uint8Array(size).fill(millis), start: 0, captured: size, original: size };
  const end = putPacketBlock(bytes, new DataView(bytes.buffer), 0, { ...data, seconds: 1, nanos: millis * 1e6 }, 0, 6);
  return bytes.slice(0, end);
}

const statistics = (received: number) => interfaceStatistics(0, 6, { received, dropped: 0, delivered: 0 });

/** A block of an unknown type, of so many bytes. */
function block(length: number, said = length): Bytes {
  const bytes = new Uint8Array(length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 0x0bad, true);
  view.setUint32(4, said, true);
  view.setUint32(length - 4, said, true);
  return bytes;
}

/** The clock and the timers of the process. */
class Clock implements Disposable {
  now = 0;
  /** How often somebody has looked at it. */
  looks = 0;
  readonly #real = { now: performance.now, setTimeout: globalThis.setTimeout };
  #fire = () => {};
  #armed: PromiseWithResolvers<number> = Promise.withResolvers();

  constructor() {
    performance.now = () => {
      if (++this.looks > 100_000) throw new Error("it looks again and again");
      return this.now;
    };
    globalThis.setTimeout = ((fire: () => void, ms: number) => {
      this.#fire = fire;
      this.#armed.resolve(ms);
      return 0;
    }) as unknown as typeof setTimeout;
  }

  /** Waits until the next timer is armed. @returns its milliseconds. */
  async armed(): Promise<number> {
    const ms = await this.#armed.promise;
    this.#armed = Promise.withResolvers();
    return ms;
  }

  /** Lets the last timer fire at a time. */
  async fireAt(now: number): Promise<number> {
    this.now = now;
    this.#fire();
    return await this.armed();
  }

  [Symbol.dispose](): void {
    performance.now = this.#real.now;
    globalThis.setTimeout = this.#real.setTimeout;
  }
}

/** A stream that gives what is put in. */
class Source {
  #controller!: ReadableStreamDefaultController<Bytes>;
  cancelled = false;
  readonly stream = new ReadableStream<Bytes>({
    start: (controller) => void (this.#controller = controller),
    cancel: () => void (this.cancelled = true),
  });

  give(...parts: Uint8Array[]): void {
    this.#controller.enqueue(concat(...parts));
  }

  close(): void {
    this.#controller.close();
  }

  fail(error: Error): void {
    this.#controller.error(error);
  }
}

/** A merge of so many sources under way. */
function merging(count: number, onWrite: (bytes: Uint8Array) => Promise<void> = () => Promise.resolve()) {
  const sources = Array.from({ length: count }, () => new Source());
  const parts: Uint8Array[] = [];
  const ended: [number, unknown][] = [];
  const done = mergeLive(sources.map(({ stream }) => stream), {
    application: "merger",
    write: async (bytes) => {
      parts.push(bytes.slice());
      await onWrite(bytes);
    },
    ended: (index, error) => ended.push([index, error instanceof Error ? error.message : error]),
  });
  const read = () => {
    const reader = new PcapngReader(new MemorySource(concat(...parts)));
    const times: number[] = [];
    while (reader.next()) times.push(reader.bytes[reader.start]!);
    assertEquals(reader.loss.bytes, 0);
    return { reader, times };
  };
  return { sources, parts, ended, done, read, times: () => read().times };
}

Deno.test("mergeLive() waits four seconds more for a first packet, and then one second for each that may be older", async () => {
  using clock = new Clock();
  const { sources: [a, b], done, times, ended, parts } = merging(2);
  same(await clock.armed(), LONGEST_TIMER_MS);
  assertEquals(parts, [sectionHeader({ application: "merger" })]);
  a!.give(front("a"), packet(1));
  same(await clock.armed(), 5000);
  clock.now = 4999;
  a!.give(packet(2));
  same(await clock.armed(), 1);
  assertEquals(times(), []);
  same(await clock.fireAt(5000), LONGEST_TIMER_MS);
  assertEquals(times(), [1, 2]);
  // It comes late, and stands where it comes.
  b!.give(front("b"), packet(0));
  same(await clock.armed(), 999);
  assertEquals(times(), [1, 2]);
  same(await clock.fireAt(5999), LONGEST_TIMER_MS);
  assertEquals(times(), [1, 2, 0]);
  for (const source of [a!, b!]) source.close();
  await done;
  assertEquals(ended.toSorted(), [[0, undefined], [1, undefined]]);
});

Deno.test("mergeLive() puts what is there in order, and waits no longer for a source that has ended", async () => {
  using clock = new Clock();
  const { sources: [a, b, c], done, times, read, ended } = merging(3);
  await clock.armed();
  c!.give(front("c"));
  c!.close();
  await clock.armed();
  assertEquals(ended, [[2, undefined]]);
  a!.give(front("a"), packet(1), packet(4));
  same(await clock.armed(), 5000);
  clock.now = 100;
  b!.give(front("b"), packet(2), packet(3), statistics(7));
  same(await clock.armed(), 1000);
  assertEquals(times(), [1, 2, 3]);
  b!.close();
  same(await clock.armed(), LONGEST_TIMER_MS);
  assertEquals(times(), [1, 2, 3, 4]);
  a!.give(statistics(9));
  same(await clock.armed(), LONGEST_TIMER_MS);
  a!.close();
  await done;
  const { reader } = read();
  // In the order in which their packets came; of one without a packet nothing is known.
  assertEquals(reader.interfaces.map(({ snaplen }) => snaplen), [262_144, 262_144]);
  assertEquals(reader.interfaces.map(({ name, comments, statistics }) => [name, comments, statistics?.received]), [
    ["a", ["of a", "its own", "snaplen 100: at most so many bytes of each packet were kept"], 9],
    ["b", ["of b", "its own", "snaplen 100: at most so many bytes of each packet were kept"], 7],
  ]);
  same(reader.statisticsBeforeEnd, false);
  assertEquals([reader.application, ended], ["merger", [[2, undefined], [1, undefined], [0, undefined]]]);
});

Deno.test("mergeLive() ends without sources, with what one gave at once, and with all that came before an error", async () => {
  using _clock = new Clock();
  const none = merging(0);
  await none.done;
  assertEquals(none.parts.length, 1);
  const { sources: [a, b], done, times, ended } = merging(2);
  a!.give(front("a"), packet(1), packet(3));
  a!.close();
  b!.give(front("b"), packet(2));
  await Promise.resolve();
  b!.close();
  await done;
  assertEquals(times(), [1, 2, 3]);
  assertEquals(ended.toSorted(), [[0, undefined], [1, undefined]]);
});

Deno.test("mergeLive() reports the error that ended a source, and goes on with the others", async () => {
  using clock = new Clock();
  const { sources: [a, b], done, times, ended } = merging(2);
  await clock.armed();
  a!.give(front("a"), packet(1), packet(2).subarray(0, 20));
  same(await clock.armed(), 5000);
  a!.close();
  same(await clock.armed(), 5000);
  b!.give(front("b"), packet(3));
  same(await clock.armed(), LONGEST_TIMER_MS);
  assertEquals([times(), ended], [[1, 3], [[0, "the connection broke within a packet"]]]);
  b!.fail(new Error("reset"));
  await done;
  assertEquals(ended[1], [1, "reset"]);
});

Deno.test("mergeLive() takes no more than blocks of pcapng", async () => {
  const most = 2 * 1024 * 1024;
  const cases: [length: number, said: number, isOne: boolean][] = [
    [12, 12, true],
    [most, most, true],
    [16, 8, false],
    [14, 14, false],
    [16, most + 4, false],
    [8, 8, false],
  ];
  for (const [length, said, isOne] of cases) {
    using _clock = new Clock();
    const { sources: [a], done, ended, times } = merging(1);
    a!.give(front("a"), isOne ? packet(1) : new Uint8Array(), block(length, said));
    // What is none is known by its first eight bytes, before the source ends.
    const isClosed = isOne || length === 14;
    if (isClosed) a!.close();
    await done;
    assertEquals(ended, [[0, isOne ? undefined : "what came is not pcapng"]], `${length} ${said}`);
    assertEquals(times(), isOne ? [1] : []);
    same(a!.cancelled, !isClosed);
  }
});

Deno.test("mergeLive() loses nothing, however the bytes come", async () => {
  const sizes = Array.from({ length: 60 }, (_, i) => i % 3 === 0 ? 4 : 90_000 + i);
  const whole = concat(front("a"), ...sizes.map((size, i) => packet(i, size)), statistics(60));
  for (const piece of [1000, 65_536, 700_001, 1_500_000, whole.length]) {
    using _clock = new Clock();
    const { sources: [a], done, times } = merging(1);
    for (let at = 0; at < whole.length; at += piece) a!.give(whole.subarray(at, at + piece));
    a!.close();
    await done;
    assertEquals(times(), sizes.map((_, i) => i), `pieces of ${piece}`);
  }
});

Deno.test("mergeLive() takes a megabyte ahead of who reads, and goes on when that was read", async () => {
  using _clock = new Clock();
  const gate = Promise.withResolvers<void>(), enough = Promise.withResolvers<void>();
  let pulled = 0, written = 0;
  const stream = new ReadableStream<Bytes>({
    pull(controller) {
      if (++pulled === 16) enough.resolve();
      if (pulled === 60) return controller.close();
      // Sixteen of them are a megabyte to the byte.
      const first = front("a");
      controller.enqueue(pulled === 1 ? concat(first, block(65_536 - first.length)) : packet(pulled, 65_536 - 32));
    },
  }, { highWaterMark: 0 });
  const done = mergeLive([stream], {
    application: "merger",
    write: async (bytes) => {
      await gate.promise;
      written += bytes.length;
    },
    ended: (_, error) => same(error, undefined),
  });
  await enough.promise;
  // Whoever takes more does so without waiting for anything but the stream.
  for (let turn = 0; turn < 100; turn++) await Promise.resolve();
  same(pulled, 16);
  gate.resolve();
  await done;
  same(pulled, 60);
  assert(written > 58 * 65_536, String(written));
});

Deno.test("mergeLive() ends its sources when nobody reads what it writes", async () => {
  using clock = new Clock();
  let calls = 0;
  const { sources: [a, b], done } = merging(
    2,
    () => ++calls < 3 ? Promise.resolve() : Promise.reject(new Error("gone")),
  );
  await clock.armed();
  a!.give(front("a"), packet(1));
  await clock.armed();
  const failed = rejects(done, /^Error: gone$/);
  b!.give(front("b"), packet(2));
  await failed;
  assertEquals([a!.cancelled, b!.cancelled], [true, true]);
});

Deno.test("mergeLive() leaves what comes late where it comes", async () => {
  using _clock = new Clock();
  const { sources: [a], done, times } = merging(1);
  a!.give(front("a"), packet(5), packet(3), packet(4));
  a!.close();
  await done;
  assertEquals(times(), [5, 3, 4]);
});

Deno.test("mergeLive() looks again at once when something comes while it writes", async () => {
  using clock = new Clock();
  let calls = 0;
  const { sources: [a, b], done, times } = merging(2, async () => {
    // The section, the interface, and then the packet.
    if (++calls !== 3) return;
    b!.give(front("b"), packet(2));
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  });
  await clock.armed();
  a!.give(front("a"), packet(1));
  same(await clock.armed(), 5000);
  await clock.fireAt(5000);
  assertEquals(times(), [1, 2]);
  for (const source of [a!, b!]) source.close();
  await done;
});

Deno.test("mergeLive() writes while it reads, and not only when there is nothing more to read", async () => {
  using clock = new Clock();
  let looks = 0;
  const { sources: [a], done, times } = merging(1, (bytes) => {
    if (bytes.length > 400_000) looks ||= clock.looks;
    return Promise.resolve();
  });
  // It looks once for each packet, and eight of them fill a chunk.
  a!.give(front("a"), ...Array.from({ length: 16 }, (_, i) => packet(i, 60_000)));
  a!.close();
  await done;
  same(times().length, 16);
  assert(looks > 0 && looks < 16, String(looks));
});
