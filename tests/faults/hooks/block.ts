/** The controller, whose event loop stands still for BLOCK_MS when it gets SIGUSR2. */
Deno.addSignalListener("SIGUSR2", () => {
  const until = performance.now() + Number(Deno.env.get("BLOCK_MS"));
  Deno.stderr.writeSync(new TextEncoder().encode("blocked\n"));
  while (performance.now() < until);
  Deno.stderr.writeSync(new TextEncoder().encode("turning again\n"));
});

await import("../../../src/main.ts");
