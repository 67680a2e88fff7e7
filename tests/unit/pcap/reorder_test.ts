import { deepStrictEqual as assertEquals, ok as assert, strictEqual as same } from "node:assert/strict";
import fc from "fast-check";
import { type Chunk, Reorder, type Reordering } from "../../../src/pcap/reorder.ts";

/** Puts records of so many bytes in, each with its index; gives them in the order in which they come out. */
function reorder(times: readonly number[], options?: Reordering, size = 40): { order: number[]; reorder: Reorder } {
  const reorder = new Reorder(options);
  const order: number[] = [];
  const take = () => {
    for (let chunk; (chunk = reorder.take());) {
      for (let at = 0; at < chunk.used; at += size) order.push(chunk.view.getUint32(at));
      reorder.recycle(chunk);
    }
  };
  times.forEach((time, i) => {
    const chunk = reorder.room(size, Math.floor(time), Math.round((time % 1) * 1e9));
    chunk.view.setUint32(chunk.used, i);
    chunk.used += size;
    take();
  });
  reorder.flush();
  take();
  return { order, reorder };
}

Deno.test("Reorder sorts what is at most 2 s late, keeps equal times in the order of coming, and loses nothing", () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 1999 }), { maxLength: 400 }), (late) => {
    const times = late.map((ms, i) => 1000 + i / 100 - ms / 1000);
    const { order, reorder: { disorder } } = reorder(times);
    assertEquals(
      order,
      times.map((_, i) => i).sort((a, b) => Math.round(times[a]! * 1000) - Math.round(times[b]! * 1000) || a - b),
    );
    assertEquals([disorder.steps, disorder.unsorted], [0, 0]);
  }));
});

Deno.test("Reorder sorts over many windows what is late by less than half a window", () => {
  const times = Array.from({ length: 10_000 }, (_, i) => 1000 + i / 1000 + (i % 7 === 0 ? -0.9 : 0));
  const { order, reorder: { disorder } } = reorder(times, { windowBytes: 1024 * 1024 }, 400);
  same(order.length, times.length);
  for (let i = 1; i < order.length; i++) assert(times[order[i]!]! > times[order[i - 1]!]! - 1e-6, `at ${i}`);
  same(disorder.unsorted, 0);
  assert(disorder.sorted > 1400);
});

Deno.test("Reorder puts the one late packet in its place, also if it is the first of a chunk", () => {
  // A chunk holds 1310 records.
  for (let late = 1303; late < 1318; late++) {
    const times = Array.from({ length: 1400 }, (_, i) => 1000 + i / 1000);
    times[late] = times[late]! - 0.5005;
    const { order } = reorder(times, {}, 400);
    same(order.indexOf(late), late - 500, `record ${late}`);
  }
});

Deno.test("Reorder keeps the order of coming where the clock was set back, and reports by how much", () => {
  const times = [100, 101, 50, 51, 50.5, 52, 10, 9.5];
  const { order, reorder: { disorder } } = reorder(times);
  assertEquals(order, [0, 1, 2, 4, 3, 5, 7, 6]);
  assertEquals(disorder, { sorted: 2, unsorted: 0, steps: 2, stepSeconds: 51 + 42 });
});

Deno.test("Reorder counts what comes too late for its window", () => {
  const times = Array.from({ length: 6000 }, (_, i) => 1000 + i / 10_000);
  times[5999] = 1000;
  const MIB = 1024 * 1024;
  const { order, reorder: { disorder } } = reorder(times, { windowBytes: MIB, maxWindowBytes: MIB }, 400);
  same(order.length, times.length);
  same(disorder.unsorted, 1);
});

Deno.test("Reorder widens its window for packets that come later than it holds, up to its limit", () => {
  // Every second packet is 1.9 s late, and 1.9 s are 4 MB.
  const times = Array.from({ length: 40_000 }, (_, i) => 1000 + i / 5000 - (i % 2 === 0 ? 1.9 : 0));
  const { order, reorder: { disorder } } = reorder(times, { windowBytes: 1024 * 1024 }, 400);
  same(disorder.unsorted, 0);
  for (let i = 1; i < order.length; i++) assert(times[order[i]!]! > times[order[i - 1]!]! - 1e-6, `at ${i}`);
});

Deno.test("Reorder sorts without a second window, lest a late packet doubles the memory for good", () => {
  // The clock is set back by half a second every three, and half a second is 2 MB.
  const reorder = new Reorder({ windowBytes: 8 * 1024 * 1024 });
  const chunks = new Set();
  for (let i = 0; i < 30_000; i++) {
    const seconds = 1000 + i / 2000 - Math.floor(i / 6000) * 0.5;
    const chunk = reorder.room(2000, Math.floor(seconds), Math.round((seconds % 1) * 1e9));
    chunk.used += 2000;
    chunks.add(chunk);
    for (let ready; (ready = reorder.take());) {
      chunks.add(ready);
      reorder.recycle(ready);
    }
  }
  assert(reorder.disorder.sorted > 3000);
  // A window of 16, and those that are half read while they are sorted.
  assert(chunks.size <= 24, `${chunks.size} chunks`);
});

