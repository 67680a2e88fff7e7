/** Each annotation carried out by real tcpdump; a completed request stays completed. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../../support/wait.ts";
import { run } from "../../support/run.ts";
import { cli, cliCommand } from "../../rig/cli.ts";
import { exists, KEY, NodeRig, numbersIn } from "../../rig/node.ts";

/** Returns the output of capinfos or tshark on the only file of a pod. */
async function linkType(file: string): Promise<string> {
  return /File encapsulation:\s+(.*)/.exec(await run(["capinfos", "-E", file]))?.[1] ?? "";
}

Deno.test("the controller carries out annotations", async (t) => {
  await using node = await NodeRig.start();
  let controller = await node.startController({ DISK_BUDGET_MB: "5000" });

  await t.step("filter, snaplen, interface, direction, file-size, buffer-size become tcpdump's options", async () => {
    const pod = await node.startPod("options", {
      annotations: {
        [KEY]: "3",
        [`${KEY}/filter`]: "udp port 9",
        [`${KEY}/snaplen`]: "64",
        [`${KEY}/interface`]: "lo",
        [`${KEY}/direction`]: "in",
        [`${KEY}/file-size`]: "2",
        [`${KEY}/buffer-size`]: "32",
      },
    });
    const { argv } = await node.capturing(pod);
    const words = argv.slice(1).join(" ");
    assertEquals(
      words,
      `-n -p -C 2 -W 3 -s 64 -i lo -Q in -Z root -B 32768 -w ${node.folderOf(pod)}/capture-options.pcap -- udp port 9`,
    );
    assertEquals(argv.at(-1), "udp port 9");
    // A named interface is not made promiscuous.
    const [{ promiscuity }] = JSON.parse(await run(await node.inNetns(pod, ["ip", "-d", "-j", "link", "show", "lo"])));
    assertEquals(promiscuity, 0);
    await node.sees(pod, "f");
    const file = join(node.folderOf(pod), (await node.files(pod))[0]!);
    assertEquals(await linkType(file), "Ethernet");
    await node.annotate(pod, { "": null });
    await node.clean(pod);
    await node.deletePod(pod);
  });

  await t.step("a filter takes only what matches it", async () => {
    const pod = await node.startPod("filtered", { annotations: { [KEY]: "3", [`${KEY}/filter`]: "udp port 10" } });
    await node.capturing(pod);
    await node.send(pod, "no", 20);
    const [program, ...args] = await node.inNetns(pod, ["bash", "-c", "echo yes-1 >/dev/udp/127.0.0.1/10 || true"]);
    await waitFor("the packet that matches", async () => {
      await new Deno.Command(program!, { args, stderr: "null" }).output();
      await node.flush(pod);
      const [name] = await node.files(pod);
      // Counted by a filter, because tcpdump's output depends on the protocol that it assumes by the sender's port.
      return await run(["tcpdump", "-n", "-r", join(node.folderOf(pod), name!), "udp dst port 10"]) !== "";
    });
    assertEquals(await node.received(pod, "no"), []);
    await node.deletePod(pod);
  });

  await t.step("a filter that is too complex is refused and not tried again, long ones capture", async () => {
    const ports = Array.from({ length: 1499 }, (_, i) => i + 1).join("||");
    const host = (_: unknown, i: number) => `host 10.1.${Math.floor(i / 200)}.${i % 200}`;
    const hosts = `not (${Array.from({ length: 300 }, host).join(" or ")})`;
    const complex = await node.startPod("complex", { annotations: { [KEY]: "2", [`${KEY}/filter`]: `port ${ports}` } });
    const { note } = await node.hasEvent(complex, "CaptureRejected", 30_000);
    assert(note.includes(`${KEY}/filter is too complex: tcpdump needs more than 64 MB of memory to compile it`), note);
    assert(note.includes("use fewer terms, net or portrange"), note);
    const long = await node.startPod("long", { annotations: { [KEY]: "2", [`${KEY}/filter`]: hosts } });
    await node.capturing(long, 60_000);
    await node.sees(long, "long");
    assertEquals((await node.events(complex)).map(({ reason }) => reason), ["CaptureRejected"]);
    for (const pod of [complex, long]) await node.deletePod(pod);
  });

  await t.step("a filter that does not compile on the pod's interface is refused and not tried again", async () => {
    const pod = await node.startPod("tunnel");
    await run(await node.inNetns(pod, ["ip", "tuntap", "add", "dev", "wg0", "mode", "tun"]));
    await run(await node.inNetns(pod, ["ip", "link", "set", "wg0", "up"]));
    await node.annotate(pod, { "": "2", filter: "vlan", interface: "wg0" });
    const { note } = await node.hasEvent(pod, "CaptureRejected");
    assert(note.includes("no VLAN support for Raw IP"), note);
    assert(note.includes("interface wg0 is RAW"), note);
    await node.annotate(pod, { filter: "icmp" });
    await node.capturing(pod);
    assertEquals((await node.events(pod)).filter(({ reason }) => reason === "CaptureFailed"), []);
    await node.deletePod(pod);
  });

  for (
    const [filter, says] of [
      ["tcp prot 80", /syntax error/],
      ["host example.com", /unknown host 'example.com'; names are not looked up: it must be an address/],
      ["-w /tmp/evil", /syntax error; it looks like a command line and must be the expression alone/],
      ["port 99999999", /illegal port number|port/],
      ["tcp.port == 80", /looks like a Wireshark display filter and must be a capture filter, such as: tcp port 80$/],
      ["'tcp port 80'", /quotes are part of the value; it must be "tcp port 80" without quotes of its own$/],
      ["vlan", /no VLAN support for Linux cooked v2; any has no Ethernet headers: annotation …\/interface must name/],
    ] as const
  ) {
    await t.step(
      `the filter ${JSON.stringify(filter)} is refused in one sentence, within 3 s, and nothing starts`,
      async () => {
        const pod = await node.startPod("refused", { annotations: { [KEY]: "3", [`${KEY}/filter`]: filter } });
        // The time in which the API server and the runtime make the pod does not count.
        const since = performance.now();
        const { note } = await node.hasEvent(pod, "CaptureRejected");
        assert(performance.now() - since < 3000, `${performance.now() - since} ms`);
        assert(note.startsWith(`Annotation ${KEY}/filter does not compile: `) && says.test(note), note);
        assertEquals(await node.processOf(pod), undefined);
        assert(!await exists("/tmp/evil"));
        await node.deletePod(pod);
      },
    );
  }

  await t.step(
    "an interface that the pod lacks is named, with those that it has, and tried again until it is there",
    async () => {
      const pod = await node.startPod("lacking", { annotations: { [KEY]: "3", [`${KEY}/interface`]: "eth9" } });
      const { note } = await node.hasEvent(pod, "CaptureFailed");
      assert(
        /^Cannot capture on interface eth9: the pod has no such interface \(the pod has .*\blo \[/.test(note),
        note,
      );
      assert(note.includes(`; annotation ${KEY}/interface must be an interface of the pod that is up, or any`), note);
      await run(await node.inNetns(pod, ["ip", "link", "add", "eth9", "type", "veth", "peer", "name", "peer9"]));
      const down = await waitFor("word of the interface that is down", async () => {
        return (await node.events(pod)).find(({ note }) => note.includes("interface eth9: it is not up"));
      });
      assert(/\(the pod has .*\beth9 \[/.test(down.note), down.note);
      await run(await node.inNetns(pod, ["ip", "link", "set", "eth9", "up"]));
      await node.capturing(pod, 40_000);
      await node.deletePod(pod);
    },
  );

  await t.step(
    "an edit with a filter that does not compile stops the capture, reports it and keeps the files",
    async () => {
      const pod = await node.startPod("mistyped", { annotations: { [KEY]: "3" } });
      await node.capturing(pod);
      await node.sees(pod, "kept");
      await node.annotate(pod, { filter: "tcp prot 80" });
      const { note } = await node.hasEvent(pod, "CaptureRejected");
      const stopped = "the capture that ran is stopped, and its files are kept while the annotation is there";
      assert(note.startsWith(`Annotation ${KEY}/filter does not compile: `) && note.endsWith(`; ${stopped}`), note);
      await node.inState(pod, "rejected");
      assert((await node.manifest(pod)).reason.endsWith(stopped));
      assertEquals(await node.processOf(pod), undefined);
      assert((await node.received(pod, "kept")).length > 0);
      await node.deletePod(pod);
    },
  );

  await t.step("an unknown sub-key refuses the whole request", async () => {
    const pod = await node.startPod("unknown", { annotations: { [KEY]: "3", [`${KEY}/fliter`]: "udp" } });
    const { note } = await node.hasEvent(pod, "CaptureRejected");
    assert(note.includes(`${KEY}/fliter`) && note.includes(`${KEY}/filter`), note);
    assertEquals(await node.processOf(pod), undefined);
    await node.deletePod(pod);
  });

  await t.step(
    "packets: stops after exactly so many, summed over runs, and stays so across a restart of the controller",
    async () => {
      const pod = await node.startPod("counted", {
        annotations: { [KEY]: "5", [`${KEY}/packets`]: "100", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in" },
      });
      const first = await node.capturing(pod);
      await node.send(pod, "p", 40);
      await waitFor("the first packets", async () => (await node.received(pod, "p")).length >= 40);
      // The packets of a run that was ended half way count.
      Deno.kill(first.pid, "SIGTERM");
      await waitFor("another tcpdump", async () => ((await node.processOf(pod))?.pid ?? first.pid) !== first.pid);
      await node.capturing(pod);
      await node.send(pod, "p", 200, 40);
      await node.hasEvent(pod, "CaptureCompleted", 20_000);
      assertEquals((await node.received(pod, "p")).length, 100);
      assertEquals(await node.processOf(pod), undefined);
      await controller.stop();
      controller = await node.startController({ DISK_BUDGET_MB: "5000" });
      const marker = await node.startPod("marker", { annotations: { [KEY]: "2" } });
      await node.capturing(marker);
      assertEquals(await node.processOf(pod), undefined, "a completed capture was started again");
      assertEquals((await node.received(pod, "p")).length, 100);
      // A change of a value re-arms it.
      await node.annotate(pod, { packets: "50" });
      await node.capturing(pod);
      await node.deletePod(marker);
      await node.deletePod(pod);
      await node.clean(pod);
    },
  );

  await t.step("duration: counts capturing time over runs, also of a killed controller, then completes", async () => {
    const pod = await node.startPod("timed", { annotations: { [KEY]: "5", [`${KEY}/duration`]: "8s" } });
    await node.capturing(pod);
    const since = performance.now();
    await waitFor("some seconds counted and saved while it runs", async () => {
      const { state, capturedSeconds } = await node.manifest(pod);
      return state === "capturing" && capturedSeconds >= 3;
    }, { timeoutMs: 10_000 });
    await controller.end("SIGKILL");
    controller = await node.startController({ DISK_BUDGET_MB: "5000" });
    await node.hasEvent(pod, "CaptureCompleted", 20_000);
    const seconds = (performance.now() - since) / 1000;
    assert(seconds >= 8 && seconds < 20, `${seconds} s`);
    const manifest = await node.manifest(pod);
    assertEquals(manifest.state, "completed");
    assert(manifest.capturedSeconds >= 8 && manifest.capturedSeconds < 10, String(manifest.capturedSeconds));
    assertEquals(await node.processOf(pod), undefined);
    assert((await node.files(pod)).length > 0);
    await node.annotate(pod, { "": null });
    await node.clean(pod);
    await node.deletePod(pod);
  });

  await t.step(
    "packets and duration that are named while it captures count from then, and a duration restarts nothing",
    async () => {
      const pod = await node.startPod("budget", {
        annotations: { [KEY]: "5", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in" },
      });
      const first = await node.capturing(pod);
      await node.send(pod, "early", 30);
      await waitFor("packets before", async () => (await node.received(pod, "early")).length >= 30);
      await waitFor("seconds before", async () => (await node.manifest(pod)).capturedSeconds >= 3);
      const named = performance.now();
      await node.annotate(pod, { duration: "3s" });
      await node.hasEvent(pod, "CaptureCompleted", 20_000);
      assert(performance.now() - named >= 3000, "too early");
      // By the controller's clock: an Event may take its time.
      const { runs, capturedSeconds, budget } = await node.manifest(pod);
      const seconds = capturedSeconds - budget.secondsBefore;
      assert(budget.secondsBefore >= 3 && seconds >= 3 && seconds < 8, `completed after ${seconds} s`);
      assertEquals(runs.length, 1, "the duration alone has restarted tcpdump");

      await node.annotate(pod, { duration: null });
      await waitFor("another tcpdump", async () => ((await node.processOf(pod))?.pid ?? first.pid) !== first.pid);
      await node.capturing(pod);
      await node.send(pod, "between", 30);
      await waitFor("packets between", async () => (await node.received(pod, "between")).length >= 30);
      await node.annotate(pod, { packets: "10" });
      await waitFor(
        "a run for these packets",
        async () => (await node.manifest(pod)).runs.at(-1).request.packets === 10,
      );
      await node.capturing(pod);
      await node.send(pod, "late", 30);
      await node.inState(pod, "completed", 20_000);
      assertEquals((await node.received(pod, "late")).length, 10);
      assertEquals((await node.received(pod, "early")).length >= 30, true);
      await node.deletePod(pod);
      await node.clean(pod);
    },
  );

  await t.step("hold: stops and flushes, keeps the files; removed, a new run keeps them too", async () => {
    const pod = await node.startPod("held", { annotations: { [KEY]: "5" } });
    await node.capturing(pod);
    await node.sees(pod, "warm");
    await node.send(pod, "last", 50);
    await node.annotate(pod, { hold: "true" });
    await node.inState(pod, "held");
    assertEquals(await node.processOf(pod), undefined);
    assertEquals(new Set(await node.received(pod, "last")), new Set(Array(50).keys()));
    assert((await node.hasEvent(pod, "CaptureStopped")).note.includes("Held"));
    await node.annotate(pod, { hold: null });
    await node.capturing(pod);
    assertEquals(new Set(await node.received(pod, "last")), new Set(Array(50).keys()));
    await node.deletePod(pod);
    await node.clean(pod);
  });

  await t.step(
    "counters of a running capture are in capture.json and /metrics within 5 s, and its series go with it",
    async () => {
      const pod = await node.startPod("metered", {
        annotations: { [KEY]: "5", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in" },
      });
      await node.capturing(pod);
      await node.send(pod, "m", 123);
      const series = `packet_capture_packets_total{namespace="default",pod="metered"}`;
      const since = performance.now();
      // No process listens: each datagram is answered by an ICMP error that quotes it.
      await waitFor("246 packets counted", async () => await controller.metric(series) === 246);
      await waitFor("246 packets noted", async () => (await node.manifest(pod))?.runs[0].captured === 246);
      const seconds = (performance.now() - since) / 1000;
      assert(seconds < 8, `${seconds} s`);
      assertEquals((await node.received(pod, "m")).length, 246);
      assert((await controller.metric(`packet_capture_ring_bytes{namespace="default",pod="metered"}`) ?? 0) > 123);
      assert(((await controller.metric("packet_capture_active")) ?? 0) >= 1);
      await node.annotate(pod, { "": null });
      await node.clean(pod);
      // The text of /metrics is up to a second old.
      await waitFor("the series to go", async () => await controller.metric(series) === undefined);
      await node.deletePod(pod);
    },
  );

  await t.step("retention keeps a deleted pod's files for so long, out of reach of a new pod of the name", async () => {
    await controller.stop();
    controller = await node.startController({ RETENTION_AFTER_POD_DELETION: "6s" });
    const pod = await node.startPod("kept", { annotations: { [KEY]: "5" } });
    await node.capturing(pod);
    await node.sees(pod, "old");
    // Before that nothing is retained: whatever the test waits for, it cannot look too late for the beginning.
    const since = performance.now();
    await node.deletePod(pod);
    const folder = join(node.captureDir, ".retained", pod.uid);
    await waitFor("the files to be retained", () => exists(folder));
    const again = await node.startPod("kept", { annotations: { [KEY]: "5" } });
    await node.capturing(again);
    assertEquals(await node.received(again, "old"), []);
    assert(await exists(folder));
    await waitFor("the retained files to go", async () => !await exists(folder), { timeoutMs: 15_000 });
    assert(performance.now() - since > 5000, "too early");
    await node.deletePod(again);
  });

  await t.step(
    "retention keeps the files of a pod whose manifest was damaged as long, and list and cat know them",
    async () => {
      const pod = await node.startPod("spoilt", { annotations: { [KEY]: "5" } });
      await node.capturing(pod);
      await node.sees(pod, "evidence");
      await controller.stop();
      await Deno.writeTextFile(join(node.folderOf(pod), "capture.json"), "{");
      await node.deletePod(pod);
      const since = performance.now();
      controller = await node.startController({ RETENTION_AFTER_POD_DELETION: "6s" });
      const env = { CAPTURE_DIR: node.captureDir };
      const rows = async () => {
        const { stdout } = await cli(["list", "-o", "json"], { env });
        return (JSON.parse(stdout) as { pod: string; uid: string; state: string }[]).filter((row) =>
          row.pod === pod.name
        );
      };
      const [row] = await waitFor("the retained files", async () => {
        const found = await rows();
        return found[0]?.state === "retained" ? found : undefined;
      });
      const file = join(node.dir, "spoilt.pcapng");
      await Deno.writeFile(file, (await cliCommand(["cat", row!.uid], { env }).output()).stdout);
      assert((await numbersIn(file, "evidence")).length > 0);
      const folder = join(node.captureDir, ".retained", row!.uid);
      await waitFor("the retained files to go", async () => !await exists(folder), { timeoutMs: 15_000 });
      assert(performance.now() - since > 5000, "too early");
    },
  );
  await controller.stop();
});
