/** What Helm prints after an installation. */
import assert from "node:assert/strict";
import { delimiter, dirname } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { ALONE, CHART, HELM, KUBECTL, render, type Values } from "./helm.ts";

async function notes(values: Values = {}): Promise<string> {
  const argv = [HELM, "install", "pc", CHART, "-n", "tools", "--dry-run=client", "-o", "json", "-f", "-"];
  const { info } = JSON.parse(await run(argv, { input: JSON.stringify(values), env: ALONE }));
  return info.notes;
}

Deno.test("NOTES say in their first paragraphs what exec here means, who may record and who may read", async () => {
  const [, first] = (await notes()).split("\n\n");
  assert.match(
    first!,
    /^ANYONE WHO CAN RUN ANY COMMAND BY "kubectl exec" HERE IS A NODE ADMINISTRATOR\. The policy leaves that to/,
  );
  assert.match(first!, /Anyone who can annotate a pod can have its traffic recorded/);
  assert.match(first!, /--clusterrole=pc-read --user=NAME -n default/);
  assert.match(first!, /--clusterrole=pc-read-headers --user=NAME -n default/);
  assert.match(first!, /Nobody but administrators reaches the reader yet: name who reads in readPolicy\.subjects/);
  const narrowed = await notes({
    admissionPolicy: { enabled: true },
    readPolicy: { subjects: [{ kind: "User", name: "jane" }] },
  });
  assert.match(narrowed, /takes the right "create" on captures\.tcpdump\.antrea\.io/);
  assert.match(narrowed, /--clusterrole=pc-request --user=NAME -n default/);
  assert.doesNotMatch(narrowed, /Nobody but administrators/);
  const open = await notes({ readPolicy: { enabled: false }, rbac: { create: false } });
  assert.match(open, /^ANYONE WHO CAN RUN "kubectl exec" HERE IS A NODE ADMINISTRATOR: they read/m);
  assert.doesNotMatch(open, /clusterrole=/);
});

Deno.test("NOTES name the exact paths, keys and labels of this release", async () => {
  const text = await notes({ annotationKey: "capture.example.com", captureDir: "/var/captures" });
  for (
    const words of [
      "kubectl label namespace tools pod-security.kubernetes.io/enforce=privileged",
      "kubectl rollout status daemonset/pc -n tools",
      "helm test pc -n tools",
      'kubectl annotate pod web-0 -n default capture.example.com="5"',
      "kubectl annotate pod web-0 -n default capture.example.com-",
      "-l app.kubernetes.io/name=packet-capture,app.kubernetes.io/instance=pc --field-selector spec.nodeName=$NODE",
      "ls -l /var/captures/default/web-0",
      "kubectl packet-capture get web-0 -n default -o web-0.pcapng",
      "dist/kubectl-packet_capture into a folder of your PATH",
      "kubectl cp -n tools -c reader ${CONTROLLER#pod/}:/var/captures/default/web-0 ./web-0",
    ]
  ) {
    assert.ok(text.includes(words), `${words} is not in: ${text}`);
  }
  assert.ok(!text.includes("tcpdump.antrea.io"));
});

Deno.test("NOTES say what becomes of the files, for each kind of storage", async () => {
  const emptyDir = await notes();
  assert.match(emptyDir, /emptyDir of 1875M: they survive a restart .*, but not the replacement of its\s+pod/);
  assert.ok(!emptyDir.includes("helm uninstall"));
  const hostPath = await notes({ storage: { type: "hostPath" } });
  assert.match(hostPath, /\/var\/lib\/packet-capture\/tools-pc on each node, also after .* "helm uninstall"/);
  // The order: no annotation, then purge, then uninstall.
  assert.match(
    hostPath,
    /annotate pods --all -A tcpdump\.antrea\.io-\n[^\n]*packet-capture purge[^\n]*\n *helm uninstall pc -n tools/,
  );
  assert.ok(!hostPath.includes("emptyDir"));
});

Deno.test("NOTES say that no NetworkPolicy applies in the host's network", async () => {
  const words = /NetworkPolicy has no effect/;
  assert.match(await notes({ hostNetwork: true, networkPolicy: { enabled: true } }), words);
  assert.doesNotMatch(await notes({ networkPolicy: { enabled: true } }), words);
});

Deno.test("NOTES' commands are taken by kubectl and a real API server", async () => {
  await using server = await ApiServer.start();
  await server.createNamespace("tools");
  const rendered = await render();
  const { daemonSet, pod } = rendered;
  for (const role of rendered.all("ClusterRole")) {
    await server.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role);
  }
  await server.call("POST", "/apis/apps/v1/namespaces/tools/daemonsets", daemonSet);
  await server.call("POST", "/api/v1/namespaces/tools/pods", {
    metadata: { name: "pc-x7x7x", labels: pod.metadata.labels },
    spec: { ...pod.spec, nodeName: "worker1" },
  });
  await server.createPod({ name: "web-0", node: "worker1" });
  await server.createPod({ name: "web-1", node: "worker2" });
  const leaf = await server.authority.issue("root", "/O=system:masters/CN=root");
  const kubeconfig = await server.kubeconfig("root", leaf);
  const path = [dirname(KUBECTL), Deno.env.get("PATH")].join(delimiter);

  const text = await notes({ storage: { type: "hostPath" }, admissionPolicy: { enabled: true } });
  // Nothing runs here that could be executed in, copied from, tested or waited for: such commands are shown instead of run.
  const commands = text.split("\n").filter((line) => /^ {2,}(kubectl|helm|NODE=|CONTROLLER=|for )/.test(line)).map((
    line,
  ) =>
    line.trim().replace(/(kubectl (exec|cp|rollout|packet-capture)|helm) /, "echo $& ").replaceAll("=NAME", "=carol")
  );
  assert.ok(commands.length >= 14, text);
  const script = ["set -eu", ...commands].join("\n").replaceAll(" > web-0.pcapng", "");
  const { code, stdout, stderr } = await attempt(["bash", "-c", script], {
    env: { KUBECONFIG: kubeconfig, PATH: path, HOME: server.dir },
    timeoutMs: 60_000,
  });
  assert.equal(code, 0, `${script}\n${stdout}\n${stderr}`);
  assert.match(stdout, /^namespace\/tools labeled$/m);
  assert.match(stdout, /^pod\/web-0 annotated$/m);
  assert.match(stdout, /^kubectl exec -n tools pod\/pc-x7x7x -c reader -- packet-capture cat default\/web-0$/m);
  assert.match(stdout, /^kubectl cp -n tools -c reader pc-x7x7x:\/captures\/default\/web-0 \.\/web-0$/m);
  assert.match(stdout, /^kubectl exec -n tools pod\/pc-x7x7x -c packet-capture -- packet-capture purge$/m);
  const { metadata } = await server.call("GET", "/api/v1/namespaces/default/pods/web-0");
  assert.equal(metadata.annotations?.["tcpdump.antrea.io"], undefined);
  // Carol has the rights that the policies ask for.
  for (const [verb, subresource] of [["create", ""], ["get", ""], ["list", ""], ["get", "headers"]]) {
    await waitFor(`carol's right to ${verb} ${subresource}`, async () => {
      const captures = { group: "tcpdump.antrea.io", resource: "captures" };
      const resourceAttributes = { ...captures, namespace: "default", verb, subresource };
      const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
      const { status } = await server.call("POST", path, { spec: { user: "carol", resourceAttributes } });
      return status.allowed;
    });
  }
});
