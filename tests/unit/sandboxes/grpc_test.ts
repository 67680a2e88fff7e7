import assert from "node:assert/strict";
import { join } from "@std/path";
import { framed, GrpcClient, GrpcCode, GrpcError, unframed } from "../../../src/sandboxes/grpc.ts";
import { waitFor } from "../../support/wait.ts";
import { ROOT, run } from "../../rig/cli.ts";
import { GrpcServer, type Piece } from "../../rig/grpc_server.ts";

const HEAD = { ":status": "200", "content-type": "application/grpc" };
const OK: Piece = { trailers: { "grpc-status": "0" } };
const MESSAGE = Uint8Array.of(1, 2, 3);
const LATE_MS = 10_000;

/** A server that answers every call so, and a client of it. */
async function start(pieces: readonly Piece[]) {
  await using stack = new AsyncDisposableStack();
  const dir = await Deno.makeTempDir();
  stack.defer(() => Deno.remove(dir, { recursive: true }));
  const server = stack.use(await GrpcServer.start(join(dir, "grpc.sock"), pieces));
  const client = stack.use(new GrpcClient(join(dir, "grpc.sock")));
  const call = (timeoutMs = LATE_MS, signal?: AbortSignal) => client.unary("/a.B/C", MESSAGE, timeoutMs, signal);
  const moved = stack.move();
  return { dir, server, call, [Symbol.asyncDispose]: () => moved.disposeAsync() };
}

function error(code: number, message: string | RegExp) {
  return (thrown: unknown) => {
    assert.ok(thrown instanceof GrpcError, String(thrown));
    assert.equal(thrown.code, code);
    if (typeof message === "string") assert.equal(thrown.message, message);
    else assert.match(thrown.message, message);
    return true;
  };
}

Deno.test("a gRPC call gives the message, in however many pieces it comes, and all go over one connection", async () => {
  const frame = framed(new Uint8Array(40_000).fill(7));
  await using it = await start([
    "headers",
    frame.subarray(0, 3),
    frame.subarray(3, 16_000),
    frame.subarray(16_000, 32_000),
    frame.subarray(32_000),
    OK,
  ]);
  for (let n = 0; n < 3; n++) assert.deepEqual([...await it.call()], Array(40_000).fill(7));
  assert.equal(it.server.connections, 1);
});

Deno.test("a gRPC call fails with the server's own message", async (t) => {
  const cases: Record<string, [Piece[], (thrown: unknown) => boolean]> = {
    "a status": [
      [{ trailers: { ...HEAD, "grpc-status": "5", "grpc-message": "no%20sandbox %E2%80%A6" } }],
      error(GrpcCode.NOT_FOUND, "no sandbox …"),
    ],
    "words that are not encoded": [
      [{ trailers: { ...HEAD, "grpc-status": "2", "grpc-message": "100 % full" } }],
      error(GrpcCode.UNKNOWN, "100 % full"),
    ],
    "a status in trailers, after no message": [
      ["headers", { trailers: { "grpc-status": "13" } }],
      error(GrpcCode.INTERNAL, "its answer has no message"),
    ],
    "another protocol": [
      [{ trailers: { ":status": "404" } }],
      error(GrpcCode.UNKNOWN, "it is no gRPC server: it answered with HTTP status 404"),
    ],
  };
  for (const [name, [pieces, expected]] of Object.entries(cases)) {
    await t.step(name, async () => {
      await using it = await start(pieces);
      await assert.rejects(it.call(), expected);
    });
  }
});

Deno.test("unframed() takes one whole message that is not compressed, and nothing else", () => {
  assert.deepEqual(unframed(framed(MESSAGE)), MESSAGE);
  assert.deepEqual(unframed(framed(new Uint8Array())), new Uint8Array());
  const compressed = framed(MESSAGE);
  compressed[0] = 1;
  assert.throws(() => unframed(compressed), error(GrpcCode.INTERNAL, /compressed/));
  for (const wrong of [framed(MESSAGE).subarray(0, 7), Uint8Array.of(...framed(MESSAGE), 9)]) {
    assert.throws(() => unframed(wrong), error(GrpcCode.INTERNAL, /^its answer has [24] bytes instead of 3$/));
  }
});

Deno.test("a gRPC call ends at its deadline, before an answer and within one", async () => {
  for (const pieces of [[], ["headers", Uint8Array.of(0)]] satisfies Piece[][]) {
    await using it = await start(pieces);
    const begin = performance.now();
    await assert.rejects(it.call(100), error(GrpcCode.DEADLINE_EXCEEDED, "no answer within 0.1 s"));
    assert.ok(performance.now() - begin < 2_000);
    assert.equal(it.server.calls, 1);
  }
});

