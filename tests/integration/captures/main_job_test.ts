/** The main job on a real API server, a real containerd and real tcpdump: annotate, get packets, un-annotate, nothing left. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { exists, KEY, NodeRig } from "../../rig/node.ts";

Deno.test("the controller captures inside the pod's own network namespace, and in no other", async () => {
  await using node = await NodeRig.start();
  await using _controller = await node.startController();
  const [web, other] = [await node.startPod("web-1"), await node.startPod("web-10")];
  await node.annotate(web, { "": "5" });
  await node.annotate(other, { "": "3" });
  const [first, second] = [await node.capturing(web), await node.capturing(other)];
  assert(first.netns !== second.netns);
  assertEquals(
    first.argv.slice(1).join(" "),
    `-n -p -C 1 -W 5 -s 262144 -i any -Z root -B 4096 -w ${node.folderOf(web)}/capture-web-1.pcap`,
  );
  const [status, limits] = await Promise.all(
    ["status", "limits"].map((file) => Deno.readTextFile(`/proc/${first.pid}/${file}`)),
  ) as [string, string];
  // SETGID, SETUID and NET_RAW, although the controller of this test has all capabilities.
  for (const name of ["CapPrm", "CapEff"]) assert(status.includes(`${name}:\t00000000000020c0`), status);
  for (const name of ["CapInh", "CapAmb"]) assert(status.includes(`${name}:\t0000000000000000`), status);
  assert(status.includes("NoNewPrivs:\t1"), status);
  assert(/^Max address space +85000000 /m.test(limits), limits);
  assert(/^Max cpu time +unlimited /m.test(limits), limits);
  await Promise.all([node.sees(web, "tokenA"), node.sees(other, "tokenB")]);
  assertEquals(await node.received(web, "tokenB"), []);
  assertEquals(await node.received(other, "tokenA"), []);
  for (const path of [node.folderOf(web), join(node.folderOf(web), "..")]) {
    assertEquals(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o700, path);
  }
  for await (const { name } of Deno.readDir(node.folderOf(web))) {
    assertEquals(((await Deno.stat(join(node.folderOf(web), name))).mode ?? 0) & 0o777, 0o600, name);
  }
  assertEquals((await node.hasEvent(web, "CaptureStarted")).type, "Normal");
  // web-1 is the beginning of web-10's name: un-annotating it leaves the other alone.
  await node.annotate(web, { "": null });
  await node.clean(web);
  assertEquals((await node.capturing(other)).pid, second.pid);
  assert((await node.received(other, "tokenB")).length > 0);
  await node.deletePod(other);
  await node.clean(other);
  await node.deletePod(web);
  assert(!await exists(join(node.captureDir, "default")), "the namespace's folder goes with its last pod");
});

Deno.test("the controller", async (t) => {
  await using node = await NodeRig.start();
  await using controller = await node.startController();

  await t.step("keeps pods of one name in two namespaces apart", async () => {
    await node.server.createNamespace("other");
    const [a, b] = [await node.startPod("twin"), await node.startPod("twin", { namespace: "other" })];
    await Promise.all([node.annotate(a, { "": "2" }), node.annotate(b, { "": "2" })]);
    await Promise.all([node.capturing(a), node.capturing(b)]);
    await Promise.all([node.sees(a, "here"), node.sees(b, "there")]);
    await node.annotate(a, { "": null });
    await node.clean(a);
    assert(await node.processOf(b));
    assertEquals(await node.received(b, "here"), []);
    assert((await node.received(b, "there")).length > 0);
    await Promise.all([node.deletePod(a), node.deletePod(b)]);
    await node.clean(b);
  });

  await t.step("carries out a change of N in place, with earlier packets kept within the new N", async () => {
    const pod = await node.startPod("edit", { annotations: { [KEY]: "5" } });
    const before = await node.capturing(pod);
    await node.sees(pod, "before");
    await node.annotate(pod, { "": "3" });
    await waitFor("another tcpdump", async () => {
      const now = await node.processOf(pod);
      return now && now.pid !== before.pid && now.argv.join(" ").includes("-W 3");
    });
    await node.capturing(pod);
    assert((await node.received(pod, "before")).length > 0, "packets of the earlier run are lost");
    await node.sees(pod, "after");
    assertEquals((await node.files(pod)).length, 2);
    const { note } = await node.hasEvent(pod, "CaptureRestarted");
    assert(/annotation changed; not captured since 20/.test(note), note);
    await node.deletePod(pod);
    await node.clean(pod);
  });

  await t.step("loses no packet that came before an edit", async () => {
    const pod = await node.startPod("flush", { annotations: { [KEY]: "5" } });
    await node.capturing(pod);
    await node.sees(pod, "warm");
    await node.send(pod, "last", 100);
    await node.annotate(pod, { snaplen: "1000" });
    await node.hasEvent(pod, "CaptureRestarted");
    assertEquals(new Set(await node.received(pod, "last")), new Set(Array(100).keys()));
    await node.deletePod(pod);
  });

  for (const bad of ["0", "-1", "5x", "1e3", "101", "", "999999999999", "٣", "🦈", "9".repeat(5000)]) {
    await t.step(
      `refuses N ${JSON.stringify(bad.slice(0, 16))} with one log line and an Event, and starts nothing`,
      async () => {
        const pod = await node.startPod("bad", { annotations: { [KEY]: bad } });
        const { note, type } = await node.hasEvent(pod, "CaptureRejected");
        assertEquals(type, "Warning");
        assert(note.includes(KEY) && note.includes("must be a whole number from 1 to 100: got "), note);
        const lines = controller.lines.filter((line) => line.includes("capture rejected") && line.includes(pod.uid));
        assertEquals(lines.length, 1, lines.join("\n"));
        assertEquals(await node.processOf(pod), undefined);
        assert(!await exists(node.folderOf(pod)));
        await node.deletePod(pod);
      },
    );
  }

  await t.step(
    "keeps the files of a capture whose annotation becomes invalid, and goes on when it is valid again",
    async () => {
      const pod = await node.startPod("mend", { annotations: { [KEY]: "5" } });
      await node.capturing(pod);
      await node.sees(pod, "good");
      await node.annotate(pod, { "": "five" });
      await node.inState(pod, "rejected");
      assertEquals(await node.processOf(pod), undefined);
      assert((await node.received(pod, "good")).length > 0);
      await node.annotate(pod, { "": "5" });
      await node.capturing(pod);
      assert((await node.received(pod, "good")).length > 0);
      await node.annotate(pod, { "": null });
      await node.clean(pod);
      await node.deletePod(pod);
    },
  );

  await t.step("captures again in a sandbox that was re-created, in its new namespace", async () => {
    const pod = await node.startPod("again", { annotations: { [KEY]: "5" } });
    const before = await node.capturing(pod);
    await node.sees(pod, "old");
    await node.runtime.kubelet.stopPod(pod.sandbox!);
    await node.startSandbox(pod);
    const since = performance.now();
    await waitFor("a tcpdump in the new namespace", async () => {
      const now = await node.processOf(pod);
      return now && now.netns !== "" && now.netns !== before.netns && !now.argv[0]?.includes("nsenter");
    }, { everyMs: 10 });
    assert(performance.now() - since < 10_000, `${performance.now() - since} ms`);
    await node.capturing(pod);
    await node.sees(pod, "new");
    assert((await node.received(pod, "old")).length > 0);
    await node.deletePod(pod);
    await node.clean(pod);
  });

  await t.step(
    "starts again for a pod of the same name with another UID, without the earlier one's files",
    async () => {
      const first = await node.startPod("db-0", { annotations: { [KEY]: "5" } });
      await node.capturing(first);
      await node.sees(first, "first");
      await node.deletePod(first);
      const second = await node.startPod("db-0", { annotations: { [KEY]: "5" } });
      await node.capturing(second);
      await node.sees(second, "second");
      assertEquals(await node.received(second, "first"), []);
      assertEquals((await node.manifest(second)).uid, second.uid);
      await node.deletePod(second);
      await node.clean(second);
    },
  );

  await t.step("keeps the files of a pod that has finished, while it is annotated", async () => {
    const pod = await node.startPod("job", { annotations: { [KEY]: "5" } });
    await node.capturing(pod);
    await node.sees(pod, "job");
    await node.send(pod, "end", 50);
    await node.runtime.kubelet.stopPod(pod.sandbox!);
    await node.inState(pod, "pending");
    assertEquals(await node.processOf(pod), undefined);
    assertEquals(new Set(await node.received(pod, "end")), new Set(Array(50).keys()));
    await node.annotate(pod, { "": null });
    await node.clean(pod);
    await node.server.deletePod(pod.name);
  });

  await t.step("refuses a pod on the node's network, and reports why", async () => {
    const pod = await node.startPod("host", { annotations: { [KEY]: "5" }, hostNetwork: true });
    const { note } = await node.hasEvent(pod, "CaptureRejected");
    assert(note.includes("allowHostNetworkPods"), note);
    assertEquals(await node.processOf(pod), undefined);
    await node.deletePod(pod);
  });

  await t.step("touches no pod whose sandbox this node's runtime does not have", async () => {
    const pod = await node.createPod("elsewhere", { annotations: { [KEY]: "5" } });
    const bad = await node.createPod("elsewhere-bad", { annotations: { [KEY]: "0" } });
    // Another pod, made later, is through: then these two have been looked at.
    const marker = await node.startPod("marker", { annotations: { [KEY]: "5" } });
    await node.capturing(marker);
    await node.hasEvent(marker, "CaptureStarted");
    for (const each of [pod, bad]) {
      assertEquals(await node.processOf(each), undefined);
      assertEquals(await node.events(each), []);
      assert(!await exists(node.folderOf(each)));
      await node.server.deletePod(each.name);
    }
    await node.deletePod(marker);
    await node.clean(marker);
  });

  await t.step("stops on SIGTERM with every packet that came before, and keeps the files", async () => {
    const pod = await node.startPod("term", { annotations: { [KEY]: "5" } });
    await node.capturing(pod);
    await node.sees(pod, "warm");
    await node.send(pod, "last", 100);
    const { code } = await controller.stop();
    assertEquals(code, 0, controller.log);
    assertEquals(await node.processes(), []);
    assertEquals(new Set(await node.received(pod, "last")), new Set(Array(100).keys()));
    await using again = await node.startController();
    await node.capturing(pod);
    assertEquals(new Set(await node.received(pod, "last")), new Set(Array(100).keys()), "a restart lost packets");
    await node.hasEvent(pod, "CaptureRestarted");
    await node.deletePod(pod);
    await node.clean(pod);
    assertEquals((await again.stop()).code, 0);
  });
});
