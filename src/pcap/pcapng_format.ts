/** Numbers of the pcapng file format (draft-ietf-opsawg-pcapng), and the options that its blocks end with. */

export const BLOCK = {
  section: 0x0a0d0d0a,
  interface: 1,
  obsoletePacket: 2,
  simplePacket: 3,
  names: 4,
  statistics: 5,
  packet: 6,
} as const;
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** Numbers of options, by block; 1 is a comment in all of them. */
export const OPTION = {
  comment: 1,
  section: { hardware: 2, os: 3, application: 4 },
  interface: { name: 2, description: 3, resolution: 9, filter: 11, os: 12, offset: 14 },
  statistics: { start: 2, end: 3, received: 4, dropped: 5, accepted: 6, osDropped: 7, delivered: 8 },
} as const;

export interface Option {
  readonly code: number;
  readonly bytes: Uint8Array;
  readonly text: string;
}

/** Yields the options between two indexes of a buffer, up to the end mark or what does not fit. */
export function* optionsIn(
  { view, bytes: all }: { readonly view: DataView; readonly bytes: Uint8Array },
  littleEndian: boolean,
  from: number,
  to: number,
): Generator<Option> {
  for (let at = from; at + 4 <= to;) {
    const code = view.getUint16(at, littleEndian);
    const length = view.getUint16(at + 2, littleEndian);
    if (code === 0 || at + 4 + length > to) return;
    const bytes = all.subarray(at + 4, at + 4 + length);
    yield { code, bytes, text: new TextDecoder().decode(bytes) };
    at += 4 + length + (-length & 3);
  }
}

/** Returns a view of just these bytes. */
export function dataView(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
