/** Asks the controller to have tcpdump write what it has buffered, so that it can be read (src/captures/control.ts). */
import { atControlPath } from "../store/control_path.ts";

/** A reader goes on without an answer after this. */
const TIMEOUT_MS = 1000;

/**
 * Returns once tcpdump has written what it had processed before the call, or it is known that nobody will see to that: there is no
 * controller, it has no such capture, or it does not answer in time.
 *
 * @param signal ends the waiting too.
 * @returns whether tcpdump has.
 */
export async function askFlush(
  captureDir: string,
  { namespace, pod }: { readonly namespace: string; readonly pod: string },
  signal: AbortSignal,
): Promise<boolean> {
  let connection: Deno.UnixConn | undefined;
  let isLate = false;
  const late = Promise.withResolvers<false>();
  const giveUp = () => {
    isLate = true;
    late.resolve(false);
  };
  const timer = setTimeout(giveUp, TIMEOUT_MS);
  signal.addEventListener("abort", giveUp, { once: true });
  const asked = (async () => {
    const opened = await atControlPath(captureDir, (path) => Deno.connect({ transport: "unix", path }));
    if (isLate) return opened.close(), false;
    connection = opened;
    const request = new TextEncoder().encode(`${JSON.stringify({ flush: `${namespace}/${pod}` })}\n`);
    for (let at = 0; at < request.length;) at += await opened.write(request.subarray(at));
    let answer = "";
    const bytes = new Uint8Array(1024);
    for (let n; !answer.includes("\n") && (n = await opened.read(bytes)) !== null;) {
      answer += new TextDecoder().decode(bytes.subarray(0, n));
    }
    return JSON.parse(answer).ok === true;
  })();
  try {
    return await Promise.race([asked, late.promise]);
  } catch {
    return false;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
    // What still waits for it fails, and nobody waits for that.
    asked.catch(() => {});
    connection?.close();
  }
}
