import { strictEqual as same } from "node:assert/strict";
import fc from "fast-check";
import { printable } from "../../../src/base/printable.ts";

Deno.test("printable() escapes what moves the cursor, ends a line, turns the text around or cannot be seen", () => {
  same(printable("a\nb\tc\rd"), "a\\nb\\tc\\rd");
  same(printable("\u0000\u001b[2J\u007f\u009b"), "\\x00\\x1b[2J\\x7f\\x9b");
  same(
    printable("\u2028\u202e\u2066\u200b\u{e0001}\ufeff\ud800"),
    "\\u2028\\u202e\\u2066\\u200b\\u{e0001}\\ufeff\\ud800",
  );
});

Deno.test("printable() leaves no such character of any text, and all others as they are", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => {
    same(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(printable(text)), false);
  }));
  same(printable("tcp port 80 and host 10.0.0.1 – ä 日本 🦊"), "tcp port 80 and host 10.0.0.1 – ä 日本 🦊");
});
