import { deepStrictEqual, rejects } from "node:assert";
import fc from "fast-check";
import { jsonValues } from "../../../../src/plugin/kubectl/json_values.ts";

const encoder = new TextEncoder();

function streamOf(bytes: Uint8Array<ArrayBuffer>, cuts: readonly number[]): ReadableStream<Uint8Array<ArrayBuffer>> {
  const places = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return ReadableStream.from(places.slice(1).map((place, i) => bytes.slice(places[i], place)));
}

Deno.test("jsonValues() gives every object of a stream, however it is cut and indented", async () => {
  await fc.assert(fc.asyncProperty(
    fc.array(fc.dictionary(fc.string(), fc.jsonValue())),
    fc.constantFrom(0, 1, 4),
    fc.array(fc.nat()),
    async (objects, indent, cuts) => {
      // Through JSON once, because it has no -0.
      const expected = objects.map((object) => JSON.parse(JSON.stringify(object)));
      const bytes = encoder.encode(objects.map((object) => JSON.stringify(object, null, indent)).join("\n"));
      deepStrictEqual(await Array.fromAsync(jsonValues(streamOf(bytes, cuts))), expected);
    },
  ));
});

Deno.test("jsonValues() keeps strings apart that look like structure", async () => {
  const objects = [{ note: '}{ \\" }' }, { note: "\\\\" }, { "{": "é\u{1f600}" }];
  const bytes = encoder.encode(objects.map((object) => JSON.stringify(object)).join(""));
  // One byte at a time: within escapes and characters too.
  deepStrictEqual(await Array.fromAsync(jsonValues(streamOf(bytes, bytes.map((_, i) => i) as never))), objects);
});

Deno.test("jsonValues() rejects what is not JSON", async () => {
  await rejects(Array.fromAsync(jsonValues(streamOf(encoder.encode("{nonsense}"), []))), SyntaxError);
});
