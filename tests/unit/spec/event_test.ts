import { strictEqual } from "node:assert/strict";
import { REQUEST_ANNOTATION } from "../../../src/spec/event.ts";

Deno.test("REQUEST_ANNOTATION stays what the plugin of the version before looks for", () => {
  strictEqual(REQUEST_ANNOTATION, "packet-capture.antrea.io/request");
});
