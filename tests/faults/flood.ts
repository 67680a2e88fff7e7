/**
 * A program: floods a port of this machine with pipelined requests for /metrics, on so many connections at a time, until its
 * standard input ends or two minutes have passed. Then it prints how many connections it opened and how many bytes it sent.
 *
 *     flood.ts PORT CONNECTIONS
 */
const [port, connections] = Deno.args.map(Number) as [number, number];
const requests = new TextEncoder().encode("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000));
let over = false;
let opened = 0;
let bytes = 0;

async function flood(): Promise<void> {
  while (!over) {
    try {
      using connection = await Deno.connect({ hostname: "127.0.0.1", port });
      opened++;
      void send(connection);
      await connection.readable.pipeTo(new WritableStream()).catch(() => {}); // reset
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 10)); // refused
    }
  }
}

async function send(connection: Deno.Conn): Promise<void> {
  try {
    while (!over) bytes += await connection.write(requests);
  } catch {
    // The other side has closed it.
  }
}

for (let i = 0; i < connections; i++) void flood();
setTimeout(() => Deno.exit(1), 120_000);
for await (const _ of Deno.stdin.readable);
over = true;
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify({ opened, bytes })));
Deno.exit(0);
