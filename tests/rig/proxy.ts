/**
 * A proxy in front of a real API server that makes faults on purpose and counts each, so that a test can show that what it
 * says it survived did happen.
 *
 *     client ── TCP ──► connections (reset, black hole, refuse) ── TLS ──► requests (answers, cuts, injections) ──► API server
 *
 * It ends TLS with a leaf of the rig's authority, so users behind it prove themselves by token, not by client certificate.
 */
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { waitFor } from "../support/wait.ts";
import type { ApiServer } from "./apiserver.ts";

const encoder = new TextEncoder();

/** Which requests a fault is for. */
export type Match = (request: { readonly method: string; readonly url: URL }) => boolean;

export const isWatch: Match = ({ url }) => url.searchParams.has("watch");
export const isList: Match = ({ method, url }) => method === "GET" && !url.searchParams.has("watch");

interface NextAnswer {
  readonly match: Match;
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly body: string;
  left: number;
}

/** A watch that is passing through. */
interface Stream {
  send(text: string): void;
  /** As if the server had ended it. */
  close(): void;
  /** In the middle of the body. */
  cut(): void;
}

export class FaultProxy implements AsyncDisposable {
  /** How often each fault has happened: `answer 401`, `inject`, `cut`, `close`, `reset`, `blackhole bytes`, `refuse`, `delay`, `drop`. */
  readonly counts = new Map<string, number>();
  /** Every request that came through, in order, with the status that was answered. */
  readonly requests: {
    readonly method: string;
    readonly url: URL;
    readonly accept: string;
    readonly status: number;
  }[] = [];
  /** Connections that clients have made. */
  connections = 0;
  /** Milliseconds by which every request that matches is late from now on. */
  delayMs = 0;
  delayed: Match = () => true;
  /** Changes the requests that are passed on: a selector removed, say. */
  rewrite: (url: URL) => void = () => {};
  /** Watch events for which this is true vanish. */
  drop: (line: string) => boolean = () => false;

  readonly #target: string;
  readonly #upstream: Deno.HttpClient;
  readonly #requestServer: Deno.HttpServer<Deno.NetAddr>;
  readonly #stop = new AbortController();
  readonly #sockets = new Set<Socket>();
  /** By the port from which the request server sees them come. */
  readonly #socketByPort = new Map<number, Socket>();
  readonly #streams = new Set<Stream>();
  readonly #answers: NextAnswer[] = [];
  readonly #bodiesToCut: Match[] = [];
  #listener: Server | undefined;
  #port = 0;
  #blackhole = false;

  private constructor(target: string, ca: string, cert: string, key: string) {
    this.#target = target;
    this.#upstream = Deno.createHttpClient({ caCerts: [ca], http2: false });
    const options = { hostname: "127.0.0.1", port: 0, cert, key, onListen: () => {} };
    this.#requestServer = Deno.serve(options, (request, { remoteAddr }) => this.#handle(request, remoteAddr.port));
  }

  static async start(server: ApiServer): Promise<FaultProxy> {
    const leaf = await server.authority.issue(`proxy-${crypto.randomUUID()}`, "/CN=proxy", [
      "DNS:localhost",
      "IP:127.0.0.1",
    ]);
    const [ca, cert, key] = await Promise.all(
      [server.authority.cert, leaf.cert, leaf.key].map((file) => Deno.readTextFile(file)),
    );
    const proxy = new FaultProxy(server.url, ca!, cert!, key!);
    await proxy.accept();
    return proxy;
  }

  get url(): string {
    return `https://127.0.0.1:${this.#port}`;
  }

  /** Watches that are open now. */
  get watches(): number {
    return this.#streams.size;
  }

  /** Resolves when no watch is open: an ended client is noticed a little later here. */
  async noWatches(): Promise<void> {
    await waitFor("the end of the watches", () => this.watches === 0, { everyMs: 5, timeoutMs: 10_000 });
  }

  count(fault: string): number {
    return this.counts.get(fault) ?? 0;
  }

  // Faults of requests.

  /**
   * The next requests that match are answered so, without reaching the API server; by default the next one of all, with a
   * Status object.
   */
  answerNext(
    status: number,
    options: { match?: Match; times?: number; headers?: Record<string, string>; body?: string } = {},
  ): void {
    const { match = () => true, times = 1, headers = {}, body = statusObject(status, "made by the proxy") } = options;
    this.#answers.push({ match, status, headers, body, left: times });
  }

