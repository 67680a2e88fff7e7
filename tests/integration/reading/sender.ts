/**
 * Sends numbered UDP packets to port 9 of 127.0.0.1, the number in the first eight bytes: run inside a netns of its own.
 *
 *     sender.ts COUNT PER_SECOND SIZE       COUNT 0: until its stdin is closed
 *
 * Says `sent N` on stdout when it ends, and `at N` while it goes on.
 */
// deno-lint-ignore-file no-console
import { createSocket } from "node:dgram";

const [count, perSecond, size] = Deno.args.map(Number) as [number, number, number];
/** Between two bursts: short, so that no burst overruns a socket buffer. */
const TICK_MS = 5;
/** What a pause has kept from being sent is not made up for: all at once it would be faster than any reader. */
const MOST_AT_ONCE = Math.max(10, perSecond / 10);

const socket = createSocket("udp4");
// Connected, so that no packet waits for an address to be looked up.
await new Promise<void>((resolve) => socket.connect(9, "127.0.0.1", resolve));
// Nobody listens there: what comes back does not matter.
socket.on("error", () => {});

let stop = false;
(async () => {
  while (await Deno.stdin.read(new Uint8Array(16)) !== null);
  stop = true;
})();

let started = performance.now();
let sent = 0;
while (!stop && (count === 0 || sent < count)) {
  const missed = (performance.now() - started) / 1000 * perSecond - sent - MOST_AT_ONCE;
  if (missed > 0) started += missed / perSecond * 1000;
  const due = Math.ceil((performance.now() - started) / 1000 * perSecond) + 1;
  for (; sent < due && (count === 0 || sent < count); sent++) {
    const bytes = new Uint8Array(size);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(sent));
    await new Promise<void>((resolve) => socket.send(bytes, () => resolve()));
  }
  if (sent % 100 === 0) console.log(`at ${sent}`);
  await new Promise((resolve) => setTimeout(resolve, TICK_MS));
}
console.log(`sent ${sent}`);
Deno.exit(0);
