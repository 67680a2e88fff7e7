/** Asks the controller for something that only it can have tcpdump do (src/captures/control.ts). */
import { firstLine } from "../base/line_splitter.ts";
import { abortable, Deadline } from "../base/timeout.ts";
import { atControlPath } from "../store/control_path.ts";

/** A reader goes on without an answer after this. */
const TIMEOUT_MS = 1000;

/**
 * Returns once tcpdump has written what it had processed before the call, or it is clear that this will not happen:
 * there is no controller, it has no such capture, or it does not answer in time.
 *
 * @param signal ends the waiting too.
 * @returns whether tcpdump has.
 */
export function askFlush(
  captureDir: string,
  { namespace, pod }: { readonly namespace: string; readonly pod: string },
  signal: AbortSignal,
): Promise<boolean> {
  return ask(captureDir, { flush: `${namespace}/${pod}` }, signal);
}

/** Returns once each manifest has the counters and sizes of now, or nobody will see to that. @returns whether they have. */
export function askCount(captureDir: string, signal: AbortSignal): Promise<boolean> {
  return ask(captureDir, { count: "all" }, signal);
}

async function ask(captureDir: string, question: Record<string, string>, signal: AbortSignal): Promise<boolean> {
  using limit = new Deadline(TIMEOUT_MS, () => new Error("no answer in time"), signal);
  let connection: Deno.UnixConn | undefined;
  const asked = (async () => {
    const opened = await atControlPath(captureDir, (path) => Deno.connect({ transport: "unix", path }));
    if (limit.signal.aborted) return opened.close(), false;
    connection = opened;
    const request = new TextEncoder().encode(`${JSON.stringify(question)}\n`);
    for (let at = 0; at < request.length;) at += await opened.write(request.subarray(at));
    return JSON.parse(await firstLine(opened) ?? "").ok === true;
  })();
  try {
    return await abortable(asked, limit.signal);
  } catch {
    return false;
  } finally {
    // What still waits for it fails, and nobody waits for that.
    connection?.close();
  }
}