Deno.test("Reorder holds no more than its window, however much goes through", () => {
  const reorder = new Reorder({ windowBytes: 2 * 1024 * 1024 });
  const chunks = new Set();
  for (let i = 0; i < 20_000; i++) {
    const chunk = reorder.room(10_000, 1000 + Math.floor(i / 1e4), i % 1e4);
    chunk.used += 10_000;
    chunks.add(chunk);
    for (let ready; (ready = reorder.take());) reorder.recycle(ready);
  }
  assert(chunks.size <= 8, `${chunks.size} chunks`);
});

Deno.test("Reorder holds no more than its window of records that are larger than a chunk, in order or not", () => {
  for (const late of [0, 0.0015]) {
    const reorder = new Reorder({ windowBytes: 4_000_000, maxWindowBytes: 8_000_000 });
    const order: number[] = [];
    let held = 0, most = 0;
    for (let i = 0; i < 200; i++) {
      const size = i % 3 === 0 ? 40 : 2_000_000;
      const time = 1000 + i / 1000 - (i % 4 === 0 ? late : 0);
      const chunk = reorder.room(size, Math.floor(time), Math.round((time % 1) * 1e9));
      chunk.view.setUint32(chunk.used, i);
      chunk.used += size;
      held += size;
      for (let taken; (taken = reorder.take()); reorder.recycle(taken)) {
        held -= taken.used;
        for (let r = 0; r < taken.count; r++) order.push(taken.view.getUint32(taken.starts[r]!));
      }
      most = Math.max(most, held);
    }
    assert(most <= 10_100_000, `${most} bytes`);
    reorder.flush();
    for (let taken; (taken = reorder.take());) {
      for (let r = 0; r < taken.count; r++) order.push(taken.view.getUint32(taken.starts[r]!));
    }
    same(new Set(order).size, 200);
  }
});

Deno.test("Reorder sorts what is two seconds late, and takes what is later for a clock that was set back", () => {
  const steps = (nanos: number) => {
    const reorder = new Reorder();
    const put = (seconds: number, nanos: number) => void (reorder.room(40, seconds, nanos).used += 40);
    put(100, 0);
    assertEquals(reorder.stepped, 0);
    put(97, nanos);
    const { stepped } = reorder;
    put(97, nanos);
    return [stepped, reorder.stepped, reorder.hasReady, { ...reorder.disorder }];
  };
  assertEquals(steps(1_000_000_000), [0, 0, false, { sorted: 2, unsorted: 0, steps: 0, stepSeconds: 0 }]);
  assertEquals(steps(500_000_000), [2.5, 0, true, { sorted: 0, unsorted: 0, steps: 1, stepSeconds: 2.5 }]);
});

Deno.test("Reorder gives records as they come when that is wanted, chunk by chunk, and takes none for late", () => {
  const times = [100, 50, 101, 99, 100];
  const { order, reorder: { disorder } } = reorder(times, { asTheyCome: true });
  assertEquals([order, disorder], [[0, 1, 2, 3, 4], { sorted: 0, unsorted: 0, steps: 0, stepSeconds: 0 }]);
  const live = new Reorder({ asTheyCome: true, windowBytes: 8 * 1024 * 1024 });
  const ready: boolean[] = [];
  for (let i = 0; i < 3; i++) {
    live.room(300_000, 100, 0).used += 300_000;
    ready.push(live.hasReady);
  }
  assertEquals(ready, [false, true, true]);
  live.flush();
  assertEquals([live.take()?.used, live.take()?.used, live.take()?.used, live.take()], [
    300_000,
    300_000,
    300_000,
    undefined,
  ]);
});

Deno.test("Reorder fills a chunk to the last byte, and uses it again when it was written", () => {
  const reorder = new Reorder({ asTheyCome: true });
  const put = (bytes: number, used = bytes) => {
    const chunk = reorder.room(bytes, 100, 0);
    chunk.used += used;
    return chunk;
  };
  const first = put(262_144);
  same(put(262_144), first);
  assertEquals([first.used, first.count, first.starts, first.content.length], [524_288, 2, [0, 262_144], 524_288]);
  const second = put(1);
  assert(second !== first);
  same(reorder.take(), first);
  reorder.recycle(first);
  const large = put(524_289);
  assertEquals([large.bytes.length, large !== first], [524_289, true]);
  const third = put(10);
  assertEquals([third === first, third.used, third.count, third.newest], [true, 10, 1, 0]);
  reorder.recycle(large);
  same(put(524_288).bytes.length, 524_288, "one of another size is not used again");
});

