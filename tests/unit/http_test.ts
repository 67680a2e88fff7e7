import assert from "node:assert/strict";
import { join } from "@std/path";
import { serve } from "../../src/http.ts";
import { Metrics } from "../../src/metrics.ts";
import { run } from "../cluster/run.ts";
import { waitFor } from "../cluster/wait.ts";
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
        assert.match(await other.text(), /^not found: \/healthz, \/readyz/);
      }
      const post = await fetch(`http://127.0.0.1:${served.port}/healthz`, { method: "POST", body: "x" });
      assert.equal(post.status, 405);
      assert.equal(await post.text(), "/healthz takes GET\n");
    } finally {
      await served.close();
    }
  }
});

Deno.test("serve() says in one sentence that the port is taken", async () => {
  const served = serve(well);
  try {
    assert.throws(() => serve({ ...well, port: served.port }), {
      message: `Cannot open HTTP port ${served.port} on 127.0.0.1: another process has it`,
    });
  } finally {
    await served.close();
  }
});

Deno.test("serve() says in one sentence that the address is not this machine's", () => {
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
    const probe = async () => {
      const signal = AbortSignal.timeout(2000);
      const response = await fetch(`http://127.0.0.1:${port}/healthz`, { headers: { connection: "close" }, signal });
      return await response.text();
    };
    assert.equal(await probe(), "ok\n");
    const open = Array.from(Deno.readDirSync(`/proc/${child.pid}/fd`)).length;
    await run(["prlimit", `--pid=${child.pid}`, `--nofile=${open}:`]);
    // Clients that stay take what is left, if anything is.
    for (let failed = 0; failed < 3;) {
      await Deno.connect({ hostname: "127.0.0.1", port }).then((client) => clients.push(client), () => {});
      await probe().catch(() => failed++);
    }
    clients.forEach((client) => client.close());
    await run(["prlimit", `--pid=${child.pid}`, "--nofile=1024:"]);
    await waitFor("an answer", async () => await probe() === "ok\n", { timeoutMs: 20_000 });
    await output.cancel();
  } finally {
    await child.stdin.close();
  }
  assert.equal((await child.status).code, 0);
  const lines = (await said).trimEnd().split("\n");
  assert.match(lines[0]!, /^level=warn msg="http port was closed, and is opened again" port=\d+ error=".*os error 24/);
});
