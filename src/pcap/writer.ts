/** Packets on their way to one capture file: put in order of time, encoded, counted, and written in large pieces. */
import type { Chunk, Disorder, Reordering } from "./reorder.ts";
import { Reorder } from "./reorder.ts";
import { InterfaceBlocks, largestSnaplen, linkTypeNames } from "./interfaces.ts";
import type { Interface, Packet } from "./packet.ts";
import { pcapHeader, putPcapRecord } from "./pcap_format.ts";
import {
  commentOption,
  emptyBlock,
  interfaceStatistics,
  PACKET_BLOCK_BYTES,
  putPacketBlock,
  sectionHeader,
  type SectionInfo,
} from "./pcapng_blocks.ts";

export type Format = "pcapng" | "pcap";

/** Room for the comment at a packet before which the clock was set back. */
const MAX_STEP_COMMENT = 128;

/** Counters of an interface besides the packets written. */
export interface Counters {
  readonly received: number | undefined;
  readonly dropped: number | undefined;
  readonly comments?: readonly string[];
}

export interface PacketWriterOptions extends Reordering {
  /** @default "pcapng" */
  readonly format?: Format;
  /** Writes bytes; awaited before it is called again. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
}

/**
 * Writes one capture file: `begin`, `addInterface` before an interface's first packet, `add` for each packet with `drain` now
 * and then, `end`. A pcap file has one link type, and no interfaces and counters.
 */
export class PacketWriter {
  /** Packets added, by interface. */
  readonly delivered: number[] = [];
  readonly #format: Format;
  readonly #write: (bytes: Uint8Array) => Promise<void>;
  readonly #order: Reorder;
  readonly #interfaces: Interface[] = [];
  #blocks = new InterfaceBlocks();
  /** Header of the pcap file, whose link type is the first packet's. */
  #header: { digits: 6 | 9; snaplen: number; linkType?: number } = { digits: 6, snaplen: 0 };
  #isHeaderDue = false;
  /** The last write, after all before it: the next chunk is filled while it goes on. */
  #writing: Promise<void> = Promise.resolve();

  constructor({ format = "pcapng", write, ...reordering }: PacketWriterOptions) {
    this.#format = format;
    this.#write = write;
    this.#order = new Reorder(reordering);
  }

  /** Measures of how far out of order the packets have been so far. */
  get disorder(): Readonly<Disorder> {
    return this.#order.disorder;
  }

  /**
   * Writes the file's header; that of a pcap file is written with its first packets, whose link type it has.
   *
   * @param interfaces whose packets will follow; in a pcapng file others can be added later.
   */
  async begin(section: SectionInfo, interfaces: readonly Interface[]): Promise<void> {
    this.#blocks = new InterfaceBlocks(interfaces);
    if (this.#format === "pcapng") return await this.#put(sectionHeader(section));
    const digits = interfaces.some(({ digits }) => digits === 9) ? 9 : 6;
    this.#header = { digits, snaplen: largestSnaplen(interfaces) };
    this.#isHeaderDue = true;
  }

  /** @returns the number by which `add` and `end` know the interface. */
  async addInterface(described: Interface, comments: readonly string[] = []): Promise<number> {
    if (this.#format === "pcapng") await this.#put(this.#blocks.add(described, comments));
    this.#interfaces.push(described);
    return this.delivered.push(0) - 1;
  }

  /**
   * Adds a packet. If the clock was set back before it, a comment notes that.
   *
   * @param options of its block, encoded; only pcapng has them.
   * @throws MixedLinkTypes if it is a pcap file and the packets before it have another link type.
   */
  add(packet: Packet, to: number, options?: Uint8Array): void {
    if (this.#format === "pcap") this.#checkLinkType(this.#interfaces[to]!.linkType);
    const size = packet.captured + PACKET_BLOCK_BYTES + MAX_STEP_COMMENT + (options?.length ?? 0);
    const order = this.#order;
    const chunk = order.room(size, packet.seconds, packet.nanos);
    if (order.stepped > 0) {
      options ??= commentOption(
        `packet-capture: the clock was set back by ${order.stepped.toFixed(3)} s before this packet`,
      );
    }
    chunk.used = this.#format === "pcap"
      ? putPcapRecord(chunk.bytes, chunk.view, chunk.used, packet, this.#header.digits)
      : putPacketBlock(chunk.bytes, chunk.view, chunk.used, packet, to, this.#interfaces[to]!.digits, options);
    this.delivered[to]!++;
  }

  /** Whether `drain` has something to do. */
  get isFull(): boolean {
    return this.#order.hasReady;
  }

  /** Writes what cannot be overtaken any more. The last piece may still be on its way when this returns. */
  async drain(): Promise<void> {
    if (this.#isHeaderDue && this.isFull) await this.#putHeader();
    for (let chunk; (chunk = this.#order.take());) {
      const taken = chunk;
      const before = this.#writing;
      this.#writing = before.then(() => this.#writeChunk(taken));
      // The next wait throws the error; until then nothing handles it.
      this.#writing.catch(() => {});
      await before;
    }
  }

  /** Writes all that has been added, in order. */
  async flush(): Promise<void> {
    this.#order.flush();
    await this.drain();
    if (this.#isHeaderDue) await this.#putHeader();
    await this.#writing;
  }

  /** Writes statistics as they are now; in a pcap file there is no place for them. */
  async statistics(counters: readonly Counters[]): Promise<void> {
    if (this.#format === "pcap") return;
    for (const [id, { received, dropped, comments = [] }] of counters.entries()) {
      const delivered = this.delivered[id] ?? 0;
      await this.#put(
        interfaceStatistics(id, this.#interfaces[id]?.digits ?? 6, { received, dropped, delivered, comments }),
      );
    }
  }

  /** Writes statistics, or where there are none an empty block: only a write shows that the reader has gone. */
  async beat(counters: readonly Counters[]): Promise<void> {
    if (this.delivered.length > 0) await this.statistics(counters);
    else if (this.#format === "pcapng") await this.#put(emptyBlock());
  }

  #checkLinkType(linkType: number): void {
    const first = this.#header.linkType ??= linkType;
    if (linkType !== first) throw new MixedLinkTypes([first, linkType]);
  }

  async #putHeader(): Promise<void> {
    this.#isHeaderDue = false;
    const { linkType = this.#interfaces[0]?.linkType ?? 1, ...header } = this.#header;
    await this.#put(pcapHeader({ ...header, linkType }));
  }

  async #writeChunk(chunk: Chunk): Promise<void> {
    await this.#write(chunk.content);
    this.#order.recycle(chunk);
  }

  async #put(bytes: Uint8Array): Promise<void> {
    await (this.#writing = this.#writing.then(() => this.#write(bytes)));
  }
}

/** The error of a pcap file that is to hold packets of several link types. */
export class MixedLinkTypes extends Error {
  override readonly name = "MixedLinkTypes";

  constructor(linkTypes: readonly number[]) {
    super(
      `Cannot write packets of the link types ${linkTypeNames(linkTypes)} as pcap: a pcap file has one link type; ` +
        "use the format pcapng",
    );
  }
}
