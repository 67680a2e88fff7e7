/** Reading the pcapng file format (draft-ietf-opsawg-pcapng): both byte orders, any time resolution, cut or damaged. */
import { type ByteSource, Lookahead } from "./bytes.ts";
import { type Interface, type Loss, MAX_CAPTURED, type Packet } from "./packet.ts";
import { BLOCK, BYTE_ORDER_MAGIC, dataView, OPTION, optionsIn } from "./pcapng_format.ts";

/** A longer block is taken for damage: the longest packet and 64 KiB in each of two dozen options. Bounds the memory. */
const MAX_BLOCK = 2 * 1024 * 1024;
const KNOWN: ReadonlySet<number> = new Set(Object.values(BLOCK));

/** The content of an Interface Statistics Block; the last one counts. */
export interface Statistics {
  /** Packets that the interface received (isb_ifrecv). */
  readonly received: number | undefined;
  /** Packets lost for lack of room (isb_ifdrop). */
  readonly dropped: number | undefined;
  /** Packets written to the file (isb_usrdeliv). */
  readonly delivered: number | undefined;
  readonly comments: readonly string[];
}

/** An interface of the file, numbered over all sections. */
export interface FileInterface extends Interface {
  readonly comments: readonly string[];
  /** Packets of it read so far. */
  packets: number;
  statistics: Statistics | undefined;
  /** Units of its timestamps in a second, and seconds to add to them. */
  readonly unitsPerSecond: number;
  readonly offsetSeconds: number;
}

/** Reads packets one after the other, in constant memory. Blocks that do not matter here are passed over. */
export class PcapngReader implements Packet {
  start = 0;
  captured = 0;
  original = 0;
  seconds = 0;
  nanos = 0;
  /** Index in `interfaces`. */
  interface = 0;
  /** The packet block's options as they are, when its section is little-endian: [start, end) in `bytes`. */
  optionsStart = 0;
  optionsEnd = 0;
  readonly interfaces: FileInterface[] = [];
  /** Comments of all sections. */
  readonly comments: string[] = [];
  /** The program that wrote the first section. */
  application: string | undefined;
  /** A packet or an interface stood after a statistics block. */
  statisticsBeforeEnd = false;
  /** Whether the source does not start like a pcapng file: nothing can be read from it. */
  foreign = false;
  readonly loss: Loss = { bytes: 0, records: 0, places: 0 };

  readonly #in: Lookahead;
  #littleEndian = true;
  /** Index of the section's first interface; -1 before the first section. */
  #sectionBase = -1;
  #statisticsSeen = false;

  constructor(source: ByteSource, { buffer }: { buffer?: number } = {}) {
    this.#in = new Lookahead(source, buffer);
  }

  get bytes(): Uint8Array {
    return this.#in.bytes;
  }

  /** Goes to the next packet. @returns false at the end. */
  next(): boolean {
    const input = this.#in;
    for (;;) {
      if (input.end - input.at < 12 && !input.need(12)) {
        this.#lose(input.end - input.at);
        input.at = input.end;
        return false;
      }
      const length = this.#blockLength();
      if (length === 0) {
        this.foreign = this.#sectionBase < 0;
        if (this.foreign) return false;
        this.#resync();
        continue;
      }
      const at = input.at;
      input.at += length;
      if (this.#block(at, length)) return true;
    }
  }

  /** Returns the length of the block at hand, which is wholly in the buffer then; 0 if there is none. */
  #blockLength(): number {
    const input = this.#in;
    const { view, at } = input;
    let little = this.#littleEndian;
    if (view.getUint32(at, true) === BLOCK.section) {
      little = view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC;
      if (!little && view.getUint32(at + 8, false) !== BYTE_ORDER_MAGIC) return 0;
    } else if (this.#sectionBase < 0) {
      return 0;
    }
    const length = view.getUint32(at + 4, little);
    if (length < 12 || length > MAX_BLOCK || length % 4 !== 0) return 0;
    if (input.end - input.at < length && !input.need(length)) return 0;
    return input.view.getUint32(input.at + length - 4, little) === length ? length : 0;
  }

