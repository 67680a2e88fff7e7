/** The admission policy on a real API server: who may set, change and remove our annotations, and where. */
import assert from "node:assert/strict";
import { ApiClient } from "../../src/pods/api.ts";
import { waitFor } from "../cluster/wait.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { type Any, render } from "./helm.ts";

const KEY = "tcpdump.antrea.io";
const DENIED = /may not set, change or remove .*: this takes the RBAC verb "capture" on pods in namespace "shop"/;
const NAMESPACE = "shop";

const MERGE = "application/merge-patch+json";

interface Answer {
  readonly status: number;
  readonly object: Any;
}

/** One who calls the API. */
interface User {
  call(method: string, path: string, body?: unknown): Promise<Answer>;
}

/** A kind of object that has a pod template, and where in it. */
interface Workload {
  readonly kind: string;
  readonly path: string;
  make(template: Any): Any;
  /** A merge patch with this in place of the template. */
  patch(template: Any): Any;
}

const LABELS = { app: "x" };
const CONTAINERS = [{ name: "main", image: "localhost/busybox:1" }];

function workload(kind: string, group: string, resource: string, spec: Any = {}): Workload {
  const path = `${group === "" ? "/api/v1" : `/apis/${group}/v1`}/namespaces/${NAMESPACE}/${resource}`;
  const apiVersion = group === "" ? "v1" : `${group}/v1`;
  if (kind === "PodTemplate") {
    return {
      kind,
      path,
      make: (template) => ({ apiVersion, kind, template }),
      patch: (template) => ({ template }),
    };
  }
  if (kind === "CronJob") {
    return {
      kind,
      path,
      make: (template) => ({ apiVersion, kind, spec: { ...spec, jobTemplate: { spec: { template } } } }),
      patch: (template) => ({ spec: { jobTemplate: { spec: { template } } } }),
    };
  }
  return {
    kind,
    path,
    make: (template) => ({ apiVersion, kind, spec: { ...spec, template } }),
    patch: (template) => ({ spec: { template } }),
  };
}

const SELECTED = { selector: { matchLabels: LABELS } };
const WORKLOADS: readonly Workload[] = [
  workload("Deployment", "apps", "deployments", SELECTED),
  workload("ReplicaSet", "apps", "replicasets", SELECTED),
  workload("StatefulSet", "apps", "statefulsets", { ...SELECTED, serviceName: "x" }),
  workload("DaemonSet", "apps", "daemonsets", SELECTED),
  workload("ReplicationController", "", "replicationcontrollers", { selector: LABELS }),
  // Only a suspended job's template may be changed at all.
  workload("Job", "batch", "jobs", { suspend: true }),
  workload("CronJob", "batch", "cronjobs", { schedule: "0 0 * * *" }),
  workload("PodTemplate", "", "podtemplates"),
];

function template(kind: string, annotations?: Record<string, string>): Any {
  const restartPolicy = kind === "Job" || kind === "CronJob" ? "Never" : "Always";
  return {
    metadata: { labels: LABELS, ...(annotations === undefined ? {} : { annotations }) },
    spec: { containers: CONTAINERS, restartPolicy },
  };
}

const PODS = `/api/v1/namespaces/${NAMESPACE}/pods`;

function pod(name: string, annotations: Record<string, string> = {}): Any {
  return { apiVersion: "v1", kind: "Pod", metadata: { name, annotations }, spec: { containers: CONTAINERS } };
}

let serial = 0;
function fresh(): string {
  return `x-${++serial}`;
}

