/** The container runtime, as a CRI client: the only file that talks to it. */
import { Buffer } from "node:buffer";
import { Client, type ClientOptions, credentials, type ServiceError, status as codes } from "@grpc/grpc-js";
import {
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { type PodSandbox, PodSandboxState, type PodSandboxStatusResponse, RuntimeService } from "./cri_pb.ts";

/** An in-memory answer, so one that takes this long is not on its way any more. Milliseconds. */
const LIST_TIMEOUT_MS = 5_000;
/** The runtime may ask the sandbox's shim for this one. Milliseconds. */
const STATUS_TIMEOUT_MS = 10_000;

const OPTIONS: ClientOptions = {
  // A new client is to mean a new connection, not the old one out of a pool that all clients share.
  "grpc.use_local_subchannel_pool": 1,
  "grpc.enable_retries": 0,
  "grpc.enable_channelz": 0,
  "grpc.service_config_disable_resolution": 1,
  // grpc-js' own are 1 s … 120 s: a restarted runtime would be found again far too late.
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  // As the kubelet's (kubernetes staging/src/k8s.io/cri-client/pkg/remote_runtime.go, maxMsgSize).
  "grpc.max_receive_message_length": 16 * 1024 * 1024,
};

/** A call to the runtime that failed: one sentence for people, and the gRPC status code. */
export class RuntimeError extends Error {
  override readonly name = "RuntimeError";
  constructor(message: string, readonly code: number) {
    super(message);
  }
}

/** Talks CRI v1 over a unix socket. Calls fail with a {@linkcode RuntimeError}, and never later than their deadline. */
export class Runtime implements Disposable {
  readonly #socket: string;
  readonly #listTimeoutMs: number;
  #client: Client | undefined;

  /** `socket` is an absolute path; nothing need listen there yet, and it may be made anew at any time. */
  constructor(socket: string, { listTimeoutMs = LIST_TIMEOUT_MS }: { listTimeoutMs?: number } = {}) {
    this.#socket = socket;
    this.#listTimeoutMs = listTimeoutMs;
  }

  /** All READY sandboxes of the node, in no order. */
  listReady(signal?: AbortSignal): Promise<PodSandbox[]> {
    return this.#list({}, signal);
  }

  /** Whether the runtime answers: a list of what does not exist, for a third of the CPU time that a whole one takes. */
  async answers(signal?: AbortSignal): Promise<void> {
    await this.#list({ "packet-capture/none": "none" }, signal);
  }

  async #list(labelSelector: Record<string, string>, signal?: AbortSignal): Promise<PodSandbox[]> {
    const filter = { state: { state: PodSandboxState.SANDBOX_READY }, labelSelector };
    try {
      const reply = await this.#call(RuntimeService.method.listPodSandbox, { filter }, this.#listTimeoutMs, signal);
      return reply.items.filter((item) => item.state === PodSandboxState.SANDBOX_READY);
    } catch (error) {
      // The connection may lead to a process that will never answer again, while its successor has the socket's path.
      if (error instanceof RuntimeError && error.code === codes.DEADLINE_EXCEEDED) this.close();
      throw error;
    }
  }

  /** What the runtime knows of a sandbox, its verbose `info` included. Code NOT_FOUND: there is no such sandbox. */
  async status(id: string, signal?: AbortSignal): Promise<PodSandboxStatusResponse> {
    const request = { podSandboxId: id, verbose: true };
    return await this.#call(RuntimeService.method.podSandboxStatus, request, STATUS_TIMEOUT_MS, signal);
  }

  /** Ends the connection. The next call makes another. */
  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<MessageShape<O>> {
    const { promise, resolve, reject } = Promise.withResolvers<MessageShape<O>>();
    this.#client ??= new Client(`unix://${this.#socket}`, credentials.createInsecure(), OPTIONS);
    const call = this.#client.makeUnaryRequest(
      `/${method.parent.typeName}/${method.name}`,
      (message: MessageShape<I>) => asBuffer(toBinary(method.input, message)),
      (bytes: Buffer) => fromBinary(method.output, bytes, { readUnknownFields: false }),
      create(method.input, request),
      { deadline: Date.now() + timeoutMs },
      (error, reply) => error ? reject(this.#explain(method.name, timeoutMs, error)) : resolve(reply!),
    );
    const cancel = () => call.cancel();
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
    return promise.finally(() => signal?.removeEventListener("abort", cancel));
  }

  #explain(method: string, timeoutMs: number, { code, details }: ServiceError): RuntimeError {
    const why = reason(code, details, timeoutMs);
    return new RuntimeError(`Cannot call ${method} of the container runtime at ${this.#socket}: ${why}`, code);
  }
}

function reason(code: number, details: string, timeoutMs: number): string {
  if (code === codes.DEADLINE_EXCEEDED) return `it did not answer within ${timeoutMs / 1000} s`;
  if (code === codes.UNIMPLEMENTED) {
    return `it does not serve CRI v1 (${details}); containerd 1.6 or newer with its CRI plugin enabled, or CRI-O, is needed`;
  }
  // grpc-js: "No connection established. Last error: Error: connect ENOENT /run/… Resolution note: "
  const connect = /\bconnect (E[A-Z]+)/.exec(details)?.[1];
  if (connect !== undefined) return `no connection (${connect})`;
  return details || `gRPC status ${code}`;
}

/** grpc-js asks for a Buffer; this one shares the bytes. */
function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
