import assert from "node:assert/strict";
import { endOf, WatchEnd } from "../../../src/pods/watch_end.ts";

const status = (code: number, message = "") => JSON.stringify({ kind: "Status", code, message });

async function reasonOf(code: number, message = "", initial = false): Promise<string> {
  const { reason } = await WatchEnd.ofResponse(new Response(status(code, message), { status: code }), initial);
  assert.equal(WatchEnd.ofStatus({ code, message }, initial).reason, reason, "as event as it is as status");
  return reason;
}

Deno.test("ofResponse() and ofStatus() have one word for each answer", async () => {
  assert.equal(await reasonOf(401), "unauthorized");
  assert.equal(await reasonOf(403), "forbidden");
  assert.equal(await reasonOf(404), "refused");
  assert.equal(await reasonOf(410), "expired");
  assert.equal(await reasonOf(429), "throttled");
  assert.equal(await reasonOf(500), "server_error");
  assert.equal(await reasonOf(503), "server_error");
  assert.equal(await reasonOf(504, "Too large resource version: 9, current: 7"), "refused");
  assert.equal(WatchEnd.ofStatus({}, false).reason, "server_error");
});

Deno.test("ofResponse() recognises a server without streaming lists, while one is asked for", async () => {
  const noProgress = "storage feature RequestWatchProgress is disabled";
  assert.equal(await reasonOf(500, noProgress, true), "no_streaming_list");
  assert.equal(await reasonOf(500, noProgress, false), "server_error");
  assert.equal(await reasonOf(422, "sendInitialEvents: Forbidden", true), "no_streaming_list");
  assert.equal(await reasonOf(400, "", true), "no_streaming_list");
  assert.equal(await reasonOf(400, "", false), "refused");
  assert.equal(await reasonOf(403, "", true), "forbidden");
});

Deno.test("ofResponse() heeds Retry-After within reason", async () => {
  const after = async (value: string) =>
    (await WatchEnd.ofResponse(new Response("", { status: 429, headers: { "Retry-After": value } }), false))
      .retryAfterMs;
  assert.equal(await after("3"), 3000);
  assert.equal(await after("86400"), 120_000);
  for (const nothing of ["0", "-5", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"]) {
    assert.equal(await after(nothing), undefined);
  }
  assert.equal(WatchEnd.ofStatus({ code: 429, details: { retryAfterSeconds: 2 } }, false).retryAfterMs, 2000);
});

Deno.test("ofResponse() has the server's message, and not more than fits a log line", async () => {
  const said = async (body: string) => (await WatchEnd.ofResponse(new Response(body, { status: 502 }), false)).message;
  assert.equal(await said(status(502, "no leader")), "502 no leader");
  assert.equal(await said("<html>Bad Gateway</html>"), "502 <html>Bad Gateway</html>");
  assert.equal(await said("null"), "502 null");
  assert.equal((await said("x".repeat(100_000))).length, 300);
});

Deno.test("endOf() takes whatever was thrown", () => {
  const end = new WatchEnd("idle", "quiet");
  assert.equal(endOf(end), end);
  assert.equal(endOf(new DOMException("no answer within 1 s", "TimeoutError")).reason, "timeout");
  assert.equal(endOf(new TypeError("connection refused")).reason, "network");
  assert.equal(endOf(new RangeError("a line is too long")).reason, "bad_line");
  assert.equal(endOf("a string").message, "a string");
});
