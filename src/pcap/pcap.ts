/**
 * Reads the pcap file format (draft-ietf-opsawg-pcap), as tcpdump writes it: whole, growing, cut or torn.
 *
 * A disk that was full leaves a torn record, a crash leaves zeros, a killed tcpdump half a record. libpcap
 * and tshark stop there. This reader skips the damage and counts it; the rest is what the user needs.
 * A record is trusted if its header and the next header make sense. Otherwise it is torn if a run of
 * records begins inside it that fit together and lead beyond it, or to the end of the file. A run that
 * ends inside the record is a packet that carries a piece of a capture file. If it is not torn, the next
 * such run is searched byte by byte. The work is linear in the file's size.
 *
 * Two cases look whole: a torn record followed by exactly the bytes it lacks, and an incomplete record at
 * the end of a file that is being written.
 */
import { type ByteSource, Lookahead } from "./bytes.ts";
import { headerBytes } from "./headers.ts";
import { type Loss, MAX_CAPTURED, MAX_ORIGINAL, type Packet } from "./packet.ts";
import { parsePcapHeader, PCAP_HEADER_BYTES, PCAP_RECORD_BYTES, type PcapHeader } from "./pcap_format.ts";

/** A run of records is believed, after damage, if so many fit together (or fewer up to the end of the file). */
const RECORDS_TO_BELIEVE = 3;
/** Neighbours in a believed run are at most so far apart in time: a week in seconds. */
const NEIGHBOURS_SECONDS = 7 * 86_400;
/** A believed run is at most so far from the last packet before the damage: a year in seconds. */
const RESUME_SECONDS = 366 * 86_400;
/** Buffer needed to follow a run of that many records, and one header more. */
const SCAN_BYTES = (RECORDS_TO_BELIEVE + 1) * (PCAP_RECORD_BYTES + MAX_CAPTURED);
/** Headers looked at per damaged place before the rest of the record is given up: bounds the work on hostile files. */
const MAX_HOPS = 1_000_000;

export interface PcapReaderOptions {
  /** Whether the source may still grow. @default false */
  readonly growing?: boolean;
  /** Its size in bytes at first, or one that nobody uses any more: `bytes` of a reader that is done. */
  readonly buffer?: number | Uint8Array<ArrayBuffer>;
  /** Whether packets are cut after their headers. @default false */
  readonly headersOnly?: boolean;
}

/**
 * Reads packets one after the other, in constant memory.
 *
 * A file cut at its end (or still being written) yields all its whole records. tcpdump leaves a record torn in the
 * middle when the disk was full for a while. The reader then finds the next place where records follow each other
 * again; what it passed over is in `loss`.
 */
export class PcapReader implements Packet {
  start = 0;
  captured = 0;
  original = 0;
  seconds = 0;
  nanos = 0;
  /** Header of the file; undefined while the source holds less. */
  header: PcapHeader | undefined;
  /** Whether the source does not start like a pcap file: nothing can be read from it. */
  foreign = false;
  /** Whether the source may still grow: an incomplete record at its end is then waited for rather than lost. */
  growing: boolean;
  readonly loss: Loss = { bytes: 0, records: 0, places: 0 };
  /** True if the end of a growing source is no record, and none has been found after it. */
  isStuck = false;

  readonly #in: Lookahead;
  readonly #headersOnly: boolean;
  /** As the header is, once it was read. */
  #littleEndian: boolean | undefined;
  #nanosPerUnit = 1000;
  #unitsPerSecond = 1_000_000;
  /** The header at `#in.at` has been found plausible already. */
  #checked = false;

  constructor(source: ByteSource, { growing = false, buffer, headersOnly = false }: PcapReaderOptions = {}) {
    this.#in = new Lookahead(source, buffer);
    this.growing = growing;
    this.#headersOnly = headersOnly;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#in.bytes;
  }

  /** Offset in the source of what has not been read yet. */
  get offset(): number {
    return this.#in.offsetOf(this.#in.at);
  }

  /** Reads the global header if it has not been yet. @returns whether there is one. */
  open(): boolean {
    if (this.header) return true;
    const input = this.#in;
    if (!input.need(PCAP_HEADER_BYTES)) return this.#tail(0);
    const parsed = parsePcapHeader(input.view, input.at);
    if (!parsed) {
      this.foreign = true;
      return false;
    }
    this.header = parsed;
    this.#littleEndian = parsed.littleEndian;
    this.#nanosPerUnit = parsed.digits === 9 ? 1 : 1000;
    this.#unitsPerSecond = parsed.digits === 9 ? 1_000_000_000 : 1_000_000;
    input.at += PCAP_HEADER_BYTES;
    return true;
  }

