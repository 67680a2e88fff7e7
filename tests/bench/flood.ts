/**
 * A generator of numbered packets, a process of its own: sends UDP datagrams of 64 to 300 bytes, each beginning with its number, over
 * wires from one network namespace to others, at a rate that it keeps.
 *
 *     deno run -A tests/bench/flood.ts '{"from":"/run/netns/a","to":[{"netns":"/run/netns/b","wire":"wire0","mac":"02:00:00:00:00:00",
 *       "address":"10.0.0.2"}],"perSecond":100000,"seconds":2}'
 *
 * It prints `{"sent":200000,"seconds":2}`. It calls the C library, and writes whole frames: one sendmmsg for many of them reaches rates
 * that neither a call for each does nor the way through sockets, routes and bridges.
 */
// deno-lint-ignore-file no-console

export interface Flood {
  /** The network namespace that sends. */
  readonly from: string;
  /** Who gets the packets, in turns. */
  readonly to: readonly Target[];
  readonly perSecond: number;
  readonly seconds: number;
}

export interface Target {
  readonly netns: string;
  /** The interface in the sender's namespace whose other end is in the target's. */
  readonly wire: string;
  /** Addresses of that other end. */
  readonly mac: string;
  readonly address: string;
}

export interface Sent {
  readonly sent: number;
  /** How long it took. */
  readonly seconds: number;
}

export const PORT = 5202;
const SMALLEST = 64;
const LARGEST = 300;
/** Datagrams of one system call, at least. */
const BATCH = 48;
/** Between two looks whether a batch is due. */
const PAUSE_US = 200;
const SOURCE = "10.255.255.1";
const [ETHERNET, IP, UDP] = [14, 20, 8];

// Linux, 64 bits.
const [AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW, CLONE_NEWNET] = [2, 17, 2, 3, 0x40000000];
const [SOL_SOCKET, SO_RCVBUF] = [1, 8];
const [SOCKADDR_IN_BYTES, SOCKADDR_LL_BYTES, IOVEC_BYTES, MMSGHDR_BYTES] = [16, 20, 16, 64];

function open() {
  return Deno.dlopen("libc.so.6", {
    open: { parameters: ["buffer", "i32"], result: "i32" },
    setns: { parameters: ["i32", "i32"], result: "i32" },
    socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
    bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
    setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
    sendmmsg: { parameters: ["i32", "buffer", "u32", "i32"], result: "i32" },
    if_nametoindex: { parameters: ["buffer"], result: "u32" },
    usleep: { parameters: ["u32"], result: "i32" },
  });
}

/** A name of the C library. */
function text(name: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${name}\0`);
}

function sockaddrIn(port: number): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(SOCKADDR_IN_BYTES));
  bytes.setUint16(0, AF_INET, true);
  bytes.setUint16(2, port);
  return new Uint8Array(bytes.buffer);
}

function sockaddrLl(index: number): Uint8Array<ArrayBuffer> {
  const bytes = new DataView(new ArrayBuffer(SOCKADDR_LL_BYTES));
  bytes.setUint16(0, AF_PACKET, true);
  bytes.setInt32(4, index, true);
  return new Uint8Array(bytes.buffer);
}

/** Returns a frame with a datagram of so many bytes, whose checksum is left out, as UDP allows. */
export function frame({ mac, address }: Target, bytes: number): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(ETHERNET + IP + UDP + bytes));
  const all = new Uint8Array(view.buffer);
  all.set(mac.split(":").map((byte) => parseInt(byte, 16)));
  all.set([2, 0, 0, 0, 0xff, 0xff], 6);
  view.setUint16(12, 0x0800);
  all.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17], ETHERNET);
  view.setUint16(ETHERNET + 2, IP + UDP + bytes);
  all.set(SOURCE.split(".").map(Number), ETHERNET + 12);
  all.set(address.split(".").map(Number), ETHERNET + 16);
  let sum = 0;
  for (let at = 0; at < IP; at += 2) sum += view.getUint16(ETHERNET + at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  view.setUint16(ETHERNET + 10, ~sum & 0xffff);
  view.setUint16(ETHERNET + IP, PORT);
  view.setUint16(ETHERNET + IP + 2, PORT);
  view.setUint16(ETHERNET + IP + 4, UDP + bytes);
  return view;
}

function flood({ from, to, perSecond, seconds }: Flood): Sent {
  const { symbols: libc } = open();
  const done = (what: string, result: number) => {
    if (result < 0) throw new Error(`Cannot ${what}`);
    return result;
  };
  const enter = (netns: string) => {
    const fd = done(`open ${netns}`, libc.open(text(netns), 0));
    done(`enter ${netns}`, libc.setns(fd, CLONE_NEWNET));
  };
  // A socket that nobody reads: without one the packets would be answered.
  for (const { netns } of to) {
    enter(netns);
    const sink = done("make a socket", libc.socket(AF_INET, SOCK_DGRAM, 0));
    done("make its buffer small", libc.setsockopt(sink, SOL_SOCKET, SO_RCVBUF, new Uint8Array(4), 4));
    done("bind it", libc.bind(sink, sockaddrIn(PORT), SOCKADDR_IN_BYTES));
  }
  enter(from);
  const socket = done("make a socket", libc.socket(AF_PACKET, SOCK_RAW, 0));
  const names = to.map(({ wire }) => sockaddrLl(libc.if_nametoindex(text(wire))));

  const each = Math.ceil(BATCH / to.length);
  const slots = each * to.length;
  const frames = Array.from({ length: slots }, (_, slot) => {
    const bytes = SMALLEST + Math.round(slot * (LARGEST - SMALLEST) / Math.max(1, slots - 1));
    return frame(to[slot % to.length]!, bytes);
  });
  const vectors = new BigUint64Array(slots * IOVEC_BYTES / 8);
  const headers = new DataView(new ArrayBuffer(slots * MMSGHDR_BYTES));
  const at = (buffer: BufferSource) => Deno.UnsafePointer.value(Deno.UnsafePointer.of(buffer));
  frames.forEach((frame, slot) => {
    vectors.set([at(frame), BigInt(frame.byteLength)], slot * 2);
    const header = slot * MMSGHDR_BYTES;
    headers.setBigUint64(header, at(names[slot % to.length]!), true);
    headers.setUint32(header + 8, SOCKADDR_LL_BYTES, true);
    headers.setBigUint64(header + 16, at(vectors) + BigInt(slot * IOVEC_BYTES), true);
    headers.setBigUint64(header + 24, 1n, true);
  });
  const all = new Uint8Array(headers.buffer);
  // Each destination has numbers of its own, from 0, without a gap.
  let batches = 0;
  const send = (count: number) => {
    for (let slot = 0; slot < count; slot++) {
      frames[slot]!.setBigUint64(ETHERNET + IP + UDP, BigInt(batches * each + Math.floor(slot / to.length)));
    }
    if (done("send", libc.sendmmsg(socket, all, count, 0)) !== count) throw new Error("Cannot send all of a batch");
  };

  const start = performance.now();
  const elapsed = () => (performance.now() - start) / 1000;
  let sent = 0;
  for (let now = 0; now < seconds; now = elapsed()) {
    if (now * perSecond - sent < slots) {
      libc.usleep(PAUSE_US);
      continue;
    }
    send(slots);
    batches++;
    sent += slots;
  }
  return { sent, seconds: elapsed() };
}

if (import.meta.main) console.log(JSON.stringify(flood(JSON.parse(Deno.args[0]!))));
