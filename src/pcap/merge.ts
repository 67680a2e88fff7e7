/** Merges captures of many pods, each a pcapng file that `cat` made, into one file in order of time. Constant memory. */
import { count } from "../base/format.ts";
import type { ByteSource } from "./bytes.ts";
import { mixedLinkTypes } from "./interfaces.ts";
import { MergeInput, putStatistics } from "./merge_input.ts";
import { type Format, PacketWriter } from "./writer.ts";

/** Bytes of each buffer: 16 MiB for 250 pods at once. A larger packet makes its own buffer grow. */
const BUFFER_BYTES = 64 * 1024;
/** The sources come sorted, so little has to be held back. */
const WINDOW_BYTES = 2 * 1024 * 1024;

export interface MergeSource {
  /** Name for people: of a pod or a file. */
  readonly name: string;
  readonly source: ByteSource;
}

export interface MergeOptions {
  /** Writes bytes; awaited before it is called again. */
  readonly write: (bytes: Uint8Array) => Promise<void>;
  /** @default "pcapng" */
  readonly format?: Format;
  /** The program that merges, for the section header. */
  readonly application: string;
  /** The first comments of the file; the sources' own follow. */
  readonly comments?: readonly string[];
  readonly signal?: AbortSignal;
}

export interface Merged {
  readonly packets: number;
  /** Notes on what could not be read, one sentence each; empty if all was. */
  readonly notes: readonly string[];
  /** Remarks for the file's user, one sentence each. */
  readonly remarks: readonly string[];
}

/**
 * Writes the packets of all sources as one file, with every interface of every source, its counters and comments.
 *
 * Where a source is itself out of order, because a clock was set back, its packets stay in the source's order.
 *
 * @throws MixedLinkTypes if it is to be a pcap file and the link types of the packets differ.
 * @throws the signal's reason, when aborted.
 */
export async function mergeCaptures(sources: readonly MergeSource[], options: MergeOptions): Promise<Merged> {
  const { signal, format = "pcapng" } = options;
  const inputs = sources.map(({ source }) => new MergeInput(source, { buffer: BUFFER_BYTES }));
  // A source's comments are before its first packet.
  const queue = new Queue(inputs.filter((input) => input.look()));
  const interfaces = inputs.flatMap(({ reader }) => reader.interfaces);
  const mixed = format === "pcap" ? undefined : mixedLinkTypes(interfaces.map(({ linkType }) => linkType));
  const output = new PacketWriter({ write: options.write, windowBytes: WINDOW_BYTES, format });
  await output.begin(
    {
      application: options.application,
      comments: [
        ...options.comments ?? [],
        ...mixed ? [mixed] : [],
        ...inputs.flatMap(({ reader }) => reader.comments),
      ],
    },
    interfaces,
  );
  for (const input of inputs) await input.addInterfaces(output);

  for (let input; (input = queue.first);) {
    if (input.hasNewInterface) await input.addInterfaces(output);
    input.addPacket(output);
    queue.replaceFirst(input.look());
    if (output.isFull) {
      signal?.throwIfAborted();
      await output.drain();
    }
  }
  await output.flush();

  // A source can describe interfaces after its last packet.
  for (const input of inputs) await input.addInterfaces(output);
  await putStatistics(inputs, output);
  return {
    packets: output.delivered.reduce((sum, n) => sum + n, 0),
    notes: inputs.flatMap(({ reader }, i) => noteOf(sources[i]!.name, reader) ?? []),
    remarks: mixed ? [mixed] : [],
  };
}

function noteOf(name: string, { foreign, loss }: MergeInput["reader"]): string | undefined {
  if (foreign) return `${name} is not a pcapng file`;
  return loss.bytes > 0 ? `${name} is cut or damaged: ${count(loss.bytes, "byte")} of it cannot be read` : undefined;
}

/** The inputs that stand at a packet, the one with the oldest first: a binary heap. */
class Queue {
  readonly #heap: MergeInput[];

  constructor(inputs: MergeInput[]) {
    this.#heap = inputs;
    for (let i = inputs.length >> 1; i >= 0; i--) this.#sink(i);
  }

  get first(): MergeInput | undefined {
    return this.#heap[0];
  }

  /** Moves the first input to its place, once it has gone on. @param hasPacket whether it stands at another packet. */
  replaceFirst(hasPacket: boolean): void {
    if (!hasPacket) {
      const last = this.#heap.pop()!;
      if (this.#heap.length === 0) return;
      this.#heap[0] = last;
    }
    this.#sink(0);
  }

  #sink(at: number): void {
    const heap = this.#heap;
    const input = heap[at]!;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) return;
      if (child + 1 < heap.length && heap[child + 1]!.isBefore(heap[child]!)) child++;
      if (!heap[child]!.isBefore(input)) return;
      heap[at] = heap[child]!;
      heap[child] = input;
      at = child;
    }
  }
}
