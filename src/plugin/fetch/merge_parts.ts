/** Makes one file of the downloaded parts. */
import { FileSource } from "../../pcap/bytes.ts";
import { mixedLinkTypes } from "../../pcap/interfaces.ts";
import { mergeCaptures } from "../../pcap/merge.ts";
import { PcapngReader } from "../../pcap/pcapng.ts";
import { MixedLinkTypes } from "../../pcap/writer.ts";
import { VERSION } from "../../version.ts";
import { Failure } from "../failure.ts";
import { fileFailure, type PartFile } from "./output_file.ts";

export interface NamedFile {
  /** Name for people. */
  readonly name: string;
  /** A pcapng file that has been found whole. */
  readonly path: string;
}

/**
 * @param target The file to write.
 * @param note Prints what the user of the result should know.
 * @returns the path of the result: `target`'s, or the part itself if there is nothing to do.
 * @throws {Failure} `pcap` cannot hold what was captured, or the disk is full.
 */
export async function mergeParts(
  parts: readonly NamedFile[],
  format: "pcapng" | "pcap",
  target: PartFile,
  signal: AbortSignal,
  note: (remark: string) => void,
): Promise<string> {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined && format === "pcapng") {
    const mixed = mixedLinkTypes(await linkTypesOf(first.path));
    if (mixed !== undefined) note(mixed);
    return first.path;
  }
  const opened: Deno.FsFile[] = [];
  try {
    for (const { path } of parts) opened.push(await Deno.open(path));
    using output = await Deno.open(target.path, { write: true, createNew: true, mode: 0o600 });
    const sources = opened.map((file, i) => ({ name: parts[i]?.name ?? "", source: new FileSource(file) }));
    const { notes, remarks } = await mergeCaptures(sources, {
      format,
      application: `kubectl packet-capture ${VERSION}`,
      comments: [`${parts.length} captures, fetched ${new Date().toISOString()}`],
      signal,
      async write(bytes) {
        for (let at = 0; at < bytes.length;) at += await output.write(bytes.subarray(at));
      },
    });
    // Each part has been found whole before, so that this is a fault of the disk or of ours.
    if (notes.length > 0) throw new Failure(`Cannot merge: ${notes.join("; ")}`);
    for (const remark of remarks) note(remark);
    return target.path;
  } catch (error) {
    if (error instanceof MixedLinkTypes) throw new Failure(error.message);
    throw fileFailure(error, target.becomes);
  } finally {
    for (const file of opened) file.close();
  }
}

/** Returns the link types of a capture's interfaces, which stand before its first packet. */
async function linkTypesOf(path: string): Promise<number[]> {
  using file = await Deno.open(path);
  const reader = new PcapngReader(new FileSource(file));
  reader.next();
  return reader.interfaces.map(({ linkType }) => linkType);
}
