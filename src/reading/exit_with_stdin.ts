/**
 * Ends a reading command when nobody reads any more.
 *
 * `kubectl exec` does not. When its client goes, containerd (measured: 2.3) leaves the process alone and
 * reads no more from it. The process would block in a write forever, and hold 40 MiB of memory and the lock
 * that delays trimming. But containerd closes standard input at once, if the client had one open (`-i`). So
 * the plugin uses `kubectl exec -i` with an empty input that stays open, and `--while-stdin`.
 */

/** The exit code when standard input ends: until all is written as if ended by SIGTERM, which is no refusal, should somebody be there to ask again. */
let code = 143;

/** Ends the process, without delay, as soon as standard input ends. What it holds are locks and descriptors, which go with it. */
export async function exitWithStdin(): Promise<never> {
  const ignored = new Uint8Array(256);
  while (await Deno.stdin.read(ignored).catch(() => null) !== null);
  Deno.exit(code);
}

/**
 * Waits, after all is written, until standard input ends or the signal is aborted; the process then ends with
 * `success`. It does not end at once, because its end closes the connection. A slow reader still has megabytes to
 * come, and the next ping of its client resets the connection: they are lost. Measured with Kubernetes 1.36 and
 * kubectl 1.35: a reader of 1 MB/s lost the end of every larger download, over SPDY even with exit code 0. So the
 * trailer has the number of bytes written, and the client closes the input.
 */
export async function untilReceived(success: number, signal: AbortSignal): Promise<number> {
  code = success;
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  return code;
}
