/**
 * The container runtime, as a CRI client: the only file that talks to it. It makes two calls, with `cri.proto` reduced to
 * the fields that are read, so it works with containerd ≥ 1.6 and CRI-O.
 *
 * `GetContainerEvents` is not used: containerd 1.6 lacks it, and 1.7 gives each event to one subscriber only, so it would
 * steal the kubelet's.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { GrpcClient, GrpcCode, GrpcError } from "./grpc.ts";
import { type PodSandbox, PodSandboxState, type PodSandboxStatusResponse, RuntimeService } from "./cri_pb.ts";

/** An in-memory answer, so one that takes this long is not on its way any more. Milliseconds. */
const LIST_TIMEOUT_MS = 5_000;
/** The runtime may ask the sandbox's shim for this one. Milliseconds. */
const STATUS_TIMEOUT_MS = 10_000;

/** Talks CRI v1 over a unix socket. Calls fail with a {@linkcode GrpcError} of one sentence for people, never later than their deadline. */
export class Runtime implements Disposable {
  readonly #socket: string;
  readonly #grpc: GrpcClient;
  readonly #listTimeoutMs: number;

  /** @param socket An absolute path; nothing need listen there yet, and it may be made again at any time. */
  constructor(socket: string, { listTimeoutMs = LIST_TIMEOUT_MS }: { listTimeoutMs?: number } = {}) {
    this.#socket = socket;
    this.#grpc = new GrpcClient(socket);
    this.#listTimeoutMs = listTimeoutMs;
  }

  /** Returns all READY sandboxes of the node, in no order. */
  listReady(signal?: AbortSignal): Promise<PodSandbox[]> {
    return this.#list({}, signal);
  }

  /** Checks that the runtime answers: a list of what does not exist, for a third of the CPU time that a whole one takes. */
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
      if (error instanceof GrpcError && error.code === GrpcCode.DEADLINE_EXCEEDED) this.#grpc.close();
      throw error;
    }
  }

  /** Returns the runtime's status of a sandbox, its verbose `info` included. Code NOT_FOUND: there is no such sandbox. */
  async status(id: string, signal?: AbortSignal): Promise<PodSandboxStatusResponse> {
    const request = { podSandboxId: id, verbose: true };
    return await this.#call(RuntimeService.method.podSandboxStatus, request, STATUS_TIMEOUT_MS, signal);
  }

  [Symbol.dispose](): void {
    this.#grpc.close();
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<MessageShape<O>> {
    try {
      return await this.#grpc.call(method, request, timeoutMs, signal);
    } catch (error) {
      if (!(error instanceof GrpcError)) throw error;
      const why = reason(error.code, error.message, timeoutMs);
      throw new GrpcError(
        error.code,
        `Cannot call ${method.name} of the container runtime at ${this.#socket}: ${why}`,
      );
    }
  }
}

function reason(code: number, why: string, timeoutMs: number): string {
  if (code === GrpcCode.DEADLINE_EXCEEDED) return `it did not answer within ${timeoutMs / 1000} s`;
  if (code === GrpcCode.UNIMPLEMENTED) {
    return `it does not serve CRI v1 (${why}); containerd 1.6 or newer with its CRI plugin enabled, or CRI-O, is needed`;
  }
  return why || `gRPC status ${code}`;
}
