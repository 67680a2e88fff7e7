/** Files that tcpdump, editcap, mergecap and text2pcap made go through `cat` and through merging; tshark and capinfos judge. */
import { deepStrictEqual as assertEquals, match, ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { FileSource } from "../../../src/pcap/bytes.ts";
import { cat } from "../../../src/reading/cat.ts";
import { mergeCaptures } from "../../../src/pcap/merge.ts";
import { checkWhole } from "../../../src/plugin/fetch/whole.ts";
import { captureDir, concat, run as aRun, testIo } from "../../unit/reading/files.ts";
import { linesOf } from "./lines.ts";
import { blocksIn, capinfos, Netns, packetsIn, Sender, Tcpdump, tshark } from "./rig.ts";

interface Kind {
  readonly encapsulation: string;
  make(netns: Netns, path: string): Promise<void>;
}

async function capture(netns: Netns, path: string, ...args: string[]): Promise<void> {
  await using tcpdump = await Tcpdump.start(netns, [...args, "-c", "200", "-w", path, "udp port 9"]);
  await new Sender(netns, { count: 200, perSecond: 2000, size: 100 }).done();
  await tcpdump.ended;
}

/** The same file with every number of its headers in the other byte order. */
async function swap(path: string): Promise<void> {
  const bytes = await Deno.readFile(path);
  const view = new DataView(bytes.buffer);
  const swap32 = (at: number) => view.setUint32(at, view.getUint32(at, true), false);
  const swap16 = (at: number) => view.setUint16(at, view.getUint16(at, true), false);
  [4, 6].forEach(swap16);
  [0, 8, 12, 16, 20].forEach(swap32);
  for (let at = 24; at < bytes.length;) {
    const length = view.getUint32(at + 8, true);
    [at, at + 4, at + 8, at + 12].forEach(swap32);
    at += 16 + length;
  }
  await Deno.writeFile(path, bytes);
}

const KINDS: Record<string, Kind> = {
  "Linux cooked v2, from tcpdump": {
    encapsulation: "linux-sll2",
    make: (netns, path) => capture(netns, path, "-i", "any"),
  },
  "Linux cooked v1, from tcpdump": {
    encapsulation: "linux-sll",
    make: (netns, path) => capture(netns, path, "-i", "any", "-y", "LINUX_SLL"),
  },
  "Ethernet, from tcpdump": { encapsulation: "ether", make: (netns, path) => capture(netns, path, "-i", "lo") },
  "Ethernet with nanoseconds, cut to 64 bytes, from tcpdump": {
    encapsulation: "ether",
    make: (netns, path) => capture(netns, path, "-i", "lo", "--time-stamp-precision=nano", "-s", "64"),
  },
  "raw IP, by editcap": {
    encapsulation: "rawip",
    async make(netns, path) {
      await capture(netns, `${path}.eth`, "-i", "lo");
      await run(["editcap", "-F", "pcap", "-C", "0:14", "-L", "-T", "rawip", `${path}.eth`, path]);
      await Deno.remove(`${path}.eth`);
    },
  },
  "raw IP with nanoseconds, by text2pcap": {
    encapsulation: "rawip",
    async make(_netns, path) {
      const lines = Array.from(
        { length: 50 },
        (_, i) =>
          `2026-01-31 12:00:${
            String(i).padStart(2, "0")
          }.123456789\n0000 45 00 00 14 00 00 00 00 40 fd 00 00 0a 00 00 01 0a 00 00 02\n`,
      );
      await run(["text2pcap", "-F", "nsecpcap", "-l", "101", "-t", "%Y-%m-%d %H:%M:%S.%f", "-", path], {
        input: lines.join(""),
      });
    },
  },
  "big-endian microseconds": {
    encapsulation: "ether",
    async make(netns, path) {
      await capture(netns, path, "-i", "lo");
      await swap(path);
    },
  },
  "big-endian nanoseconds": {
    encapsulation: "linux-sll2",
    async make(netns, path) {
      await capture(netns, path, "-i", "any", "--time-stamp-precision=nano");
      await swap(path);
    },
  },
  "several files of one run, by editcap": {
    encapsulation: "ether",
    make: (netns, path) => capture(netns, path, "-i", "lo"),
  },
};

for (const [kind, { encapsulation, make }] of Object.entries(KINDS)) {
  Deno.test(`cat gives tshark the very packets and times of the files: ${kind}`, async () => {
    await using dir = await captureDir();
    await dir.putManifest({ runs: [aRun(1, { endedAt: "x" })] });
    await using netns = await Netns.create();
    const source = join(dir.path, "source.pcap");
    await make(netns, source);
    if (kind.startsWith("several files")) {
      await run(["editcap", "-F", "pcap", "-c", "30", source, join(dir.folder, "part.pcap")]);
      const parts = [...Deno.readDirSync(dir.folder)].map(({ name }) => name).filter((name) => name.startsWith("part"))
        .sort();
      assert(parts.length >= 6);
      for (const [i, name] of parts.entries()) {
        await Deno.rename(join(dir.folder, name), join(dir.folder, `run-000001-00000${i}.pcap`));
      }
    } else {
      await Deno.copyFile(source, join(dir.folder, "run-000001-000000.pcap"));
    }
    const wanted = await packetsIn(source);
    for (const format of ["pcapng", "pcap"] as const) {
      const io = testIo();
      same(await cat({ captureDir: dir.path, pod: "default/web-0", format }, io), 0, io.said.join());
      const path = join(dir.path, `out.${format}`);
      await Deno.writeFile(path, io.output);
      same(await packetsIn(path), wanted);
      const infos = await capinfos(path);
      match(
        infos.get("File encapsulation") ?? "",
        new RegExp(encapsulation === "ether" ? "ether" : encapsulation, "i"),
      );
      same(infos.get("Strict time order"), "True");
      match(infos.get("File type") ?? "", format === "pcapng" ? /pcapng/ : /pcap/);
    }
    const names = await tshark(join(dir.path, "out.pcapng"), "frame.interface_name");
    assertEquals([...new Set(names.map(([name]) => name))], ["default/web-0@worker1"]);
  });
}

Deno.test("capinfos and tshark see the interface's name, filter, comments and counters as cat wrote them", async () => {
  await using dir = await captureDir();
  const request = {
    files: 5,
    fileSizeMB: 1,
    snaplen: 262_144,
    interface: "any",
    direction: "inout",
    filter: "udp port 9",
  } as const;
  await dir.putManifest({ runs: [aRun(1, { request, received: 4321, dropped: 21, endedAt: "x" })] });
  await using netns = await Netns.create();
  await capture(netns, join(dir.folder, "run-000001-000000.pcap"), "-i", "any");
  const io = testIo();
  same(await cat({ captureDir: dir.path, pod: "default/web-0" }, io), 0);
  const path = join(dir.path, "out.pcapng");
  await Deno.writeFile(path, io.output);
  const said = await run(["capinfos", path]);
  match(said, /Capture application: packet-capture \d/);
  match(said, /Capture comment: {5}packet-capture .*: default\/web-0 on worker1, pod UID 6f1c2d3e/);
  match(said, /Capture comment: {5}annotations: tcpdump\.antrea\.io="5"/);
  match(said, /Name = default\/web-0@worker1/);
  match(said, /Filter string = udp port 9/);
  match(said, /Number of packets = 200/);
  match(said, /Number of stat entries = 1/);
  // The blocks in their order, in the file's own view: the statistics are the last.
  const blocks = await blocksIn(path);
  assertEquals(blocks.map(({ type }) => type), [
    "Section Header Block",
    "Interface Description Block",
    ...Array(200).fill("Enhanced Packet Block"),
    "Interface Statistics Block",
  ]);
  // Received, dropped twice over (ifdrop, osdrop), delivered.
  const statistics = blocks.at(-1)!.text;
  for (const pattern of [/received[^\n]*4321/i, /dropped[^\n]*21\b/i, /delivered[^\n]*200\b/i]) {
    match(statistics, pattern);
  }
});

Deno.test("mergeCaptures() gives what mergecap gives of the same files, each packet with its pod's interface", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  // Three captures of the same traffic at once, of two link types.
  const kinds = [["-i", "any"], ["-i", "lo"], ["-i", "any", "-y", "LINUX_SLL"]];
  const captures = await Promise.all(
    kinds.map((args, i) =>
      Tcpdump.start(netns, [...args, "-c", "300", "-w", join(dir.path, `${i}.pcap`), "udp port 9"])
    ),
  );
  await new Sender(netns, { count: 300, perSecond: 3000, size: 60 }).done();
  for (const tcpdump of captures) await tcpdump.ended;
  const files: string[] = [];
  for (const i of kinds.keys()) {
    const name = `web-${i}`;
    const folder = join(dir.path, "default", name);
    await Deno.mkdir(folder, { recursive: true });
    await Deno.copyFile(join(dir.path, `${i}.pcap`), join(folder, "run-000001-000000.pcap"));
    await dir.putManifest({ pod: name });
    await Deno.copyFile(join(dir.folder, "capture.json"), join(folder, "capture.json")).catch(() => {});
    const io = testIo();
    await Deno.mkdir(dir.folder, { recursive: true });
    same(await cat({ captureDir: dir.path, pod: `default/${name}` }, io), 0, io.said.join());
    files.push(join(dir.path, `${name}.pcapng`));
    // Seconds apart, the last one first, lest the sorting of what is nearly in order put right what merging has not.
    const written = join(dir.path, "cat.pcapng");
    await Deno.writeFile(written, io.output);
    await run(["editcap", "-t", String(10 * (kinds.length - i)), written, files.at(-1)!]);
  }
  const merged = join(dir.path, "merged.pcapng");
  {
    using out = await Deno.open(merged, { write: true, create: true });
    const opened = files.map((path) => Deno.openSync(path));
    const write = async (bytes: Uint8Array) => {
      for (let at = 0; at < bytes.length;) at += await out.write(bytes.subarray(at));
    };
    const result = await mergeCaptures(files.map((name, i) => ({ name, source: new FileSource(opened[i]!) })), {
      write,
      application: "test",
    });
    opened.forEach((file) => file.close());
    assertEquals([result.packets, result.notes], [900, []]);
    match(result.remarks.join(), /^the packets have the link types LINUX_SLL2, EN10MB and LINUX_SLL: /);
  }
  const reference = join(dir.path, "reference.pcapng");
  await run(["mergecap", "-w", reference, ...files]);
  const rows = async (path: string) =>
    (await tshark(path, "frame.time_epoch", "frame.interface_name", "frame.len", "udp.payload")).map((row) =>
      row.join(" ")
    );
  // Packets of the same microsecond may stand in another order.
  const [mine, theirs] = [await rows(merged), await rows(reference)];
  assertEquals(mine.toSorted(), theirs.toSorted());
  const infos = await capinfos(merged);
  same(infos.get("Strict time order"), "True");
  same(infos.get("Number of interfaces in file"), "3");
  const said = await run(["capinfos", merged]);
  for (const i of kinds.keys()) match(said, new RegExp(`Name = default/web-${i}@worker1`));
});