  /**
   * Goes to the next packet.
   *
   * @returns false if there is none; a growing source may have one later, then call again.
   */
  next(): boolean {
    if (!this.open()) return false;
    const input = this.#in;
    for (;;) {
      if (input.end - input.at < PCAP_RECORD_BYTES && !input.need(PCAP_RECORD_BYTES)) return this.#tail(1);
      if (!this.#checked && !this.#plausible(input.at)) {
        if (!this.#resync()) return false;
        continue;
      }
      this.#checked = false;
      const captured = input.view.getUint32(input.at + 8, this.#littleEndian);
      const size = PCAP_RECORD_BYTES + captured;
      // The next header is looked at too: if it makes no sense, this record may be the torn one.
      if (input.end - input.at < size + PCAP_RECORD_BYTES && !input.need(size + PCAP_RECORD_BYTES)) {
        const there = input.end - input.at;
        if (there < size) {
          if (this.growing) return false;
          if (!this.#resync()) return false;
          continue;
        }
        // Less than a header follows.
        if (!this.growing && there > size && this.#tornInside(size)) continue;
      } else {
        this.#checked = this.#plausible(input.at + size);
        if (!this.#checked && this.#tornInside(size)) continue;
      }
      const { view, at } = input;
      this.start = at + PCAP_RECORD_BYTES;
      this.captured = captured;
      this.original = view.getUint32(at + 12, this.#littleEndian);
      this.seconds = view.getUint32(at, this.#littleEndian);
      this.nanos = view.getUint32(at + 4, this.#littleEndian) * this.#nanosPerUnit;
      input.at += size;
      if (this.#headersOnly) this.captured = headerBytes(this, this.header!.linkType);
      return true;
    }
  }

  /** Loses what is left of a source that does not grow: less than a header. @returns false: no header follows. */
  #tail(records: number): false {
    const input = this.#in;
    if (this.growing) return false;
    this.#lose(input.end - input.at, records);
    input.at = input.end;
    return false;
  }

  #plausible(at: number): boolean {
    const { view } = this.#in;
    const captured = view.getUint32(at + 8, this.#littleEndian);
    const original = view.getUint32(at + 12, this.#littleEndian);
    // A record of no bytes is what zeros look like, which a crash of the node can leave in a file; no packet has none.
    return captured <= MAX_CAPTURED && captured <= original && original <= MAX_ORIGINAL && original > 0 &&
      view.getUint32(at + 4, this.#littleEndian) < this.#unitsPerSecond;
  }

  /**
   * Returns whether a plausible header could be the first after damage: with bytes, and near in time to what came
   * before.
   */
  #resumes(at: number): boolean {
    const { view } = this.#in;
    const seconds = view.getUint32(at, this.#littleEndian);
    return view.getUint32(at + 8, this.#littleEndian) > 0 &&
      (this.seconds === 0 ? seconds > 0 : Math.abs(seconds - this.seconds) < RESUME_SECONDS);
  }

  #lose(bytes: number, records: number): void {
    if (bytes === 0) return;
    this.loss.bytes += bytes;
    this.loss.records += records;
    this.loss.places++;
  }

  /** Passes over the record at hand, which nonsense follows, if a believable run of records begins inside it. */
  #tornInside(size: number): boolean {
    const input = this.#in;
    const wanted = size + SCAN_BYTES;
    input.need(wanted);
    const found = this.#findRun(input.at + PCAP_RECORD_BYTES, input.at + size, input.at + size);
    if (found === undefined) return false;
    this.#lose(found - input.at, 1);
    input.at = found;
    return true;
  }

  /**
   * Passes over the record at hand, to the next believable run of records.
   *
   * @returns false if the source ends before there is one; all of it then counts as lost, if it does not grow.
   */
  #resync(): boolean {
    const input = this.#in;
    let lost = 0;
    this.isStuck = false;
    for (let skip = 1;; skip = 0) {
      const more = input.need(SCAN_BYTES + skip);
      // After the last place at which a whole run would fit in the buffer, more has to be read first, if there is more.
      const to = more ? input.end - SCAN_BYTES + 1 : input.end;
      const found = this.#findRun(input.at + skip, to, 0);
      if (found !== undefined || (!more && !this.growing)) {
        const here = found ?? input.end;
        this.#lose(lost + here - input.at, 1);
        input.at = here;
        return true;
      }
      if (!more) {
        // A damaged file that still grows: the place is counted once it is known where it ends.
        this.loss.bytes += lost;
        this.isStuck = true;
        return false;
      }
      lost += to - input.at;
      input.at = to;
    }
  }

  /** Finds the index of the first believable run of records that begins in [from, to) and reaches beyond `beyond`. */
  #findRun(from: number, to: number, beyond: number): number | undefined {
    // A record without bytes is never the first, so that more than its header must be there.
    const last = Math.min(to, this.#in.end - PCAP_RECORD_BYTES);
    let hops = 0;
    for (let at = from; at < last && hops < MAX_HOPS; at++) {
      if (!this.#plausible(at) || !this.#resumes(at)) continue;
      const { view, end } = this.#in;
      let here = at;
      let records = 0;
      for (;; hops++) {
        const seconds = view.getUint32(here, this.#littleEndian);
        here += PCAP_RECORD_BYTES + view.getUint32(here + 8, this.#littleEndian);
        records++;
        if (records >= RECORDS_TO_BELIEVE && here > beyond) return at;
        if (here + PCAP_RECORD_BYTES > end) {
          // Up to the very end: one whole record is enough. Cut at the end: as long as a whole one came before.
          if (here > beyond && (here <= end || records > 1)) return at;
          break;
        }
        if (!this.#plausible(here)) break;
        if (Math.abs(view.getUint32(here, this.#littleEndian) - seconds) > NEIGHBOURS_SECONDS) break;
      }
    }
    return undefined;
  }
}
