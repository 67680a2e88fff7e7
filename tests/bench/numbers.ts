/** The numbers of flood.ts' packets in a ring's files, by a reader that shares nothing with the product's. */
import { join } from "@std/path";
import { PORT } from "./flood.ts";

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const LINUX_SLL2 = 276;
/** Bytes of a packet before IP: that of `-i any`, as tcpdump 4.99 writes it. */
const LINK_HEADER = 20;
const [IP, UDP] = [20, 8];

/** Returns the numbers in all files of the directory, ascending. */
export async function numbersIn(dir: string): Promise<number[]> {
  const numbers: number[] = [];
  for await (const { name } of Deno.readDir(dir)) {
    if (name.includes(".pcap")) numbers.push(...numbersOf(await Deno.readFile(join(dir, name)), name));
  }
  return numbers.sort((a, b) => a - b);
}

/** @throws if numbers are missing between the first and the last. */
export function checkNoGap(numbers: readonly number[]): void {
  const gap = numbers.findIndex((number, i) => i > 0 && number !== numbers[i - 1]! + 1);
  if (gap > 0) {
    throw new Error(`Packet ${numbers[gap - 1]} is followed by ${numbers[gap]}: tcpdump counted none as lost`);
  }
  if (numbers.length === 0) throw new Error("No packet is in the files: tcpdump counted none as lost");
}

export function numbersOf(file: Uint8Array<ArrayBuffer>, name: string): number[] {
  if (file.length < FILE_HEADER) return [];
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (view.getUint32(20, true) !== LINUX_SLL2) throw new Error(`${name} has another link type than LINUX_SLL2`);
  const numbers: number[] = [];
  for (let at = FILE_HEADER; at + RECORD_HEADER <= file.length;) {
    const packet = at + RECORD_HEADER;
    const next = packet + view.getUint32(at + 8, true);
    const ip = packet + LINK_HEADER;
    const payload = ip + IP + UDP;
    const isOurs = payload + 8 <= next && view.getUint16(packet) === 0x0800 && view.getUint8(ip) === 0x45 &&
      view.getUint8(ip + 9) === 17 && view.getUint16(ip + IP + 2) === PORT;
    if (isOurs) numbers.push(Number(view.getBigUint64(payload)));
    at = next;
  }
  return numbers;
}
