/**
 * The interface blocks of a pcapng file as libpcap, and with it tcpdump, needs them: it reads no file in which they
 * have different snaplens or link types. So all have the largest snaplen, and the real one in a comment; of mixed
 * link types a comment can only warn.
 */
import { type Interface, linkTypeName, MAX_CAPTURED } from "./packet.ts";
import { interfaceDescription } from "./pcapng_blocks.ts";

/** The beginning of the comment that gives a real snaplen. */
const SNAPLEN = "snaplen ";

export class InterfaceBlocks {
  readonly #snaplen: number;
  #linkType: number | undefined;

  /** @param known interfaces that will be added; empty: it is not known which. */
  constructor(known: readonly Interface[] = []) {
    this.#snaplen = known.length === 0 ? MAX_CAPTURED : largestSnaplen(known);
  }

  /** Makes the block of the next interface. */
  add(described: Interface, comments: readonly string[] = []): Uint8Array {
    const snaplen = Math.max(this.#snaplen, snaplenOf(described));
    const all = [...comments];
    // One that has been merged before has it already.
    if (
      described.snaplen !== snaplen && described.snaplen !== 0 && !comments.some((text) => text.startsWith(SNAPLEN))
    ) {
      all.push(`${SNAPLEN}${described.snaplen}: at most so many bytes of each packet were kept`);
    }
    this.#linkType ??= described.linkType;
    if (described.linkType !== this.#linkType) all.push(mixedLinkTypes([this.#linkType, described.linkType])!);
    return interfaceDescription({ ...described, snaplen }, all);
  }
}

/** Returns the sentence that is due if packets have several link types; undefined if they have not. */
export function mixedLinkTypes(linkTypes: readonly number[]): string | undefined {
  if (new Set(linkTypes).size < 2) return undefined;
  const names = linkTypeNames(linkTypes);
  return `the packets have the link types ${names}: Wireshark reads such a file, tcpdump and others that use libpcap do not`;
}

/** Returns the names of different link types, for a sentence. */
export function linkTypeNames(linkTypes: readonly number[]): string {
  const names = [...new Set(linkTypes)].map(linkTypeName);
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** Returns the largest number of bytes that any of them may keep of a packet. */
export function largestSnaplen(interfaces: readonly Interface[]): number {
  return interfaces.reduce((most, described) => Math.max(most, snaplenOf(described)), 0);
}

function snaplenOf({ snaplen }: Interface): number {
  return snaplen === 0 ? MAX_CAPTURED : snaplen;
}
