/**
 * A gRPC server made of nothing but frames (RFC 9113), for what neither Deno's servers nor a real runtime do on demand: trailers, answers
 * that break off, and a GOAWAY.
 */
import { createServer, type Server, type Socket } from "node:net";
import { waitFor } from "../support/wait.ts";

const DATA = 0;
const HEADERS = 1;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;

const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;

const PREFACE_BYTES = 24;
const HEAD_BYTES = 9;
const LAST_STREAM = 2 ** 31 - 1;

/** What a call is answered with, piece by piece. */
export type Piece = "headers" | Uint8Array | { readonly trailers: Record<string, string> };

export class GrpcServer implements AsyncDisposable {
  /** Calls that came, and connections. */
  calls = 0;
  connections = 0;
  /** How every call from now on is answered: what the pieces say and no more. */
  pieces: readonly Piece[] = [];

  readonly #sockets = new Set<Socket>();
  readonly #server: Server;

  static async start(path: string, pieces: readonly Piece[]): Promise<GrpcServer> {
    const server = new GrpcServer();
    server.pieces = pieces;
    await new Promise<void>((resolve) => server.#server.listen(path, resolve));
    return server;
  }

  private constructor() {
    this.#server = createServer((socket) => this.#serve(socket));
  }

  /** Says on every connection that it is going away, as a server that shuts down does, and closes it; resolves when all have ended. */
  async goAway(): Promise<void> {
    const body = new Uint8Array(8);
    new DataView(body.buffer).setUint32(0, LAST_STREAM);
    for (const socket of this.#sockets) socket.end(frame(GOAWAY, 0, 0, body));
    await waitFor("the end of the connections", () => this.#sockets.size === 0, { everyMs: 1 });
  }

  /** Cuts every connection. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.cut();
    await closed;
  }

  #serve(socket: Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    socket.on("error", () => {});
    socket.write(frame(SETTINGS, 0, 0));
    let rest: Uint8Array = new Uint8Array();
    let preface = PREFACE_BYTES;
    socket.on("data", (chunk: Uint8Array) => {
      rest = Uint8Array.of(...rest, ...chunk);
      const skipped = Math.min(preface, rest.length);
      preface -= skipped;
      rest = rest.subarray(skipped);
      while (rest.length >= HEAD_BYTES) {
        const view = new DataView(rest.buffer, rest.byteOffset);
        const size = HEAD_BYTES + (view.getUint32(0) >>> 8);
        if (rest.length < size) return;
        const [type, flags, stream] = [rest[3]!, rest[4]!, view.getUint32(5)];
        if (type === SETTINGS && !(flags & ACK)) socket.write(frame(SETTINGS, ACK, 0));
        if (type === PING && !(flags & ACK)) socket.write(frame(PING, ACK, 0, rest.slice(HEAD_BYTES, size)));
        if ((type === DATA || type === HEADERS) && flags & END_STREAM) this.#answer(socket, stream);
        rest = rest.subarray(size);
      }
    });
  }

  #answer(socket: Socket, stream: number): void {
    this.calls++;
    for (const piece of this.pieces) {
      if (piece === "headers") {
        socket.write(
          frame(HEADERS, END_HEADERS, stream, headerBlock({ ":status": "200", "content-type": "application/grpc" })),
        );
      } else if (piece instanceof Uint8Array) {
        socket.write(frame(DATA, 0, stream, piece));
      } else {
        socket.write(frame(HEADERS, END_HEADERS | END_STREAM, stream, headerBlock(piece.trailers)));
      }
    }
  }
}

function frame(type: number, flags: number, stream: number, body: Uint8Array = new Uint8Array()): Uint8Array {
  const bytes = new Uint8Array(HEAD_BYTES + body.length);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, body.length << 8 | type);
  view.setUint8(4, flags);
  view.setUint32(5, stream);
  bytes.set(body, HEAD_BYTES);
  return bytes;
}

/** Each as a literal that is not indexed (RFC 7541, 6.2.2), shorter than 127 bytes. */
function headerBlock(headers: Record<string, string>): Uint8Array {
  const encoder = new TextEncoder();
  const text = (word: string) => [word.length, ...encoder.encode(word)];
  return Uint8Array.from(Object.entries(headers).flatMap(([name, value]) => [0, ...text(name), ...text(value)]));
}
