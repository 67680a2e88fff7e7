/** Names, values and files made to lead the controller out of its directory, into a shell, or down. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../support/wait.ts";
import { exists, KEY, NodeRig, type TestPod } from "../rig/node.ts";
import { fault, type FaultRecord, shared, since } from "./fault.ts";
import { cleanUp, clear, contents, hears, startController } from "./node.ts";
import { lost, numbersOf, Traffic } from "./traffic.ts";

const rig = shared(() => NodeRig.start());

fault("names-at-their-limits", async (record) => {
  const node = await rig();
  await using _controller = await startController(node);
  const namespace = "n".repeat(63);
  await node.server.createNamespace(namespace);
  // 253 characters that differ in the last one only: what is cut of a file's name must not mix them up.
  const stem = Array(7).fill("x".repeat(35)).join(".");
  const names = [`${stem}.a`, `${stem}.b`];
  assertEquals(names[0]!.length, 253);
  const pods = await Promise.all(names.map((name) => node.startPod(name, { namespace, annotations: { [KEY]: "11" } })));
  record.happened(
    `the API took a pod's name of ${names[0]!.length} and a namespace's of ${namespace.length} characters`,
  );
  const start = performance.now();
  await Promise.all(pods.map((pod) => node.capturing(pod)));
  const seconds = since(start);
  for (const pod of pods) await hears(node, pod);
  await node.annotate(pods[0]!, { "": null });
  await node.clean(pods[0]!);
  const packetsLost = await lost(node, pods[1]!);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, pods) });
});

fault("hostile-annotations", async (record) => {
  const node = await rig();
  await using controller = await startController(node);
  const trap = join(node.dir, "executed");
  const values: [string, Record<string, string>][] = [
    ["command-substitution", { [`${KEY}/filter`]: `$(touch ${trap})` }],
    ["backticks", { [`${KEY}/filter`]: `\`touch ${trap}\`` }],
    ["semicolon", { [`${KEY}/filter`]: `udp; touch ${trap}` }],
    ["option-z", { [`${KEY}/filter`]: `-z touch ${trap}` }],
    ["option-w", { [`${KEY}/filter`]: `-w ${trap}` }],
    ["file", { [`${KEY}/filter`]: `-F /etc/passwd` }],
    ["up", { [`${KEY}/interface`]: "../../../etc/passwd" }],
    ["interface-option", { [`${KEY}/interface`]: "-w" }],
    ["interface-blank", { [`${KEY}/interface`]: `eth0 -w ${trap}` }],
    ["direction", { [`${KEY}/direction`]: `in -z touch` }],
    ["nul", { [`${KEY}/filter`]: "udp\u0000port 9" }],
    ["control", { [`${KEY}/filter`]: "udp\u001b[31m\u0007\u009b port 9" }],
    ["lines", { [KEY]: "5\nlevel=error msg=forged" }],
    ["long", { [KEY]: "5".repeat(255_000) }],
    ["long-filter", { [`${KEY}/filter`]: "udp or ".repeat(36_000) + "tcp" }],
    ["unknown", { [`${KEY}/${"u".repeat(63)}`]: "x".repeat(200_000) }],
  ];
  const begin = performance.now();
  const pods: TestPod[] = [];
  for (const [name, annotations] of values) {
    pods.push(await node.startPod(name, { annotations: { [KEY]: "5", ...annotations } }));
  }
  let seconds = 0;
  for (const pod of pods) {
    const { note } = await node.hasEvent(pod, "CaptureRejected");
    seconds = since(begin);
    assert(new TextEncoder().encode(note).length <= 1024, `${pod.name}: a note of ${note.length} characters`);
    // deno-lint-ignore no-control-regex
    assert(!/[\u0000-\u001f\u007f-\u009f]/.test(note), `${pod.name}: ${JSON.stringify(note)}`);
    assertEquals(await node.processOf(pod), undefined, pod.name);
    const lines = controller.lines.filter((line) => line.includes("capture rejected") && line.includes(pod.uid));
    assertEquals(lines.length, 1, pod.name);
    assert(lines[0]!.length < 3000, `${pod.name}: a line of ${lines[0]!.length} characters`);
  }
  record.happened(`Event CaptureRejected on ${pods.length} pods`);
  assert(
    !controller.lines.some((line) => !/^level=/.test(line) || /^level=error msg=forged/.test(line)),
    "a forged line",
  );
  assert(!await exists(trap), "something was executed");
  // It is none the worse for it.
  const good = await node.startPod("good", { annotations: { [KEY]: "5" } });
  await node.capturing(good);
  const packetsLost = await lost(node, good);
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [...pods, good]) });
});

fault("symlinks-planted", async (record) => {
  const node = await rig();
  await (await startController(node)).end("SIGKILL");
  const victim = join(node.dir, "victim");
  await Deno.mkdir(join(victim, "web"), { recursive: true });
  for (const name of ["file", "web/file", "web/capture-web.pcap0", "web/capture.json", "capture-x.pcap"]) {
    await Deno.writeTextFile(join(victim, name), "precious");
  }
  const before = await contents(victim);
  let links = 0;
  const plant = async (target: string, ...path: string[]) => {
    await Deno.mkdir(join(node.captureDir, ...path, ".."), { recursive: true });
    await Deno.remove(join(node.captureDir, ...path)).catch(() => {});
    await Deno.symlink(target, join(node.captureDir, ...path));
    links++;
  };
  // A namespace's folder, a pod's folder, and each file that is written, read, locked or deleted in a pod's folder.
  await plant(victim, "planted");
  await plant(join(victim, "web"), "default", "linked");
  for (
    const name of [
      "capture.json",
      "capture.json.tmp",
      ".promoting",
      ".reading",
      "capture-web.pcap0",
      "run-000001-000000.pcap",
    ]
  ) {
    await plant(join(victim, "file"), "default", "web", name);
  }
  await plant(join(victim, "made-by-us"), "default", "web", "capture-web.pcap1");
  await Deno.mkdir(join(node.captureDir, "default", "odd", "capture.json"), { recursive: true });
  await Deno.mkdir(join(node.captureDir, "default", "odd", "capture.json.damaged"), { recursive: true });
  await plant(victim, ".retained");
  await plant(join(victim, "file"), ".not-capturing.json");
  await plant(join(victim, "file"), ".not-capturing.json.tmp");
  await plant(join(victim, "file"), ".holder");
  record.happened(`${links} symbolic links to files and folders elsewhere`);
  await node.server.createNamespace("planted");
  const pods = await Promise.all([
    node.startPod("web", { annotations: { [KEY]: "5" } }),
    node.startPod("odd", { annotations: { [KEY]: "5" } }),
    node.startPod("linked", { annotations: { [KEY]: "5" } }),
    node.startPod("pod", { namespace: "planted", annotations: { [KEY]: "5" } }),
    node.startPod("bad", { annotations: { [KEY]: "none" } }), // for .not-capturing.json
  ]) as [TestPod, TestPod, TestPod, TestPod, TestPod];
  await using controller = await node.startController({ RETENTION_AFTER_POD_DELETION: "1s" }, { ready: false });
  const start = performance.now();
  await controller.ready();
  await Promise.all([node.capturing(pods[0]), node.capturing(pods[1])]);
  const seconds = since(start);
  const packetsLost = Math.max(await lost(node, pods[0]), await lost(node, pods[1]));
  for (const pod of pods.slice(2, 4)) {
    const { note } = await node.hasEvent(pod, "CaptureFailed");
    assert(note.includes("not a directory"), note);
    assertEquals(await node.processOf(pod), undefined);
  }
  await node.hasEvent(pods[4], "CaptureRejected");
  await Promise.all(pods.map((pod) => node.deletePod(pod)));
  // Files to be retained go nowhere but into a folder of captureDir: they stay until it is one.
  await controller.says(/reconcile failed.*\.retained as a folder: something that is not a directory is there/);
  await Deno.remove(join(node.captureDir, ".retained"));
  await Promise.all(
    pods.slice(0, 2).map((pod) => waitFor(`the end of ${pod.name}`, async () => !await exists(node.folderOf(pod)))),
  );
  await controller.stop();
  assertEquals(await contents(victim), before, "what the links lead to was touched");
  // The links themselves are not ours to judge; what is left besides is.
  for (const path of ["planted", "default/linked"]) {
    await Deno.remove(join(node.captureDir, path)).catch(() => {});
  }
  await Deno.remove(victim, { recursive: true });
  await using _last = await node.startController();
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, []) });
});

/** A capture whose manifest is spoilt while the controller is down: its packets are kept, it goes on, the manifest is set aside. */
async function spoilt(
  record: FaultRecord,
  manifests: readonly ((text: string) => string)[],
  words: RegExp,
  { inTheWay = false } = {},
): Promise<void> {
  const node = await rig();
  await clear(node);
  let seconds = 0;
  const pod = await node.startPod("spoilt", { annotations: { [KEY]: "5" } });
  const gone = await node.startPod("gone", { annotations: { [KEY]: "5" } });
  const first = await node.startController();
  await Promise.all([node.capturing(pod), node.capturing(gone)]);
  await hears(node, gone);
  const traffic = await Traffic.start(node, pod, "spoilt");
  await traffic.flows();
  const { sent } = await traffic.end();
  await first.stop();
  const goneText = await Deno.readTextFile(join(node.folderOf(gone), "capture.json"));
  await node.deletePod(gone);
  for (const [i, spoil] of manifests.entries()) {
    const path = join(node.folderOf(pod), "capture.json");
    await Deno.writeTextFile(path, spoil(await Deno.readTextFile(path)));
    if (i === 0) {
      const folder = node.folderOf(gone);
      // Somebody has put a folder where it would be set aside.
      if (inTheWay) await Deno.mkdir(join(folder, "capture.json.damaged", "in-the-way"), { recursive: true });
      await Deno.writeTextFile(join(folder, "capture.json"), spoil(goneText));
    }
    await using controller = await node.startController({ RETENTION_AFTER_POD_DELETION: "1s" }, { ready: false });
    const start = performance.now();
    const line = await controller.says(/manifest set aside/);
    assert(words.test(line), line);
    await node.capturing(pod);
    seconds = Math.max(seconds, since(start));
    await hears(node, pod);
    await node.clean(gone);
    assert(await exists(join(node.folderOf(pod), "capture.json.damaged")));
    assertEquals((await node.manifest(pod)).uid, pod.uid);
    await controller.stop();
  }
  record.happened(`${manifests.length} times the log said "manifest set aside"`);
  const packetsLost = sent - (await numbersOf(node, pod, "spoilt")).size;
  assertEquals(packetsLost, 0, "packets that were in its files");
  await using _last = await node.startController();
  record.right({ seconds, packetsLost, leftovers: await cleanUp(node, [pod]) });
}

// deno-lint-ignore no-explicit-any -- it is spoilt in every way
const edited = (change: (manifest: any) => void) => (text: string) => {
  const manifest = JSON.parse(text);
  change(manifest);
  return JSON.stringify(manifest);
};

fault("manifest-damaged", (record) =>
  spoilt(
    record,
    [
      (text) => text.replaceAll('"', "\u0000"),
      edited((manifest) => manifest.runs = [null]),
      edited((manifest) => manifest.uid = "../../../etc"),
    ],
    /damaged/,
    { inTheWay: true },
  ));

fault(
  "manifest-truncated",
  (record) => spoilt(record, [(text) => text.slice(0, text.length / 2), () => ""], /not JSON/),
);

fault(
  "manifest-newer",
  (record) => spoilt(record, [edited((manifest) => manifest.version = 2)], /version 2; it must have version 1/),
);
