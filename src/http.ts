/**
 * The HTTP port: /healthz and /readyz for the kubelet's probes, /metrics for Prometheus.
 *
 * A client of the port needs no credential, so each connection costs little: one request, one answer, closed. Neither
 * Deno.serve nor node:http can do this. The first has no limit at all; the second drops new connections at its limit, probes too.
 */
import { messageOf } from "./base/errors.ts";
import { pause, settledWithin } from "./base/timeout.ts";
import type { Log } from "./log.ts";
import type { Metrics } from "./metrics.ts";

/** Connections at a time. One more closes the oldest: a probe's request comes with its connection, a hostile one's may never. */
const CONNECTIONS = 32;
/** Milliseconds from a connection to its end, whatever its client does; {@linkcode ServeOptions.connectionMs}. */
const CONNECTION_MS = 5000;
/** Connections accepted in each window of so many milliseconds: 800 a second. Others wait in the kernel's queue for nothing. */
const ACCEPTED = 20;
const WINDOW_MS = 25;
/** Connections that may wait. A probe after all of them has its answer within 2.6 s: it waits for 5 s before it gives up. */
const QUEUE = 2048;
/** Longest head of a request, and how many pieces it may come in. */
const HEAD_BYTES = 8192;
const HEAD_READS = 16;
/** Answers of /metrics under way at a time; more are refused. */
const METRICS_ANSWERS = 4;
/** Milliseconds for which one text of /metrics is handed out. */
const METRICS_AGE_MS = 1000;
/**
 * Milliseconds that the port pauses after a connection that could not be accepted: the process is out of file
 * descriptors.
 */
const ACCEPT_RETRY_MS = 200;
/** The code with which `listen` fails where the kernel has no IPv6. */
const NO_IPV6 = "EAFNOSUPPORT";
/**
 * Milliseconds that answers under way may take when the port is closed: a client may never read the rest of its own.
 */
const CLOSE_MS = 1000;

export interface ServeOptions {
  /** 0: any free one. */
  port: number;
  hostname: string;
  log: Log;
  /** Returns why the process cannot be helped but by a restart; undefined: it is well. */
  healthy(): string | undefined;
  /** Returns why it cannot do its work now; undefined: it can. */
  ready(): string | undefined;
  /** Metrics to serve; undefined: /metrics is not found. */
  metrics?: Metrics | undefined;
  /** Milliseconds of a connection, for tests. @default 5000 */
  connectionMs?: number;
}

/** A port that is being served. */
export interface Served {
  /** The port, also where any free one was asked for. */
  readonly port: number;
  /** Ends it, after the answers under way, but for those that take longer than a second. */
  close(): Promise<void>;
}

/**
 * Opens the port.
 *
 * @throws Error, one sentence, when the port cannot be opened.
 */
export function serve(options: ServeOptions): Served {
  const listener = open(options);
  const closing = new AbortController();
  const accepting = accept(listener, options, closing.signal);
  return {
    port: listener.addr.port,
    async close() {
      closing.abort();
      listener.close();
      await accepting;
    },
  };
}

/** Opens the port. On `::` it serves IPv6 and IPv4; where the kernel has no IPv6, IPv4 alone. */
function open({ port, hostname, log }: ServeOptions): Deno.TcpListener {
  const listen = (hostname: string) => Deno.listen({ port, hostname, tcpBacklog: QUEUE });
  try {
    try {
      return listen(hostname);
    } catch (error) {
      if (hostname !== "::" || (error as { code?: string }).code !== NO_IPV6) throw error;
      log.info("no IPv6 here: the http port is served on IPv4", { error });
      return listen("0.0.0.0");
    }
  } catch (error) {
    const reason = error instanceof Deno.errors.AddrInUse ? "another process has it" : (error as Error).message;
    throw new Error(`Cannot open HTTP port ${port} on ${hostname}: ${reason}`, { cause: error });
  }
}

/** Accepts connections until `closing`, a few in each window, and ends those that are left a second later. */
async function accept(listener: Deno.TcpListener, options: ServeOptions, closing: AbortSignal): Promise<void> {
  const respond = responder(options);
  const { connectionMs = CONNECTION_MS } = options;
  const connections = new Map<Deno.TcpConn, Promise<void>>();
  const buffers: Uint8Array<ArrayBuffer>[] = [];
  let failing = false;
  let accepted = 0;
  let windowEnd = 0;
  while (!closing.aborted) {
    try {
      const connection = await listener.accept();
      failing = false;
      if (connections.size >= CONNECTIONS) {
        const [oldest] = connections.keys();
        connections.delete(oldest!);
        end(oldest!);
      }
      const buffer = buffers.pop() ?? new Uint8Array(HEAD_BYTES);
      const attended = attend(connection, buffer, respond, connectionMs).finally(() => {
        buffers.push(buffer);
        connections.delete(connection);
      });
      connections.set(connection, attended);
    } catch (error) {
      if (closing.aborted) break;
      if (!failing) options.log.warn("cannot accept http connections, will retry", { error });
      failing = true;
      await pause(ACCEPT_RETRY_MS, closing).catch(() => {}); // closing
    }
    const now = performance.now();
    if (now >= windowEnd) [accepted, windowEnd] = [0, now + WINDOW_MS];
    if (++accepted >= ACCEPTED) await pause(windowEnd - now, closing).catch(() => {}); // closing
  }
  await settledWithin(CLOSE_MS, Promise.all(connections.values()));
  for (const connection of connections.keys()) end(connection);
}

