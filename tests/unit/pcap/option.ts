/** Makes an option of a pcapng block by hand, padded to four bytes. */
export function option(code: number, value: Uint8Array, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(4 + value.length + (-value.length & 3));
  new DataView(bytes.buffer).setUint16(0, code, littleEndian);
  new DataView(bytes.buffer).setUint16(2, value.length, littleEndian);
  bytes.set(value, 4);
  return bytes;
}
