/** The chart from installation to uninstallation, with captures going on: upgrade, rollback, uninstallation. */
import assert from "node:assert/strict";
import { changedChart } from "./changed_chart.ts";
import { fixture, forThisMachine } from "./fixture.ts";
import { type KubeObject, waitFor } from "./kube.ts";
import { sendToken, testPod } from "./pods.ts";
import { hasToken, token, tokensIn, writtenToken } from "./tokens.ts";

const { kube, release, namespace } = fixture("lifecycle");
const KEY = "tcpdump.antrea.io";
const HOST_PATH = { storage: { type: "hostPath" } };
const DIR = release.hostPath;

Deno.test("an upgrade of values and version, and a rollback, replace the controllers; a capture goes on, with all it had", async () => {
  const [node] = await kube.workers() as [string];
  await using _pod = await kube.having(testPod({ name: "lasting", namespace, node, annotations: { [KEY]: "5" } }));
  await kube.ready(namespace, "lasting");
  await release.upgrade(await forThisMachine(kube, HOST_PATH));
  const before = JSON.parse(await release.helm(["history", release.name, "-o", "json"])).at(-1).revision;

  const sent: string[] = [];
  /** Sends one more token when the capture runs again. Nothing is read yet. */
  const goesOn = async () => {
    await waitFor("its tcpdump", async () => {
      if ((await release.processes(node, namespace, "lasting")).length !== 1) return false;
      const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
      return JSON.parse(stdout).some((row: { state: string; files: number }) =>
        row.state === "capturing" && row.files > 0
      );
    });
    sent.push(token());
    await kube.exec(namespace, "lasting", sendToken(sent.at(-1)!, "127.0.0.1"));
    await writtenToken(release, node, `${DIR}/${namespace}/lasting`, sent.at(-1)!);
  };
  const look = async () => {
    const { metadata: { labels = {}, uid } } = await release.pod(node);
    const { stdout } = await release.exec(node, ["sh", "-c", "echo $MAX_CAPTURES"]);
    return { uid, seen: [labels["helm.sh/chart"], labels["app.kubernetes.io/version"], stdout.trim()] };
  };
  await goesOn();
  const first = await look();
  assert.deepEqual(first.seen, ["packet-capture-0.1.0", "0.1.0", "64"]);

  await using chart = await changedChart("Chart.yaml", {
    "\nversion: 0.1.0": "\nversion: 0.2.0",
    "\nappVersion: 0.1.0": "\nappVersion: 0.2.0",
  });
  await release.helm(["upgrade", release.name, chart.path, "--reuse-values", "--set", "limits.maxCaptures=7"]);
  await release.ready();
  const second = await look();
  assert.deepEqual(second.seen, ["packet-capture-0.2.0", "0.2.0", "7"]);
  assert.notEqual(second.uid, first.uid);
  await goesOn();

  await release.helm(["rollback", release.name, String(before)]);
  await release.ready();
  const third = await look();
  assert.deepEqual(third.seen, first.seen);
  assert.notEqual(third.uid, second.uid);
  await goesOn();
  await hasToken(release, node, namespace, "lasting", sent.at(-1)!);
  const counts = await tokensIn(release, node, namespace, "lasting", sent);
  assert.ok(counts[0]! > 0);
  assert.deepEqual(counts, sent.map(() => counts[0]), "packets were lost or came twice");
});

/** Files of captures on a node, wherever: `find` has to work, and to have looked. */
async function captureFiles(node: string, folder: string): Promise<string[]> {
  const { code, stdout, stderr } = await kube.nodeExec(node, ["find", folder, "-name", "capture-leaving-*.pcap*"]);
  assert.equal(code, 0, stderr);
  return stdout.split("\n").filter(Boolean);
}

/** Command lines of our processes on a node. */
async function capturing(node: string): Promise<string[]> {
  const { code, stdout, stderr } = await kube.nodeExec(node, ["ps", "-eo", "args="]);
  assert.equal(code, 0, stderr);
  return stdout.split("\n").filter((line) =>
    /^(\S*\/)?(tcpdump|nsenter|tini) |^\/usr\/local\/(bin|lib)\/packet-capture\b/.test(line)
  );
}

