/** Cutting off the incomplete last record of a pcap file whose writer was killed or ran into a full disk. */
import { pause } from "../base/timeout.ts";
import { FileSource } from "../pcap/bytes.ts";
import { PcapReader } from "../pcap/pcap.ts";
import { PCAP_HEADER_BYTES } from "../pcap/pcap_format.ts";

/** Bytes read without letting anything else happen: some milliseconds. */
const BYTES_AT_A_TIME = 4 * 1024 * 1024;

/**
 * Truncates a pcap file after its last whole record. What is torn in its middle stays, because `cat` passes over it
 * and reads what comes after it: tcpdump goes on with the same file when a full disk has room again.
 *
 * @returns the bytes cut off; 0 for a whole file. A file that is not pcap is left alone, and one that has another
 * name somewhere.
 */
export async function cutTornRecord(path: string): Promise<number> {
  using file = await Deno.open(path, { read: true, write: true });
  const { size, isFile, nlink } = await file.stat();
  // tcpdump makes no links: who has planted one must not have another file cut.
  if (!isFile || nlink !== 1) return 0;
  const reader = new PcapReader(new FileSource(file));
  let end = reader.open() ? PCAP_HEADER_BYTES : 0;
  if (reader.foreign) return 0;
  for (let paused = 0; reader.next();) {
    end = reader.offset;
    if (end - paused < BYTES_AT_A_TIME) continue;
    paused = end;
    await pause(0);
  }
  if (end < size) await file.truncate(end);
  return size - end;
}
