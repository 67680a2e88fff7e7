import assert from "node:assert/strict";
import { join } from "@std/path";
import { serve } from "../../src/http.ts";
import { Metrics } from "../../src/metrics.ts";
import { run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { denoArgs } from "../rig/cli.ts";
import { Recorder } from "../rig/follower.ts";

const log = new Recorder();
const well = { port: 0, hostname: "127.0.0.1", log, healthy: () => undefined, ready: () => undefined };

Deno.test("serve() answers health and readiness with the reason in the body", async () => {
  let sick: string | undefined;
  let unready: string | undefined = "the first list of pods has not come";
  const served = serve({ ...well, healthy: () => sick, ready: () => unready });
  try {
    const get = async (path: string) => {
      const response = await fetch(`http://127.0.0.1:${served.port}${path}`);
      return [response.status, await response.text()];
    };
    assert.deepEqual(await get("/healthz"), [200, "ok\n"]);
    assert.deepEqual(await get("/readyz"), [503, "the first list of pods has not come\n"]);
    sick = "the watch has not turned for 61 s";
    unready = undefined;
    assert.deepEqual(await get("/healthz"), [503, "the watch has not turned for 61 s\n"]);
    assert.deepEqual(await get("/readyz?verbose"), [200, "ok\n"]);
  } finally {
    await served.close();
  }
});

Deno.test("serve() offers /metrics only if there are metrics, and nothing else", async () => {
  for (const metrics of [undefined, new Metrics()]) {
    const served = serve({ ...well, metrics });
    try {
      const response = await fetch(`http://127.0.0.1:${served.port}/metrics`);
      const body = await response.text();
      assert.equal(response.status, metrics === undefined ? 404 : 200);
      if (metrics !== undefined) {
        assert.match(body, /^packet_capture_active 0$/m);
        assert.match(response.headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
      }
      for (const path of ["/", "/healthz/", "/metrics/x"]) {
        const other = await fetch(`http://127.0.0.1:${served.port}${path}`);
        assert.equal(other.status, 404);
        assert.match(await other.text(), /^not found: the paths are \/healthz, \/readyz/);
      }
      const post = await fetch(`http://127.0.0.1:${served.port}/healthz`, { method: "POST", body: "x" });
      assert.equal(post.status, 405);
      assert.equal(await post.text(), "/healthz takes GET\n");
    } finally {
      await served.close();
    }
  }
});

Deno.test("serve() reports in one sentence that the port is taken", async () => {
  const served = serve(well);
  try {
    assert.throws(() => serve({ ...well, port: served.port }), {
      message: `Cannot open HTTP port ${served.port} on 127.0.0.1: another process has it`,
    });
  } finally {
    await served.close();
  }
});

Deno.test("serve() reports in one sentence that the address is not this machine's", () => {
  assert.throws(
    () => serve({ ...well, hostname: "192.0.2.1" }),
    /^Error: Cannot open HTTP port 0 on 192\.0\.2\.1: [^\n]+$/,
  );
});

Deno.test("Served.close() gives the port back", async () => {
  const first = serve(well);
  await (await fetch(`http://127.0.0.1:${first.port}/healthz`)).text();
  await first.close();
  const second = serve({ ...well, port: first.port });
  await second.close();
});

/** Sends words on a connection of its own, and reads until the other side has closed it. */
async function converse(port: number, ...pieces: string[]): Promise<string> {
  const client = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    for (const piece of pieces) await client.write(new TextEncoder().encode(piece));
    return await rest(client);
  } finally {
    close(client);
  }
}

/** What still comes on a connection until it is closed or reset. @throws if it is neither within 10 s */
async function rest(client: Deno.Conn): Promise<string> {
  const decoder = new TextDecoder();
  const buffer = new Uint8Array(65_536);
  let text = "";
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    client.close();
  }, 10_000);
  try {
    for (;;) {
      const count = await client.read(buffer);
      if (count === null) return text;
      text += decoder.decode(buffer.subarray(0, count), { stream: true });
    }
  } catch {
    assert.ok(!late, `the connection was kept open after ${JSON.stringify(text.slice(0, 200))}`);
    return text; // reset
  } finally {
    clearTimeout(timer);
  }
}

function close(client: Deno.Conn): void {
  try {
    client.close();
  } catch {
    // Closed already.
  }
}

