import assert from "node:assert/strict";
import fc from "fast-check";
import { quote } from "../../../src/base/quote.ts";

/** Any text at all: lone surrogates, control characters and marks that turn text around among it. */
const anyText = fc.string({ unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)) });

const hidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;

Deno.test("quote() escapes each character that cannot be seen, ends a line or turns the text around", () => {
  for (let code = 0; code <= 0x10ffff; code++) {
    const quoted = quote(String.fromCodePoint(code));
    assert.ok(!hidden.test(quoted), code.toString(16));
  }
  assert.equal(quote("a\u202eb\u{e0001}"), '"a\\u202eb\\udb40\\udc01"');
  assert.equal(quote("héllo, wörld ٣ 😀"), '"héllo, wörld ٣ 😀"');
});

Deno.test("quote() keeps any text on one line of visible characters and can be read back", () => {
  fc.assert(fc.property(anyText, (text) => {
    const quoted = quote(text);
    assert.doesNotMatch(quoted, hidden);
    assert.equal(JSON.parse(quoted), text);
  }));
});

Deno.test("quote() cuts what is too long, between characters, and reports how long it was", () => {
  assert.equal(quote("a".repeat(5000), 3), '"aaa… (5000 characters)"');
  assert.equal(quote("ab😀cd", 3), '"ab… (6 characters)"');
  assert.equal(quote("abc", 3), '"abc"');
});
