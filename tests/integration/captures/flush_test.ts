/** Readers get what tcpdump had processed when they began, although it buffers what it writes. */
import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { Tcpdump } from "../../../src/tcpdump/tcpdump.ts";
import { KEY, NodeRig, numbersIn as tokensIn, type TestPod } from "../../rig/node.ts";
import { Netns, numbersIn, readingCommand, Sender, tshark } from "../reading/rig.ts";

/** Each datagram that a pod sends to itself is captured once, and nothing else is. */
const ONE_WAY = {
  [KEY]: "5",
  [`${KEY}/interface`]: "lo",
  [`${KEY}/direction`]: "in",
  [`${KEY}/filter`]: "udp dst port 9",
};

async function capture(netns: Netns, dir: string, files: number): Promise<Tcpdump> {
  const tcpdump = new Tcpdump({
    tcpdump: "tcpdump",
    nsenter: "nsenter",
    request: { files, fileSizeMB: 20, snaplen: 262_144, interface: "lo", direction: "inout", filter: "udp port 9" },
    netnsPath: netns.path,
    file: join(dir, "x"),
    onLine() {},
  });
  await tcpdump.listening;
  return tcpdump;
}

/** Waits until tcpdump reports that it has processed so many packets. */
async function processed(tcpdump: Tcpdump, packets: number): Promise<void> {
  await waitFor(`${packets} packets`, () => {
    tcpdump.askCounters();
    return (tcpdump.counters?.captured ?? 0) >= packets;
  }, { timeoutMs: 20_000 });
}