Deno.test("Reorder holds a window of so many bytes back, and half of it when it hands on", () => {
  const MIB = 1024 * 1024;
  for (const [options, chunks] of [[{}, 8], [{ windowBytes: 2 * MIB }, 4], [{ windowBytes: 1 }, 2]] as const) {
    const reorder = new Reorder(options);
    let held = 0;
    while (!reorder.hasReady) {
      reorder.room(524_288, 100, held).used += 524_288;
      held++;
    }
    assertEquals(held, chunks + 1, JSON.stringify(options));
    let taken = 0;
    while (reorder.take()) taken++;
    assertEquals(taken, chunks / 2, JSON.stringify(options));
  }
});

Deno.test("Reorder counts what was sorted and what came too late, by what was handed on", () => {
  const put = (reorder: Reorder, nanos: number) => void (reorder.room(524_288, 100, nanos).used += 524_288);
  const reorder = new Reorder({ windowBytes: 1024 * 1024, maxWindowBytes: 1024 * 1024 });
  for (const nanos of [10, 20, 30]) put(reorder, nanos);
  // The first is handed on: what is as old as that comes in time, what is older does not.
  assertEquals(reorder.take()?.keys[0], 10);
  put(reorder, 10);
  assertEquals([reorder.disorder.sorted, reorder.disorder.unsorted], [1, 0]);
  put(reorder, 9);
  assertEquals([reorder.disorder.sorted, reorder.disorder.unsorted], [1, 1]);
});

/** So many bytes of a chunk, at these nanoseconds. */
function put(reorder: Reorder, nanos: number, bytes = 524_288, seconds = 1_700_000_000): Chunk {
  const chunk = reorder.room(bytes, seconds, nanos);
  chunk.used += bytes;
  return chunk;
}

Deno.test("Reorder keeps packets of today apart by the nanosecond, and recognises a clock that begins with 1970", () => {
  const today = Array.from({ length: 100 }, (_, i) => (i * 37) % 100);
  const reorderer = new Reorder();
  for (const nanos of today) put(reorderer, nanos, 40);
  reorderer.flush();
  assertEquals(reorderer.take()!.keys.slice(0, 100), today.toSorted((a, b) => a - b));
  assertEquals(reorder([0, 1.5, 1, 0.5]).order, [0, 3, 2, 1]);
});

Deno.test("Reorder hands a chunk on as it is while packets come in order, simultaneous ones too", () => {
  const reorder = new Reorder();
  const filled = [10, 10, 20, 20, 30].map((nanos) => put(reorder, nanos, 200_000));
  reorder.flush();
  const taken = [reorder.take(), reorder.take(), reorder.take(), reorder.take()];
  assertEquals(taken.map((chunk) => chunk?.starts), [[0, 200_000], [0, 200_000], [0], undefined]);
  for (const [i, chunk] of taken.slice(0, 3).entries()) assert(chunk === filled[2 * i], `chunk ${i}`);
  // So it does again once what came late is in its place.
  for (const nanos of [50, 40]) put(reorder, nanos);
  reorder.flush();
  while (reorder.take());
  const last = put(reorder, 60);
  reorder.flush();
  assert(reorder.take() === last);
});

Deno.test("Reorder uses a written chunk again also for a record that fills it", () => {
  const reorder = new Reorder({ asTheyCome: true });
  const first = put(reorder, 1);
  put(reorder, 2, 1);
  assert(reorder.take() === first);
  reorder.recycle(first);
  assert(put(reorder, 3) === first);
});

Deno.test("Reorder fills chunks to the last byte also when it sorts", () => {
  const reorder = new Reorder();
  for (const nanos of [20, 10, 40, 30]) put(reorder, nanos, 262_144);
  reorder.flush();
  assertEquals([reorder.take()?.keys, reorder.take()?.keys, reorder.take()], [[10, 20], [30, 40], undefined]);
});

Deno.test("Reorder widens its window for a packet from before its newer half, and for no other", () => {
  const MIB = 1024 * 1024;
  /** Records taken until the first is handed on, if after four chunks one comes that is so late. */
  const held = (late: number, maxWindowBytes = 4 * MIB) => {
    const reorder = new Reorder({ windowBytes: 2 * MIB, maxWindowBytes });
    for (const nanos of [10, 20, 30]) put(reorder, nanos);
    put(reorder, 40, 500_000);
    put(reorder, late, 40);
    let count = 4;
    for (; !reorder.hasReady; count++) put(reorder, 1000 + count);
    return count;
  };
  assertEquals([held(35), held(25), held(20), held(15), held(5)], [5, 5, 5, 9, 9]);
  assertEquals([held(5, 3 * MIB), held(5, 64 * MIB)], [7, 9]);
});
