/**
 * A CRI server on a unix socket that passes calls on to a real runtime and can be told to fail in every way a runtime fails. It
 * passes bytes, so it knows no messages; replies that a real runtime never gives are put in with {@linkcode Fault.reply}.
 */
import { Buffer } from "node:buffer";
import { createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { createServer, type Server, type Socket } from "node:net";
import { Client, credentials, type ServiceError, status as codes } from "@grpc/grpc-js";

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

export class CriProxy implements AsyncDisposable {
  /** How many calls came in, by method, whatever became of them. */
  readonly calls: Record<string, number> = {};
  /** How many calls had a fault. */
  faulted = 0;

  readonly #socket: string;
  readonly #upstream: string | undefined;
  readonly #faults = new Map<string, Fault>();
  readonly #sockets = new Set<Socket>();
  readonly #timers = new Set<ReturnType<typeof setTimeout>>();
  #server: Server | undefined;
  #client: Client | undefined;

  /** Listens on `socket`. Without `upstream`, the socket of a runtime, calls without a reply of their own are UNIMPLEMENTED. */
  static async start(socket: string, upstream?: string): Promise<CriProxy> {
    const proxy = new CriProxy(socket, upstream);
    await proxy.listen();
    return proxy;
  }

  private constructor(socket: string, upstream: string | undefined) {
    this.#socket = socket;
    this.#upstream = upstream;
  }

  /** From now on calls of `method` (`ListPodSandbox`, …, `*` for all) have this fault; undefined: none any more. */
  fault(method: string, fault: Fault | undefined): void {
    if (fault) this.#faults.set(method, fault);
    else this.#faults.delete(method);
  }

  /** Makes the socket anew and listens on it. */
  async listen(): Promise<void> {
    await Deno.remove(this.#socket).catch(() => {});
    const http2 = createHttp2Server();
    http2.on("session", (session) => session.on("error", () => {}));
    http2.on("stream", (stream, headers) => void this.#serve(stream as ServerHttp2Stream, String(headers[":path"])));
    // Connections are cut by their sockets: Deno 2.9.6 crashes (SIGSEGV) when several sessions of an HTTP/2 server are destroyed.
    const server = createServer((socket) => {
      // Accepted just before stop(), which would wait for it.
      if (this.#server !== server) return socket.destroy();
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => {});
      http2.emit("connection", socket);
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
    for (const timer of this.#timers) clearTimeout(timer);
    await this.stop();
    this.#client?.close();
    await Deno.remove(this.#socket).catch(() => {});
  }

  #cut(): void {
    for (const socket of [...this.#sockets]) socket.destroy();
  }

  async #serve(stream: ServerHttp2Stream, path: string): Promise<void> {
    stream.on("error", () => {}); // a client that gives up
    const method = path.slice(path.lastIndexOf("/") + 1);
    const request = await readMessage(stream);
    this.calls[method] = (this.calls[method] ?? 0) + 1;
    const fault = this.#faults.get(method) ?? this.#faults.get("*");
    if (fault && fault.when?.(request) !== false) {
      this.faulted++;
      if (fault.delayMs !== undefined) await this.#sleep(fault.delayMs);
      if (fault.drop) return this.#cut();
      if (fault.hang) return;
      if (fault.error) return answer(stream, fault.error);
      const reply = fault.reply?.(request);
      if (reply) return answer(stream, { code: codes.OK, details: "" }, reply);
    }
    try {
      answer(stream, { code: codes.OK, details: "" }, await this.#passOn(path, request));
    } catch (error) {
      const { code = codes.UNKNOWN, details = String(error) } = error as Partial<ServiceError>;
      answer(stream, { code, details });
    }
  }

  #passOn(path: string, request: Uint8Array): Promise<Uint8Array> {
    if (this.#upstream === undefined) {
      return Promise.reject({
        code: codes.UNIMPLEMENTED,
        details: `unknown service ${path.slice(1, path.lastIndexOf("/"))}`,
      });
    }
    this.#client ??= new Client(`unix://${this.#upstream}`, credentials.createInsecure(), {
      "grpc.use_local_subchannel_pool": 1,
      "grpc.initial_reconnect_backoff_ms": 50,
      "grpc.max_reconnect_backoff_ms": 200,
    });
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    const same = (bytes: Buffer) => bytes;
    const deadline = Date.now() + 60_000;
    this.#client.makeUnaryRequest(path, same, same, Buffer.from(request), { deadline }, (error, reply) => {
      if (error) reject(error);
      else resolve(reply!);
    });
    return promise;
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => {
        this.#timers.delete(timer);
        resolve();
      }, ms);
      this.#timers.add(timer);
    });
  }
}

/** gRPC over HTTP/2: each message is preceded by a byte for compression and four for its length. */
const PREFIX_BYTES = 5;

async function readMessage(stream: ServerHttp2Stream): Promise<Uint8Array> {
  const chunks: Buffer[] = [];
  await new Promise<void>((resolve) => {
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", resolve);
    stream.on("close", resolve);
  });
  return Buffer.concat(chunks).subarray(PREFIX_BYTES);
}

function answer(
  stream: ServerHttp2Stream,
  { code, details }: { code: number; details: string },
  message?: Uint8Array,
): void {
  if (stream.destroyed) return;
  const headers = { ":status": 200, "content-type": "application/grpc" };
  const trailers = { "grpc-status": String(code), "grpc-message": encodeURI(details) };
  if (!message) return void stream.respond({ ...headers, ...trailers }, { endStream: true });
  stream.respond(headers, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  stream.end(Buffer.concat([prefix, message]));
}
