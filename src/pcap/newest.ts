/** The time of a capture file's last packet, found at its end, so that a file of any size takes a moment. */
import { FileSource, MemorySource } from "./bytes.ts";
import { PcapReader } from "./pcap.ts";
import { PCAP_HEADER_BYTES } from "./pcap_format.ts";

/** Bytes at the end that are searched: some records of the largest size. */
const TAIL_BYTES = 2 * 1024 * 1024;

/**
 * Returns when the last whole packet of an open pcap file was captured; undefined if it holds none. Moves the file's position.
 *
 * @param size bytes of it that count.
 */
export function newestPacket(file: Deno.FsFile, size: number): { seconds: number; nanos: number } | undefined {
  const header = new Uint8Array(PCAP_HEADER_BYTES);
  file.seekSync(0, Deno.SeekMode.Start);
  if (file.readSync(header) !== header.length) return undefined;
  let left = size - PCAP_HEADER_BYTES;
  if (size > 2 * TAIL_BYTES) {
    file.seekSync(size - TAIL_BYTES, Deno.SeekMode.Start);
    left = TAIL_BYTES;
  }
  const parts = [new MemorySource(header), new FileSource(file)] as const;
  const read = (into: Uint8Array) => {
    const n = parts[0].read(into);
    if (n > 0) return n;
    const more = parts[1].read(into.subarray(0, Math.max(0, left)));
    left -= more;
    return more;
  };
  // The reader finds the first whole record after the gap as it does in a damaged file.
  const reader = new PcapReader({ read }, { growing: true });
  let newest: { seconds: number; nanos: number } | undefined;
  while (reader.next()) newest = { seconds: reader.seconds, nanos: reader.nanos };
  return newest;
}
