/** Reads a fetched body so that its end, however it comes, is noticed, and finds why a fetch has failed. */

/**
 * Yields the body's chunks, until it ends.
 *
 * On Deno 2.9.6 the signal given to fetch has no effect on a body once the Response has been collected as garbage.
 * That may be as soon as only the body's reader is left. A read that waits then waits for ever. So the reader itself
 * is cancelled.
 * @throws what `signal` was aborted with, at once.
 * @throws {TypeError} when the connection fails or the body is cut.
 */
export async function* chunksOf(
  body: ReadableStream<Uint8Array> | null,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (body === null) return;
  const reader = body.getReader();
  // Cancelling answers a read that waits with "done" (Streams standard, ReadableStreamCancel).
  const cancel = () => void reader.cancel(signal.reason).catch(() => {});
  signal.addEventListener("abort", cancel, { once: true });
  try {
    for (;;) {
      signal.throwIfAborted();
      const { value, done } = await reader.read();
      signal.throwIfAborted();
      if (done) return;
      yield value;
    }
  } finally {
    signal.removeEventListener("abort", cancel);
    cancel();
  }
}

/**
 * Returns the cause of a fetch that failed: of "fetch failed" only the cause names the address, and what is wrong
 * with it.
 */
export function causeOf(error: unknown): Error {
  return (error instanceof TypeError && error.cause instanceof Error ? error.cause : error) as Error;
}

/** Reads all of the body. Errors are those of `chunksOf`. */
export async function bytesOf(body: ReadableStream<Uint8Array> | null, signal: AbortSignal): Promise<Blob> {
  const parts: BlobPart[] = [];
  for await (const chunk of chunksOf(body, signal)) parts.push(chunk as Uint8Array<ArrayBuffer>);
  return new Blob(parts);
}
