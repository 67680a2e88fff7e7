/** One watch request: its bytes as events, and its end, however it comes. */
import type { ApiClient } from "./api.ts";
import { chunksOf } from "../base/body.ts";
import type { ObjectMeta } from "./pod_store.ts";
import { LineSplitter } from "../base/line_splitter.ts";
import { WatchEnd } from "./watch_end.ts";

/** Half the bytes of whole objects, and none of their fields to keep up with. A server that cannot sends whole ones. */
const ACCEPT = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

export interface WatchEvent {
  readonly type: string;
  readonly object?: { readonly metadata?: ObjectMeta };
}

export interface WatchRequest {
  readonly api: ApiClient;
  readonly path: string;
  readonly signal: AbortSignal;
  /** Milliseconds; see WATCH_TIMING. */
  readonly timing: {
    readonly answer: number;
    readonly idle: number;
    readonly initialIdle: number;
    readonly tick: number;
  };
  /** Returns whether a streaming list was requested and is not complete. */
  listing(): boolean;
  onBytes(): void;
  /** Notes, every `tick`, that the stream goes on. */
  onTurn(): void;
  /** Handles an event, but no ERROR event. What it throws ends the watch. */
  onEvent(event: WatchEvent): void;
}

/**
 * Watches until the stream ends.
 * @throws {WatchEnd} for a bad answer or none; other errors are the connection's.
 */
export async function followWatch(request: WatchRequest): Promise<WatchEnd> {
  const { api, path, signal, timing } = request;
  const abort = new AbortController();
  const onAbort = () => abort.abort(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  let tick: ReturnType<typeof setInterval> | undefined;
  try {
    const response = await api.open(path, {
      headers: { "Accept": ACCEPT },
      signal: abort.signal,
      timeoutMs: timing.answer,
    });
    if (!response.ok) throw await WatchEnd.ofResponse(response, request.listing());
    let last = performance.now();
    tick = setInterval(() => {
      const limit = request.listing() ? timing.initialIdle : timing.idle;
      // Once aborted nothing turns here any more: should the abort not end the stream, /healthz is to see it.
      if (abort.signal.aborted) return;
      if (performance.now() - last < limit) request.onTurn();
      else abort.abort(new WatchEnd("idle", `nothing came for ${limit / 1000} s`));
    }, timing.tick);
    const lines = new LineSplitter();
    for await (const chunk of chunksOf(response.body!, abort.signal)) {
      last = performance.now();
      request.onBytes();
      for (const line of lines.take(chunk)) if (line !== "") request.onEvent(eventOf(line, request));
    }
    // What was on the line comes again: the watch is resumed after the last whole one.
    return lines.rest > 0 ? new WatchEnd("truncated", "the last line is not whole") : new WatchEnd("closed");
  } finally {
    clearInterval(tick);
    signal.removeEventListener("abort", onAbort);
    // A stream that is left in the middle must not go on filling a buffer.
    abort.abort();
  }
}

function eventOf(line: string, request: WatchRequest): WatchEvent {
  let event: { type?: unknown; object?: Record<string, unknown> } | null;
  try {
    event = JSON.parse(line);
  } catch {
    throw new WatchEnd("bad_line", `not JSON: ${line.slice(0, 80)}`);
  }
  if (event?.type === "ERROR") throw WatchEnd.ofStatus(event.object ?? {}, request.listing());
  if (typeof event?.type !== "string") throw new WatchEnd("bad_line", `not an event: ${line.slice(0, 80)}`);
  return event as WatchEvent;
}
