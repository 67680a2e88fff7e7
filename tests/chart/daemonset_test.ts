import assert from "node:assert/strict";
import { type Any, render } from "./helm.ts";

const CAPABILITIES = ["SYS_ADMIN", "NET_RAW", "SETUID", "SETGID"];

Deno.test("the DaemonSet is named after the release and finds its pods by name and instance", async () => {
  const { daemonSet, container, pod } = await render({}, { release: "blue", namespace: "tools" });
  const selector = { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "blue" };
  assert.equal(daemonSet.metadata.name, "blue");
  assert.equal(daemonSet.metadata.namespace, "tools");
  assert.deepEqual(daemonSet.spec.selector.matchLabels, selector);
  for (const [name, value] of Object.entries(selector)) {
    assert.equal(pod.metadata.labels[name], value);
    assert.equal(daemonSet.metadata.labels[name], value);
  }
  assert.equal(container.name, "packet-capture");
});

Deno.test("the pod is hardened by default", async () => {
  const { pod, container } = await render();
  assert.deepEqual(container.securityContext, {
    runAsUser: 0,
    runAsGroup: 0,
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"], add: CAPABILITIES },
  });
  assert.deepEqual(pod.spec.securityContext, { seccompProfile: { type: "RuntimeDefault" } });
  for (const name of ["hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace", "dnsPolicy"]) {
    assert.equal(pod.spec[name], undefined, name);
  }
  assert.equal(pod.spec.enableServiceLinks, false);
});

Deno.test("privileged mode is privileged and names no capabilities", async () => {
  const { pod, container } = await render({ privilege: { mode: "privileged" } });
  assert.deepEqual(container.securityContext, {
    runAsUser: 0,
    runAsGroup: 0,
    readOnlyRootFilesystem: true,
    privileged: true,
  });
  assert.equal(pod.spec.hostPID, undefined);
});

Deno.test("the node is mounted read-only, in two directories, and new mounts are seen", async () => {
  const rendered = await render();
  assert.deepEqual(rendered.volume("cri"), { name: "cri", hostPath: { path: "/run/containerd", type: "Directory" } });
  assert.deepEqual(rendered.volume("netns"), { name: "netns", hostPath: { path: "/run/netns", type: "Directory" } });
  for (const [name, mountPath] of [["cri", "/run/containerd"], ["netns", "/run/netns"]] as const) {
    const expected = { name, mountPath, readOnly: true, mountPropagation: "HostToContainer" };
    assert.deepEqual(rendered.mount(name), expected);
  }
  assert.deepEqual(rendered.pod.spec.volumes.map((volume: Any) => volume.name), ["captures", "token", "cri", "netns"]);
});

Deno.test("a runtime's socket right in /run leaves the container's own /run in place", async () => {
  for (const dir of ["/run", "/var/run"]) {
    const rendered = await render({ cri: { socket: `${dir}/cri-dockerd.sock` } });
    assert.equal(rendered.volume("cri").hostPath.path, dir);
    assert.equal(rendered.mount("cri").mountPath, "/host/run");
    assert.equal(rendered.env["CRI_SOCKET"], "/host/run/cri-dockerd.sock");
  }
});

Deno.test("the probes are httpGet on the metrics port, also without metrics", async () => {
  const { container } = await render({ metrics: { enabled: false, port: 9191 } });
  assert.deepEqual(container.ports, [{ name: "http", containerPort: 9191, protocol: "TCP" }]);
  for (
    const [probe, path] of [["startupProbe", "/healthz"], ["livenessProbe", "/healthz"], ["readinessProbe", "/readyz"]]
  ) {
    assert.deepEqual(container[probe!].httpGet, { path, port: "http" });
    assert.equal(container[probe!].exec, undefined);
  }
  // A start may take a minute, and the kubelet gives up no sooner.
  assert.ok(container.startupProbe.periodSeconds * container.startupProbe.failureThreshold >= 60);
});

Deno.test("an emptyDir is 25 % larger than the budget", async () => {
  for (const [diskBudgetMB, sizeLimit] of [[1500, "1875M"], [2, "3M"], [100_000_000, "125000000M"]] as const) {
    assert.deepEqual((await render({ limits: { diskBudgetMB } })).volume("captures").emptyDir, { sizeLimit });
  }
});

Deno.test("a hostPath is the release's own by default", async () => {
  const values = { storage: { type: "hostPath" } };
  const rendered = await render(values, { release: "blue", namespace: "tools" });
  assert.deepEqual(rendered.volume("captures"), {
    name: "captures",
    hostPath: { path: "/var/lib/packet-capture/tools-blue", type: "DirectoryOrCreate" },
  });
  assert.deepEqual(rendered.mount("captures"), { name: "captures", mountPath: "/captures" });
});

Deno.test("numbers are written out, however large and however given", async () => {
  const file = await render({ limits: { diskBudgetMB: 1000000, maxFiles: 10000 } });
  assert.equal(file.env["DISK_BUDGET_MB"], "1000000");
  const flag = await render({}, { args: ["--set", "limits.diskBudgetMB=1000000"] });
  assert.equal(flag.env["DISK_BUDGET_MB"], "1000000");
});

Deno.test("podLabels and nodeSelector add to the chart's own and never replace them", async () => {
  const { pod } = await render({ podLabels: { "helm.sh/chart": "mine", team: "net" }, nodeSelector: { disk: "ssd" } });
  assert.equal(pod.metadata.labels["team"], "net");
  assert.match(pod.metadata.labels["helm.sh/chart"], /^packet-capture-/);
  assert.deepEqual(pod.spec.nodeSelector, { "kubernetes.io/os": "linux", disk: "ssd" });
});

Deno.test("every list and map of values.yaml may be set to null to empty it", async () => {
  const nulls = Object.fromEntries(
    ["imagePullSecrets", "seLinuxOptions", "tolerations", "nodeSelector", "affinity", "podAnnotations", "podLabels"]
      .concat(["extraEnv", "resources", "priorityClassName"]).map((name) => [name, null]),
  );
  const { pod, container, reader } = await render({
    ...nulls,
    reader: { resources: null },
    metrics: { podMonitor: { enabled: true, labels: null }, dashboard: { enabled: true, labels: null } },
    networkPolicy: { enabled: true, metricsFrom: null },
    admissionPolicy: { enabled: true, exemptUsers: null },
    readPolicy: { subjects: null },
    serviceAccount: { annotations: null },
  });
  assert.equal(pod.spec.tolerations, undefined);
  assert.deepEqual([container.resources, reader.resources], [undefined, undefined]);
});
