/** What tcpdump's own counters report of a capture: Events of silence and of drops, /metrics, capture.json, `list`. */
import { deepStrictEqual as assertEquals, match, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { cli } from "../../rig/cli.ts";
import { type Controller, IMPATIENT, KEY, NodeRig, type TestPod } from "../../rig/node.ts";

/** Seconds. */
const SILENCE = 8;

let node: NodeRig;

Deno.test.beforeAll(async () => {
  node = await NodeRig.start();
});

Deno.test.afterAll(async () => {
  await node?.[Symbol.asyncDispose]();
});

async function start(env: Record<string, string> = {}): Promise<Controller> {
  const timing = { health: { silence: SILENCE, droppedAgain: 2000 } };
  return await node.startController({ TIMING: JSON.stringify(timing), ...env }, { main: IMPATIENT });
}

/** The Events of a reason on the pod, and how often each has happened. */
async function told(pod: TestPod, reason: string): Promise<{ note: string; type: string; count: number }[]> {
  const events = await node.events(pod) as { reason: string; note: string; type: string; series?: { count: number } }[];
  return events.filter((event) => event.reason === reason)
    .map(({ note, type, series }) => ({ note, type, count: series?.count ?? 1 }));
}

/** A sample of /metrics of the pod. */
function series(name: string, pod: TestPod): string {
  return `packet_capture_${name}{namespace="default",pod="${pod.name}"}`;
}

/** What `packet-capture list -o json` says of the pod. */
async function listed(pod: TestPod) {
  const { code, stdout, stderr } = await cli(["list", "-o", "json"], { env: { CAPTURE_DIR: node.captureDir } });
  assertEquals(code, 0, stderr);
  return JSON.parse(stdout).find((row: { pod: string }) => row.pod === pod.name);
}

Deno.test("CaptureNoPackets is sent once a run, for one to which nothing has come since its start", async () => {
  await using controller = await start();
  const nothing = { [KEY]: "2", [`${KEY}/filter`]: "udp port 7777" };
  const [silent, busy] = [
    await node.startPod("silent", { annotations: nothing }),
    await node.startPod("busy", { annotations: { ...nothing, [`${KEY}/filter`]: "udp port 9" } }),
  ];
  await node.capturing(silent);
  await node.capturing(busy);
  // From then on it is as quiet as the other.
  await node.send(busy, "early", 3);
  const { note, type } = await node.hasEvent(silent, "CaptureNoPackets", 60_000);
  assertEquals(type, "Normal");
  match(note, /^No packets came in the first (8|9|1\d) s on interface any with filter udp port 7777; the pod has /);
  match(note, /\beth0 \[[^\]]*Up[^\]]*\]/);
  match(note, /\blo \[[^\]]*Loopback[^\]]*\]/);
  // As long as it took another: then each has been looked at again and again.
  const other = await node.startPod("other", { annotations: nothing });
  await node.hasEvent(other, "CaptureNoPackets", 60_000);
  assertEquals((await told(silent, "CaptureNoPackets")).map(({ count }) => count), [1]);
  assertEquals(await told(busy, "CaptureNoPackets"), []);
  // A new run begins again, in words of its own.
  await node.annotate(silent, { filter: "udp port 7778" });
  await waitFor("the second run's Event", async () => {
    return (await told(silent, "CaptureNoPackets")).some(({ note }) => note.includes("udp port 7778"));
  });
  for (const pod of [silent, busy, other]) await node.deletePod(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("CapturePacketsDropped is sent for what the kernel really dropped, and leaves room for other Events", async () => {
  await using controller = await start();
  const pod = await node.startPod("flooded", { annotations: { [KEY]: "2", [`${KEY}/interface`]: "lo" } });
  await node.capturing(pod);
  // Each word is one datagram, but for those at which the answer to the one before arrives.
  const flood =
    `x=$(printf %04000d 0); exec 3<>/dev/udp/127.0.0.1/9; for ((i = 0; i < 4000; i++)); do printf %s "$x" >&3; done`;
  const argv = await node.inNetns(pod, ["bash", "-c", `${flood} 2>/dev/null; exit 0`]);
  const dropped = async () => await controller.metric(series("packets_dropped_total", pod)) ?? 0;
  /** Stops tcpdump for as long as it takes to send more than its 4 MiB of buffer; too long, and it is taken for hung. */
  const drop = async () => {
    const before = await dropped();
    await waitFor("dropped packets", async () => {
      const { pid } = await node.capturing(pod);
      Deno.kill(pid, "SIGSTOP");
      try {
        await run(argv);
      } finally {
        Deno.kill(pid, "SIGCONT");
      }
      await waitFor("counters", async () => await dropped() > before, { timeoutMs: 8000 });
      return true;
    });
  };
  await drop();
  const { type, note } = await node.hasEvent(pod, "CapturePacketsDropped");
  assertEquals(type, "Warning");
  // tcpdump had time to write all else: it was a burst, unless the tests themselves are at a limit.
  match(note, /^The kernel dropped packets (in a burst .*: a larger buffer-size|because the controller .*) helps$/);
  await controller.says(/ msg="packets dropped" pod=default\/flooded .*more=\d+ dropped=\d+ received=\d+ /);
  const sum = await dropped();
  const row = await waitFor("the same of list", async () => {
    const row = await listed(pod);
    return row.dropped >= sum && row;
  });
  assert(Math.abs(row.lostPercent - 100 * row.dropped / row.received) < 0.01, JSON.stringify(row));
  const lost = await waitFor("the share", async () => await controller.metric(series("packets_lost_percent", pod)));
  assert(lost > 0 && lost < 100, `${lost} %`);
  // More of it is a repeat, not another Event.
  await drop();
  await waitFor("the repeat", async () => (await told(pod, "CapturePacketsDropped"))[0]!.count >= 2);
  assertEquals((await told(pod, "CapturePacketsDropped")).length, 1);
  await node.annotate(pod, { "": null });
  await node.hasEvent(pod, "CaptureStopped");
  await node.clean(pod);
  await node.deletePod(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("the numbers of a running capture are tcpdump's own, and its output is in the log", async () => {
  const said = join(node.dir, "said");
  const program = join(node.dir, "tcpdump");
  const real = (await run(["which", "tcpdump"])).trim();
  await Deno.writeTextFile(program, `#!/bin/bash\nexec ${real} "$@" 2> >(exec tee -a ${said} >&2)\n`, { mode: 0o755 });
  await using controller = await start({ TCPDUMP: program });
  const pod = await node.startPod("counted", {
    annotations: { [KEY]: "3", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in" },
  });
  await node.capturing(pod);
  await controller.says(/ msg=tcpdump pod=default\/counted uid=\S+ said="tcpdump: listening on lo, link-type EN10MB/);
  await node.send(pod, "n", 300);
  // Nobody listens: each datagram is answered by an ICMP error.
  await waitFor("600 packets", async () => await controller.metric(series("packets_total", pod)) === 600);
  await waitFor("600 packets in capture.json", async () => (await node.manifest(pod)).runs[0].captured === 600);
  const counts = /^tcpdump: (\d+) packets captured, (\d+) packets received by filter, (\d+) packets dropped by kernel$/;
  // tee writes to the file after it has written to the controller.
  const [captured, received, dropped] = await waitFor("the same line in the file", async () => {
    const last = (await Deno.readTextFile(said)).trim().split("\n").at(-1)!;
    const numbers = counts.exec(last)?.slice(1).map(Number) as [number, number, number] | undefined;
    return numbers?.[0] === 600 && numbers;
  });
  const { runs } = await node.manifest(pod);
  assertEquals([runs[0].captured, runs[0].received, runs[0].dropped], [captured, received, dropped]);
  assertEquals(await controller.metric(series("packets_dropped_total", pod)), dropped);
  // Its counters are no lines of the log.
  assert(!controller.log.includes("received by filter"));

  await node.flush(pod);
  const files = (await node.files(pod)).map((name) => join(node.folderOf(pod), name));
  const times: string[] = [];
  for (const file of files) {
    times.push(
      ...(await run(["tshark", "-n", "-r", file, "-T", "fields", "-e", "frame.time_epoch"])).trim().split("\n"),
    );
  }
  assertEquals(times.length, captured);
  const row = await listed(pod);
  const bytes = files.reduce((sum, file) => sum + Deno.statSync(file).size, 0);
  assertEquals(
    [row.state, row.packets, row.dropped, row.files, row.bytes],
    ["capturing", captured, dropped, files.length, bytes],
  );
  await waitFor("the size in /metrics", async () => await controller.metric(series("ring_bytes", pod)) === bytes);
  times.sort();
  assertEquals([row.oldest, row.newest], [times[0]!, times.at(-1)!].map(toIso));
  await node.deletePod(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("list reports of one moment what was counted and how much there is, however soon after the traffic, and for many at once", async () => {
  await using controller = await start();
  const options = { [KEY]: "3", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in", [`${KEY}/filter`]: "udp" };
  const pods: TestPod[] = [];
  for (const name of ["first", "second"]) pods.push(await node.startPod(name, { annotations: options }));
  for (const pod of pods) await node.capturing(pod);
  for (let sent = 50; sent <= 200; sent += 50) {
    for (const pod of pods) await node.send(pod, "n", 50, sent - 50);
    // As soon as tcpdump has written them: what it counts is saved by itself up to 5 s later.
    const numbers = Array.from({ length: sent }, (_, i) => i);
    for (const pod of pods) {
      await waitFor("the packets in the file", async () => {
        return (await node.received(pod, "n")).length === numbers.length;
      }, { everyMs: 20 });
    }
    const lists = await Promise.all([1, 2, 3].map(() => Promise.all(pods.map(listed))));
    for (const rows of lists) {
      for (const [i, row] of rows.entries()) {
        const files = (await node.files(pods[i]!)).map((name) => Deno.statSync(join(node.folderOf(pods[i]!), name)));
        assertEquals([row.packets, row.bytes], [sent, files.reduce((sum, { size }) => sum + size, 0)]);
      }
    }
  }
  for (const pod of pods) await node.deletePod(pod);
  assertEquals((await controller.stop()).code, 0);
});

Deno.test("list does without an answer: its counters and sizes are then of the same, earlier moment", async () => {
  await using controller = await start();
  const pod = await node.startPod("unanswered", {
    annotations: { [KEY]: "3", [`${KEY}/interface`]: "lo", [`${KEY}/direction`]: "in", [`${KEY}/filter`]: "udp" },
  });
  await node.capturing(pod);
  await node.send(pod, "n", 40);
  await waitFor("all of them in capture.json", async () => (await node.manifest(pod)).runs[0].captured === 40);
  const before = await listed(pod);
  Deno.kill(controller.pid, "SIGSTOP");
  try {
    await node.send(pod, "n", 600, 40);
    await waitFor("more in the file", async () => (await node.received(pod, "n")).length > 100, { everyMs: 20 });
    const started = performance.now();
    const { packets, bytes, files } = await listed(pod);
    assertEquals([packets, bytes, files], [before.packets, before.bytes, before.files]);
    assert(performance.now() - started < 10_000);
  } finally {
    Deno.kill(controller.pid, "SIGCONT");
  }
  await node.deletePod(pod);
  assertEquals((await controller.stop()).code, 0);
});

/** tshark's seconds with all their digits, as `list` writes them: in milliseconds, cut. */
function toIso(epoch: string): string {
  const [seconds, fraction = ""] = epoch.split(".");
  return new Date(Number(seconds) * 1000 + Number(fraction.slice(0, 3))).toISOString();
}
