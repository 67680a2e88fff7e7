/** The admission policy on a real API server: who may set, change and remove our annotations, and where. */
import assert from "node:assert/strict";
import { ApiClient } from "../../src/pods/api.ts";
import { waitFor } from "../support/wait.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { type Any, render } from "./helm.ts";
import { type Embedding, embedding } from "./pod_templates.ts";
import { putPolicy } from "./policy.ts";

const KEY = "tcpdump.antrea.io";
const DENIED =
  /Cannot set, change or remove .*: user "[^"]+" lacks the right "create" on captures\.tcpdump\.antrea\.io in namespace "shop"; the ClusterRole "pc-request", bound there, gives it$/;
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

const GUARDED = "a StatefulSet's pods are made from it";

const DRIVERS = "read by the driver of a device, who prepares it for a pod that is there";

/** Fields of the API's types that hold any JSON, and why no pod is made from it without a template. */
const OPAQUE: Readonly<Record<string, string>> = {
  "ControllerRevision data": GUARDED,
  "DeviceClass spec.config.opaque.parameters": DRIVERS,
  "ResourceClaim spec.devices.config.opaque.parameters": DRIVERS,
  "ResourceClaim status.allocation.devices.config.opaque.parameters": DRIVERS,
  "ResourceClaim status.devices.data": DRIVERS,
  "ResourceClaimTemplate spec.spec.devices.config.opaque.parameters": DRIVERS,
};

/** Where in an object of WORKLOADS its template is. */
function pathOf(object: Any): string {
  const [key, value] = Object.entries(object).find(([, value]) => JSON.stringify(value).includes('{"here":true}'))!;
  const { here } = value as Any;
  return here ? key : `${key}.${pathOf(value)}`;
}

