import { deepStrictEqual as assertEquals, match, ok as assert, rejects, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { Control } from "../../../src/captures/control.ts";
import { Tcpdump } from "../../../src/tcpdump/tcpdump.ts";
import { canFlush, flushBuffer } from "../../../src/tcpdump/tcpdump_buffer.ts";
import { askCount, askFlush } from "../../../src/reading/ask_controller.ts";
import { waitFor } from "../../support/wait.ts";

const WEB = { namespace: "default", pod: "web-0" };
const never = new AbortController().signal;

interface Served extends AsyncDisposable {
  readonly directory: string;
  /** Requests that were received. */
  readonly asked: string[];
  readonly warnings: string[];
  readonly control: Control | undefined;
}

/** Opens the socket in a directory of its own, with this in the place of tcpdump. */
async function serve(flush: () => Promise<void> = () => Promise.resolve(), name = "captures"): Promise<Served> {
  const parent = await Deno.makeTempDir();
  const directory = join(parent, name);
  await Deno.mkdir(directory);
  const asked: string[] = [];
  const warnings: string[] = [];
  const open = (): Promise<Control | undefined> =>
    Control.open({
      directory,
      flush: async (namespace, pod) => {
        asked.push(`${namespace}/${pod}`);
        await flush();
      },
      count: async () => {
        asked.push("count");
        await flush();
      },
      log: { warn: (message: string) => void warnings.push(message) } as never,
    });
  const control = await open();
  return {
    directory,
    asked,
    warnings,
    control,
    async [Symbol.asyncDispose]() {
      await control?.[Symbol.asyncDispose]();
      await Deno.remove(parent, { recursive: true });
    },
  };
}

/** Sends bytes and returns all that comes back until the connection ends. */
async function say(directory: string, text: string): Promise<string> {
  using connection = await Deno.connect({ transport: "unix", path: join(directory, ".control") });
  await connection.write(new TextEncoder().encode(text));
  let answer = "";
  const bytes = new Uint8Array(1024);
  // A connection that is closed before all was read is reset.
  const read = () =>
    connection.read(bytes).catch((error) =>
      error instanceof Deno.errors.ConnectionReset ? null : Promise.reject(error)
    );
  for (let n; (n = await read()) !== null;) answer += new TextDecoder().decode(bytes.subarray(0, n));
  return answer;
}

Deno.test("Control answers a flush and a count, and nothing else, and nobody else may connect", async () => {
  await using served = await serve();
  const path = join(served.directory, ".control");
  same((await Deno.lstat(path)).mode! & 0o7777, 0o600);
  same(await say(served.directory, '{"flush":"default/web-0"}\n'), '{"ok":true}\n');
  same(await askFlush(served.directory, WEB, never), true);
  assertEquals(served.asked, ["default/web-0", "default/web-0"]);
  same(await say(served.directory, '{"count":"all"}\n'), '{"ok":true}\n');
  same(await askCount(served.directory, never), true);
  assertEquals(served.asked.splice(2), ["count", "count"]);
  for (
    const line of [
      ...["", "flush", "{}", "null", "[]", '"flush"', '{"flush":1}', '{"flush":null}', '{"stop":"default/web-0"}'],
      ...['{"count":"default"}', '{"count":true}', '{"count":"all","flush":"default/web-0"}', '["all"]', '"a"', "1"],
      '{"flush":"default/web-0","stop":true}',
      ...["default", "../web-0", "default/..", "default/web-0/x", "/", "Default/web-0", "default/web\u001b[2J"].map((
        flush,
      ) => JSON.stringify({ flush })),
    ]
  ) {
    const answer = JSON.parse(await say(served.directory, `${line}\n`));
    same(answer.ok, false, line);
    match(answer.error, /^Cannot do ".*": it must be \{"flush":"NAMESPACE\/POD"\} or \{"count":"all"\}$/);
  }
  same(await say(served.directory, "x".repeat(5000)), "", "a line without an end");
  same(served.asked.length, 2);
});

Deno.test("Control takes the place of what a former controller has left, and leaves nothing", async () => {
  await using served = await serve();
  const path = join(served.directory, ".control");
  await served.control![Symbol.asyncDispose]();
  await rejects(Deno.lstat(path), Deno.errors.NotFound);
  // After a kill the socket's file stays, and no process listens.
  const old = Deno.listen({ transport: "unix", path: `${path}.old` });
  await Deno.rename(`${path}.old`, path);
  old.close();
  await Deno.lstat(path);
  same(await askFlush(served.directory, WEB, never), false);
  const flushed: string[] = [];
  await using _control = await Control.open({
    directory: served.directory,
    flush: (namespace, pod) => Promise.resolve(void flushed.push(namespace + pod)),
    count: () => Promise.resolve(),
    log: {} as never,
  });
  same(await askFlush(served.directory, WEB, never), true);
  same(flushed.length, 1);
});

Deno.test("Control is found in a directory whose path is longer than a socket's may be", async () => {
  await using served = await serve(undefined, "x".repeat(150));
  const before = Deno.cwd();
  assertEquals(served.warnings, []);
  same(await askFlush(served.directory, WEB, never), true);
  same(Deno.cwd(), before);
});

Deno.test("Control reports why it cannot flush, and when it cannot open its socket", async () => {
  await using served = await serve(() => Promise.reject(new Error("no tcpdump\u001b[2J")));
  assertEquals(JSON.parse(await say(served.directory, '{"flush":"a/b"}\n')), {
    ok: false,
    error: "no tcpdump\u001b[2J",
  });
  same(await askFlush(served.directory, WEB, never), false);
  same(await askCount(served.directory, never), false);
  const warnings: string[] = [];
  const control = await Control.open({
    directory: "/nonexistent",
    flush: () => Promise.resolve(),
    count: () => Promise.resolve(),
    log: { warn: (message: string) => void warnings.push(message) } as never,
  });
  assertEquals([control, warnings.length], [undefined, 1]);
});

Deno.test("Control closes what is slow, and takes only so many at a time", async () => {
  await using served = await serve();
  const path = join(served.directory, ".control");
  using open = new DisposableStack();
  const silent: Deno.UnixConn[] = [];
  for (let i = 0; i < 16; i++) silent.push(open.use(await Deno.connect({ transport: "unix", path })));
  // The sixteen are with the server once a seventeenth is closed at once.
  const started = performance.now();
  await waitFor("one too many", async () => await say(served.directory, '{"flush":"a/b"}\n').catch(() => "") === "", {
    timeoutMs: 1500,
  });
  for (const connection of silent) same(await connection.read(new Uint8Array(1)).catch(() => null), null);
  const took = performance.now() - started;
  assert(took > 1000 && took < 10_000, `${took} ms`);
  await waitFor("room again", () => askFlush(served.directory, WEB, never));
});

Deno.test("askFlush() waits a second at most, and not at all for a controller that is not there", async () => {
  const hangs = Promise.withResolvers<void>();
  await using served = await serve(() => hangs.promise);
  let started = performance.now();
  same(await askFlush(served.directory, WEB, never), false);
  const took = performance.now() - started;
  assert(took > 900 && took < 1900, `${took} ms`);
  started = performance.now();
  same(await askFlush(join(served.directory, "none"), WEB, never), false);
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 10);
  same(await askFlush(served.directory, WEB, stop.signal), false);
  assert(performance.now() - started < 800);
  hangs.resolve();
});