/** Reads one request, answers it, and closes the connection. */
async function attend(
  connection: Deno.TcpConn,
  buffer: Uint8Array<ArrayBuffer>,
  respond: Responder,
  ms: number,
): Promise<void> {
  const timer = setTimeout(() => end(connection), ms);
  try {
    const head = await readHead(connection, buffer);
    if (head === undefined) return;
    await respond(head, async (answer) => {
      for (let written = 0; written < answer.length;) written += await connection.write(answer.subarray(written));
    });
    // A close with bytes unread resets the connection, and a client that still sends its body would miss the answer.
    if (!/^(GET|HEAD) /.test(head)) {
      await connection.closeWrite();
      await skip(connection, buffer);
    }
  } catch {
    // The client has gone, or its time is up.
  } finally {
    clearTimeout(timer);
    end(connection);
  }
}

/** Ends a connection, also one with a read or write under way, which then fails. */
function end(connection: Deno.TcpConn): void {
  try {
    connection.close();
  } catch {
    // Closed already.
  }
}

/** Reads until the end of a head, or as much as there is room for. @returns undefined if the client left before. */
async function readHead(connection: Deno.TcpConn, buffer: Uint8Array<ArrayBuffer>): Promise<string | undefined> {
  let length = 0;
  let text = "";
  for (let reads = 0; reads < HEAD_READS && length < buffer.length; reads++) {
    const count = await connection.read(buffer.subarray(length));
    if (count === null) return undefined;
    length += count;
    text = decoder.decode(buffer.subarray(0, length));
    const headEnd = text.indexOf("\r\n\r\n");
    if (headEnd >= 0) return text.slice(0, headEnd);
  }
  return text;
}

/** Reads a little of what the client still sends, and throws it away. */
async function skip(connection: Deno.TcpConn, buffer: Uint8Array<ArrayBuffer>): Promise<void> {
  for (let reads = 0; reads < HEAD_READS; reads++) if (await connection.read(buffer) === null) return;
}

/** Answers the request with this head by handing bytes to `write`. */
type Responder = (head: string, write: (answer: Uint8Array) => Promise<void>) => Promise<void>;

function responder({ healthy, ready, metrics }: ServeOptions): Responder {
  const reasons: Record<string, () => string | undefined> = { "/healthz": healthy, "/readyz": ready };
  const paths = `/healthz, /readyz${metrics === undefined ? "" : " and /metrics"}`;
  const page = metrics === undefined ? undefined : new Page(metrics);
  let underWay = 0;

  return async (head, write) => {
    const request = /^([A-Z]+) (?:https?:\/\/[^/?]*)?([^ ?]*)(?:\?[^ ]*)? HTTP\/1\.[01](?:\r\n|$)/.exec(head);
    if (request === null) return await write(text(400, "this is not HTTP/1.1"));
    const [, method, path] = request as unknown as [string, string, string];
    const withBody = method !== "HEAD";
    const isPage = page !== undefined && path === "/metrics";
    if (!isPage && !Object.hasOwn(reasons, path)) {
      return await write(text(404, `not found: the paths are ${paths}`, { withBody }));
    }
    if (method !== "GET" && method !== "HEAD") {
      return await write(text(405, `${path} takes GET`, { headers: "allow: GET, HEAD\r\n" }));
    }
    if (!isPage) {
      const reason = reasons[path]!();
      return await write(text(reason === undefined ? 200 : 503, reason ?? "ok", { withBody }));
    }
    if (underWay >= METRICS_ANSWERS) {
      return await write(text(503, "busy: others are reading /metrics", { headers: "retry-after: 1\r\n", withBody }));
    }
    underWay++;
    try {
      await write(await page.answer(withBody));
    } finally {
      underWay--;
    }
  };
}

/** The answer of /metrics, made at most once a second. */
class Page {
  readonly #metrics: Metrics;
  #madeAt = -Infinity;
  #answers: Promise<{ whole: Uint8Array; head: Uint8Array }> | undefined;

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  async answer(withBody: boolean): Promise<Uint8Array> {
    if (this.#answers === undefined || performance.now() - this.#madeAt >= METRICS_AGE_MS) {
      this.#madeAt = performance.now();
      this.#answers = this.#make();
    }
    const { whole, head } = await this.#answers;
    return withBody ? whole : head;
  }

  async #make(): Promise<{ whole: Uint8Array; head: Uint8Array }> {
    const type = this.#metrics.contentType;
    try {
      const body = await this.#metrics.text();
      return { whole: answer(200, type, body), head: answer(200, type, body, { withBody: false }) };
    } catch (error) {
      const failed = text(500, messageOf(error));
      return { whole: failed, head: failed };
    }
  }
}

const decoder = new TextDecoder("latin1");
const encoder = new TextEncoder();
const REASONS: Readonly<Record<number, string>> = {
  200: "OK",
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  500: "Internal Server Error",
  503: "Service Unavailable",
};

interface AnswerOptions {
  /** Further lines of the head, each with its line break. */
  headers?: string;
  withBody?: boolean;
}

function text(status: number, words: string, options?: AnswerOptions): Uint8Array {
  return answer(status, "text/plain; charset=utf-8", `${words}\n`, options);
}

function answer(status: number, type: string, body: string, { headers = "", withBody = true }: AnswerOptions = {}) {
  const bytes = encoder.encode(body);
  const head = encoder.encode(
    `HTTP/1.1 ${status} ${REASONS[status]}\r\ncontent-type: ${type}\r\ncontent-length: ${bytes.length}\r\n` +
      `connection: close\r\ndate: ${new Date().toUTCString()}\r\n${headers}\r\n`,
  );
  if (!withBody) return head;
  const whole = new Uint8Array(head.length + bytes.length);
  whole.set(head);
  whole.set(bytes, head.length);
  return whole;
}
