/** The defaults that users rely on, written out: another one is another contract. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { attempt } from "../support/run.ts";
import { VERSION } from "../../src/version.ts";
import { ROOT } from "../rig/cli.ts";
import { ALONE, CHART, defaultValues, HELM, render, Rendered } from "./helm.ts";
import { loadAll } from "js-yaml";

Deno.test("the chart's defaults are what is promised", async () => {
  assert.deepEqual(await defaultValues(), {
    image: { repository: "packet-capture", tag: "", digest: "", pullPolicy: "IfNotPresent" },
    imagePullSecrets: [],
    captureDir: "/captures",
    storage: { type: "emptyDir", emptyDir: { sizeLimit: "" }, hostPath: { path: "" } },
    privilege: { mode: "capabilities" },
    seLinuxOptions: {},
    rbac: { create: true },
    serviceAccount: { create: true, name: "", annotations: {} },
    cri: { socket: "/run/containerd/containerd.sock" },
    netnsDir: "/run/netns",
    annotationKey: "tcpdump.antrea.io",
    limits: {
      maxFiles: 100,
      maxFileSizeMB: 100,
      maxCaptures: 64,
      diskBudgetMB: 1500,
      perNamespace: { maxCaptures: "", diskBudgetMB: "" },
      minFreePercent: 16,
      maxBufferMB: 32,
      maxDuration: "24h",
    },
    namespaces: { allow: [], deny: [] },
    allowHostNetworkPods: false,
    hostNetwork: false,
    retention: { afterPodDeletion: "0s" },
    events: { enabled: true },
    metrics: {
      enabled: true,
      port: 9090,
      podMonitor: { enabled: false, labels: {} },
      dashboard: { enabled: false, labels: { grafana_dashboard: "1" } },
    },
    networkPolicy: { enabled: false, metricsFrom: [], apiServerPorts: [443, 6443, 8443, 16443] },
    readPolicy: { enabled: true, subjects: [] },
    admissionPolicy: { enabled: false, exemptUsers: [] },
    resources: { requests: { cpu: "100m", memory: "128Mi" }, limits: { cpu: "500m", memory: "512Mi" } },
    reader: { resources: { requests: { cpu: "10m", memory: "16Mi" }, limits: { cpu: "500m", memory: "256Mi" } } },
    tolerations: [{ operator: "Exists" }],
    nodeSelector: {},
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{
            matchExpressions: [
              { key: "eks.amazonaws.com/compute-type", operator: "NotIn", values: ["fargate"] },
              { key: "type", operator: "NotIn", values: ["virtual-kubelet"] },
            ],
          }],
        },
      },
    },
    priorityClassName: "",
    podAnnotations: {},
    podLabels: {},
    extraEnv: [],
    logLevel: "info",
    logFormat: "logfmt",
    updateStrategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } },
    terminationGracePeriodSeconds: 30,
  });
});

Deno.test("the defaults are in the DaemonSet as they are in the values", async () => {
  const { daemonSet, pod, container, reader } = await render();
  assert.equal(container.image, `packet-capture:${VERSION}`);
  assert.equal(container.imagePullPolicy, "IfNotPresent");
  assert.deepEqual(container.resources, {
    requests: { cpu: "100m", memory: "128Mi" },
    limits: { cpu: "500m", memory: "512Mi" },
  });
  assert.deepEqual(reader.resources, {
    requests: { cpu: "10m", memory: "16Mi" },
    limits: { cpu: "500m", memory: "256Mi" },
  });
  assert.deepEqual(pod.spec.tolerations, [{ operator: "Exists" }]);
  assert.deepEqual(pod.spec.nodeSelector, { "kubernetes.io/os": "linux" });
  assert.equal(pod.spec.terminationGracePeriodSeconds, 30);
  assert.deepEqual(daemonSet.spec.updateStrategy, { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 1 } });
});

/** Rows of a README's tables that say what to add to `helm install`: its words, as a shell splits them. */
async function overrides(file: string): Promise<string[][]> {
  const text = await Deno.readTextFile(join(ROOT, file));
  const spans = [...text.matchAll(/^\|.*$/gm)].flatMap(([row]) => [...row.matchAll(/`(--set [^`]+)`/g)]);
  return spans.map(([, words]) => words!.replaceAll("'", "").split(" "));
}

Deno.test("what the chart's README says to add to helm install is taken, for every runtime and node", async () => {
  const sockets = new Set<string>();
  const found = await overrides("charts/README.md.gotmpl");
  assert.ok(found.length >= 12, `only ${found.length} overrides were found`);
  for (const args of found) {
    const { code, stdout, stderr } = await attempt([HELM, "template", "pc", CHART, ...args], { env: ALONE });
    assert.equal(code, 0, `${args.join(" ")}: ${stderr}`);
    const rendered = new Rendered(loadAll(stdout).filter(Boolean) as never);
    const socket = /^cri\.socket=(.+)$/.exec(args[1]!)?.[1];
    if (socket === undefined) continue;
    sockets.add(socket);
    assert.equal(rendered.env["CRI_SOCKET"], socket);
    assert.equal(`${rendered.volume("cri").hostPath.path}/${socket.split("/").at(-1)}`, socket);
  }
  assert.deepEqual([...sockets].sort(), [
    "/run/crio/crio.sock",
    "/run/k0s/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/var/snap/microk8s/common/run/containerd.sock",
  ]);
});