Deno.test("flushBuffer() never signals a process that does not stand where tcpdump waits for packets, and lets it go on", async () => {
  const dir = await Deno.makeTempDir();
  const script = `trap 'echo x >>${dir}/signals' USR2; echo up >${dir}/up; while :; do :; done`;
  const child = new Deno.Command("bash", { args: ["-c", script], stdin: "null" }).spawn();
  try {
    await waitFor("the start", () => Deno.lstat(join(dir, "up")).then(() => true, () => false));
    const started = performance.now();
    await rejects(flushBuffer({ pid: child.pid, hasExited: () => false }), /it has been at work for 900 ms/);
    assert(performance.now() - started < 2000);
    await rejects(Deno.lstat(join(dir, "signals")), Deno.errors.NotFound);
    match(await Deno.readTextFile(`/proc/${child.pid}/stat`), /\) R /);
    await rejects(flushBuffer({ pid: child.pid, hasExited: () => true }), /it has ended/);
  } finally {
    child.kill("SIGKILL");
    await child.status;
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("canFlush() says whether the kernel shows the system call of a child", async () => {
  const { readTextFileSync } = Deno;
  same(await canFlush(), true);
  const shown: string[] = [];
  try {
    Deno.readTextFileSync = (path) => {
      shown.push(String(path));
      throw new Deno.errors.PermissionDenied("EPERM");
    };
    same(await canFlush(), false);
  } finally {
    Deno.readTextFileSync = readTextFileSync;
  }
  match(shown.join(), /^\/proc\/[0-9]+\/syscall$/);
});

Deno.test("Tcpdump.flushBuffer() sends nothing before tcpdump listens, because it would be killed by it", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.writeTextFile(join(dir, "tcpdump"), `#!/bin/bash\nwhile :; do sleep 0.02; done`, { mode: 0o755 });
  const tcpdump = new Tcpdump({
    tcpdump: join(dir, "tcpdump"),
    nsenter: "nsenter",
    request: { files: 1, fileSizeMB: 1, snaplen: 64, interface: "any", direction: "inout" },
    netnsPath: undefined,
    file: join(dir, "capture.pcap"),
    onLine() {},
  });
  await rejects(tcpdump.flushBuffer(), /it does not listen yet/);
  same((await tcpdump.kill()).signal, "SIGKILL");
  await Deno.remove(dir, { recursive: true });
});
