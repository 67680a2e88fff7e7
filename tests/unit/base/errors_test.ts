import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { messageOf } from "../../../src/base/errors.ts";

Deno.test("messageOf() is an error's message, and anything else that was thrown as text", () => {
  const thrown = [new TypeError("no such thing"), "words", 7, undefined, null];
  assertEquals(thrown.map(messageOf), ["no such thing", "words", "7", "undefined", "null"]);
});
