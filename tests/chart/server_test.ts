/** What a real API server makes of the chart's objects: strict validation, Pod Security, RBAC. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { EFFECTS, valuesOf } from "./effects.ts";
import { type Any, KUBECTL, render, Rendered, type Values } from "./helm.ts";

/** All that the chart can make at once. */
const EVERYTHING: Values = {
  metrics: { podMonitor: { enabled: true }, dashboard: { enabled: true } },
  networkPolicy: { enabled: true },
  admissionPolicy: { enabled: true },
  readPolicy: { subjects: [{ kind: "User", name: "jane" }] },
};

/** The Prometheus operator's module: its CRD tells whether the PodMonitor is one. */
const OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0";
const CRD = "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml";

Deno.test("a real API server", async (t) => {
  await using server = await ApiServer.start();
  await server.createNamespace("tools");
  const leaf = await server.authority.issue("root", "/O=system:masters/CN=root");
  const env = { KUBECONFIG: await server.kubeconfig("root", leaf) };
  const cache = `--cache-dir=${join(server.dir, "kubectl")}`;

  async function kubectl(args: readonly string[], stdin = ""): Promise<{ json: Any; stderr: string }> {
    const { code, stdout, stderr } = await attempt([KUBECTL, ...args, cache, "-o", "json"], { env, input: stdin });
    assert.equal(code, 0, stderr);
    return { json: JSON.parse(stdout), stderr };
  }
  /** What the server would make of these objects; a warning is a fault. */
  async function dryRun({ objects }: Rendered): Promise<Rendered> {
    const list = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    const args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    const { json, stderr } = await kubectl(args, list);
    assert.equal(stderr, "");
    return new Rendered(json.kind === "List" ? json.items : [json]);
  }

  const { Dir } = JSON.parse(await run(["go", "mod", "download", "-json", OPERATOR], { cwd: server.dir }));
  await kubectl(["create", "-f", join(Dir, CRD)]);
  await waitFor("the PodMonitor CRD", async () => {
    return (await server.admin.fetch("/apis/monitoring.coreos.com/v1/namespaces/tools/podmonitors")).ok;
  });

  await t.step("takes all objects, in strict validation and without a warning", async () => {
    const rendered = await render(EVERYTHING);
    const live = await dryRun(rendered);
    assert.deepEqual(live.objects.map(({ kind }) => kind).sort(), rendered.objects.map(({ kind }) => kind).sort());
    await dryRun(await render({ ...EVERYTHING, privilege: { mode: "privileged" }, storage: { type: "hostPath" } }));
    await dryRun(await render({ ...EVERYTHING, hostNetwork: true, allowHostNetworkPods: true }));
    // The longest name that Helm takes, with dots.
    await dryRun(await render(EVERYTHING, { release: `${"a".repeat(25)}.${"b".repeat(27)}` }));
  });

  for (const effect of EFFECTS) {
    await t.step(`${effect.name} shows in what the API server makes of it`, async () => {
      const live = await dryRun(await render(valuesOf(effect, true)));
      assert.deepEqual(effect.see(live), effect.expect);
    });
  }

  /** Why the API server would refuse a pod in a namespace of this Pod Security level; undefined: it would not. */
  async function podSecurity(level: string, { metadata, spec }: Any): Promise<string | undefined> {
    const path = `/api/v1/namespaces/${level}/pods?dryRun=All`;
    const object = { metadata: { name: "x", labels: metadata.labels }, spec };
    return await server.call("POST", path, object).then(() => undefined, (error: Error) => error.message);
  }
  await t.step("lets the controller into a namespace that is labelled as NOTES say, and no other", async () => {
    for (const level of ["privileged", "baseline", "restricted"]) {
      const labels = { "pod-security.kubernetes.io/enforce": level };
      await server.call("POST", "/api/v1/namespaces", { metadata: { name: level, labels } });
    }
    for (const mode of ["capabilities", "privileged"]) {
      const { pod } = await render({ privilege: { mode } });
      assert.equal(await podSecurity("privileged", pod), undefined);
      assert.match((await podSecurity("baseline", pod))!, /violates PodSecurity \\"baseline:latest/);
    }
  });

  await t.step("lets the test pod in even where Pod Security is strictest", async () => {
    assert.equal(await podSecurity("restricted", (await render()).one("Pod")), undefined);
  });

  await t.step("gives the service account what it needs and nothing else", async () => {
    const { objects } = await render();
    for (const object of objects.filter(({ kind }) => /^ClusterRole(Binding)?$/.test(kind))) {
      const { kind } = object;
      await server.call("POST", `/apis/rbac.authorization.k8s.io/v1/${kind.toLowerCase()}s`, object);
    }
    async function may(verb: string, resource: string, group = ""): Promise<boolean> {
      const [name, subresource = ""] = resource.split("/");
      const { status } = await server.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {
        spec: {
          user: "system:serviceaccount:tools:pc",
          groups: ["system:serviceaccounts", "system:authenticated"],
          resourceAttributes: { namespace: "default", verb, resource: name, subresource, group },
        },
      });
      return status.allowed;
    }
    await waitFor("the role", () => may("watch", "pods"));
    for (const verb of ["get", "list", "watch"]) assert.ok(await may(verb, "pods"), verb);
    for (const verb of ["create", "patch"]) assert.ok(await may(verb, "events", "events.k8s.io"), verb);
    for (
      const [verb, resource, group] of [
        ["create", "pods/exec"],
        ["get", "pods/exec"],
        ["get", "pods/log"],
        ["create", "pods/portforward"],
        ["create", "pods"],
        ["patch", "pods"],
        ["update", "pods"],
        ["delete", "pods"],
        ["patch", "pods/status"],
        ["get", "captures", "tcpdump.antrea.io"],
        ["administer", "captures", "tcpdump.antrea.io"],
        ["get", "secrets"],
        ["list", "namespaces"],
        ["get", "nodes"],
        ["create", "events"],
        ["delete", "events", "events.k8s.io"],
        ["list", "events", "events.k8s.io"],
      ]
    ) {
      assert.ok(!await may(verb!, resource!, group), `${verb} ${resource}`);
    }
  });
});
