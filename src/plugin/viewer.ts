/** Where a stream of packets goes: standard output, or a program that shows them. */
import { Failure } from "./failure.ts";

export type Viewer = "wireshark" | "tshark";

/** -k: begin at once. -l: show each packet as it comes. Both read pcapng from standard input. */
const ARGS: Readonly<Record<Viewer, readonly string[]>> = {
  wireshark: ["-k", "-i", "-"],
  tshark: ["-l", "-r", "-"],
};

export interface Sink extends AsyncDisposable {
  /** @throws {Deno.errors.BrokenPipe} nobody reads any more. */
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when nobody reads any more, as far as that can be told before the next write. */
  readonly gone: Promise<void>;
  /** Waits for the reader to end, if it is ours. @returns the exit code for us. */
  exitCode(): Promise<number>;
}

export function standardOutput(): Sink {
  return {
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await Deno.stdout.write(bytes.subarray(at));
    },
    gone: new Promise(() => {}),
    exitCode: () => Promise.resolve(0),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** @throws {Failure} the program is not installed. */
export function openViewer(viewer: Viewer): Sink {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(viewer, { args: [...ARGS[viewer]], stdin: "piped", stdout: "inherit", stderr: "inherit" })
      .spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new Failure(`Cannot find ${viewer} in PATH: install it, or send the stream through a pipe`);
  }
  const input = child.stdin.getWriter();
  const close = () => input.close().catch(() => {});
  return {
    write: (bytes) => input.write(bytes),
    gone: child.status.then(() => {}),
    async exitCode() {
      await close();
      const { code } = await child.status;
      if (code !== 0) throw new Failure(`${viewer} ended with exit code ${code}`);
      return 0;
    },
    async [Symbol.asyncDispose]() {
      await close();
      // It shows what it has got, and is the user's to close.
      await child.status;
    },
  };
}