Deno.test("the admission policy", async (t) => {
  await using server = await ApiServer.start();
  await server.createNamespace(NAMESPACE);
  await server.createNamespace("elsewhere");

  async function send(
    client: ApiClient,
    method: string,
    path: string,
    body: unknown,
    extra: Record<string, string> = {},
  ) {
    const response = await client.fetch(path, {
      method,
      headers: { "Content-Type": method === "PATCH" ? MERGE : "application/json", ...extra },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, object: await response.json() };
  }

  using clients = new DisposableStack();
  /** A user with a certificate, who may do everything with pods and workloads, but has no verb "capture". */
  async function person(name: string): Promise<User> {
    const leaf = await server.authority.issue(name, `/CN=${name}`);
    const client = clients.use(await ApiClient.load({ kubeconfig: await server.kubeconfig(name, leaf) }));
    await server.grant(name, [{
      apiGroups: ["", "apps", "batch"],
      resources: ["*"],
      verbs: ["get", "list", "watch", "create", "update", "patch", "delete"],
    }]);
    return { call: (method, path, body) => send(client, method, path, body) };
  }
  /** Somebody whom the administrator plays: an identity of Kubernetes' own, which may do everything with pods. */
  async function played(name: string, groups: readonly string[] = []): Promise<User> {
    await server.grant(name, [{ apiGroups: [""], resources: ["pods", "pods/status"], verbs: ["create", "patch"] }]);
    // Deno joins the values of a header given twice, and the API server wants them apart: one group at most.
    const headers: Record<string, string> = { "Impersonate-User": name };
    if (groups[0] !== undefined) headers["Impersonate-Group"] = groups[0];
    return { call: (method, path, body) => send(server.admin, method, path, body, headers) };
  }

  const [alice, bob, deployer] = await Promise.all([person("alice"), person("bob"), person("deployer")]);
  const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${NAMESPACE}`;
  await server.call("POST", `${rbac}/roles`, {
    metadata: { name: "capture" },
    rules: [{ apiGroups: [""], resources: ["pods"], verbs: ["capture"] }],
  });
  await server.call("POST", `${rbac}/rolebindings`, {
    metadata: { name: "capture" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "capture" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "alice" }],
  });
  const { objects } = await render({ admissionPolicy: { enabled: true, exemptUsers: ["deployer"] } });
  const base = "/apis/admissionregistration.k8s.io/v1";
  for (const object of objects.filter(({ apiVersion }) => apiVersion === "admissionregistration.k8s.io/v1")) {
    await server.call("POST", `${base}/${(object.kind as string).toLowerCase().replace(/y$/, "ie")}s`, object);
  }

  async function allowed(answer: Promise<Answer>): Promise<Any> {
    const { status, object } = await answer;
    assert.ok(status >= 200 && status < 300, `${status} ${object.message}`);
    return object;
  }
  async function denied(answer: Promise<Answer>): Promise<void> {
    const { status, object } = await answer;
    assert.equal(status, 403, JSON.stringify(object));
    assert.match(object.message, DENIED);
  }

  // The policy and the roles reach the API server's own caches in their own time.
  await waitFor("the policy", async () => {
    const dry = (user: User) => user.call("POST", `${PODS}?dryRun=All`, pod("probe", { [KEY]: "1" }));
    const answers = await Promise.all([dry(bob), dry(alice), dry(deployer)]);
    return answers.map(({ status }) => status).join() === "403,201,201";
  }, { timeoutMs: 20_000 });

  const sub = `${KEY}/filter`;

  await t.step("a pod is created with them by who may capture, and not by who may not", async () => {
    for (const annotations of [{ [KEY]: "5" }, { [sub]: "port 80" }, { [KEY]: "5", [sub]: "icmp" }]) {
      await allowed(alice.call("POST", PODS, pod(fresh(), annotations)));
      await allowed(deployer.call("POST", PODS, pod(fresh(), annotations)));
      await denied(bob.call("POST", PODS, pod(fresh(), annotations)));
    }
    await allowed(bob.call("POST", PODS, pod(fresh())));
  });

  await t.step("the message names the user, the annotations and the namespace", async () => {
    const { object } = await bob.call("POST", PODS, pod(fresh(), { [KEY]: "5", [sub]: "icmp", other: "x" }));
    const [, keys] = /user "bob" may not set, change or remove (.*): this takes the RBAC verb "capture"/.exec(
      object.message,
    ) ?? [];
    // CEL goes through a map in any order.
    assert.deepEqual(keys?.split(", ").sort(), [KEY, sub], object.message);
    assert.ok(object.message.endsWith('in namespace "shop"'), object.message);
    assert.equal(object.reason, "Forbidden");
  });

  await t.step("on a pod they are set, changed and removed only by who may capture", async () => {
    const name = fresh();
    const path = `${PODS}/${name}`;
    await allowed(bob.call("POST", PODS, pod(name, { mine: "1" })));
    const patch = (user: User, annotations: Any) => user.call("PATCH", path, { metadata: { annotations } });
    await denied(patch(bob, { [KEY]: "5" }));
    await allowed(patch(alice, { [KEY]: "5", [sub]: "icmp" }));
    await denied(patch(bob, { [KEY]: "6" }));
    await denied(patch(bob, { [sub]: null }));
    await denied(patch(bob, { [KEY]: null }));
    await denied(patch(bob, { [`${KEY}/hold`]: "true" }));
    await denied(bob.call("PATCH", path, { metadata: { annotations: null } }));
    await allowed(patch(bob, { mine: "2", other: "x" }));
    await allowed(bob.call("PATCH", path, { metadata: { labels: { mine: "2" } } }));
    const held = (await allowed(bob.call("GET", path))).metadata.annotations;
    assert.deepEqual(held, { [KEY]: "5", [sub]: "icmp", mine: "2", other: "x" });
    await allowed(patch(alice, { [KEY]: null, [sub]: null }));
    await allowed(bob.call("DELETE", path));
  });

  await t.step("keys that only look like ours are nobody's business", async () => {
    const alike = { [`${KEY}x`]: "1", [`x.${KEY}`]: "1", [`${KEY}.example/filter`]: "1", "tcpdumpXantrea.io": "1" };
    await allowed(bob.call("POST", PODS, pod(fresh(), alike)));
  });

  await t.step("the status of a pod is no way around", async () => {
    const name = fresh();
    await allowed(bob.call("POST", PODS, pod(name)));
    const patch = (user: User, annotations: Any) =>
      user.call("PATCH", `${PODS}/${name}/status`, { metadata: { annotations } });
    await denied(patch(bob, { [KEY]: "5" }));
    await allowed(patch(bob, { mine: "1" }));
    const seen = await allowed(patch(alice, { [KEY]: "5" }));
    assert.equal(seen.metadata.annotations[KEY], "5"); // it would have been a way
    await denied(patch(bob, { [KEY]: null }));
  });

  for (const [what, path] of [["pods/binding", ""], ["bindings", "bindings"]] as const) {
    await t.step(`a binding is no way around (${what})`, async () => {
      const bind = (user: User, name: string, annotations: Any) =>
        user.call("POST", path === "" ? `${PODS}/${name}/binding` : `/api/v1/namespaces/${NAMESPACE}/${path}`, {
          apiVersion: "v1",
          kind: "Binding",
          metadata: { name, annotations },
          target: { apiVersion: "v1", kind: "Node", name: "worker1" },
        });
      const name = fresh();
      await allowed(bob.call("POST", PODS, pod(name)));
      await denied(bind(bob, name, { [KEY]: "5" }));
      await allowed(bind(bob, name, { mine: "1" }));
      const other = fresh();
      await allowed(alice.call("POST", PODS, pod(other)));
      await allowed(bind(alice, other, { [KEY]: "5" }));
      const seen = await allowed(alice.call("GET", `${PODS}/${other}`));
      assert.equal(seen.metadata.annotations[KEY], "5"); // it would have been a way
    });
  }

  await t.step("no other part of a pod carries annotations", async () => {
    const name = fresh();
    await allowed(bob.call("POST", PODS, pod(name)));
    for (const part of ["ephemeralcontainers", "resize"]) {
      // The policy would let her; if one of these becomes a way, it has to be matched.
      await allowed(alice.call("PATCH", `${PODS}/${name}/${part}`, { metadata: { annotations: { [KEY]: "5" } } }));
    }
    const { metadata } = await allowed(bob.call("GET", `${PODS}/${name}`));
    assert.equal(metadata.annotations?.[KEY], undefined);
  });

  for (const { kind, path, make, patch } of WORKLOADS) {
    await t.step(`the pod template of a ${kind} is guarded, and nothing else of it`, async () => {
      const named = (annotations?: Record<string, string>) => {
        const name = fresh();
        return [name, { ...make(template(kind, annotations)), metadata: { name } }] as const;
      };
      const annotate = (user: User, name: string, annotations: Any) =>
        user.call("PATCH", `${path}/${name}`, patch({ metadata: { annotations } }));
      const [name, annotated] = named({ [KEY]: "5" });
      await denied(bob.call("POST", path, annotated));
      await allowed(deployer.call("POST", `${path}?dryRun=All`, annotated));
      await allowed(alice.call("POST", path, annotated));

      await denied(annotate(bob, name, { [KEY]: "6" }));
      await denied(annotate(bob, name, { [sub]: "icmp" }));
      await denied(annotate(bob, name, { [KEY]: null }));
      await denied(bob.call("PATCH", `${path}/${name}`, patch({ metadata: { annotations: null } })));
      // kubectl rollout restart, another label, an edit and a scale of what is annotated already.
      await allowed(annotate(bob, name, { "kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z" }));
      await allowed(bob.call("PATCH", `${path}/${name}`, { metadata: { labels: { mine: "1" } } }));
      const image = patch({ spec: { containers: [{ name: "main", image: "localhost/busybox:2" }] } });
      if (kind !== "Job") await allowed(bob.call("PATCH", `${path}/${name}`, image)); // a job's image is immutable
      if (["Deployment", "ReplicaSet", "StatefulSet", "ReplicationController"].includes(kind)) {
        await allowed(bob.call("PATCH", `${path}/${name}/scale`, { spec: { replicas: 3 } }));
      }
      // Its own annotations reach no pod.
      await allowed(bob.call("PATCH", `${path}/${name}`, { metadata: { annotations: { [KEY]: "5" } } }));
      await allowed(annotate(alice, name, { [KEY]: null }));
      await allowed(bob.call("DELETE", `${path}/${name}`));

      const [bare, plain] = named();
      await allowed(bob.call("POST", path, plain));
      await denied(annotate(bob, bare, { [KEY]: "5" }));
      await allowed(annotate(bob, bare, { mine: "1" }));
      await allowed(annotate(alice, bare, { [KEY]: "5" }));
    });
  }

  await t.step("whole objects are compared as patches are", async () => {
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/deployments`;
    const { make } = WORKLOADS[0]!;
    const name = fresh();
    const object = (annotations?: Record<string, string>) => ({
      ...make(template("Deployment", annotations)),
      metadata: { name },
    });
    await allowed(alice.call("POST", path, object({ [KEY]: "5" })));
    await denied(bob.call("PUT", `${path}/${name}`, object({ [KEY]: "7" })));
    await denied(bob.call("PUT", `${path}/${name}`, object()));
    await allowed(bob.call("PUT", `${path}/${name}`, object({ [KEY]: "5", mine: "1" })));
  });

  await t.step("the verb counts in its own namespace only", async () => {
    const elsewhere = "/api/v1/namespaces/elsewhere/pods";
    const { status, object } = await alice.call("POST", elsewhere, pod("x", { [KEY]: "5" }));
    assert.equal(status, 403);
    assert.match(object.message, /user "alice" may not .* in namespace "elsewhere"/);
    await allowed(alice.call("POST", elsewhere, pod("y")));
  });

  await t.step("Kubernetes' own controllers and nodes are exempt, by identity alone", async () => {
    const controllers = ["cronjob", "daemon-set", "deployment", "job", "replicaset", "replication", "statefulset"];
    for (
      const [name, group] of [
        ...controllers.map((controller) => [`system:serviceaccount:kube-system:${controller}-controller`]),
        ["system:kube-controller-manager"],
        ["system:node:worker1", "system:nodes"],
      ]
    ) {
      const user = await played(name!, group === undefined ? [] : [group]);
      await waitFor(`the role of ${name}`, async () => {
        const { status, object } = await user.call("POST", PODS, pod(fresh(), { [KEY]: "5" }));
        if (status === 403) assert.doesNotMatch(object.message, DENIED);
        return status === 201;
      }, { timeoutMs: 20_000 });
    }
    for (
      const [name, group] of [
        [`system:serviceaccount:${NAMESPACE}:replicaset-controller`],
        ["system:serviceaccount:kube-system:generic-garbage-collector"],
        ["system:serviceaccount:kube-system:default"],
        ["system:node:worker1"],
        ["system:nodes"],
        ["deployer2"],
        ["mallory", "deployer"],
      ]
    ) {
      const user = await played(name!, group === undefined ? [] : [group]);
      await waitFor(`the role of ${name}`, async () => {
        return (await user.call("POST", `${PODS}?dryRun=All`, pod(fresh()))).status === 201;
      }, { timeoutMs: 20_000 });
      await denied(user.call("POST", PODS, pod(fresh(), { [KEY]: "5" })));
    }
  });
});

Deno.test("the admission policy follows annotationKey, and fails closed", async () => {
  const values = { admissionPolicy: { enabled: true }, annotationKey: "capture.example.com" };
  const { spec } = (await render(values)).one("ValidatingAdmissionPolicy");
  const text = JSON.stringify(spec);
  assert.ok(text.includes("k == 'capture.example.com' || k.startsWith('capture.example.com/')"));
  assert.ok(!text.includes(KEY));
  assert.equal(spec.failurePolicy, "Fail");
  const binding = (await render(values)).one("ValidatingAdmissionPolicyBinding");
  assert.deepEqual(binding.spec, { policyName: "packet-capture.tools.pc", validationActions: ["Deny"] });
});
