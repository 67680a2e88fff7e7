import assert from "node:assert/strict";
import fc from "fast-check";
import { firstLine, LineSplitter } from "../../../src/base/line_splitter.ts";

const bytes = (text: string) => new TextEncoder().encode(text);

Deno.test("take() gives each line once, however the bytes are cut into chunks", () => {
  const line = fc.array(fc.constantFrom("a", "\r", "é", "€", "🦈")).map((characters) => characters.join(""));
  fc.assert(fc.property(fc.array(line), line, fc.array(fc.nat(400)), (whole, rest, cuts) => {
    const all = bytes(whole.map((one) => one + "\n").join("") + rest);
    const lines = new LineSplitter();
    const got: string[] = [];
    let from = 0;
    for (const cut of [...cuts.map((one) => Math.min(one, all.length)).sort((a, b) => a - b), all.length]) {
      got.push(...lines.take(all.subarray(from, cut)));
      from = cut;
    }
    assert.deepEqual(got, whole);
    assert.equal(lines.rest, bytes(rest).length);
  }));
});

Deno.test("take() gives a line as soon as it is whole", () => {
  const lines = new LineSplitter();
  const chunk = lines.take(bytes("a\nb\nc"));
  assert.equal(chunk.next().value, "a");
  assert.equal(chunk.next().value, "b");
  assert.equal(chunk.next().done, true);
  assert.deepEqual([...lines.take(bytes("d\n"))], ["cd"]);
});

Deno.test("take() refuses a line that no API server sends, and passes one of 15 MiB", () => {
  const lines = new LineSplitter();
  const chunk = new Uint8Array(1024 * 1024).fill(120);
  for (let i = 0; i < 15; i++) assert.deepEqual([...lines.take(chunk)], []);
  assert.equal([...lines.take(bytes("\n"))][0]!.length, 15 * chunk.length);
  assert.throws(() => {
    for (let i = 0; i < 17; i++) assert.deepEqual([...lines.take(chunk)], []);
  }, RangeError);
});

Deno.test("take() keeps no more of a line than it is told to, and throws or keeps the end", () => {
  for (const cut of [3, 5, 7, 12]) {
    const all = bytes("0123456789\nabcde\n");
    const strict = new LineSplitter({ longest: 5 });
    assert.throws(() => [...strict.take(all.subarray(0, cut)), ...strict.take(all.subarray(cut))], RangeError);
    const lenient = new LineSplitter({ longest: 5, keepsEnd: true });
    const lines = [...lenient.take(all.subarray(0, cut)), ...lenient.take(all.subarray(cut))];
    assert.deepEqual(lines, ["56789", "abcde"]);
  }
});

Deno.test("firstLine() gives the first line however it comes, or none", async () => {
  const first = (pieces: readonly string[], longest?: number) => {
    const left = pieces.map(bytes);
    const read = (into: Uint8Array) => {
      const piece = left.shift();
      if (piece !== undefined) into.set(piece);
      return Promise.resolve(piece?.length ?? null);
    };
    return firstLine({ read }, longest);
  };
  assert.equal(await first(["on", "e", "\ntwo\n"]), "one");
  assert.equal(await first(["\n", "one\n"]), "");
  assert.equal(await first(["one"]), undefined);
  assert.equal(await first([]), undefined);
  assert.equal(await first(["onetwo", "three\n"], 5), undefined);
  assert.equal(await first(["onetwo\n"], 5), undefined);
});