Deno.test("a gRPC call ends as soon as it is cancelled, and does not begin if it is", async () => {
  await using it = await start([]);
  const abort = new AbortController();
  const call = assert.rejects(it.call(LATE_MS, abort.signal), error(GrpcCode.CANCELLED, "cancelled"));
  await waitFor("the call", () => it.server.calls === 1, { everyMs: 1 });
  abort.abort();
  await call;
  await assert.rejects(it.call(LATE_MS, abort.signal), error(GrpcCode.CANCELLED, "cancelled"));
  assert.equal(it.server.calls, 1);
});

Deno.test("a gRPC client goes on when a server sends GOAWAY, and when one has gone", async () => {
  await using it = await start(["headers", framed(MESSAGE), OK]);
  for (let round = 1; round <= 3; round++) {
    for (let n = 0; n < 13; n++) assert.deepEqual([...await it.call()], [...MESSAGE]);
    assert.equal(it.server.connections, round);
    await it.server.goAway();
  }
  // In the middle of a call.
  it.server.pieces = [];
  const call = assert.rejects(it.call(), error(GrpcCode.UNAVAILABLE, /./));
  await waitFor("the call", () => it.server.calls === 40, { everyMs: 1 });
  it.server.cut();
  await call;
  it.server.pieces = ["headers", framed(MESSAGE), OK];
  assert.deepEqual([...await it.call()], [...MESSAGE]);
});

Deno.test("a gRPC call reports when nobody listens, or there is no socket", async () => {
  await using it = await start([]);
  using nothing = new GrpcClient(join(it.dir, "none.sock"));
  await assert.rejects(
    nothing.unary("/a.B/C", MESSAGE, LATE_MS),
    error(GrpcCode.UNAVAILABLE, "no connection (No such file or directory)"),
  );
  await Deno.writeTextFile(join(it.dir, "file"), "");
  using nobody = new GrpcClient(join(it.dir, "file"));
  await assert.rejects(
    nobody.unary("/a.B/C", MESSAGE, LATE_MS),
    error(GrpcCode.UNAVAILABLE, "no connection (Connection refused)"),
  );
});

Deno.test("a gRPC call is a POST as the protocol has it, and takes no more than 16 MiB for an answer", async () => {
  await using it = await start([]);
  const path = join(it.dir, "http.sock");
  let size = 16 * 1024 * 1024;
  const seen: unknown[] = [];
  await using _server = Deno.serve({ path, onListen() {} }, async (request) => {
    const { method, url, headers } = request;
    seen.push([
      method,
      new URL(url).pathname,
      headers.get("content-type"),
      headers.get("te"),
      headers.get("grpc-timeout"),
      await request.bytes(),
    ]);
    return new Response(framed(new Uint8Array(size)));
  });
  using client = new GrpcClient(path);
  assert.equal((await client.unary("/a.B/C", MESSAGE, LATE_MS)).length, size);
  assert.deepEqual(seen, [["POST", "/a.B/C", "application/grpc", "trailers", `${LATE_MS}m`, framed(MESSAGE)]]);
  size++;
  await assert.rejects(
    client.unary("/a.B/C", MESSAGE, LATE_MS),
    error(GrpcCode.RESOURCE_EXHAUSTED, "its answer is larger than 16 MiB"),
  );
});

Deno.test("a gRPC call goes to its socket whatever proxy is set, which stays set", async () => {
  await using it = await start(["headers", framed(MESSAGE), OK]);
  const program = `
    import { GrpcClient } from ${JSON.stringify(import.meta.resolve("../../../src/sandboxes/grpc.ts"))};
    const reply = await new GrpcClient(Deno.args[0]).unary("/a.B/C", new Uint8Array(), ${LATE_MS});
    console.log(reply.join(), Deno.env.get("NO_PROXY"), Deno.env.get("no_proxy"));
    Deno.exit(0);`;
  for (
    const proxies of [{ NO_PROXY: "*" }, { no_proxy: "localhost,10.0.0.0/8" }, { HTTP_PROXY: "http://127.0.0.1:9" }]
  ) {
    const env = { NO_PROXY: "", ...proxies };
    const said = await run(join(ROOT, "tools/deno"), ["eval", "--ext=ts", program, join(it.dir, "grpc.sock")], {
      env,
      cwd: ROOT,
    });
    assert.equal(said.stdout, `1,2,3 ${env.NO_PROXY} ${"no_proxy" in env ? env.no_proxy : undefined}\n`, said.stderr);
  }
});
