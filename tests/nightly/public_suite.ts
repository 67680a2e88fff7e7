/**
 * Reads a public collection of capture files, such as the folder `tests` of tcpdump's source, which the user has fetched: each pcap
 * file through `cat`, as the ring of a pod, and each pcapng file and the outcome of `cat` through merging. capinfos judges.
 *
 *     make public-suite SUITE=DIR
 *
 * A file with records that are invalid on purpose is right if what is missing was said. Ends with 1 if any other file differs.
 */
// deno-lint-ignore-file no-console
import { join } from "@std/path";
import { FileSource } from "../../src/pcap/bytes.ts";
import { mergeCaptures } from "../../src/pcap/merge.ts";
import { cat } from "../../src/reading/cat.ts";
import { run } from "../support/run.ts";
import { capinfos } from "../integration/reading/rig.ts";
import { captureDir, run as aRun, testIo } from "../unit/reading/files.ts";

/** What capinfos has to say the same of before and after. */
const FACTS = ["Number of packets", "Data size", "First packet time", "Last packet time", "File encapsulation"];
/** From this year on times are read to some microseconds only (src/pcap/pcapng.ts). */
const INEXACT_FROM = 2255;
/** The first bytes of a file tell its format, whatever it is called. */
const PCAP = ["d4c3b2a1", "a1b2c3d4", "4d3cb2a1", "a1b23c4d"];
const PCAPNG = "0a0d0d0a";

type Verdict = { readonly is: "same" | "said" } | { readonly is: "differs"; readonly why: string };

/**
 * Returns the facts that capinfos tells of a file, or for a link type that it does not know how many packets tcpdump counts; undefined
 * if neither can read it to its end.
 */
async function factsOf(path: string): Promise<Map<string, string> | undefined> {
  const told = await capinfos(path).catch(() => undefined);
  if (told === undefined) {
    const counted = await run(["tcpdump", "--count", "-r", path]).catch(() => "");
    const packets = /^(\d+) packets?$/m.exec(counted)?.[1];
    return packets === undefined ? undefined : new Map([["Number of packets", packets]]);
  }
  return new Map(
    FACTS.map((fact) => [fact, told.get(fact) ?? ""] as const)
      .filter(([, value]) => Number(/^(\d{4})-\d\d-\d\d /.exec(value)?.[1] ?? 0) < INEXACT_FROM),
  );
}

function differences(before: Map<string, string>, after: Map<string, string>): string {
  return [...before.keys()].filter((fact) => before.get(fact) !== after.get(fact))
    .map((fact) => `${fact}: ${before.get(fact)} → ${after.get(fact)}`).join(", ");
}

/** @param said what the program said of the file: then something may be missing in it. */
async function judge(original: string, made: string, said: readonly string[]): Promise<Verdict> {
  const [before, after] = [await factsOf(original), await factsOf(made)];
  if (after === undefined) return { is: "differs", why: "capinfos cannot read what was made" };
  const why = before === undefined ? "capinfos cannot read the original" : differences(before, after);
  if (why === "") return { is: "same" };
  return said.length > 0 ? { is: "said" } : { is: "differs", why };
}

async function throughCat(path: string, made: string): Promise<Verdict> {
  await using dir = await captureDir();
  await dir.putManifest({ runs: [aRun(1)] });
  dir.controllerGone();
  await Deno.copyFile(path, join(dir.folder, "capture-web-0.pcap0"));
  const io = testIo();
  const code = await cat({ captureDir: dir.path, pod: "default/web-0" }, io);
  if (io.output.length === 0) {
    const packets = (await factsOf(path))?.get("Number of packets");
    const isRight = io.said.length > 0 && (packets === undefined || packets === "0");
    return isRight ? { is: "said" } : { is: "differs", why: `nothing was written: ${io.said.join("; ")}` };
  }
  await Deno.writeFile(made, io.output);
  const verdict = await judge(path, made, io.said);
  return verdict.is === "same" && code !== 0
    ? { is: "differs", why: `exit code ${code} though all is there: ${io.said.join("; ")}` }
    : verdict;
}

async function throughMerge(path: string, made: string): Promise<Verdict> {
  using file = await Deno.open(path);
  using output = await Deno.open(made, { write: true, create: true, truncate: true });
  const { notes, remarks } = await mergeCaptures([{ name: "suite", source: new FileSource(file) }], {
    application: "public suite",
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await output.write(bytes.subarray(at));
    },
  });
  return await judge(path, made, [...notes, ...remarks]);
}

async function magicOf(path: string): Promise<string> {
  using file = await Deno.open(path);
  const front = new Uint8Array(4);
  await file.read(front);
  return [...front].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

async function* filesUnder(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) yield* filesUnder(path);
    else if (isFile) yield path;
  }
}

async function main([suite]: readonly string[]): Promise<number> {
  if (suite === undefined || !await Deno.stat(suite).then(({ isDirectory }) => isDirectory, () => false)) {
    console.log(
      `Cannot read the suite ${
        suite ?? ""
      }: SUITE must be a folder of capture files, such as tests of tcpdump's source`,
    );
    return 2;
  }
  const counts = { same: 0, said: 0, differs: 0 };
  const made = await Deno.makeTempDir({ prefix: "packet-capture-suite-" });
  const note = (path: string, verdict: Verdict) => {
    counts[verdict.is]++;
    if (verdict.is === "differs") console.log(`${path}: ${verdict.why}`);
  };
  try {
    for await (const path of filesUnder(suite)) {
      const magic = await magicOf(path);
      const [byCat, byMerge] = [join(made, "cat.pcapng"), join(made, "merge.pcapng")];
      if (magic === PCAPNG) note(path, await throughMerge(path, byMerge));
      if (!PCAP.includes(magic)) continue;
      await Deno.remove(byCat).catch(() => {});
      const verdict = await throughCat(path, byCat);
      note(path, verdict);
      if (verdict.is === "same") note(`${path}, merged`, await throughMerge(byCat, byMerge));
    }
  } finally {
    await Deno.remove(made, { recursive: true });
  }
  const files = counts.same + counts.said + counts.differs;
  console.log(
    `${files} readings: ${counts.same} as capinfos has it, ${counts.said} with what is missing said, ${counts.differs} differ`,
  );
  return files > 0 && counts.differs === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
