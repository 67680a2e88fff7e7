/** The HTTP port: /healthz and /readyz for the kubelet's probes, /metrics for Prometheus. */
import { setTimeout as delay } from "node:timers/promises";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** A port that was closed on us sooner than this after it was opened is opened again only so much later. */
const REOPEN_MS = 1000;
/** How long answers under way may take when the port is closed: a client may never read the rest of its own. */
const CLOSE_MS = 1000;

export interface ServeOptions {
  /** 0: any free one. */
  port: number;
  hostname: string;
  log: Log;
  /** Why the process cannot be helped but by a restart; undefined: it is well. */
  healthy(): string | undefined;
  /** Why it cannot do its work now; undefined: it can. */
  ready(): string | undefined;
  /** Undefined: /metrics is not found. */
  metrics?: Metrics | undefined;
}

/** A port that is being served. */
export interface Served {
  /** The port, also where any free one was asked for. */
  readonly port: number;
  /** Ends it, after the answers under way, but for those that take longer than a second. */
  close(): Promise<void>;
}

/**
 * Opens the port, and keeps it open: for a connection that cannot be accepted, since the process is out of file descriptors,
 * Deno closes the whole port.
 *
 * @throws Error, one sentence, when the port cannot be opened.
 */
export function serve(options: ServeOptions): Served {
  const closing = new AbortController();
  let server = open(options, options.port);
  const { port } = server.addr;

  async function keepOpen(): Promise<void> {
    const { log } = options;
    while (!closing.signal.aborted) {
      const opened = performance.now();
      const error = await server.finished.catch((error) => error);
      if (closing.signal.aborted) return;
      log.warn("http port was closed, and is opened again", { port, error });
      if (performance.now() - opened < REOPEN_MS) await pause();
      await reopen();
    }
  }

  async function reopen(): Promise<void> {
    while (!closing.signal.aborted) {
      try {
        server = open(options, port);
        return;
      } catch {
        await pause();
      }
    }
  }

  async function pause(): Promise<void> {
    await delay(REOPEN_MS, undefined, { signal: closing.signal }).catch(() => {}); // closing
  }

  const kept = keepOpen();
  return {
    port,
    async close() {
      closing.abort();
      const deadline = new AbortController();
      const late = delay(CLOSE_MS, undefined, { signal: deadline.signal }).catch(() => {}); // not needed any more
      await Promise.race([server.shutdown().then(() => kept), late]);
      deadline.abort();
    },
  };
}

function open(options: ServeOptions, port: number): Deno.HttpServer<Deno.NetAddr> {
  try {
    return Deno.serve({
      port,
      hostname: options.hostname,
      onListen() {},
      onError: (error) => text(500, error instanceof Error ? error.message : String(error)),
    }, (request) => answer(request, options));
  } catch (error) {
    const reason = error instanceof Deno.errors.AddrInUse ? "another process has it" : (error as Error).message;
    throw new Error(`Cannot open HTTP port ${port} on ${options.hostname}: ${reason}`, { cause: error });
  }
}

async function answer(request: Request, { healthy, ready, metrics }: ServeOptions): Promise<Response> {
  const { pathname } = new URL(request.url);
  const known = pathname === "/healthz" || pathname === "/readyz" || (pathname === "/metrics" && metrics !== undefined);
  if (!known) return text(404, `not found: /healthz, /readyz${metrics === undefined ? "" : " and /metrics"} are`);
  if (request.method !== "GET" && request.method !== "HEAD") {
    return text(405, `${pathname} takes GET`, { allow: "GET, HEAD" });
  }
  if (pathname === "/metrics" && metrics !== undefined) {
    return new Response(await metrics.text(), { headers: { "content-type": metrics.contentType } });
  }
  const reason = pathname === "/healthz" ? healthy() : ready();
  return text(reason === undefined ? 200 : 503, reason ?? "ok");
}

function text(status: number, words: string, headers: Record<string, string> = {}): Response {
  return new Response(`${words}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers } });
}
