/** Copies standard input to standard output, so many bytes a second: `throttle.ts 1000000`. A slow reader, wherever it stands in a pipe. */
const [perSecond] = Deno.args.map(Number) as [number];
const buffer = new Uint8Array(16_384);
const begin = performance.now();
let total = 0;
for (;;) {
  const read = await Deno.stdin.read(buffer);
  if (read === null) break;
  for (let at = 0; at < read;) at += await Deno.stdout.write(buffer.subarray(at, read));
  total += read;
  const early = total / perSecond * 1000 - (performance.now() - begin);
  if (early > 0) await new Promise((done) => setTimeout(done, early));
}