  /** Passes over damage, to the next place where a block of a known type begins and ends, or to the end of the source. */
  #resync(): void {
    const input = this.#in;
    let lost = 0;
    for (let skip = 1;; skip = 0) {
      const more = input.need(MAX_BLOCK + skip);
      const to = more ? input.end - MAX_BLOCK + 1 : input.end - 11;
      for (let at = input.at + skip; at < to; at++) {
        if (!KNOWN.has(input.view.getUint32(at, this.#littleEndian))) continue;
        const length = input.view.getUint32(at + 4, this.#littleEndian);
        if (length < 12 || length > MAX_BLOCK || length % 4 !== 0 || at + length > input.end) continue;
        if (input.view.getUint32(at + length - 4, this.#littleEndian) !== length) continue;
        this.#lose(lost + at - input.at);
        input.at = at;
        return;
      }
      if (!more) {
        this.#lose(lost + input.end - input.at);
        input.at = input.end;
        return;
      }
      lost += to - input.at;
      input.at = to;
    }
  }

  #lose(bytes: number): void {
    if (bytes === 0) return;
    this.loss.bytes += bytes;
    this.loss.records++;
    this.loss.places++;
  }

  /** Takes in a block. @returns whether it is a packet. */
  #block(at: number, length: number): boolean {
    const { view } = this.#in;
    switch (view.getUint32(at, this.#littleEndian)) {
      case BLOCK.packet:
        return this.#packet(at, length, false);
      case BLOCK.obsoletePacket:
        return this.#packet(at, length, true);
      case BLOCK.simplePacket:
        return this.#simplePacket(at, length);
      case BLOCK.section:
        this.#section(at, length);
        break;
      case BLOCK.interface:
        this.#interfaceDescription(at, length);
        break;
      case BLOCK.statistics:
        this.#statisticsBlock(at, length);
    }
    return false;
  }

  #packet(at: number, length: number, obsolete: boolean): boolean {
    const { view } = this.#in;
    const le = this.#littleEndian;
    const captured = length >= 32 ? view.getUint32(at + 20, le) : Infinity;
    const id = obsolete ? view.getUint16(at + 8, le) : view.getUint32(at + 8, le);
    const from = this.interfaces[this.#sectionBase + id];
    if (captured > MAX_CAPTURED || captured > length - 32 || from === undefined) {
      this.#lose(length);
      return false;
    }
    this.start = at + 28;
    this.captured = captured;
    this.original = view.getUint32(at + 24, le);
    this.#time(view.getUint32(at + 12, le), view.getUint32(at + 16, le), from);
    this.optionsStart = this.start + captured + (-captured & 3);
    // Flags and comments have the same numbers in both; the obsolete block has nothing else worth keeping.
    this.optionsEnd = le && !obsolete ? at + length - 4 : this.optionsStart;
    this.#count(from, this.#sectionBase + id);
    return true;
  }

  #simplePacket(at: number, length: number): boolean {
    const from = this.interfaces[this.#sectionBase];
    const original = this.#in.view.getUint32(at + 8, this.#littleEndian);
    const captured = Math.min(original, from?.snaplen || MAX_CAPTURED, length - 16);
    if (from === undefined || captured < 0 || captured > MAX_CAPTURED) {
      this.#lose(length);
      return false;
    }
    this.start = at + 12;
    this.captured = captured;
    this.original = original;
    // It carries no time: the last one is the best guess, and keeps the order.
    this.optionsStart = this.optionsEnd = 0;
    this.#count(from, this.#sectionBase);
    return true;
  }

  #count(from: FileInterface, index: number): void {
    from.packets++;
    this.interface = index;
    if (this.#statisticsSeen) this.statisticsBeforeEnd = true;
  }

  /** Divides a timestamp of 64 bits, in the interface's units, in steps that are exact in float64: BigInt is slow. */
  #time(high: number, low: number, from: FileInterface): void {
    const units = from.unitsPerSecond;
    if (units === 1_000_000) {
      // Exact for 285 years from 1970.
      const micros = high * 4_294_967_296 + low;
      const seconds = Math.floor(micros / 1_000_000);
      this.seconds = seconds + from.offsetSeconds;
      this.nanos = (micros - seconds * 1_000_000) * 1000;
    } else if (units <= 1_000_000_000) {
      const upper = high * 65_536 + (low >>> 16);
      const quotient = Math.floor(upper / units);
      const lower = (upper - quotient * units) * 65_536 + (low & 0xffff);
      const seconds = Math.floor(lower / units);
      this.seconds = quotient * 65_536 + seconds + from.offsetSeconds;
      this.nanos = Math.floor((lower - seconds * units) * (1_000_000_000 / units));
    } else {
      const all = (BigInt(high) << 32n) | BigInt(low);
      const per = BigInt(units);
      this.seconds = Number(all / per) + from.offsetSeconds;
      this.nanos = Number((all % per) * 1_000_000_000n / per);
    }
  }

  #section(at: number, length: number): void {
    const { view } = this.#in;
    this.#littleEndian = view.getUint32(at + 8, true) === BYTE_ORDER_MAGIC;
    this.#sectionBase = this.interfaces.length;
    for (const option of optionsIn(this.#in, this.#littleEndian, at + 24, at + length - 4)) {
      if (option.code === OPTION.comment) this.comments.push(option.text);
      if (option.code === OPTION.section.application) this.application ??= option.text;
    }
  }

  #interfaceDescription(at: number, length: number): void {
    if (length < 20) return this.#lose(length);
    const { view } = this.#in;
    const texts: { name?: string; description?: string; filter?: string } = {};
    const comments: string[] = [];
    let unitsPerSecond = 1_000_000;
    let offsetSeconds = 0;
    for (const option of optionsIn(this.#in, this.#littleEndian, at + 16, at + length - 4)) {
      if (option.code === OPTION.comment) comments.push(option.text);
      else if (option.code === OPTION.interface.name) texts.name = option.text;
      else if (option.code === OPTION.interface.description) texts.description = option.text;
      else if (option.code === OPTION.interface.filter && option.bytes[0] === 0) texts.filter = option.text.slice(1);
      else if (option.code === OPTION.interface.resolution && option.bytes.length > 0) {
        const resolution = option.bytes[0]!;
        unitsPerSecond = resolution & 0x80 ? 2 ** (resolution & 0x7f) : 10 ** resolution;
      } else if (option.code === OPTION.interface.offset && option.bytes.length === 8) {
        offsetSeconds = Number(dataView(option.bytes).getBigInt64(0, this.#littleEndian));
      }
    }
    // Finer than 2^-63 or 10^-18 s does not fit into 64 bits of today's time.
    if (unitsPerSecond > 2 ** 63) unitsPerSecond = 1_000_000;
    this.interfaces.push({
      ...texts,
      linkType: view.getUint16(at + 8, this.#littleEndian),
      snaplen: view.getUint32(at + 12, this.#littleEndian),
      digits: unitsPerSecond === 1_000_000 ? 6 : 9,
      comments,
      packets: 0,
      statistics: undefined,
      unitsPerSecond,
      offsetSeconds,
    });
    if (this.#statisticsSeen) this.statisticsBeforeEnd = true;
  }

  #statisticsBlock(at: number, length: number): void {
    const { view } = this.#in;
    const of = length >= 24
      ? this.interfaces[this.#sectionBase + view.getUint32(at + 8, this.#littleEndian)]
      : undefined;
    if (of === undefined) return this.#lose(length);
    const counts = new Map<number, number>();
    const comments: string[] = [];
    for (const { code, bytes, text } of optionsIn(this.#in, this.#littleEndian, at + 20, at + length - 4)) {
      if (code === OPTION.comment) comments.push(text);
      else if (bytes.length === 8) counts.set(code, Number(dataView(bytes).getBigUint64(0, this.#littleEndian)));
    }
    const { received, dropped, delivered } = OPTION.statistics;
    of.statistics = {
      received: counts.get(received),
      dropped: counts.get(dropped),
      delivered: counts.get(delivered),
      comments,
    };
    this.#statisticsSeen = true;
  }
}
