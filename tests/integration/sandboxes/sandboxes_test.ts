import {
  deepStrictEqual as assertEquals,
  ok as assert,
  rejects as assertRejects,
  strictEqual as assertSame,
} from "node:assert/strict";
import { GrpcCode } from "../../../src/sandboxes/grpc.ts";
import { Runtime } from "../../../src/sandboxes/runtime.ts";
import { run } from "../../support/run.ts";
import { ContainerdRig } from "../../rig/containerd.ts";
import { CONTAINERD_VERSIONS } from "../../rig/containerd_binaries.ts";
import { Watching } from "./watching.ts";

for (const version of CONTAINERD_VERSIONS) {
  Deno.test(`Sandboxes with containerd (${version})`, async (t) => {
    await using rig = await ContainerdRig.start({ version });
    const { kubelet } = rig;
    const earlier = await kubelet.runPod({ name: "earlier" });
    const host = await kubelet.runPod({ name: "host", hostNetwork: true });
    const ended = await kubelet.runPod({ name: "ended" });
    await kubelet.stopPod(ended);
    await using w = new Watching(rig);
    const { sandboxes } = w;

    await t.step("get() gives the sandboxes that were there before, with a netns that can be entered", async () => {
      await sandboxes.refresh();
      const found = sandboxes.get(earlier)!;
      assertEquals([found.id, found.owner.uid, found.hostNetwork], [earlier.id, earlier.uid, false]);
      const addresses = await run(["nsenter", `--net=${found.netnsPath}`, "--", "ip", "-brief", "address"]);
      assert(/^eth0@\S+\s+UP\s+10\.244\.9\./m.test(addresses), addresses);
      assert(sandboxes.lastAnswer! <= performance.now());
    });

    await t.step("get() gives a host network pod's sandbox without a netns", () => {
      const found = sandboxes.get(host)!;
      assertEquals([found.id, found.hostNetwork, found.netnsPath], [host.id, true, undefined]);
    });

    await t.step("get() gives nothing for a stopped sandbox, nor for an unknown pod", () => {
      assertSame(sandboxes.get(ended), undefined);
      assertSame(sandboxes.get({ ...earlier, uid: "no-such-pod" }), undefined);
    });

    await t.step("the runtime's status and words come with a call that it refuses", async () => {
      using runtime = new Runtime(rig.socket);
      const refused = { code: GrpcCode.NOT_FOUND, message: /^Cannot call PodSandboxStatus of .*: .*not found/ };
      await assertRejects(runtime.status("0123456789abcdef"), refused);
    });

    await t.step("get() finds a static pod by the UID that the kubelet made of its manifest", async () => {
      // 32 hexadecimal digits, the annotation kubernetes.io/config.hash (kubernetes pkg/kubelet/config/common.go).
      const pod = await kubelet.runPod({ name: "static", uid: "8d1c4a7b2e3f40516273849a5b6c7d8e" });
      await w.has(pod, pod.id);
    });

    await t.step("get() gives nobody a sandbox whose labels have another namespace or name", () => {
      assertSame(sandboxes.get(earlier)?.id, earlier.id);
      assertSame(sandboxes.get({ ...earlier, namespace: "tenant-a" }), undefined);
      assertSame(sandboxes.get({ ...earlier, name: "harmless" }), undefined);
      assertSame(sandboxes.get({ ...host, namespace: "tenant-a" }), undefined);
    });

    await t.step("onChange() comes soon after a sandbox is READY, and as soon as its netns has gone", async () => {
      const made: number[] = [];
      const gone: number[] = [];
      for (let n = 0; n < 20; n++) {
        const pod = await kubelet.runPod({ name: `pod-${n}` });
        made.push(await w.has(pod, pod.id) - pod.readyAt);
        await kubelet.stopPod(pod);
        const stoppedAt = performance.now();
        gone.push(await w.has(pod, undefined) - stoppedAt);
      }
      const p95 = made.sort((a, b) => a - b)[18]!;
      // A poll would be half a second late on average. Real figures are in src/sandboxes/sandboxes.ts; this is not to fail on a busy machine.
      assert(p95 < 250, `after READY, ms: ${made.map(Math.round)}`);
      assert(gone.every((ms) => ms < 250), `after the stop, ms: ${gone.map(Math.round)}`);
    });

    await t.step("get() gives the newest of two READY sandboxes of one pod, and none when that ends", async () => {
      const uid = crypto.randomUUID();
      const older = await kubelet.runPod({ name: "twice", uid, attempt: 0 });
      await w.has(older, older.id);
      const newer = await kubelet.runPod({ name: "twice", uid, attempt: 1 });
      await w.has(older, newer.id);
      await kubelet.stopPod(older);
      await sandboxes.refresh();
      assertSame(sandboxes.get(older)?.id, newer.id);
      await kubelet.removePod(newer);
      await w.has(older, undefined);
    });

    await t.step("get() gives the new sandbox when a pod's sandbox was killed under it", async () => {
      const uid = crypto.randomUUID();
      const old = await kubelet.runPod({ name: "again", uid, attempt: 0 });
      await w.has(old, old.id);
      const netns = sandboxes.get(old)!.netnsPath;
      await kubelet.stopPod(old);
      const made = await kubelet.runPod({ name: "again", uid, attempt: 1 });
      assert(await w.has(old, made.id, 2_000) - made.readyAt < 2_000);
      assert(sandboxes.get(old)!.netnsPath !== netns);
    });

    await t.step("get() gives all of 20 pods that are made at once", async () => {
      const pods = await Promise.all(Array.from({ length: 20 }, (_, n) => kubelet.runPod({ name: `many-${n}` })));
      for (const pod of pods) await w.has(pod, pod.id);
      await Promise.all(pods.map((pod) => kubelet.removePod(pod)));
      for (const pod of pods) await w.has(pod, undefined);
    });

    assertEquals(w.lines, [], "nothing in all this is worth a line in the log");
  });
}
