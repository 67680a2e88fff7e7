import { deepStrictEqual as assertEquals, strictEqual as same } from "node:assert/strict";
import { type ByteSource, FileSource, Lookahead, MemorySource } from "../../../src/pcap/bytes.ts";

const numbers = (length: number) => Uint8Array.from({ length }, (_, i) => i);

/** Gives so many bytes at each call, none from the first 0 on, and fails when it is called again or for nothing. */
function giving(bytes: Uint8Array, ...amounts: number[]): ByteSource {
  const source = new MemorySource(bytes);
  return {
    read(into) {
      const most = amounts.shift();
      if (most === undefined) throw new Error("read once too often");
      if (into.length === 0) throw new Error("read without room");
      return source.read(into.subarray(0, most));
    },
  };
}

Deno.test("MemorySource gives its bytes from the front, and then none", () => {
  const source = new MemorySource(numbers(5));
  const into = new Uint8Array(3);
  same(source.read(into), 3);
  assertEquals([...into], [0, 1, 2]);
  same(source.read(into), 2);
  assertEquals([...into], [3, 4, 2]);
  same(source.read(into), 0);
  assertEquals([...into], [3, 4, 2]);
});

Deno.test("FileSource gives a file from where it stands, what is appended too, and leaves it open", async () => {
  const path = await Deno.makeTempFile({ prefix: "pc-bytes-" });
  try {
    await Deno.writeFile(path, numbers(5));
    using file = await Deno.open(path);
    file.seekSync(3, Deno.SeekMode.Start);
    const source = new FileSource(file);
    const into = new Uint8Array(10);
    assertEquals([source.read(into), source.read(into)], [2, 0]);
    assertEquals([...into.subarray(0, 2)], [3, 4]);
    await Deno.writeFile(path, Uint8Array.of(9), { append: true });
    assertEquals([source.read(into), into[0]], [1, 9]);
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("Lookahead has 256 KiB at first, or as much as is asked for, or another's buffer", () => {
  same(new Lookahead(giving(numbers(0))).bytes.length, 262_144);
  same(new Lookahead(giving(numbers(0)), 10).bytes.length, 10);
  const whole = new Uint8Array(20);
  const input = new Lookahead(giving(numbers(4), 4, 0), whole.subarray(5, 15));
  same(input.need(4), true);
  assertEquals([...whole], [0, 0, 0, 0, 0, 0, 1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  assertEquals([input.bytes.length, input.view.byteLength, input.view.getUint8(1)], [10, 10, 1]);
});

Deno.test("Lookahead reads only when it must, then as much as fits, and reports whether there is enough", () => {
  const input = new Lookahead(giving(numbers(30), 2, 3, 5), 10);
  same(input.need(0), true);
  same(input.need(1), true);
  assertEquals([input.at, input.end], [0, 10]);
  same(input.need(10), true);
  const some = new Lookahead(giving(numbers(30), 5, 0), 10);
  assertEquals([some.need(5), some.need(5)], [true, true]);
  some.at = 2;
  assertEquals([some.need(3), some.at], [true, 2], "what is there stays where it is");
  const short = new Lookahead(giving(numbers(3), 3, 0, 0, 0), 10);
  assertEquals([short.need(3), short.end], [true, 3]);
  assertEquals([short.need(4), short.end, short.at], [false, 3, 0]);
  same(short.need(3), true);
});

Deno.test("Lookahead moves what is not passed to the front, and reports each byte's offset in the source", () => {
  const input = new Lookahead(giving(numbers(30), 10, 4, 3, 2, 1), 10);
  same(input.need(10), true);
  input.at = 4;
  same(input.offsetOf(input.at), 4);
  same(input.need(10), true);
  assertEquals([...input.bytes], [4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
  assertEquals([input.at, input.end, input.offsetOf(0), input.offsetOf(6)], [0, 10, 4, 10]);
  input.at = 3;
  same(input.need(8), true);
  assertEquals([...input.bytes], [7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
  same(input.offsetOf(0), 7);
  // As many as the buffer has need no larger one.
  input.at = 3;
  same(input.need(10), true);
  assertEquals([input.bytes.length, input.bytes[0], input.offsetOf(0)], [10, 10, 10]);
});

Deno.test("Lookahead grows to twice what is needed, with what it holds, and a view of that", () => {
  const input = new Lookahead(giving(numbers(50), 10, 24), 10);
  input.need(10);
  input.at = 8;
  same(input.need(13), true);
  assertEquals([input.bytes.length, input.at, input.end], [26, 0, 26]);
  assertEquals([...input.bytes], [...numbers(34).subarray(8)]);
  assertEquals([input.view.byteLength, input.view.getUint8(0), input.offsetOf(0)], [26, 8, 8]);
  const short = new Lookahead(giving(numbers(5), 5, 0), 2);
  assertEquals([short.need(6), short.end, short.bytes.length], [false, 5, 12]);
});
