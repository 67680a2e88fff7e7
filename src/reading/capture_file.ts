/** One file of a ring, held open while it is read, whatever tcpdump does to it meanwhile. */
import type { ByteSource } from "../pcap/bytes.ts";
import { newestPacket } from "../pcap/newest.ts";
import { PCAP_HEADER_BYTES, PCAP_RECORD_BYTES, type PcapHeader, peekPcap } from "../pcap/pcap_format.ts";

/** The global header and the first record's: a ring file that has been rewritten begins otherwise. */
const FRONT_BYTES = PCAP_HEADER_BYTES + PCAP_RECORD_BYTES;

/** An open capture file, as a source of the bytes that it had when it was last looked at, or of all that come. */
export class CaptureFile implements ByteSource {
  readonly name: string;
  /** Number of the run of the capture to which it belongs. */
  run: number;
  /** Bytes that are to be read of it. */
  bytes = 0;
  header: PcapHeader | undefined;
  /** Time of its first packet in seconds since the epoch; undefined if it has none. */
  firstSeconds: number | undefined;
  /** Its last record may be incomplete, without any damage. */
  growing = false;
  /** tcpdump has overwritten it, or the controller has deleted it, before it was read to its end. */
  overtaken = false;
  /** Bytes that it had when a follower last saw it in its folder. */
  seenBytes = 0;

  readonly #file: Deno.FsFile;
  #front: Uint8Array = new Uint8Array();
  #guarded = false;
  #at = 0;
  /** Bytes after the header that are not read, because another one has read them. */
  #skipped = 0;

  constructor(file: Deno.FsFile, name: string, run: number) {
    this.#file = file;
    this.name = name;
    this.run = run;
    this.refresh();
  }

  /** Looks at the file's front and size again. @returns whether it has been rewritten since the last time. */
  refresh(): boolean {
    let front;
    do {
      front = this.#readFront();
      this.bytes = this.#file.statSync().size;
    } while (front.length < FRONT_BYTES && front.length < this.bytes); // it has just grown
    const isRewritten = !startsWith(front, this.#front);
    this.#front = front;
    const peeked = peekPcap(front);
    this.header = peeked.header;
    this.firstSeconds = peeked.first?.seconds;
    return isRewritten;
  }

  /** Whether it had no packet yet, nor the beginning of one, when it was last looked at. */
  get isEmpty(): boolean {
    return this.#front.length < FRONT_BYTES;
  }

  /**
   * Makes each read from now on check that its bytes were not overwritten; what comes before those may end anywhere.
   */
  guard(): void {
    this.#guarded = true;
    this.growing = true;
  }

  /**
   * Reads it from now on as far as it goes, however much it grows; not at all if it was rewritten since the last
   * look.
   */
  follow(): void {
    this.overtaken = !this.isIntact;
    this.guard();
    this.bytes = Infinity;
  }

  /** Leaves out what comes before an offset, but for the header. */
  skipTo(offset: number): void {
    this.#skipped = offset - PCAP_HEADER_BYTES;
  }

  /** Begins again at its front, for another reader. */
  rewind(): void {
    this.#at = 0;
  }

  /** Returns where in the file it is what a reader of this source has at an offset. */
  offsetOf(offset: number): number {
    return offset < PCAP_HEADER_BYTES ? offset : offset + this.#skipped;
  }

  /** Time of its last packet, in seconds since the epoch; undefined if it has none. */
  get newestSeconds(): number | undefined {
    if (!this.header || this.isEmpty) return undefined;
    const newest = newestPacket(this.#file, this.bytes);
    return newest && newest.seconds + newest.nanos / 1e9;
  }

  /** Its first bytes, which differ from what tcpdump may write to the same inode later. */
  get front(): Uint8Array {
    return this.#front;
  }

  /** Returns whether what it held when it was last looked at is still there. */
  get isIntact(): boolean {
    const front = this.#readFront();
    const intact = startsWith(front, this.#front);
    if (intact) this.#front = front;
    return intact;
  }

  /** Whether it has no name any more: the controller has deleted it, and emptied it. */
  get isDeleted(): boolean {
    return this.info.nlink === 0;
  }

  /** The file system's entry for it: its present size and names. */
  get info(): Deno.FileInfo {
    return this.#file.statSync();
  }

  read(into: Uint8Array): number {
    const position = this.offsetOf(this.#at);
    const until = this.#skipped > 0 && this.#at < PCAP_HEADER_BYTES ? PCAP_HEADER_BYTES : this.bytes;
    const wanted = Math.min(into.length, until - position);
    if (wanted <= 0 || this.overtaken) return 0;
    this.#file.seekSync(position, Deno.SeekMode.Start);
    const n = this.#file.readSync(into.subarray(0, wanted)) ?? 0;
    // Read first, looked at afterwards: then what was read is from before. A file that ends early was emptied when it was deleted.
    if ((this.#guarded || n === 0) && !this.isIntact) {
      this.overtaken = true;
      return 0;
    }
    this.#at += n;
    return n;
  }

  close(): void {
    this.#file.close();
  }

  #readFront(): Uint8Array {
    const front = new Uint8Array(FRONT_BYTES);
    this.#file.seekSync(0, Deno.SeekMode.Start);
    let length = 0;
    for (let n; length < FRONT_BYTES && (n = this.#file.readSync(front.subarray(length))); length += n);
    return front.subarray(0, length);
  }
}

/** Returns whether an array begins with all of another one. */
export function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  if (bytes.length < start.length) return false;
  for (let i = 0; i < start.length; i++) if (bytes[i] !== start[i]) return false;
  return true;
}
