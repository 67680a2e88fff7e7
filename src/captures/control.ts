/**
 * Answers readers, which have no right to tcpdump, at a unix socket in captureDir, with one JSON line each way.
 *
 *     {"flush":"default/web-0"}  →  {"ok":true}                  tcpdump has written what it had processed
 *     {"count":"all"}            →  {"ok":true}                  each capture.json has the counters and sizes of now
 *                                   {"ok":false,"error":"…"}     it has not, and why; readers go on without
 */
import { pause } from "../base/timeout.ts";
import { join } from "@std/path";
import type { Log } from "../log.ts";
import { messageOf } from "../base/errors.ts";
import { firstLine } from "../base/line_splitter.ts";
import { quote } from "../base/quote.ts";
import { SharedNext } from "../base/shared_next.ts";
import { ignoreGone } from "../base/ignore_gone.ts";
import { atControlPath, CONTROL } from "../store/control_path.ts";
import { isDnsLabel, isDnsName } from "../base/names.ts";

/** Connections at a time; one more is closed at once. */
const MOST_CONNECTIONS = 16;
/** Time from connecting to the answer; a flush gives up before. */
const CONNECTION_MS = 2000;
/** Time from the end of one count of all captures to the next. */
const COUNT_AGAIN_MS = 200;
/** Longest request: a namespace and a pod have at most 317 characters. */
const MOST_BYTES = 1024;

export interface ControlOptions {
  /** The captureDir that this controller holds. */
  readonly directory: string;
  /** Makes the tcpdump of a pod write what it has buffered. @throws if that cannot be done. */
  readonly flush: (namespace: string, pod: string) => Promise<void>;
  /** Writes the present counters and sizes of all captures. */
  readonly count: () => Promise<void>;
  readonly log: Log;
}

/** The socket; closed and removed at the end. */
export class Control implements AsyncDisposable {
  readonly #options: ControlOptions;
  readonly #listener: Deno.UnixListener;
  readonly #connections = new Set<Deno.UnixConn>();
  readonly #serving: Promise<void>;
  readonly #counting = new SharedNext(() => this.#count());
  /** performance.now() when the last count ended. */
  #counted = -Infinity;

  private constructor(options: ControlOptions, listener: Deno.UnixListener) {
    this.#options = options;
    this.#listener = listener;
    this.#serving = this.#serve();
  }

  /** Opens the socket, in place of one that a former controller has left. @returns undefined, and logs why, if it cannot. */
  static async open(options: ControlOptions): Promise<Control | undefined> {
    const path = join(options.directory, CONTROL);
    try {
      await Deno.remove(path).catch(ignoreGone);
      const listener = atControlPath(options.directory, (path) => Deno.listen({ transport: "unix", path }));
      // The directory is the controller's alone too (0700).
      await Deno.chmod(path, 0o600);
      return new Control(options, listener);
    } catch (error) {
      options.log.warn("cannot open the control socket: readers get only what tcpdump has written", { path, error });
      return undefined;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    close(this.#listener);
    for (const connection of this.#connections) close(connection);
    await this.#serving;
    await Deno.remove(join(this.#options.directory, CONTROL)).catch(() => {});
  }

  async #serve(): Promise<void> {
    for (;;) {
      let connection: Deno.UnixConn;
      try {
        connection = await this.#listener.accept();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
        // Out of descriptors, perhaps: the next one may do.
        await pause(100);
        continue;
      }
      if (this.#connections.size >= MOST_CONNECTIONS) {
        close(connection);
        continue;
      }
      this.#connections.add(connection);
      void this.#answer(connection).catch(() => {}).finally(() => {
        this.#connections.delete(connection);
        close(connection);
      });
    }
  }

  async #answer(connection: Deno.UnixConn): Promise<void> {
    const timer = setTimeout(() => close(connection), CONNECTION_MS);
    try {
      const line = await firstLine(connection, MOST_BYTES);
      if (line === undefined) return;
      const answer = await this.#do(line).then(
        () => ({ ok: true }),
        (error) => ({ ok: false, error: messageOf(error) }),
      );
      const bytes = new TextEncoder().encode(`${JSON.stringify(answer)}\n`);
      for (let at = 0; at < bytes.length;) at += await connection.write(bytes.subarray(at));
    } finally {
      clearTimeout(timer);
    }
  }

  async #count(): Promise<void> {
    // However often readers ask, most of the time is left for other work.
    await pause(this.#counted + COUNT_AGAIN_MS - performance.now());
    await this.#options.count().finally(() => this.#counted = performance.now());
  }

  async #do(line: string): Promise<void> {
    const request = requestIn(line);
    if (request.count === "all") return await this.#counting.run();
    const [namespace = "", pod = "", ...rest] = request.flush?.split("/") ?? [];
    if (rest.length > 0 || !isDnsLabel(namespace) || !isDnsName(pod)) throw unknown(line);
    await this.#options.flush(namespace, pod);
  }
}

/** Reads a request: one key, and a text. @throws if it is something else. */
function requestIn(line: string): { readonly flush?: string; readonly count?: string } {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw unknown(line);
  }
  const [entry, ...others] = Object.entries(value ?? {});
  if (!entry || others.length > 0 || typeof entry[1] !== "string") throw unknown(line);
  return { [entry[0]]: entry[1] };
}

function unknown(line: string): Error {
  return new Error(`Cannot do ${quote(line, 100)}: it must be {"flush":"NAMESPACE/POD"} or {"count":"all"}`);
}

function close(socket: Deno.UnixConn | Deno.UnixListener): void {
  try {
    socket.close();
  } catch {
    // It is closed already.
  }
}
