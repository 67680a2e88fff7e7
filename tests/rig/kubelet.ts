/** Plays the kubelet towards a container runtime: makes and ends pods as it does, with its labels. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { GrpcClient } from "../../src/sandboxes/grpc.ts";
import { waitFor } from "../support/wait.ts";
import { ContainerState, NamespaceMode, PodSandboxState, RuntimeService } from "./kubelet_pb.ts";

const CALL_TIMEOUT_MS = 60_000;

export interface PodOptions {
  /** @default "default" */
  namespace?: string;
  /** @default "pod" */
  name?: string;
  /** The value of the label `io.kubernetes.pod.uid`. @default a random one */
  uid?: string;
  /** How many sandboxes the pod had before. @default 0 */
  attempt?: number;
  /** @default false */
  hostNetwork?: boolean;
  /** Annotations of the sandbox, as the kubelet passes on the pod's. */
  annotations?: Record<string, string>;
}

/** A sandbox that was READY when it was made. */
export interface RunningPod {
  readonly id: string;
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  /** performance.now() when the runtime said that it is READY. */
  readonly readyAt: number;
  readonly config: MessageInitShape<typeof RuntimeService.method.runPodSandbox.input>["config"] & object;
}

export class Kubelet implements Disposable {
  readonly #client: GrpcClient;
  readonly #cgroupParent: string;
  #attempt = 0;

  /** `cgroupParent`: the cgroup below which the runtime puts its containers. */
  constructor(socket: string, cgroupParent: string) {
    this.#client = new GrpcClient(socket);
    this.#cgroupParent = cgroupParent;
  }

  /** Name and version of the runtime; rejects while it does not answer. */
  async version(timeoutMs = CALL_TIMEOUT_MS): Promise<string> {
    const { runtimeName, runtimeVersion } = await this.#call(RuntimeService.method.version, {}, timeoutMs);
    return `${runtimeName} ${runtimeVersion}`;
  }

  /** Makes a sandbox; it is READY when this resolves. */
  async runPod(options: PodOptions = {}): Promise<RunningPod> {
    const { namespace = "default", name = "pod", uid = crypto.randomUUID(), attempt = this.#attempt++ } = options;
    const config = {
      metadata: { namespace, name, uid, attempt },
      hostname: options.hostNetwork ? "" : name.slice(0, 63), // as the kubelet cuts it
      // Without any, the runtime copies the machine's /etc/resolv.conf, which may lead into the /run that is hidden from it.
      dnsConfig: { servers: ["10.96.0.10"] },
      labels: {
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.name": name,
        "io.kubernetes.pod.uid": uid,
      },
      annotations: options.annotations ?? {},
      linux: {
        cgroupParent: this.#cgroupParent,
        securityContext: {
          namespaceOptions: {
            network: options.hostNetwork ? NamespaceMode.NODE : NamespaceMode.POD,
            pid: NamespaceMode.CONTAINER,
          },
        },
      },
    };
    const { podSandboxId: id } = await this.#call(RuntimeService.method.runPodSandbox, { config });
    return { id, uid, namespace, name, readyAt: performance.now(), config };
  }

  /** Stops a sandbox: its netns goes, it is listed as NOTREADY. */
  async stopPod({ id }: { id: string }): Promise<void> {
    await this.#call(RuntimeService.method.stopPodSandbox, { podSandboxId: id });
  }

  /** Stops a sandbox and removes it. */
  async removePod(pod: { id: string }): Promise<void> {
    await this.stopPod(pod);
    await this.#call(RuntimeService.method.removePodSandbox, { podSandboxId: pod.id });
  }

  /** Starts a container of the image `localhost/busybox:1` in the pod and gives its id. */
  async startContainer(pod: RunningPod, command: readonly string[], name = "main"): Promise<string> {
    const { containerId } = await this.#call(RuntimeService.method.createContainer, {
      podSandboxId: pod.id,
      sandboxConfig: pod.config,
      config: {
        metadata: { name, attempt: 0 },
        image: { image: "localhost/busybox:1" },
        command: [...command],
        labels: { ...pod.config.labels, "io.kubernetes.container.name": name },
        linux: { securityContext: { namespaceOptions: pod.config.linux?.securityContext?.namespaceOptions ?? {} } },
      },
    });
    await this.#call(RuntimeService.method.startContainer, { containerId });
    return containerId;
  }

  /** Runs a shell command in a container and gives what it writes to standard output; rejects if it exits with another code than 0. */
  async exec(containerId: string, command: string, timeoutSeconds = 30): Promise<string> {
    const cmd = ["/bin/sh", "-c", command];
    const { stdout, stderr, exitCode } = await this.#call(RuntimeService.method.execSync, {
      containerId,
      cmd,
      timeout: BigInt(timeoutSeconds),
    });
    if (exitCode !== 0) throw new Error(`"${command}" exited with ${exitCode}: ${new TextDecoder().decode(stderr)}`);
    return new TextDecoder().decode(stdout);
  }

  async stopContainer(containerId: string, graceSeconds = 0): Promise<void> {
    await this.#call(RuntimeService.method.stopContainer, { containerId, timeout: BigInt(graceSeconds) });
  }

  /** Waits until the container has ended and gives its exit code. */
  async ended(containerId: string, timeoutMs = 30_000): Promise<number> {
    return await waitFor(`the end of container ${containerId}`, async () => {
      const { status } = await this.#call(RuntimeService.method.containerStatus, { containerId });
      return status?.state === ContainerState.CONTAINER_EXITED && { code: status.exitCode };
    }, { timeoutMs, everyMs: 20 }).then(({ code }) => code);
  }

  /** Ids of the sandboxes that the runtime has, and whether they are READY. */
  async sandboxes(): Promise<{ id: string; uid: string; ready: boolean }[]> {
    const { items } = await this.#call(RuntimeService.method.listPodSandbox, {});
    return items.map(({ id, metadata, state }) => (
      { id, uid: metadata?.uid ?? "", ready: state === PodSandboxState.SANDBOX_READY }
    ));
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }

  async #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs = CALL_TIMEOUT_MS,
  ): Promise<MessageShape<O>> {
    try {
      return await this.#client.call(method, request, timeoutMs);
    } catch (error) {
      throw new Error(`${method.name}: ${(error as Error).message}`);
    }
  }
}