/** Makes a pcapng file of the pcap files `ether.pcap`, `cooked.pcap` and `nano.pcap` in a folder. */
type MakePcapng = (folder: string, path: string, netns: Netns) => Promise<unknown>;

const TEXT = Array.from(
  { length: 50 },
  (_, i) =>
    `2026-01-31 12:00:${String(i).padStart(2, "0")}.123456\n0000 45 00 00 14 00 00 00 00 40 fd 00 00 0a 00 00 01\n`,
).join("");

const PCAPNG: Readonly<Record<string, MakePcapng>> = {
  "mergecap, with two interfaces": (folder, path) =>
    run(["mergecap", "-F", "pcapng", "-w", path, join(folder, "ether.pcap"), join(folder, "cooked.pcap")]),
  "editcap, with nanoseconds": (folder, path) => run(["editcap", "-F", "pcapng", join(folder, "nano.pcap"), path]),
  "editcap, with a comment of the file, of a packet, and secrets": async (folder, path) => {
    await Deno.writeTextFile(join(folder, "keys"), `CLIENT_RANDOM ${"0".repeat(64)} ${"1".repeat(96)}\n`);
    const secrets = ["--inject-secrets", `tls,${join(folder, "keys")}`];
    const comments = ["--capture-comment", "of the file", "-a", "3:of a packet"];
    await run(["editcap", "-F", "pcapng", ...secrets, ...comments, join(folder, "ether.pcap"), path]);
  },
  "text2pcap": (_folder, path) =>
    run(["text2pcap", "-F", "pcapng", "-l", "101", "-t", "%Y-%m-%d %H:%M:%S.%f", "-", path], { input: TEXT }),
  "tshark": (folder, path) => run(["tshark", "-r", join(folder, "ether.pcap"), "-F", "pcapng", "-w", path]),
  "dumpcap": async (_folder, path, netns) => {
    const dumpcap = netns.command(["dumpcap", "-q", "-n", "-i", "lo", "-f", "udp port 9", "-c", "200", "-w", path], {
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const said: string[] = [];
    const reading = (async () => {
      for await (const line of linesOf(dumpcap.stderr)) said.push(line);
    })();
    try {
      await waitFor("dumpcap to have begun", () => said.some((line) => line.startsWith("File:")), { everyMs: 20 });
      await new Sender(netns, { count: 200, perSecond: 2000, size: 100 }).done();
      let code: number | undefined;
      dumpcap.status.then((status) => code = status.code);
      await waitFor("dumpcap to have ended", () => code === 0);
    } finally {
      try {
        dumpcap.kill("SIGKILL");
      } catch { /* It has ended. */ }
      await reading;
    }
  },
  "several sections, of different programs": async (folder, path, netns) => {
    const sections: Uint8Array[] = [];
    for (const name of ["text2pcap", "mergecap, with two interfaces", "editcap, with nanoseconds"]) {
      const section = join(folder, "section.pcapng");
      await PCAPNG[name]!(folder, section, netns);
      sections.push(await Deno.readFile(section));
    }
    await Deno.writeFile(path, concat(...sections));
  },
  "big-endian, with a section of the other order behind it": async (folder, path, netns) => {
    await PCAPNG["mergecap, with two interfaces"]!(folder, path, netns);
    // Within the 2 s that are put in order: what goes further back is a clock that was set, and stays where it is.
    await run(["editcap", "-r", path, `${path}.short`, "1-200"]);
    const little = await Deno.readFile(`${path}.short`);
    await Deno.writeFile(path, concat(swapBlocks(little), little));
  },
};

/** The same pcapng file with every number of its headers in the other byte order. */
function swapBlocks(bytes: Uint8Array): Uint8Array {
  const swapped = bytes.slice();
  const [from, to] = [bytes, swapped].map((each) => new DataView(each.buffer, each.byteOffset)) as [DataView, DataView];
  const swap32 = (at: number) => to.setUint32(at, from.getUint32(at, true), false);
  const swap16 = (at: number) => to.setUint16(at, from.getUint16(at, true), false);
  const swap64 = (at: number) => to.setBigUint64(at, from.getBigUint64(at, true), false);
  const options = (at: number, end: number) => {
    while (at + 4 <= end) {
      const [code, length] = [from.getUint16(at, true), from.getUint16(at + 2, true)];
      [at, at + 2].forEach(swap16);
      // if_tsoffset and the counters of statistics are numbers of 64 bits, all else here is text or single bytes.
      if (code !== 1 && length === 8) swap64(at + 4);
      at += 4 + length + (-length & 3);
    }
  };
  for (let at = 0; at < bytes.length;) {
    const [type, length] = [from.getUint32(at, true), from.getUint32(at + 4, true)];
    [at, at + 4, at + length - 4].forEach(swap32);
    const end = at + length - 4;
    if (type === 0x0a0d0d0a) {
      swap32(at + 8);
      [at + 12, at + 14].forEach(swap16);
      swap64(at + 16);
      options(at + 24, end);
    } else if (type === 1) {
      [at + 8, at + 10].forEach(swap16);
      swap32(at + 12);
      options(at + 16, end);
    } else if (type === 5) {
      [at + 8, at + 12, at + 16].forEach(swap32);
      options(at + 20, end);
    } else if (type === 6) {
      [at + 8, at + 12, at + 16, at + 20, at + 24].forEach(swap32);
      const captured = from.getUint32(at + 20, true);
      options(at + 28 + captured + (-captured & 3), end);
    } else throw new Error(`block type ${type}`);
    at += length;
  }
  return swapped;
}

/** What the plugin makes of one pcapng file. */
async function merged(source: string, path: string): Promise<void> {
  using out = await Deno.open(path, { write: true, create: true, truncate: true });
  using opened = Deno.openSync(source);
  const write = async (bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length;) at += await out.write(bytes.subarray(at));
  };
  const { notes } = await mergeCaptures([{ name: "x", source: new FileSource(opened) }], {
    write,
    application: "test",
  });
  assertEquals(notes, []);
}

for (const [kind, make] of Object.entries(PCAPNG)) {
  Deno.test(`mergeCaptures() gives tshark the very packets, times and comments of a pcapng file by ${kind}`, async () => {
    await using dir = await captureDir();
    await using netns = await Netns.create();
    const args = {
      "ether.pcap": ["-i", "lo"],
      "cooked.pcap": ["-i", "any"],
      "nano.pcap": ["-i", "lo", "--time-stamp-precision=nano"],
    };
    for (const [name, more] of Object.entries(args)) await capture(netns, join(dir.path, name), ...more);
    const [source, path] = [join(dir.path, "source.pcapng"), join(dir.path, "out.pcapng")];
    await make(dir.path, source, netns);
    await merged(source, path);
    // By time, since that is what merging is for.
    const inOrder = (await capinfos(source)).get("Strict time order") === "True";
    const sorted = inOrder ? source : join(dir.path, "sorted.pcapng");
    if (!inOrder) await run(["reordercap", source, sorted]);
    same(await packetsIn(path), await packetsIn(sorted));
    const remarks = async (file: string) => (await tshark(file, "frame.comment")).flat();
    assertEquals(await remarks(path), await remarks(sorted));
    const { packets } = await checkWhole(source, new AbortController().signal);
    same(String(packets), (await capinfos(source)).get("Number of packets"));
  });
}

Deno.test("mergeCaptures() takes simple packets, passes over unknown blocks, and tshark agrees", async () => {
  await using dir = await captureDir();
  await using netns = await Netns.create();
  const [pcap, source, path] = ["x.pcap", "source.pcapng", "out.pcapng"].map((name) => join(dir.path, name)) as [
    string,
    string,
    string,
  ];
  await capture(netns, pcap, "-i", "lo");
  await run(["editcap", "-F", "pcapng", pcap, source]);
  const bytes = await Deno.readFile(source);
  const view = new DataView(bytes.buffer);
  const blocks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += view.getUint32(at + 4, true)) {
    const block = bytes.subarray(at, at + view.getUint32(at + 4, true));
    blocks.push(block);
    if (view.getUint32(at, true) !== 6) continue;
    const captured = view.getUint32(at + 20, true);
    const simple = new Uint8Array(16 + captured + (-captured & 3));
    const to = new DataView(simple.buffer);
    to.setUint32(0, 3, true);
    to.setUint32(4, simple.length, true);
    to.setUint32(8, captured, true);
    simple.set(bytes.subarray(at + 28, at + 28 + captured), 12);
    to.setUint32(simple.length - 4, simple.length, true);
    // Each packet once more without its time, and a block for local use.
    const unknown = new Uint8Array(20);
    new DataView(unknown.buffer).setUint32(0, 0x80000042, true);
    new DataView(unknown.buffer).setUint32(4, 20, true);
    new DataView(unknown.buffer).setUint32(16, 20, true);
    blocks.push(simple, unknown);
  }
  await Deno.writeFile(source, concat(...blocks));
  await merged(source, path);
  const hex = async (file: string) => await run(["tshark", "-n", "-r", file, "-x"], { timeoutMs: 120_000 });
  same(await hex(path), await hex(source));
  same((await capinfos(path)).get("Number of packets"), "400");
});