Deno.test("Tcpdump.flushBuffer() has all in the file that tcpdump had processed, for all who ask at once", async () => {
  const dir = await Deno.makeTempDir();
  await using netns = await Netns.create();
  const tcpdump = await capture(netns, dir, 1);
  try {
    for (let round = 1; round <= 5; round++) {
      await new Sender(netns, { count: 20, perSecond: 1000, size: 50 }).done();
      await processed(tcpdump, 20 * round);
      const before = (await Deno.stat(join(dir, "x"))).size;
      // A machine that does not let tcpdump come to rest within 0.9 s says so, and can be asked again.
      await waitFor("a flush", async () => {
        await Promise.all(Array.from({ length: 5 }, () => tcpdump.flushBuffer()));
        return true;
      });
      const { size } = await Deno.stat(join(dir, "x"));
      assert(before < size, `${before} bytes were there before, ${size} after`);
      assertEquals((await numbersIn(join(dir, "x"))).length, 20 * round);
    }
  } finally {
    await tcpdump.kill();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("Tcpdump.flushBuffer() damages nothing, however often it is called under load", async () => {
  const dir = await Deno.makeTempDir();
  await using netns = await Netns.create();
  const tcpdump = await capture(netns, dir, 20);
  try {
    let over = false;
    const sent = Promise.all(
      [1, 2].map(() => new Sender(netns, { count: 60_000, perSecond: 12_000, size: 150 }).done()),
    ).finally(() => over = true);
    let flushed = 0;
    // One that is at work all the time is left alone.
    while (!over) await tcpdump.flushBuffer().then(() => flushed++, () => {});
    const [first, second] = await sent;
    await tcpdump.flush();
    const names = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) => name.startsWith("x")).sort();
    let found = 0;
    for (const name of names) found += (await numbersIn(join(dir, name))).length;
    same(found, first! + second!);
    for (const name of names) await run(["capinfos", "-M", "-c", join(dir, name)]);
    assert(flushed > 100, `only ${flushed} flushes`);
  } finally {
    await tcpdump.kill();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("Tcpdump.flushBuffer() has all in the file that was counted before it, under load and in every file of the ring", async () => {
  const dir = await Deno.makeTempDir();
  await using netns = await Netns.create();
  const tcpdump = await capture(netns, dir, 20);
  try {
    await using sender = new Sender(netns, { count: 0, perSecond: 3000, size: 300 });
    await processed(tcpdump, 1000);
    for (let rounds = 0; rounds < 8; rounds++) {
      await processed(tcpdump, tcpdump.counters!.captured + 500);
      const counted = tcpdump.counters!.captured;
      await waitFor("a flush", () => tcpdump.flushBuffer().then(() => true));
      const numbers = await wholeNumbersIn(dir);
      assert(numbers.length >= counted, `${numbers.length} of ${counted} are in the files`);
      assertEquals(numbers, numbers.map((_, i) => i));
    }
    assert(sender.sent > 4000);
  } finally {
    await tcpdump.kill();
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("cat and stream hold what tcpdump had processed, list counts it, and the socket is the controller's", async () => {
  const dir = await Deno.makeTempDir();
  await using node = await NodeRig.start();
  const socket = join(node.captureDir, ".control");
  const pod = await node.startPod("web-0", { annotations: ONE_WAY });
  const sent = 1200;
  let total = 0;
  const counted = async () => (await node.manifest(pod))?.runs.at(-1).captured;
  /** Sends numbered packets of which the last are in tcpdump's buffer, not in the file. Gives their token. */
  const sendUnseen = async (name: string): Promise<string> => {
    for (let i = 1; i <= 10; i++) {
      const token = `${name}${i}`;
      const before = await counted();
      await node.send(pod, token, sent);
      total += sent;
      await waitFor("tcpdump to process them", async () => await counted() >= before + sent, { timeoutMs: 20_000 });
      // So many in 3 s are no slow capture, which would be flushed now; where they came in two pieces, it was.
      if (await unflushed(node, pod, token) < sent) return token;
    }
    throw new Error("tcpdump has written them all by itself: nothing is shown");
  };
  {
    await using controller = await node.startController();
    await node.capturing(pod);
    same((await Deno.lstat(socket)).mode! & 0o777, 0o600);
    const first = await sendUnseen("first");
    same(await told(await written(node, pod, dir), first), sent);
    const second = await sendUnseen("listed");
    const { packets, bytes } = await listed(node, pod);
    same(packets, total);
    same(await unflushed(node, pod, second), sent, "list counts what is not in the file");
    const sizes = (await node.files(pod)).map((name) => Deno.statSync(join(node.folderOf(pod), name)).size);
    same(bytes, sizes.reduce((sum, size) => sum + size));
    const third = await sendUnseen("buffered");
    // Killed, it leaves the socket's file behind, and a tcpdump that the next one has end with all that it has.
    await controller.end("SIGKILL");
    await Deno.lstat(socket);
    assert(await unflushed(node, pod, third) < sent);
    await using _again = await node.startController();
    await node.capturing(pod);
    same(await unflushed(node, pod, third), sent);
  }
  await using controller = await node.startController();
  await node.capturing(pod);
  const again = await sendUnseen("again");
  same(await told(await written(node, pod, dir), again), sent);
  const held = await sendUnseen("held");
  await node.annotate(pod, { hold: "true" });
  await node.inState(pod, "held");
  same(await unflushed(node, pod, held), sent);
  await node.annotate(pod, { hold: null });
  await node.capturing(pod);
  const edited = await sendUnseen("edited");
  await node.annotate(pod, { "": "4" });
  await waitFor("another tcpdump", async () => (await node.processOf(pod))?.argv.join(" ").includes(" -W 4 "));
  same(await unflushed(node, pod, edited), sent);
  await node.annotate(pod, { "": null });
  await node.clean(pod);
  same((await controller.stop()).code, 0);
  assertEquals([...Deno.readDirSync(node.captureDir)], []);
  await node.deletePod(pod);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("stream is at most 1.5 s behind, however little there is", async () => {
  const live = await Deno.makeTempFile();
  await using node = await NodeRig.start();
  await using controller = await node.startController();
  const pod = await node.startPod("web-0", { annotations: ONE_WAY });
  await node.capturing(pod);
  const child = readingCommand(["stream", `default/${pod.name}`, "--capture-dir", node.captureDir]).spawn();
  /** When each number came, in seconds since the epoch. */
  const came = new Map<number, number>();
  const saved = (async () => {
    using file = await Deno.open(live, { write: true });
    for await (const chunk of child.stdout) {
      await file.write(chunk);
      for (const [, number] of new TextDecoder("latin1").decode(chunk).matchAll(/live-([0-9]+)\n/g)) {
        came.set(Number(number), Date.now() / 1000);
      }
    }
  })();
  // Seven a second: a minute of them would not fill tcpdump's buffer ten times.
  const count = 50;
  const script = `exec 4<> <(:); for ((i = 0; i < ${count}; i++)); do echo "live-$i" >/dev/udp/127.0.0.1/9 || true
    read -t 0.14 -u 4; done 2>/dev/null; exit 0`;
  await run(await node.inNetns(pod, ["bash", "-c", script]), { timeoutMs: 60_000 });
  await waitFor("the stream", () => came.size === count);
  child.kill("SIGTERM");
  await Promise.all([saved, child.stderr.cancel(), child.status]);
  const lags = (await tshark(live, "udp.payload", "frame.time_epoch")).flatMap(([payload = "", time]) => {
    const number = /^live-([0-9]+)\n$/.exec(textOf(payload))?.[1];
    return number === undefined ? [] : [came.get(Number(number))! - Number(time)];
  });
  same(lags.length, count);
  lags.sort((a, b) => a - b);
  // The machine itself may be late for a few.
  assert(lags[count - 5]! <= 1.5, `behind by ${lags.map((lag) => lag.toFixed(2)).join(" ")} s`);
  await node.deletePod(pod);
  await node.clean(pod);
  same((await controller.stop()).code, 0);
  await Deno.remove(live);
});

Deno.test("tcpdump writes each packet at once where it cannot be flushed", async () => {
  const dir = await Deno.makeTempDir();
  await using node = await NodeRig.start();
  await using controller = await node.startController({}, {
    main: join(import.meta.dirname!, "unflushable.ts"),
  });
  await controller.says(/ msg="tcpdump writes each packet at once, which takes more CPU: it cannot be flushed here"/);
  const pod = await node.startPod("web-0", { annotations: ONE_WAY });
  assert((await node.capturing(pod)).argv.includes("-U"));
  await node.send(pod, "few", 3);
  await waitFor("the packets in the file", async () => await unflushed(node, pod, "few") === 3);
  same(await told(await written(node, pod, dir), "few"), 3);
  await node.deletePod(pod);
  await node.clean(pod);
  same((await controller.stop()).code, 0);
  await Deno.remove(dir, { recursive: true });
});

Deno.test("the controller flushes a slow capture by itself, with the chart's capabilities alone", async () => {
  const dir = await Deno.makeTempDir();
  await using node = await NodeRig.start();
  const kept = "-all,+sys_admin,+net_raw,+setuid,+setgid";
  await using controller = await node.startController({}, {
    wrap: ["setpriv", `--bounding-set=${kept}`, `--inh-caps=${kept}`, "--"],
  });
  match(await Deno.readTextFile(`/proc/${controller.pid}/status`), /^CapEff:\t00000000002020c0$/m);
  const pod = await node.startPod("web-0", { annotations: ONE_WAY });
  assert(!(await node.capturing(pod)).argv.includes("-U"));
  await node.send(pod, "few", 3);
  await waitFor("the packets in the file, although nobody reads", async () => await unflushed(node, pod, "few") === 3);
  for (const name of await node.files(pod)) await run(["tcpdump", "-n", "-r", join(node.folderOf(pod), name)]);
  await node.send(pod, "more", 3);
  same(await told(await written(node, pod, dir), "few"), 3);
  await waitFor("later ones", async () => await unflushed(node, pod, "more") === 3);
  await node.deletePod(pod);
  await node.clean(pod);
  same((await controller.stop()).code, 0);
  await Deno.remove(dir, { recursive: true });
});

/** Counts the numbers sent with a token that are in the pod's files, without having tcpdump write what it has buffered. */
async function unflushed(node: NodeRig, pod: TestPod, token: string): Promise<number> {
  let found = 0;
  for (const name of await node.files(pod)) found += await told(join(node.folderOf(pod), name), token);
  return found;
}

/** Returns what `packet-capture list` shows of the pod. */
async function listed(node: NodeRig, pod: TestPod): Promise<{ packets: number; bytes: number }> {
  const { stdout } = await readingCommand(["list", "-o", "json", "--capture-dir", node.captureDir]).output();
  return JSON.parse(new TextDecoder().decode(stdout)).find((row: { pod: string }) => row.pod === pod.name);
}

/** Returns the numbers in whole packets of the files of a ring, in order, by tshark: the last may end within a packet. */
async function wholeNumbersIn(dir: string): Promise<number[]> {
  const names = [...Deno.readDirSync(dir)].map(({ name }) => name).filter((name) => name.startsWith("x")).sort();
  const numbers: number[] = [];
  for (const name of names) {
    const { stdout } = await new Deno.Command("tshark", {
      args: ["-n", "-r", join(dir, name), "-T", "fields", "-e", "udp.payload"],
      stderr: "null",
    }).output();
    for (const line of new TextDecoder().decode(stdout).split("\n")) {
      if (line !== "") numbers.push(Number.parseInt(line.replaceAll(":", "").slice(0, 16), 16));
    }
  }
  return numbers;
}

/** Returns the text that tshark's hexadecimal digits stand for. */
function textOf(hex: string): string {
  return (hex.replaceAll(":", "").match(/../g) ?? []).map((byte) => String.fromCharCode(parseInt(byte, 16))).join("");
}

/** Returns how many numbers sent with a token are in a file. */
async function told(path: string, token: string): Promise<number> {
  return new Set(await tokensIn(path, token)).size;
}

/** Writes the output of cat to a file. */
async function written(node: NodeRig, pod: TestPod, dir: string): Promise<string> {
  const { code, stdout, stderr } = await readingCommand([
    ...["cat", `default/${pod.name}`, "--capture-dir", node.captureDir],
  ]).output();
  same(code, 0, new TextDecoder().decode(stderr));
  const path = join(dir, "out.pcapng");
  await Deno.writeFile(path, stdout);
  return path;
}
