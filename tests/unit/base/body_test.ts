import assert from "node:assert/strict";
import { bytesOf, chunksOf } from "../../../src/base/body.ts";

/** A server whose answer begins and then goes on for ever without a word. */
function endless(): { url: string; ended: Promise<void>; [Symbol.asyncDispose](): Promise<void> } {
  const ended = Promise.withResolvers<void>();
  const stop = new AbortController();
  const options = { hostname: "127.0.0.1", port: 0, signal: stop.signal, onListen: () => {} };
  const server = Deno.serve(options, () => {
    const body = new ReadableStream({
      start: (controller) => controller.enqueue(new TextEncoder().encode("begun")),
      cancel: () => ended.resolve(),
    });
    return new Response(body);
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    ended: ended.promise,
    async [Symbol.asyncDispose]() {
      stop.abort();
      await server.finished;
    },
  };
}

/** Gives nothing but the body: the Response is garbage when this returns. */
async function bodyOf(url: string, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  return (await fetch(url, { signal })).body!;
}

/** Rejects after `ms`, unless disposed of before. */
function late(ms: number): { promise: Promise<never>; [Symbol.dispose](): void } {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Error(`still reading after ${ms} ms`)), ms);
  return { promise, [Symbol.dispose]: () => clearTimeout(timer) };
}

Deno.test("chunksOf() ends when aborted, also when the Response is garbage, and lets the connection go", async () => {
  await using server = endless();
  const abort = new AbortController();
  const body = await bodyOf(server.url, abort.signal);
  const begun = Promise.withResolvers<void>();
  const reading = (async () => {
    for await (const chunk of chunksOf(body, abort.signal)) {
      assert.equal(new TextDecoder().decode(chunk), "begun");
      begun.resolve();
    }
  })();
  await begun.promise;
  // Enough garbage for the collector to come by.
  for (let i = 0; i < 200; i++) new Array(10_000).fill({ i });
  abort.abort(new Error("enough"));
  using deadline = late(5000);
  await assert.rejects(Promise.race([reading, deadline.promise]), /enough/);
  await Promise.race([server.ended, deadline.promise]);
});

Deno.test("chunksOf() throws at once when aborted before", async () => {
  const silent = new ReadableStream<Uint8Array>();
  using deadline = late(1000);
  const reading = chunksOf(silent, AbortSignal.abort(new Error("before"))).next();
  await assert.rejects(Promise.race([reading, deadline.promise]), /before/);
});

Deno.test("chunksOf() lets the connection go when its reader leaves", async () => {
  await using server = endless();
  const { signal } = new AbortController();
  for await (const _chunk of chunksOf(await bodyOf(server.url, signal), signal)) break;
  using deadline = late(5000);
  await Promise.race([server.ended, deadline.promise]);
});

Deno.test("bytesOf() gives all bytes, or none", async () => {
  const { signal } = new AbortController();
  assert.equal(await (await bytesOf(new Response("a whole body").body, signal)).text(), "a whole body");
  assert.equal((await bytesOf(null, signal)).size, 0);
});
