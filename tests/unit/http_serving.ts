/** A program: serves the HTTP port, prints its number, and logs to stderr, until its standard input ends. */
import { serve } from "../../src/http.ts";
import { getLog } from "../../src/log.ts";

// As the command line does. Deno itself listens to signals sooner or later, and without file descriptors that is its end.
Deno.addSignalListener("SIGTERM", () => Deno.exit(1));
const served = serve({
  port: 0,
  hostname: "127.0.0.1",
  log: getLog(),
  healthy: () => undefined,
  ready: () => undefined,
});
await Deno.stdout.write(new TextEncoder().encode(`${served.port}\n`));
for await (const _ of Deno.stdin.readable);
await served.close();
