/** Manifests of test pods. */
import type { KubeObject } from "./kube.ts";

export interface TestPodOptions {
  name: string;
  namespace: string;
  /** The node it is to run on; any by default. */
  node?: string;
  /** @default sleeps for ever */
  command?: string[];
  /** @default "localhost/busybox:1" */
  image?: string;
  annotations?: Record<string, string>;
  labels?: Record<string, string>;
  /** More of the pod's spec, such as `initContainers` or `restartPolicy`. */
  spec?: Record<string, unknown>;
}

/** A pod that ends within a second when it is deleted. `$NODE_IP` and `$POD_IP` are in its environment. */
export function testPod(options: TestPodOptions): KubeObject & { spec: Record<string, unknown> } {
  const from = (fieldPath: string) => ({ valueFrom: { fieldRef: { fieldPath } } });
  const container = {
    name: "main",
    image: options.image ?? "localhost/busybox:1",
    imagePullPolicy: "Never",
    command: options.command ?? ["sleep", "2147483647"],
    env: [{ name: "NODE_IP", ...from("status.hostIP") }, { name: "POD_IP", ...from("status.podIP") }],
  };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name: options.name,
      namespace: options.namespace,
      ...(options.annotations ? { annotations: options.annotations } : {}),
      ...(options.labels ? { labels: options.labels } : {}),
    },
    spec: {
      terminationGracePeriodSeconds: 1,
      ...(options.node ? { nodeSelector: { "kubernetes.io/hostname": options.node } } : {}),
      containers: [container],
      ...options.spec,
    },
  };
}

/** The command of a pod that pings its node once a second. */
export const PING_NODE = ["sh", "-c", 'exec ping -i 1 "$NODE_IP"'];

/**
 * The command by which a pod sends a token over UDP to an address, loopback too, whether anybody listens or not: busybox has no
 * UDP netcat, but asks any server for any name. The token is in the packet as it is, when it has no dot and ≤ 63 letters or digits.
 */
export function sendToken(token: string, address: string): string[] {
  return ["timeout", "1", "nslookup", token, address];
}
