/** Sinks of a stream of packets: standard output, or a program that shows them. */
import { Failure } from "../failure.ts";

export type Viewer = "wireshark" | "tshark";

/** -k: begin at once. -l: show each packet as it comes. Both read pcapng from standard input. */
const ARGS: Readonly<Record<Viewer, readonly string[]>> = {
  wireshark: ["-k", "-i", "-"],
  tshark: ["-l", "-r", "-"],
};

export interface Sink extends AsyncDisposable {
  /** @throws {Deno.errors.BrokenPipe} nobody reads any more. */
  write(bytes: Uint8Array): Promise<void>;
  /** Resolves when nobody reads any more, as far as that can be noticed before the next write. */
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

/** Lists what to start a viewer by: its name, found in PATH, then where Wireshark's installers put it without adding it there. Pure. */
export function programsOf(
  viewer: Viewer,
  os: typeof Deno.build.os,
  env: (name: string) => string | undefined,
): string[] {
  const named = viewer === "wireshark" ? "Wireshark" : viewer;
  if (os === "darwin") return [viewer, `/Applications/Wireshark.app/Contents/MacOS/${named}`];
  if (os !== "windows") return [viewer];
  const folders = [env("ProgramFiles") ?? "C:\\Program Files", env("ProgramFiles(x86)") ?? "C:\\Program Files (x86)"];
  return [viewer, ...folders.map((folder) => `${folder}\\Wireshark\\${named}.exe`)];
}

/**
 * Starts a viewer.
 *
 * @param programs What to try, in this order.
 * @throws {Failure} none of them is installed.
 */
export function openViewer(
  viewer: Viewer,
  programs: readonly string[] = programsOf(viewer, Deno.build.os, (name) => Deno.env.get(name)),
): Sink {
  const child = spawnFirst(programs, ARGS[viewer]);
  if (child === undefined) {
    const places = programs.map((program) => program === viewer ? "in PATH" : `at ${program}`).join(" or ");
    throw new Failure(`Cannot find ${viewer} ${places}: install it, or send the stream through a pipe`);
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

/** Starts the first of the programs that is installed. */
function spawnFirst(programs: readonly string[], args: readonly string[]): Deno.ChildProcess | undefined {
  for (const program of programs) {
    try {
      return new Deno.Command(program, { args: [...args], stdin: "piped", stdout: "inherit", stderr: "inherit" })
        .spawn();
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  return undefined;
}
