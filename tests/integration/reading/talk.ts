/** Sends, inside a network namespace, something of every kind with `SECRET` as its payload, and a DNS query for keepme.example. */
import { createSocket } from "node:dgram";

const secret = new TextEncoder().encode("SECRET".repeat(100));
const query = new TextEncoder().encode("\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x06keepme\x07example\0\0\x01\0\x01");

async function send(hostname: string, port: number, content: Uint8Array): Promise<void> {
  const socket = createSocket(hostname.includes(":") ? "udp6" : "udp4");
  // An error comes back where nobody listens.
  socket.on("error", () => {});
  await new Promise((resolve) => socket.send(content, port, hostname, resolve));
  socket.close();
}

for (const hostname of ["127.0.0.1", "::1"]) {
  // UDP, an ICMP error that quotes it, fragments, and DNS.
  await send(hostname, 4444, secret);
  await send(hostname, 4444, new TextEncoder().encode("SECRET".repeat(1000)));
  await send(hostname, 53, query);
  // TCP with options, both ways.
  using server = Deno.listen({ port: 0, hostname });
  const accepted = server.accept();
  using client = await Deno.connect({ port: server.addr.port, hostname });
  using peer = await accepted;
  await client.write(secret);
  await peer.read(new Uint8Array(10_000));
  await peer.write(secret);
  await client.read(new Uint8Array(10_000));
}
for (const hostname of Deno.args) await send(hostname, 4444, secret);
