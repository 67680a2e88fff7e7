/** The container in which captures are read: it has the files and nothing else of what the controller has. */
import assert from "node:assert/strict";
import { type Any, render, type Rendered } from "./helm.ts";

const TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount";

/** Values in which every privilege and every source of settings that the chart has is given. */
const GENEROUS = {
  privilege: { mode: "privileged" },
  seLinuxOptions: { type: "spc_t" },
  extraEnv: [{ name: "HTTP_HOST", value: "::" }],
};

Deno.test("the controller is the first container, the reader the second, of the same image", async () => {
  const { pod } = await render();
  const [controller, reader, ...others] = pod.spec.containers;
  assert.deepEqual([controller.name, reader.name, others], ["packet-capture", "reader", []]);
  assert.deepEqual([reader.image, reader.imagePullPolicy], [controller.image, controller.imagePullPolicy]);
  assert.equal(pod.spec.initContainers, undefined);
});

Deno.test("the reader has no privilege, whatever the controller has", async () => {
  for (const [values, seLinuxOptions] of [[{}, undefined], [GENEROUS, { type: "spc_t" }]] as const) {
    const { reader } = await render(values);
    assert.deepEqual(reader.securityContext, {
      runAsUser: 0,
      runAsGroup: 0,
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      seccompProfile: { type: "RuntimeDefault" },
      ...(seLinuxOptions === undefined ? {} : { seLinuxOptions }),
    });
  }
});

Deno.test("of the node and the pod the reader has captureDir alone, with each kind of storage", async () => {
  for (const type of ["emptyDir", "hostPath"]) {
    const { reader, volume } = bound(await render({ ...GENEROUS, storage: { type }, captureDir: "/var/captures" }));
    assert.deepEqual(reader.volumeMounts, [{ name: "captures", mountPath: "/var/captures" }]);
    assert.ok(volume("captures")[type], type);
    for (const key of ["volumeDevices", "ports", "envFrom", "lifecycle"]) assert.equal(reader[key], undefined, key);
  }
});

Deno.test("the service account's token is mounted into the controller alone, as the kubelet would mount it", async () => {
  const { pod, container, reader, volume } = bound(await render());
  assert.equal(pod.spec.automountServiceAccountToken, false);
  const [mount, ...others] = container.volumeMounts.filter(({ mountPath }: Any) => mountPath === TOKEN);
  assert.deepEqual(others, []);
  assert.equal(mount.readOnly, true);
  const { sources } = volume(mount.name).projected;
  assert.deepEqual(sources.map((source: Any) => Object.keys(source)[0]), [
    "serviceAccountToken",
    "configMap",
    "downwardAPI",
  ]);
  assert.deepEqual(sources[0].serviceAccountToken, { path: "token", expirationSeconds: 3607 });
  assert.deepEqual(sources[1].configMap, { name: "kube-root-ca.crt", items: [{ key: "ca.crt", path: "ca.crt" }] });
  assert.deepEqual(sources[2].downwardAPI.items, [{
    path: "namespace",
    fieldRef: { apiVersion: "v1", fieldPath: "metadata.namespace" },
  }]);
  assert.ok(!reader.volumeMounts.some(({ name }: Any) => name === mount.name));
});

Deno.test("the reader waits under an init, and has what the commands that read need", async () => {
  const values = { annotationKey: "capture.example.com", captureDir: "/var/captures", logFormat: "json", ...GENEROUS };
  const { reader } = await render(values, { release: "blue", namespace: "tools" });
  const idle = await Deno.readTextFile(new URL("../../charts/files/reader-idle.sh", import.meta.url));
  assert.deepEqual(reader.command, ["/usr/bin/tini", "--", "sh", "-c", idle, "reader-idle", "300"]);
  assert.equal(reader.args, undefined);
  assert.deepEqual(Object.fromEntries(reader.env.map(({ name, value }: Any) => [name, value])), {
    ANNOTATION_KEY: "capture.example.com",
    CAPTURE_DIR: "/var/captures",
    LOG_FORMAT: "json",
    LOG_LEVEL: "info",
    READER: "true",
    RELEASE: "tools.blue",
  });
});

/** `volume` without its object. */
function bound(rendered: Rendered) {
  const { pod, container, reader } = rendered;
  return { pod, container, reader, volume: (name: string) => rendered.volume(name) };
}