async function healthz(port: number): Promise<string> {
  return await converse(port, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

Deno.test("serve() reads a request in any pieces, and answers what is no request of its own in one line", async () => {
  const served = serve({ ...well, metrics: new Metrics() });
  try {
    const cases: [RegExp, ...string[]][] = [
      [/^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok\n$/, "GET /heal", "thz HTTP/1.1\r\nHo", "st: x\r\n\r", "\n"],
      [/^HTTP\/1\.1 200 OK\r\n[^]*\r\n\r\nok\n$/, "GET http://x:9090/readyz?a=b HTTP/1.0\r\n\r\n"],
      [/^HTTP\/1\.1 200 OK\r\n[^]*content-length: 3\r\n[^]*\r\n\r\n$/, "HEAD /healthz HTTP/1.1\r\n\r\n"],
      [/^HTTP\/1\.1 200 OK\r\n[^]*content-length: \d{4}\r\n[^]*\r\n\r\n$/, "HEAD /metrics HTTP/1.1\r\n\r\n"],
      [/^HTTP\/1\.1 404 [^]*\nnot found: /, "GET /constructor HTTP/1.1\r\n\r\n"],
      [
        /^HTTP\/1\.1 405 [^]*allow: GET, HEAD\r\n[^]*\n\/healthz takes GET\n$/,
        "POST /healthz HTTP/1.1\r\ncontent-length: 60000\r\n\r\n",
        "x".repeat(60_000),
      ],
      [/^HTTP\/1\.1 400 [^]*\nthis is not HTTP\/1\.1\n$/, "PRI * HTTP/2.0\r\n\r\n"],
      [/^HTTP\/1\.1 400 /, "\r\n\r\n"],
      [/^HTTP\/1\.1 400 /, "x".repeat(8192)],
    ];
    for (const [answer, ...pieces] of cases) {
      const said = await converse(served.port, ...pieces);
      assert.match(said, answer);
      assert.match(said, /\r\nconnection: close\r\n/);
    }
  } finally {
    await served.close();
  }
});

Deno.test("serve() renders /metrics at most once a second, however many ask", async () => {
  const metrics = new Metrics();
  const made: number[] = [];
  metrics.text = () => Promise.resolve(`${made.push(performance.now())}\n`);
  const served = serve({ ...well, metrics });
  const start = performance.now();
  const said = new Set<string>();
  try {
    while (performance.now() - start < 2500) {
      said.add(await (await fetch(`http://127.0.0.1:${served.port}/metrics`)).text());
    }
  } finally {
    await served.close();
  }
  assert.deepEqual([...said], ["1\n", "2\n", "3\n"].slice(0, said.size));
  assert.ok(said.size >= 2, "the text never became another");
  // A pause of the machine can move one rendering nearer to the next, but makes no more of them.
  assert.ok(made.length - 1 <= (performance.now() - start) / 1000, `rendered at ${made}`);
});

Deno.test("serve() hands out no series that failed to render, and reports why", async () => {
  const metrics = new Metrics();
  metrics.text = () => Promise.reject(new Error("no numbers"));
  const served = serve({ ...well, metrics });
  try {
    const response = await fetch(`http://127.0.0.1:${served.port}/metrics`);
    assert.deepEqual([response.status, await response.text()], [500, "no numbers\n"]);
  } finally {
    await served.close();
  }
});

Deno.test("serve() answers one request of a connection, whatever is pipelined after it", async () => {
  const served = serve({ ...well, metrics: new Metrics() });
  const request = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
  try {
    const said = await converse(served.port, request.repeat(20));
    assert.equal(said.match(/HTTP\/1\.1 200 OK/g)?.length, 1);
  } finally {
    await served.close();
  }
});

Deno.test("serve() lets few clients wait, answers /healthz next to them, and ends each within seconds", async () => {
  const served = serve({ ...well, metrics: new Metrics(), connectionMs: 2000 });
  const clients: Deno.Conn[] = [];
  const closed: number[] = [];
  try {
    const start = performance.now();
    const heads = ["", "GET /healthz HTTP/1.1\r\n", "POST /healthz HTTP/1.1\r\ncontent-length: 9\r\n\r\n"];
    for (let i = 0; i < 120; i++) {
      const client = await Deno.connect({ hostname: "127.0.0.1", port: served.port });
      clients.push(client);
      await client.write(new TextEncoder().encode(heads[i % heads.length])).catch(() => {}); // closed already
      void rest(client).then(() => closed.push((performance.now() - start) / 1000), () => {}); // never closed: seen below
      assert.match(await healthz(served.port), /^HTTP\/1\.1 200 OK/);
    }
    await waitFor("all but a few to be closed", () => closed.length >= 120 - 32, { timeoutMs: 1000 });
    await waitFor("the last to be closed", () => closed.length === 120, { timeoutMs: 15_000 });
    assert.ok(closed.at(-1)! > 1, `all were closed after ${closed.at(-1)} s already`);
  } finally {
    clients.forEach(close);
    await served.close();
  }
});

Deno.test("serve() refuses /metrics at once while clients that read nothing wait for theirs", async () => {
  const metrics = new Metrics();
  metrics.text = () => Promise.resolve("x".repeat(50_000_000));
  // They wait for as long as this takes, also on a busy machine.
  const served = serve({ ...well, metrics, connectionMs: 60_000 });
  const clients: Deno.Conn[] = [];
  try {
    for (let i = 0; i < 4; i++) {
      const client = await Deno.connect({ hostname: "127.0.0.1", port: served.port });
      clients.push(client);
      await client.write(new TextEncoder().encode("GET /metrics HTTP/1.1\r\n\r\n"));
      await client.read(new Uint8Array(100));
    }
    const response = await fetch(`http://127.0.0.1:${served.port}/metrics`);
    assert.equal(response.status, 503);
    assert.equal(response.headers.get("retry-after"), "1");
    assert.equal(await response.text(), "busy: others are reading /metrics\n");
    assert.match(await healthz(served.port), /^HTTP\/1\.1 200 OK/);
  } finally {
    clients.forEach(close);
    await served.close();
  }
});

Deno.test("serve() accepts no more than a few hundred connections a second", async () => {
  let asked = 0;
  const served = serve({ ...well, ready: () => void asked++ });
  const start = performance.now();
  const over = () => performance.now() - start > 2000;
  try {
    const one = async () => {
      while (!over()) await converse(served.port, "GET /readyz HTTP/1.1\r\n\r\n");
    };
    await Promise.all(Array.from({ length: 50 }, one));
    const most = 800 * (performance.now() - start) / 1000 + 20;
    assert.ok(asked <= most, `${asked} were accepted, at most ${most} may be`);
    assert.ok(asked > 100, `only ${asked} were accepted`);
  } finally {
    await served.close();
  }
});

Deno.test("Served.close() waits for no client that does not read its answer", async () => {
  const metrics = new Metrics();
  metrics.text = () => Promise.resolve("x".repeat(50_000_000));
  const served = serve({ ...well, metrics });
  const client = await Deno.connect({ hostname: "127.0.0.1", port: served.port });
  try {
    await client.write(new TextEncoder().encode("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"));
    await client.read(new Uint8Array(100));
    let closed = false;
    void served.close().then(() => closed = true);
    await waitFor("the end of close()", () => closed, { timeoutMs: 10_000 });
  } finally {
    client.close();
  }
});

Deno.test("serve() answers again after the process was out of file descriptors when a probe came", async () => {
  const program = join(import.meta.dirname!, "http_serving.ts");
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArgs(program),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const said = new Response(child.stderr).text();
  const clients: Deno.Conn[] = [];
  try {
    const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const port = Number((await output.read()).value);
    const probe = async (ms = 2000) => {
      const signal = AbortSignal.timeout(ms);
      const response = await fetch(`http://127.0.0.1:${port}/healthz`, { headers: { connection: "close" }, signal });
      return await response.text();
    };
    assert.equal(await probe(), "ok\n");
    const open = Array.from(Deno.readDirSync(`/proc/${child.pid}/fd`)).length;
    await run(["prlimit", `--pid=${child.pid}`, `--nofile=${open}:`]);
    // Clients that stay take what is left, if anything is.
    for (let failed = 0; failed < 3;) {
      await Deno.connect({ hostname: "127.0.0.1", port }).then((client) => clients.push(client), () => {});
      await probe(500).catch(() => failed++);
    }
    clients.forEach(close);
    await run(["prlimit", `--pid=${child.pid}`, "--nofile=1024:"]);
    await waitFor("an answer", async () => await probe() === "ok\n", { timeoutMs: 20_000 });
    await output.cancel();
  } finally {
    await child.stdin.close();
  }
  assert.equal((await child.status).code, 0);
  const lines = (await said).trimEnd().split("\n");
  assert.match(lines[0]!, /^level=warn msg="cannot accept http connections, will retry" error=".*os error 24/);
});
