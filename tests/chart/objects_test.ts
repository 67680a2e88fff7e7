/** The objects besides the DaemonSet. */
import assert from "node:assert/strict";
import { type Any, CHART, HELM, render, type RenderOptions } from "./helm.ts";
import { Metrics } from "../../src/metrics.ts";
import { run } from "../support/run.ts";

const LABELS = { "app.kubernetes.io/name": "packet-capture", "app.kubernetes.io/instance": "pc" };

Deno.test("helm lint finds nothing, however strict", async () => {
  await run([HELM, "lint", CHART, "--strict"], { env: { KUBECONFIG: "/dev/null" } });
});

Deno.test("by default there are the DaemonSet, its account and role, who may read, and the test pod", async () => {
  const { objects } = await render();
  assert.deepEqual(
    objects.map(({ kind }) => kind).sort(),
    [
      ...["ClusterRole", "ClusterRole", "ClusterRole", "ClusterRole", "ClusterRoleBinding", "DaemonSet", "Pod"],
      ...["ServiceAccount", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
    ],
  );
});

Deno.test("the role is for pods and events, and nothing else", async () => {
  const { rules } = (await render()).controllerRole;
  assert.deepEqual(rules, [
    { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch"] },
    { apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
  ]);
});

Deno.test("the role is bound to the account, whoever made it", async () => {
  for (
    const [serviceAccount, name] of [
      [{}, "pc"],
      [{ name: "mine" }, "mine"],
      [{ create: false }, "default"],
      [{ create: false, name: "mine" }, "mine"],
    ] as const
  ) {
    const rendered = await render({ serviceAccount });
    const { roleRef, subjects } = rendered.one("ClusterRoleBinding");
    assert.equal(roleRef.name, rendered.controllerRole.metadata.name);
    assert.deepEqual(subjects, [{ kind: "ServiceAccount", name, namespace: "tools" }]);
    assert.equal(rendered.pod.spec.serviceAccountName, name);
  }
});

Deno.test("releases side by side share no name", async () => {
  const releases: RenderOptions[] = [
    { release: "a", namespace: "b-c" },
    { release: "a", namespace: "b" },
    { release: "b", namespace: "b" },
    { release: "c", namespace: "a-b" },
    { release: "b-c", namespace: "a" },
    { release: "b.c", namespace: "a" },
    { release: "c", namespace: "a" },
  ];
  // These are known by the release's name: Helm refuses a second release of the same name.
  const known = /^ClusterRole {2}\S+-(request|read|read-headers)$/;
  const everything = {
    metrics: { podMonitor: { enabled: true }, dashboard: { enabled: true } },
    networkPolicy: { enabled: true },
    admissionPolicy: { enabled: true },
    readPolicy: { subjects: [{ kind: "User", name: "jane" }] },
  };
  const seen = new Set<string>();
  for (const release of releases) {
    for (const { kind, metadata } of (await render(everything, release)).objects) {
      const id = `${kind} ${metadata.namespace ?? ""} ${metadata.name}`;
      assert.ok(!seen.has(id) || known.test(id), id);
      seen.add(id);
    }
  }
});

Deno.test("every object but the test pod has the release's labels, and a namespace if it can", async () => {
  const { objects } = await render({
    metrics: { podMonitor: { enabled: true }, dashboard: { enabled: true } },
    networkPolicy: { enabled: true },
    admissionPolicy: { enabled: true },
    readPolicy: { subjects: [{ kind: "User", name: "jane" }] },
  });
  assert.equal(objects.length, 19);
  for (const { kind, metadata } of objects) {
    const cluster = /^Cluster|^Validating/.test(kind);
    assert.equal(metadata.namespace, cluster ? undefined : "tools", kind);
    assert.equal(metadata.labels["app.kubernetes.io/instance"], "pc", kind);
    assert.equal(metadata.labels["app.kubernetes.io/managed-by"], "Helm", kind);
  }
});

Deno.test("helm test's pod asks as the controllers' account, with none of their privileges", async () => {
  const { metadata, spec } = (await render()).one("Pod");
  assert.equal(metadata.annotations["helm.sh/hook"], "test");
  // The DaemonSet would take a pod with its labels for one of its own.
  assert.notEqual(metadata.labels["app.kubernetes.io/name"], "packet-capture");
  assert.equal(spec.serviceAccountName, "pc");
  assert.deepEqual(spec.containers[0].args, ["check", "tools/pc"]);
  assert.equal(spec.volumes, undefined);
  assert.equal(spec.securityContext.runAsNonRoot, true);
});

Deno.test("a PodMonitor finds the pods and keeps the captured pod's labels", async () => {
  const rendered = await render({ metrics: { podMonitor: { enabled: true } } });
  const { selector, podMetricsEndpoints: [endpoint, ...others] } = rendered.one("PodMonitor").spec;
  assert.deepEqual(selector, { matchLabels: LABELS });
  assert.deepEqual(others, []);
  assert.equal(endpoint.port, rendered.container.ports[0].name);
  assert.equal(endpoint.path, "/metrics");
  assert.equal(endpoint.honorLabels, true);
});

Deno.test("a NetworkPolicy lets in the metrics port, and out the API server's ports", async () => {
  const { spec } = (await render({ networkPolicy: { enabled: true } })).one("NetworkPolicy");
  assert.deepEqual(spec, {
    podSelector: { matchLabels: LABELS },
    policyTypes: ["Ingress", "Egress"],
    ingress: [{ ports: [{ protocol: "TCP", port: 9090 }] }],
    egress: [{ ports: [443, 6443, 8443, 16443].map((port) => ({ protocol: "TCP", port })) }],
  });
  const closed = (await render({ networkPolicy: { enabled: true }, metrics: { enabled: false } })).one("NetworkPolicy");
  assert.deepEqual(closed.spec.ingress, []);
});

Deno.test("the dashboard asks only for metrics that there are, and for all of them", async () => {
  const text: string = (await render({ metrics: { dashboard: { enabled: true } } })).one("ConfigMap")
    .data["packet-capture.json"];
  const { panels } = JSON.parse(text);
  const asked = new Set<string>();
  for (const { targets } of panels) {
    for (const { expr } of targets) for (const [name] of expr.matchAll(/packet_capture_\w+/g)) asked.add(name);
  }
  const histogram = "packet_capture_start_duration_seconds";
  const there = [...(await new Metrics().text()).matchAll(/^# TYPE (\S+)/gm)].map(([, name]) => name!);
  const names = there.map((name) => name === histogram ? `${histogram}_bucket` : name);
  assert.deepEqual([...asked].sort(), names.sort());
  assert.equal(new Set(panels.map((panel: Any) => panel.id)).size, panels.length);
});
