/** Checks whether a downloaded capture is whole. */
import { pause } from "../../base/timeout.ts";
import { FileSource } from "../../pcap/bytes.ts";
import { PcapngReader } from "../../pcap/pcapng.ts";

/** Packets read without letting anything else happen: some 20 ms. */
const PACKETS_AT_A_TIME = 50_000;

/** The findings in the file. */
export interface Found {
  /** undefined: it is whole. Otherwise what is missing, in a few words. */
  readonly missing: string | undefined;
  readonly packets: number;
}

/**
 * Counts the packets of each interface and compares with the statistics blocks, which the controller writes last.
 * `kubectl exec` can end with exit code 0 though the end is missing (kubernetes#60140), so nothing else shows it.
 */
export async function checkWhole(path: string, signal: AbortSignal): Promise<Found> {
  using file = await Deno.open(path);
  const reader = new PcapngReader(new FileSource(file));
  let packets = 0;
  while (reader.next()) {
    if (++packets % PACKETS_AT_A_TIME === 0) await pause(0, signal);
  }
  return { missing: missingIn(reader), packets };
}

function missingIn(reader: PcapngReader): string | undefined {
  if (reader.foreign) return "what came is not pcapng";
  if (reader.loss.bytes > 0) return "a block is cut";
  if (reader.interfaces.length === 0) return "only its header came";
  if (reader.statisticsBeforeEnd) return "the statistics are not at its end";
  for (const { name, packets, statistics } of reader.interfaces) {
    if (statistics?.delivered === undefined) {
      return `the statistics of ${name ?? "an interface"} are missing at its end`;
    }
    if (statistics.delivered !== packets) {
      return `it has ${packets} of ${statistics.delivered} packets of ${name ?? "an interface"}`;
    }
  }
  return undefined;
}
