import assert from "node:assert/strict";
import fc from "fast-check";
import { LineWriter } from "../../../src/base/line_writer.ts";

const dropped = (lines: number) => `${lines} dropped`;

/** Takes what is written, as soon as it may. */
class Reader {
  text = "";
  #reading = Promise.withResolvers<void>();

  constructor(readonly most = Infinity) {}

  readonly write = async (bytes: Uint8Array): Promise<number> => {
    await this.#reading.promise;
    const taken = bytes.subarray(0, this.most);
    this.text += new TextDecoder("latin1").decode(taken);
    return taken.length;
  };

  read(): void {
    this.#reading.resolve();
  }
}

Deno.test("LineWriter writes every line whole and in order, however little is taken at a time", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.string({ unit: fc.constantFrom("a", "b", " ") })),
    fc.integer({ min: 1, max: 20 }),
    async (lines, most) => {
      const reader = new Reader(most);
      const writer = new LineWriter({ write: reader.write, dropped });
      for (const line of lines) writer.add(line);
      reader.read();
      await writer.flush(10_000);
      assert.equal(reader.text, lines.map((line) => `${line}\n`).join(""));
    },
  ));
});

Deno.test("LineWriter.add() never waits; what is too much for memory is dropped, and its number told", async () => {
  const reader = new Reader();
  const writer = new LineWriter({ write: reader.write, dropped });
  const text = "x".repeat(1000);
  for (let i = 0; i < 5000; i++) writer.add(`${i} ${text}`);
  reader.read();
  await writer.flush(10_000);
  writer.add("later");
  await writer.flush(10_000);
  const lines = reader.text.trimEnd().split("\n");
  assert.equal(lines.pop(), "later");
  const told = /^(\d+) dropped$/.exec(lines.pop()!);
  assert.ok(lines.length > 100 && reader.text.length < 1_500_000, `${reader.text.length} bytes were kept`);
  assert.equal(lines.length + Number(told?.[1]), 5000);
  // The first ones, without a gap.
  assert.deepEqual(lines.map((line) => parseInt(line)), Array.from(lines, (_, i) => i));
});

Deno.test("LineWriter.flush() waits no longer than it is told", async () => {
  const reader = new Reader();
  const writer = new LineWriter({ write: reader.write, dropped });
  writer.add("a");
  await writer.flush(10);
  assert.equal(reader.text, "");
  reader.read();
  await writer.flush(10_000);
  assert.equal(reader.text, "a\n");
});

Deno.test("LineWriter goes on after a write that failed", async () => {
  let fails = true;
  let text = "";
  const writer = new LineWriter({
    write: (bytes) => {
      if (fails) return Promise.reject(new Deno.errors.BrokenPipe());
      text += new TextDecoder().decode(bytes);
      return Promise.resolve(bytes.length);
    },
    dropped,
  });
  writer.add("a");
  await writer.flush(10_000);
  fails = false;
  writer.add("b");
  await writer.flush(10_000);
  assert.equal(text, "b\n");
});
