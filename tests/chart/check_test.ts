/** What `helm test` runs, against a real API server and with the rights that the chart gives. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { attempt } from "../support/run.ts";
import { waitFor } from "../support/wait.ts";
import { runCheck } from "../../src/check.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { render } from "./helm.ts";

const MAIN = join(import.meta.dirname!, "../../src/main.ts");

Deno.test("packet-capture check", async (t) => {
  await using server = await ApiServer.start();
  await server.createNamespace("tools");
  const rendered = await render();
  const rbac = "/apis/rbac.authorization.k8s.io/v1";
  await server.call("POST", `${rbac}/clusterroles`, rendered.controllerRole);
  await server.call("POST", `${rbac}/clusterrolebindings`, rendered.one("ClusterRoleBinding"));
  const { token } = await server.serviceAccount("pc", "tools");
  const kubeconfig = await server.kubeconfig("pc", { token });

  const pods = "/api/v1/namespaces/tools/pods";
  let serial = 0;
  /** A pod as the DaemonSet would make it. */
  async function controller(nodeName: string, labels = rendered.pod.metadata.labels): Promise<string> {
    const name = `pc-${++serial}`;
    await server.call("POST", pods, { metadata: { name, labels }, spec: { ...rendered.pod.spec, nodeName } });
    return name;
  }
  function setReady(name: string, status: string, message?: string): Promise<unknown> {
    const condition = { type: "Ready", status, ...(message === undefined ? {} : { message }) };
    return server.call("PATCH", `${pods}/${name}/status`, { status: { phase: "Running", conditions: [condition] } });
  }

  /** The command as the test pod runs it, with as much patience as it has. */
  function command(...args: string[]) {
    const env = { KUBECONFIG: kubeconfig, KUBERNETES_SERVICE_HOST: "" };
    const argv = [Deno.execPath(), "run", "-A", ...importMap(), MAIN, "check", ...args];
    return attempt(argv, { env, timeoutMs: 90_000 });
  }
  /** The same in this process. */
  async function check(patienceMs?: number): Promise<void> {
    const before = Deno.env.get("KUBECONFIG");
    Deno.env.set("KUBECONFIG", kubeconfig);
    try {
      const options = { release: "tools/pc", signal: AbortSignal.timeout(30_000) };
      await runCheck(patienceMs === undefined ? options : { ...options, patienceMs });
    } finally {
      if (before === undefined) Deno.env.delete("KUBECONFIG");
      else Deno.env.set("KUBECONFIG", before);
    }
  }
  const now = () => check(0);

  await waitFor("the role", () => now().then(() => false, (error: Error) => !error.message.includes("403")));

  await t.step("fails while the DaemonSet has no pod", async () => {
    await assert.rejects(now(), /^Error: tools\/pc has no controller: its DaemonSet has no pod$/);
  });

  const [one, two] = [await controller("worker1"), await controller("worker2")];

  await t.step("names each controller that is not ready, where it is and why", async () => {
    await setReady(one, "True");
    await assert.rejects(
      now(),
      /^Error: 1 of 2 controllers of tools\/pc are ready: pc-2 on worker2 is not \(Pending\)$/,
    );
    await setReady(two, "False", "containers with unready status: [packet-capture]");
    await assert.rejects(now(), /pc-2 on worker2 is not \(containers with unready status: \[packet-capture\]\)$/);
  });

  await t.step("waits for those that come up", async () => {
    // The second becomes ready only after the first look.
    const { fetch } = globalThis;
    let looked = () => {};
    const firstLook = new Promise<void>((resolve) => looked = resolve);
    globalThis.fetch = async (...args: Parameters<typeof fetch>) => {
      const response = await fetch(...args);
      looked();
      return response;
    };
    try {
      const ended = check();
      await Promise.race([firstLook, ended]);
      await setReady(two, "True");
      await ended;
    } finally {
      globalThis.fetch = fetch;
    }
  });

  await t.step("reports how many are ready", async () => {
    const { code, stdout, stderr } = await command("tools/pc");
    assert.equal(code, 0, stderr);
    assert.equal(stdout, "2 of 2 controllers of tools/pc are ready\n");
  });

  await t.step("counts neither another release's pods, nor the test pod, nor one that is going", async () => {
    await controller("worker3", { ...rendered.pod.metadata.labels, "app.kubernetes.io/instance": "other" });
    await controller("worker3", rendered.one("Pod").metadata.labels);
    const going = await controller("worker3");
    await assert.rejects(now(), /2 of 3/);
    await server.deletePod(going, 30, "tools");
    await now();
  });

  await t.step("reports it when it may not look", async () => {
    await server.call("DELETE", `${rbac}/clusterrolebindings/${rendered.one("ClusterRoleBinding").metadata.name}`);
    await waitFor(
      "the end of the role",
      () =>
        now().then(
          () => false,
          (error: Error) => /Cannot list the controllers: .* 403, pods is forbidden/.test(error.message),
        ),
    );
  });

  await t.step("exits with 2 for a bad argument", async () => {
    const { code, stderr } = await command("tools/../x");
    assert.equal(code, 2);
    assert.match(
      stderr,
      /^packet-capture: Cannot check "tools\/\.\.\/x": it must be <namespace>\/<release>, such as .*\n$/,
    );
  });
});

function importMap(): string[] {
  const map = Deno.env.get("PACKET_CAPTURE_IMPORT_MAP");
  return map === undefined ? [] : [`--import-map=${map}`];
}
