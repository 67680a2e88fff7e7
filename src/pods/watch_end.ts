/**
 * End of an attempt to watch, in the few words that decide what the next one does.
 *
 * - The list is a streaming list (`sendInitialEvents`), for which the server holds no list in memory. A server without it
 *   answers 422, 400, or an ERROR as the first event: from then on it is a plain GET. After another failure the next list is
 *   plain, once.
 * - Missing pods are looked for after the closing bookmark: a list with one damaged line is no list.
 * - 410 in both forms, and 504 (a resourceVersion from the future, after etcd was restored), list again. So does a line that is no
 *   event, because it may come again wherever the watch resumes. A line cut by the stream's end resumes.
 * - Half of each back-off is random. `Retry-After` is followed up to 2 min.
 */

export type WatchEndReason =
  /** End by the server, in order: its time was up, or it shuts down. */
  | "closed"
  /** 410, as status or as event: our resourceVersion is too old. */
  | "expired"
  /** Nothing came for too long. */
  | "idle"
  /** No answer within the deadline. */
  | "timeout"
  /** Connection refused, reset or cut. */
  | "network"
  /** The server closed in the middle of a line. */
  | "truncated"
  /** A line that is not an event. */
  | "bad_line"
  | "unauthorized"
  | "forbidden"
  /** 429. */
  | "throttled"
  /** Other answers of 500 and above. */
  | "server_error"
  /** Other answers below 500, and 504, with which a resourceVersion from the future is refused. */
  | "refused"
  /** The server cannot send a list as a stream. */
  | "no_streaming_list";

/** A server that asks for a longer rest is asked again all the same: it may be a mistake. */
const LONGEST_RETRY_AFTER_MS = 120_000;
/** Characters of an error's body that are shown: more of it would help nobody. */
const LONGEST_MESSAGE = 300;

interface Status {
  readonly code?: number;
  readonly message?: string;
  readonly details?: { readonly retryAfterSeconds?: number };
}

export class WatchEnd extends Error {
  constructor(
    readonly reason: WatchEndReason,
    message = "",
    /** Milliseconds that the server asks us to wait, at least. */
    readonly retryAfterMs?: number,
  ) {
    super(message);
  }

  /** @param initial a streaming list was asked for and is not complete. */
  static async ofResponse(response: Response, initial: boolean): Promise<WatchEnd> {
    let text = "";
    try {
      text = (await response.text()).slice(0, 10_000);
    } catch {
      // The status is enough.
    }
    let status: Status = {};
    try {
      status = JSON.parse(text) ?? {};
    } catch {
      // Not from the API server itself: a load balancer answers in HTML or plain words.
    }
    const message = `${response.status} ${status.message ?? text}`.trim();
    // Seconds only: API servers never send a date (apiserver pkg/endpoints/handlers/responsewriters).
    const seconds = Number(response.headers.get("Retry-After") ?? NaN);
    return of(response.status, message, initial, seconds);
  }

  /** @param initial a streaming list was asked for and is not complete. */
  static ofStatus(status: Status, initial: boolean): WatchEnd {
    const code = status.code ?? 500;
    return of(code, `${code} ${status.message ?? ""}`.trim(), initial, status.details?.retryAfterSeconds ?? NaN);
  }
}

/** Turns what was thrown into an end. */
export function endOf(error: unknown): WatchEnd {
  if (error instanceof WatchEnd) return error;
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  if (name === "TimeoutError") return new WatchEnd("timeout", message);
  if (error instanceof RangeError || error instanceof SyntaxError) return new WatchEnd("bad_line", message);
  return new WatchEnd("network", message);
}

function of(code: number, message: string, initial: boolean, retryAfterSeconds: number): WatchEnd {
  const retryAfterMs = retryAfterSeconds > 0 ? Math.min(retryAfterSeconds * 1000, LONGEST_RETRY_AFTER_MS) : undefined;
  const reason = reasonOf(code, message, initial);
  return new WatchEnd(reason, message.slice(0, LONGEST_MESSAGE), retryAfterMs);
}

function reasonOf(code: number, message: string, initial: boolean): WatchEndReason {
  // The feature is off (422 or 400), or etcd is too old for it (500 as the first event).
  if (initial && (code === 400 || code === 422 || /RequestWatchProgress|sendInitialEvents/.test(message))) {
    return "no_streaming_list";
  }
  switch (code) {
    case 401:
      return "unauthorized";
    case 403:
      return "forbidden";
    case 410:
      return "expired";
    case 429:
      return "throttled";
    case 504:
      return "refused";
    default:
      return code >= 500 ? "server_error" : "refused";
  }
}
