/**
 * A CRI server on a unix socket that passes calls on to a real runtime and can be set to fail in every way a runtime fails. It
 * passes bytes, so it decodes no messages; replies that a real runtime never gives are put in with {@linkcode Fault.reply}.
 *
 *     client ── socket ──► connections (cut) ── loopback ──► calls (answers, delays) ── socket ──► runtime
 *
 * Its HTTP/2 is Deno's own server, which sends no trailers; a real runtime's are there when a call is passed on, and grpc_server.ts
 * makes the frames that neither sends.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { framed, GrpcClient, GrpcCode, GrpcError, unframed } from "../../src/sandboxes/grpc.ts";

/** What happens to a call instead of being passed on; first that is set, in this order, except that `delayMs` goes before any. */
export interface Fault {
  /** Only calls whose request bytes this says yes to; the others are passed on. */
  when?: (request: Uint8Array) => boolean;
  /** Milliseconds before anything else happens. */
  delayMs?: number;
  /** All connections are cut. */
  drop?: boolean;
  /** No answer ever comes. */
  hang?: boolean;
  error?: { code: number; details: string };
  /** Given as the reply: what this makes of the request; undefined: passed on after all. */
  reply?: (request: Uint8Array) => Uint8Array | undefined;
}

/** The runtime's own deadlines are shorter. */
const PASS_ON_TIMEOUT_MS = 60_000;

export class CriProxy implements AsyncDisposable {
  /** How many calls came in, by method, whatever became of them. */
  readonly calls: Record<string, number> = {};
  /** How many calls had a fault. */
  faulted = 0;

  readonly #socket: string;
  readonly #runtime: GrpcClient | undefined;
  readonly #faults = new Map<string, Fault>();
  readonly #sockets = new Set<Socket>();
  readonly #end = new AbortController();
  readonly #requestServer: Deno.HttpServer<Deno.NetAddr>;
  #server: Server | undefined;

  /** Listens on `socket`. Without `upstream`, the socket of a runtime, calls without a reply of their own are UNIMPLEMENTED. */
  static async start(socket: string, upstream?: string): Promise<CriProxy> {
    const proxy = new CriProxy(socket, upstream);
    await proxy.listen();
    return proxy;
  }

  private constructor(socket: string, upstream: string | undefined) {
    this.#socket = socket;
    this.#runtime = upstream === undefined ? undefined : new GrpcClient(upstream);
    const options = { hostname: "127.0.0.1", port: 0, signal: this.#end.signal, onListen: () => {} };
    this.#requestServer = Deno.serve(options, (request) => this.#serve(request));
  }

  /** From now on calls of `method` (`ListPodSandbox`, …, `*` for all) have this fault; undefined: none any more. */
  fault(method: string, fault: Fault | undefined): void {
    if (fault) this.#faults.set(method, fault);
    else this.#faults.delete(method);
  }

  /** Makes the socket again and listens on it. */
  async listen(): Promise<void> {
    await Deno.remove(this.#socket).catch(() => {});
    const server = createServer((socket) => {
      // Accepted just before stop(), which would wait for it.
      if (this.#server !== server) return socket.destroy();
      this.#join(socket, connect(this.#requestServer.addr.port, "127.0.0.1"));
    });
    this.#server = server;
    await new Promise<void>((resolve, reject) => server.once("error", reject).listen(this.#socket, resolve));
  }

  /** Cuts all connections and stops listening. The socket's file stays, as that of a killed runtime. */
  async stop(): Promise<void> {
    const server = this.#server;
    if (!server) return;
    this.#server = undefined;
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    this.#cut();
    await closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#end.abort();
    await this.#requestServer.finished;
    this.#runtime?.close();
    await Deno.remove(this.#socket).catch(() => {});
  }

  #join(outer: Socket, inner: Socket): void {
    for (const [from, to] of [[outer, inner], [inner, outer]] as const) {
      this.#sockets.add(from);
      from.on("close", () => {
        this.#sockets.delete(from);
        to.destroy();
      });
      from.on("error", () => {});
      from.pipe(to);
    }
  }

  #cut(): void {
    for (const socket of [...this.#sockets]) socket.destroy();
  }

  async #serve(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    const method = pathname.slice(pathname.lastIndexOf("/") + 1);
    const message = unframed(await request.bytes());
    this.calls[method] = (this.calls[method] ?? 0) + 1;
    const gone = AbortSignal.any([request.signal, this.#end.signal]);
    try {
      return answer(await this.#reply(method, pathname, message, gone));
    } catch (error) {
      return refusal(error instanceof GrpcError ? error : new GrpcError(GrpcCode.UNKNOWN, String(error)));
    }
  }

  async #reply(method: string, path: string, message: Uint8Array, gone: AbortSignal): Promise<Uint8Array> {
    const fault = this.#faults.get(method) ?? this.#faults.get("*");
    if (fault && fault.when?.(message) !== false) {
      this.faulted++;
      if (fault.delayMs !== undefined) await pause(fault.delayMs, gone);
      if (fault.drop) this.#cut();
      if (fault.drop || fault.hang) await pause(Infinity, gone);
      if (fault.error) throw new GrpcError(fault.error.code, fault.error.details);
      const reply = fault.reply?.(message);
      if (reply) return reply;
    }
    if (this.#runtime) return await this.#runtime.unary(path, message, PASS_ON_TIMEOUT_MS, gone);
    throw new GrpcError(GrpcCode.UNIMPLEMENTED, `unknown service ${path.slice(1, path.lastIndexOf("/"))}`);
  }
}

/** Rejects when the caller has gone. */
function pause(ms: number, gone: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = ms === Infinity ? undefined : setTimeout(resolve, ms);
    const give = () => {
      clearTimeout(timer);
      reject(new GrpcError(GrpcCode.CANCELLED, "the client has gone"));
    };
    if (gone.aborted) give();
    gone.addEventListener("abort", give, { once: true });
  });
}

const HEADERS = { "content-type": "application/grpc" };

/** Without trailers, of which Deno's server sends none: the client must not need them. Those of a real runtime are tested with it. */
function answer(message: Uint8Array): Response {
  return new Response(framed(message), { headers: HEADERS });
}

/** A status without a message is in the headers. */
function refusal({ code, message }: GrpcError): Response {
  return new Response(null, {
    headers: { ...HEADERS, "grpc-status": String(code), "grpc-message": encodeURIComponent(message) },
  });
}
