/**
 * Ends a reading command when nobody is there any more to read. `kubectl exec` does not: when the client has gone, containerd leaves the
 * process alone and reads no more from it, so that it would wait for ever to write, hold its memory (40 MiB of the controller's
 * limit) and the lock that keeps the ring from being trimmed. But it closes standard input, if the client had one open (`-i`).
 */

/** The exit code when standard input ends: until all is written as if ended by SIGTERM, which is no refusal, should somebody be there to ask again. */
let code = 143;

/** Ends the process, without delay, as soon as standard input ends. What it holds are locks and descriptors, which go with it. */
export async function endWithStdin(): Promise<never> {
  const ignored = new Uint8Array(256);
  while (await Deno.stdin.read(ignored).catch(() => null) !== null);
  Deno.exit(code);
}

/**
 * All is written: from now on the process ends with `success` when standard input does, or the signal is aborted. Not at once: when the process
 * has ended the connection is closed, though a reader that is slower has megabytes of it yet to come, and the next ping of its
 * client resets it: they are lost (docs/adr/0072).
 */
export async function untilReceived(success: number, signal: AbortSignal): Promise<number> {
  code = success;
  if (!signal.aborted) await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
  return code;
}
