/**
 * Unary gRPC calls over a unix socket, on Deno's own fetch. grpc-js goes by node:http2, with which Deno 2.9.6 crashes
 * when a server sends GOAWAY (docs/adr/0054).
 */
import { Buffer } from "node:buffer";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { count } from "../base/format.ts";
import { Deadline } from "../base/timeout.ts";
import { causeOf, chunksOf } from "../base/body.ts";

/** Those of gRPC's status codes that matter here (grpc doc/statuscodes.md). */
export const GrpcCode = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  RESOURCE_EXHAUSTED: 8,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
} as const;

/** A call that failed: the server's words, or what became of the connection, and the status code. */
export class GrpcError extends Error {
  override readonly name = "GrpcError";
  constructor(readonly code: number, message: string) {
    super(message);
  }
}

/**
 * Bytes of the largest message, as the kubelet's (kubernetes staging/src/k8s.io/cri-client/pkg/remote_runtime.go,
 * maxMsgSize).
 */
const MAX_MESSAGE_BYTES = 16 * 1024 * 1024;
/** A byte for whether the message is compressed, and four for its length (grpc doc/PROTOCOL-HTTP2.md). */
const PREFIX_BYTES = 5;

export class GrpcClient implements Disposable {
  readonly #socket: string;
  #http: Deno.HttpClient | undefined;

  /** @param socket An absolute path; nothing need listen there yet, and it may be made again at any time. */
  constructor(socket: string) {
    this.#socket = socket;
  }

  /**
   * Calls a method by its descriptor; unknown fields of the reply are skipped.
   * @throws {GrpcError} as `unary` does, and INTERNAL if the reply is not the message that it should be.
   */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<MessageShape<O>> {
    const message = toBinary(method.input, create(method.input, request));
    const reply = await this.unary(`/${method.parent.typeName}/${method.name}`, message, timeoutMs, signal);
    try {
      return fromBinary(method.output, reply, { readUnknownFields: false });
    } catch (error) {
      throw new GrpcError(GrpcCode.INTERNAL, `its answer is not valid: ${(error as Error).message}`);
    }
  }

  /**
   * Makes one call, in bytes.
   * @param path `/package.Service/Method`
   * @param message the request, encoded; so is the reply.
   * @throws {GrpcError} never later than `timeoutMs` (DEADLINE_EXCEEDED), at once when `signal` is aborted
   * (CANCELLED), UNAVAILABLE when the connection fails, else with the status of the server.
   */
  async unary(path: string, message: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<Uint8Array> {
    const late = () => new GrpcError(GrpcCode.DEADLINE_EXCEEDED, `no answer within ${timeoutMs / 1000} s`);
    using limit = new Deadline(timeoutMs, late, signal);
    try {
      return await this.#send(path, message, timeoutMs, limit.signal);
    } catch (error) {
      if (error instanceof GrpcError) throw error;
      if (signal?.aborted) throw new GrpcError(GrpcCode.CANCELLED, "cancelled");
      throw new GrpcError(GrpcCode.UNAVAILABLE, reasonOf(error));
    }
  }

  async #send(path: string, message: Uint8Array, timeoutMs: number, signal: AbortSignal): Promise<Uint8Array> {
    this.#http ??= httpClientOf(this.#socket);
    const { status, headers, body } = await fetch(`http://localhost${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/grpc", "TE": "trailers", "grpc-timeout": `${timeoutMs}m` },
      body: framed(message),
      redirect: "error",
      client: this.#http,
      signal,
    });
    const bytes = await bytesOf(body, signal);
    // fetch shows no trailers. A call that fails has none: its status is in the only headers that come ("Trailers-Only").
    const code = Number(headers.get("grpc-status") ?? GrpcCode.OK);
    if (code !== GrpcCode.OK) throw new GrpcError(code, unescaped(headers.get("grpc-message") ?? ""));
    if (status !== 200) {
      throw new GrpcError(GrpcCode.UNKNOWN, `it is no gRPC server: it answered with HTTP status ${status}`);
    }
    return unframed(bytes);
  }

  /** Ends the connection once the calls under way have. The next call makes another. */
  close(): void {
    this.#http?.close();
    this.#http = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Makes a client of HTTP/2 without TLS over a unix socket. To Deno the socket is a proxy, and NO_PROXY, which it
 * reads when a client is made, is heeded for that one too (2.9.6): the call would go to port 80 of this host.
 */
function httpClientOf(path: string): Deno.HttpClient {
  const kept = ["NO_PROXY", "no_proxy"].map((name) => [name, Deno.env.get(name)] as const);
  for (const [name] of kept) Deno.env.delete(name);
  try {
    return Deno.createHttpClient({ proxy: { transport: "unix", path }, http1: false, http2: true });
  } finally {
    for (const [name, value] of kept) if (value !== undefined) Deno.env.set(name, value);
  }
}

/** Returns the message with its prefix before it. */
export function framed(message: Uint8Array): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(PREFIX_BYTES + message.length);
  new DataView(frame.buffer).setUint32(1, message.length);
  frame.set(message, PREFIX_BYTES);
  return frame;
}

/**
 * Returns the message of a body that is one message and no more.
 * @throws {GrpcError} INTERNAL if it is not.
 */
export function unframed(frame: Uint8Array): Uint8Array {
  if (frame.length < PREFIX_BYTES) throw new GrpcError(GrpcCode.INTERNAL, "its answer has no message");
  if (frame[0] !== 0) throw new GrpcError(GrpcCode.INTERNAL, "its answer is compressed; it must not be");
  const length = new DataView(frame.buffer, frame.byteOffset).getUint32(1);
  const message = frame.subarray(PREFIX_BYTES);
  if (message.length !== length) {
    throw new GrpcError(GrpcCode.INTERNAL, `its answer has ${count(message.length, "byte")} instead of ${length}`);
  }
  return message;
}

/** Returns all of a body that is no larger than one message. */
async function bytesOf(body: ReadableStream<Uint8Array> | null, signal: AbortSignal): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunksOf(body, signal)) {
    size += chunk.length;
    if (size > PREFIX_BYTES + MAX_MESSAGE_BYTES) {
      throw new GrpcError(
        GrpcCode.RESOURCE_EXHAUSTED,
        `its answer is larger than ${MAX_MESSAGE_BYTES / 1024 ** 2} MiB`,
      );
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, size);
}

/** Returns fetch's error without the address, which is only that of the HTTP request: `localhost`. */
function reasonOf(error: unknown): string {
  const { message } = causeOf(error);
  const connect = /client error \(Connect\): (.*?)(?: \(os error \d+\))?$/.exec(message)?.[1];
  if (connect !== undefined) return `no connection (${connect})`;
  return message.replace(/^error sending request for url \([^)]*\): /, "");
}

/** Decodes percent-encoded UTF-8; returns the text of a server that does not encode as it is. */
function unescaped(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