/** Waits until packets of the pod on each node are in a file. */
async function captured(nodes: readonly string[]): Promise<void> {
  for (const node of nodes) {
    await waitFor(`packets on ${node}`, async () => {
      const { stdout } = await release.read(node, ["packet-capture", "list", "-o", "json"]);
      return JSON.parse(stdout).some((row: { pod: string; packets: number }) =>
        row.pod === `leaving-${node}` && row.packets > 0
      );
    });
  }
}

/** Waits until no object of any release of the chart is there (pods take their grace period), and nothing captures. */
async function nothingLeft(nodes: readonly string[]): Promise<void> {
  const kinds = "daemonsets,pods,serviceaccounts,configmaps,secrets,networkpolicies,clusterroles,clusterrolebindings," +
    "roles,rolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
  await waitFor("the release's objects to go", async () => {
    const ours = ["app.kubernetes.io/name=packet-capture", "owner=helm,name=" + release.name];
    for (const selector of ours) {
      const { items } = await kube.get<{ items: KubeObject[] }>(kinds, "-A", "-l", selector);
      if (items.length > 0) {
        throw new Error(`left are ${items.map(({ kind, metadata }) => `${kind} ${metadata.name}`)}`);
      }
    }
    return true;
  });
  for (const node of nodes) assert.deepEqual(await capturing(node), [], `processes on ${node}`);
}

Deno.test("uninstalling leaves no file, no process and no namespace on the nodes; with hostPath the files, and after purge an empty directory", async () => {
  const nodes = await kube.workers();
  const kubelet = "/var/lib/kubelet/pods";
  {
    await using _pods = await kube.having(...nodes.map((node) =>
      testPod({
        name: `leaving-${node}`,
        namespace,
        node,
        annotations: { [KEY]: "2" },
        command: ["sh", "-c", `while :; do ${sendToken("leaving", "127.0.0.1").join(" ")}; sleep 1; done`],
      })
    ));
    const readPolicy = { subjects: [{ kind: "User", name: "e2e-reader" }] };
    await release.upgrade(await forThisMachine(kube, { admissionPolicy: { enabled: true }, readPolicy }));
    await captured(nodes);
    for (const node of nodes) {
      assert.notDeepEqual(await captureFiles(node, kubelet), [], `find does not see the files on ${node}`);
      assert.notDeepEqual((await capturing(node)).filter((line) => line.includes("tcpdump")), [], "nor ps the tcpdump");
    }
    await release.uninstall();
    await nothingLeft(nodes);
    for (const node of nodes) {
      await waitFor("the emptyDir to go", async () => (await captureFiles(node, kubelet)).length === 0);
    }

    await release.upgrade(await forThisMachine(kube, HOST_PATH));
    await captured(nodes);
    await release.uninstall();
    await nothingLeft(nodes);
    for (const node of nodes) assert.notDeepEqual(await captureFiles(node, DIR), []);

    // As NOTES say: annotations, purge, uninstall.
    await release.upgrade(await forThisMachine(kube, HOST_PATH));
    await kube.kubectl(["annotate", "pods", "--all", "-A", `${KEY}-`]);
    for (const node of nodes) {
      const { code, stderr } = await release.exec(node, ["packet-capture", "purge"]);
      assert.equal(code, 0, stderr);
    }
    await release.uninstall();
    await nothingLeft(nodes);
    for (const node of nodes) {
      const { stdout } = await kube.nodeExec(node, ["find", DIR]);
      assert.equal(stdout, `${DIR}\n`);
    }
  }
  // The pods are gone too: a namespace that something of ours still held would be there.
  for (const node of nodes) {
    await waitFor(`no network namespace but ${node}'s own`, async () => {
      const script = "ls /run/netns; readlink /proc/[0-9]*/ns/net | sort -u";
      const left = (await kube.nodeExec(node, ["sh", "-c", script])).stdout.trim().split("\n");
      if (left.length !== 1) throw new Error(`there are ${left}`);
      return true;
    });
  }
});