/** Whether one of the policy's rules takes this resource or sub-resource of the kind. */
function covers(rules: readonly Any[], { group }: Embedding, resource: string): boolean {
  const [name, part] = resource.split("/");
  const accepted = part === undefined ? [resource, "*/*"] : [resource, `${name}/*`, "*/*"];
  return rules.some(({ apiGroups, resources, operations }) =>
    apiGroups.includes(group) && resources.some((one: string) => accepted.includes(one)) &&
    ["CREATE", "UPDATE"].every((operation) => operations.includes(operation))
  );
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
  /** A user with a certificate, who may do everything with pods and workloads, in every verb, but has no right to captures. */
  async function person(name: string): Promise<User> {
    const leaf = await server.authority.issue(name, `/CN=${name}`);
    const client = clients.use(await ApiClient.load({ kubeconfig: await server.kubeconfig(name, leaf) }));
    await server.grant(name, [{
      apiGroups: ["", "apps", "batch"],
      resources: ["*"],
      verbs: ["*"],
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
  const rendered = await render({
    admissionPolicy: { enabled: true, exemptUsers: ["deployer"] },
    readPolicy: { enabled: false },
  });
  await server.call(
    "POST",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    rendered.one("ClusterRole", "pc-request"),
  );
  await server.call("POST", `${rbac}/rolebindings`, {
    metadata: { name: "capture" },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "pc-request" },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "alice" }],
  });
  await putPolicy(server, rendered);

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
    const [, keys] = /Cannot set, change or remove (.*): user "bob" lacks/.exec(object.message) ?? [];
    // CEL goes through a map in any order.
    assert.deepEqual(keys?.split(", ").sort(), [KEY, sub], object.message);
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

  await t.step("the right counts in its own namespace only", async () => {
    const elsewhere = "/api/v1/namespaces/elsewhere/pods";
    const { status, object } = await alice.call("POST", elsewhere, pod("x", { [KEY]: "5" }));
    assert.equal(status, 403);
    assert.match(object.message, /user "alice" lacks the right .* in namespace "elsewhere"/);
    await allowed(alice.call("POST", elsewhere, pod("y")));
  });

  const revisions = `/apis/apps/v1/namespaces/${NAMESPACE}/controllerrevisions`;
  const revision = (data: unknown, labels: Record<string, string> = {}) => ({
    apiVersion: "apps/v1",
    kind: "ControllerRevision",
    metadata: { name: fresh(), labels },
    data,
    revision: 1,
  });

  await t.step(
    "a ControllerRevision, to which a StatefulSet rolls back, is guarded, however its keys are written",
    async () => {
      const nested = (names: readonly string[], value: unknown) =>
        names.reduceRight<unknown>((inner, name) => ({ [name]: inner }), value);
      const path = ["spec", "template", "metadata", "annotations"];
      // Go's decoder takes letters in either case, and two letters that Unicode folds to s and k.
      for (const names of [path, path.map((name) => name.toUpperCase()), ["\u017fpec", "Template", ...path.slice(2)]]) {
        const annotated = revision(nested(names, { [sub]: "icmp", other: "x" }));
        await denied(bob.call("POST", revisions, annotated));
        await allowed(alice.call("POST", revisions, annotated));
      }
      // Beside the first of two keys that mean the same.
      const twice = { spec: { template: { metadata: {} } }, Spec: nested(path.slice(1), { [KEY]: "1" }) };
      await denied(bob.call("POST", revisions, revision(twice)));
      // What others keep in ControllerRevisions is their business.
      for (
        const data of [
          nested(path, { other: "x" }),
          nested(path, null),
          nested(path.slice(0, 3), null),
          { spec: "text", Spec: 1, template: { metadata: { annotations: { [KEY]: "1" } } } },
          { metadata: { annotations: { [KEY]: "1" } } },
          "text",
          [1],
          undefined,
        ]
      ) {
        const { status, object } = await bob.call("POST", revisions, revision(data));
        // The API server itself wants data to be there.
        if (status !== 201) assert.equal(object.reason, "Invalid", JSON.stringify([data, object]));
      }
    },
  );

  await t.step("a ControllerRevision's data stays what it was when it was judged", async () => {
    const harmless = revision({ spec: { template: { metadata: { annotations: { other: "x" } } } } });
    await allowed(bob.call("POST", revisions, harmless));
    const { status, object } = await bob.call("PATCH", `${revisions}/${harmless.metadata.name}`, {
      data: { spec: { template: { metadata: { annotations: { [KEY]: "1" } } } } },
    });
    assert.equal(status, 422, JSON.stringify(object)); // if it may be changed one day, the policy has to look at it
  });

  await t.step("a StatefulSet's status, which names the revision that its pods are made from, is guarded", async () => {
    const path = `/apis/apps/v1/namespaces/${NAMESPACE}/statefulsets`;
    const { make } = WORKLOADS.find(({ kind }) => kind === "StatefulSet")!;
    const name = fresh();
    await allowed(bob.call("POST", path, { ...make(template("StatefulSet")), metadata: { name } }));
    const patch = (user: User, status: Any) => user.call("PATCH", `${path}/${name}/status`, { status });
    await denied(patch(bob, { currentRevision: "x-1" }));
    await denied(patch(bob, { updateRevision: "x-1" }));
    await allowed(patch(bob, { replicas: 1, observedGeneration: 1 }));
    assert.equal((await allowed(patch(alice, { currentRevision: "x-1" }))).status.currentRevision, "x-1");
    await denied(patch(bob, { currentRevision: "x-2" }));
    await allowed(patch(bob, { currentRevision: "x-1", replicas: 2 }));
  });

  await t.step("every kind of this API server that holds a pod template is guarded, and tried here", async () => {
    const found = await embedding(server);
    const templates = found.filter(({ what }) => what === "template");
    assert.deepEqual(
      templates.map(({ kind, path }) => `${kind} ${path}`).sort(),
      WORKLOADS.map(({ kind, make }) => `${kind} ${pathOf(make({ here: true }))}`).sort(),
      "a kind that is new here needs a place in the policy's variables, and a row in WORKLOADS",
    );
    assert.deepEqual(
      found.filter(({ what }) => what === "pod").map(({ kind }) => kind),
      ["Pod"],
      "a kind that is a pod needs a rule of the policy",
    );
    // Any JSON may be a template to somebody: what is meant by it is looked at by hand.
    const opaque = found.filter(({ what }) => what === "any").map(({ kind, path }) => `${kind} ${path}`).sort();
    assert.deepEqual(opaque, Object.keys(OPAQUE).sort(), "say here what becomes of it");
    const rules = rendered.admissionPolicy.spec.matchConstraints.resourceRules;
    const guarded = found.filter(({ kind, what }) => what !== "any" || OPAQUE[`${kind} data`] === GUARDED);
    for (const embedding of guarded) {
      for (const resource of embedding.resources) assert.ok(covers(rules, embedding, resource), resource);
    }
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
  const rendered = await render(values);
  const { spec } = rendered.admissionPolicy;
  const text = JSON.stringify(spec);
  assert.ok(text.includes("authorizer.group('capture.example.com').resource('captures')"));
  assert.ok(text.includes("k == 'capture.example.com' || k.startsWith('capture.example.com/')"));
  assert.ok(!text.includes(KEY));
  assert.equal(spec.failurePolicy, "Fail");
  const binding = rendered.one("ValidatingAdmissionPolicyBinding", "packet-capture.tools.pc");
  assert.deepEqual(binding.spec, { policyName: "packet-capture.tools.pc", validationActions: ["Deny"] });
});