  /** What is left of `answerNext` is not answered any more. */
  forgetAnswers(): void {
    this.#answers.length = 0;
  }

  /** The body of the next answer that matches breaks off half way. */
  cutNextBody(match: Match): void {
    this.#bodiesToCut.push(match);
  }

  // Faults of watches that are open now. Each gives how many there were.

  /** Sends this between two events, as it is: end a whole line with a newline. */
  inject(text: string): number {
    return this.#eachStream("inject", (stream) => stream.send(text));
  }

  /** Sends an event between two others. */
  injectEvent(type: string, object: unknown): number {
    return this.inject(JSON.stringify({ type, object }) + "\n");
  }

  /** Ends them as a server does. */
  closeWatches(): number {
    return this.#eachStream("close", (stream) => stream.close());
  }

  /** Breaks them off. */
  cutWatches(): number {
    return this.#eachStream("cut", (stream) => stream.cut());
  }

  // Faults of connections.

  /** Resets every connection (TCP RST). Gives how many there were. */
  resetAll(): number {
    const sockets = [...this.#sockets];
    for (const socket of sockets) {
      socket.resetAndDestroy();
      this.#add("reset");
    }
    return sockets.length;
  }

  /**
   * From now on nothing passes in either direction, on connections there are and on new ones, without any notice.
   * Connections that were there stay dead also after `heal`.
   */
  blackhole(): void {
    this.#blackhole = true;
    for (const socket of this.#sockets) this.#swallow(socket);
  }

  /** New connections pass again. */
  heal(): void {
    this.#blackhole = false;
  }

  /** Closes the port and resets what is open: as when nothing runs there. */
  async refuse(): Promise<void> {
    const listener = this.#listener!;
    this.#listener = undefined;
    const closed = new Promise<void>((resolve) => listener.close(() => resolve()));
    this.resetAll();
    await closed;
    await Deno.connect({ hostname: "127.0.0.1", port: this.#port }).then(
      (connection) => {
        connection.close();
        throw new Error("the port is still open");
      },
      () => this.#add("refuse"),
    );
  }

  /** Opens the port, the same one again after `refuse`. */
  async accept(): Promise<void> {
    const listener = createServer((socket) => this.#connect(socket));
    await new Promise<void>((resolve, reject) => {
      listener.once("error", reject);
      listener.listen(this.#port, "127.0.0.1", resolve);
    });
    this.#listener = listener;
    this.#port = (listener.address() as { port: number }).port;
  }

  /** Ends every fault: new requests on new connections pass as if there were no proxy. */
  async calm(): Promise<void> {
    this.forgetAnswers();
    this.#bodiesToCut.length = 0;
    this.delayMs = 0;
    this.delayed = () => true;
    this.rewrite = () => {};
    this.drop = () => false;
    this.heal();
    if (this.#listener === undefined) await this.accept();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    for (const socket of this.#sockets) socket.destroy();
    const listener = this.#listener;
    if (listener) await new Promise<void>((resolve) => listener.close(() => resolve()));
    await this.#requestServer.shutdown();
    this.#upstream.close();
  }

  #add(fault: string, times = 1): void {
    this.counts.set(fault, this.count(fault) + times);
  }

  #eachStream(fault: string, action: (stream: Stream) => void): number {
    const streams = [...this.#streams];
    for (const stream of streams) {
      action(stream);
      this.#add(fault);
    }
    return streams.length;
  }

  #connect(socket: Socket): void {
    const inner = createConnection(this.#requestServer.addr.port, "127.0.0.1");
    this.connections++;
    this.#sockets.add(socket);
    inner.on("connect", () => this.#socketByPort.set(inner.localPort!, socket));
    const end = () => {
      this.#sockets.delete(socket);
      this.#socketByPort.delete(inner.localPort!);
      socket.destroy();
      inner.destroy();
    };
    for (const side of [socket, inner]) side.on("error", end).on("close", end);
    socket.pipe(inner);
    inner.pipe(socket);
    if (this.#blackhole) this.#swallow(socket);
    else socket.once("blackhole", () => inner.unpipe(socket));
  }

  #swallow(socket: Socket): void {
    socket.emit("blackhole");
    socket.unpipe();
    socket.on("data", (data) => this.#add("blackhole bytes", data.length));
    socket.resume();
  }

  async #handle(request: Request, port: number): Promise<Response> {
    const url = new URL(request.url);
    const { method } = request;
    const accept = request.headers.get("accept") ?? "";
    const matches = ({ match }: { match: Match }) => match({ method, url });
    if (this.delayMs > 0 && this.delayed({ method, url })) {
      this.#add("delay");
      await this.#delay(this.delayMs);
    }
    const answer = this.#answers.find((next) => next.left > 0 && matches(next));
    if (answer) {
      answer.left--;
      this.#add(`answer ${answer.status}`);
      this.requests.push({ method, url, accept, status: answer.status });
      await request.body?.cancel();
      const headers = { "Content-Type": "application/json", ...answer.headers };
      return new Response(answer.body, { status: answer.status, headers });
    }
    const target = new URL(url.pathname + url.search, this.#target);
    this.rewrite(target);
    const headers = new Headers(request.headers);
    headers.delete("host");
    headers.set("accept-encoding", "identity");
    const body = request.body === null ? null : await request.arrayBuffer();
    let response: Response;
    try {
      response = await fetch(target, { method, headers, body, signal: this.#stop.signal, client: this.#upstream });
    } catch (error) {
      return new Response(`the proxy cannot reach the API server: ${error}`, { status: 502 });
    }
    this.requests.push({ method, url, accept, status: response.status });
    const passed = new Headers(response.headers);
    passed.delete("content-length");
    const { status } = response;
    const cut = this.#bodiesToCut.findIndex((match) => match({ method, url }));
    if (cut >= 0) {
      this.#bodiesToCut.splice(cut, 1);
      return new Response(this.#halfOf(await response.bytes(), port), { status, headers: passed });
    }
    if (isWatch({ method, url }) && response.ok && response.body) {
      return new Response(this.#passWatch(response.body, port), { status, headers: passed });
    }
    return new Response(response.body, { status, headers: passed });
  }

  /** Resolves early when the proxy ends. */
  #delay(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#stop.signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
  }

  #halfOf(bytes: Uint8Array, port: number): ReadableStream<Uint8Array> {
    return new ReadableStream({
      start: (controller) => controller.enqueue(bytes.slice(0, bytes.length / 2)),
      pull: async () => {
        // The half is on its way; whether the client has all of it when the end comes does not matter.
        await new Promise((resolve) => setTimeout(resolve, 50));
        this.#add("cut");
        this.#socketByPort.get(port)?.destroy();
      },
    }, { highWaterMark: 0 });
  }

  /** Passes whole lines on, so that what is injected comes between two of them. */
  #passWatch(body: ReadableStream<Uint8Array>, port: number): ReadableStream<Uint8Array> {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    let stream: Stream;
    const leave = () => {
      if (!this.#streams.delete(stream)) return;
      reader.cancel().catch(() => {});
    };
    return new ReadableStream({
      start: (controller) => {
        stream = {
          send: (text) => controller.enqueue(encoder.encode(text)),
          close: () => {
            leave();
            controller.close();
          },
          cut: () => {
            leave();
            this.#socketByPort.get(port)?.destroy();
          },
        };
        this.#streams.add(stream);
      },
      pull: async (controller) => {
        for (;;) {
          let value: string | undefined, done: boolean;
          try {
            ({ value, done } = await reader.read());
          } catch {
            // The API server has gone in the middle of it.
            stream.cut();
            return;
          }
          if (!this.#streams.has(stream)) return;
          if (done) return stream.close();
          const lines = (rest + value).split("\n");
          rest = lines.pop()!;
          const kept = lines.filter((line) => !this.drop(line));
          this.#add("drop", lines.length - kept.length);
          if (kept.length > 0) return controller.enqueue(encoder.encode(kept.join("\n") + "\n"));
        }
      },
      cancel: leave,
    });
  }
}

/** The Status object with which an API server says what went wrong; as the object of an ERROR event too. */
export function statusObject(code: number, message: string): string {
  return JSON.stringify({ kind: "Status", apiVersion: "v1", metadata: {}, status: "Failure", code, message });
}
