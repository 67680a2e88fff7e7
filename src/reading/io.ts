/** The outside of a reading command: its stdout, its stderr, and the signal to stop. */
import { trailerOf } from "../spec/outcome.ts";
import type { CaptureState } from "../spec/state.ts";
import { printable } from "../base/printable.ts";
import { deadline } from "../base/timeout.ts";

/** Error of a command whose output cannot go on: its reader has closed the pipe, or takes nothing. */
export class ReaderGone extends Error {
  /** Seconds for which nothing was taken; undefined: the pipe is closed. */
  readonly waited: number | undefined;

  constructor(waited?: number) {
    super(
      waited === undefined
        ? "Cannot write to stdout: its reader has gone"
        : `Ended before all was written: nobody has read from stdout for ${waited} s`,
    );
    this.name = "ReaderGone";
    this.waited = waited;
  }
}

export interface Io {
  /** Writes all of it, however slowly it is read. @throws ReaderGone if nobody reads any more. */
  write(bytes: Uint8Array): Promise<void>;
  /** Writes a sentence for people to stderr; control characters in it are escaped. */
  say(line: string): void;
  /** Aborted when the command is to stop. */
  readonly signal: AbortSignal;
  /** Whether stdout is a terminal, which binary data would garble. */
  readonly stdoutIsTerminal: boolean;
  /** Writes why the command fails. @param state The capture's, if it is known. @returns the code. */
  refuse(code: number, words: string, state?: CaptureState): number;
}

/** The process's own. */
export interface SystemIo extends Io {
  /** Bytes written to stdout. */
  readonly written: number;
  /** Writes the trailer (outcome.ts) if a program asked for one, unless it has been written. */
  end(code: number): void;
}

/**
 * Milliseconds without a byte read after which the reader counts as gone. Nothing else shows that the client of
 * `kubectl exec` has gone, unless the command ends with its standard input (exit_with_stdin.ts). However slow a
 * reader is, it takes some.
 */
const GONE_MS = 5 * 60_000;
/** Bytes in one write: few for a slow reader, because a write that has not ended does not show how far it has come. */
const SMALL_PIECE = 64 * 1024;
const LARGE_PIECE = 512 * 1024;
/** A write that takes no longer was to a fast reader. */
const FAST_MS = 100;

/**
 * Returns the process's own stdout and stderr.
 *
 * @param options.whileStdin the command ends with its standard input, so that a reader which only pauses need not be taken for gone.
 */
export function systemIo(
  signal: AbortSignal,
  { whileStdin = false, goneMs = GONE_MS } = {},
): SystemIo {
  // A write that is given up stays blocked.
  const unlessGone = <T>(written: Promise<T>) =>
    whileStdin ? written : deadline(written, goneMs, () => new ReaderGone(goneMs / 1000));
  let written = 0;
  let stdout: Promise<Stdout> | undefined;
  let piece = SMALL_PIECE;
  let needsTrailer = whileStdin;
  const end = (code: number, state?: CaptureState) => {
    if (needsTrailer) say(JSON.stringify(trailerOf(code, written, state)));
    needsTrailer = false;
  };
  return {
    async write(bytes) {
      // Opening waits for a reader, if there is none any more.
      const to = await (stdout ??= unlessGone(openStdout()));
      for (let at = 0; at < bytes.length;) {
        const started = performance.now();
        const taken = await unlessGone(writeSome(to, bytes.subarray(at, at + piece)));
        at += taken;
        written += taken;
        piece = performance.now() - started > FAST_MS ? SMALL_PIECE : Math.min(2 * piece, LARGE_PIECE);
      }
    },
    say,
    refuse(code, words, state) {
      // Plugins of version 0.1 show the last line as the reason, where nothing was written.
      if (written === 0) end(code, state);
      say(words);
      return code;
    },
    end,
    signal,
    stdoutIsTerminal: Deno.stdout.isTerminal(),
    get written() {
      return written;
    },
  };
}

type Stdout = Pick<typeof Deno.stdout, "write">;

/** O_NONBLOCK of Linux, in octal as in fdinfo. */
const NON_BLOCKING = 0o4000;

/**
 * Opens a pipe again that another process has made non-blocking, because that is a flag of the open file: `Deno.stdout`
 * fails there without a count of what it has written.
 */
async function openStdout(): Promise<Stdout> {
  try {
    const flags = /^flags:\s+([0-7]+)$/m.exec(await Deno.readTextFile("/proc/self/fdinfo/1"))?.[1] ?? "0";
    const path = "/proc/self/fd/1";
    const isShared = (Number.parseInt(flags, 8) & NON_BLOCKING) !== 0 && (await Deno.stat(path)).isFifo;
    return isShared ? await Deno.open(path, { write: true }) : Deno.stdout;
  } catch {
    // Another user's pipe, or no /proc: it is taken as it is.
    return Deno.stdout;
  }
}

async function writeSome(to: Stdout, bytes: Uint8Array): Promise<number> {
  try {
    return await to.write(bytes);
  } catch (error) {
    const gone = error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionReset;
    throw gone ? new ReaderGone() : error;
  }
}

function say(line: string): void {
  try {
    Deno.stderr.writeSync(new TextEncoder().encode(`packet-capture: ${printable(line)}\n`));
  } catch {
    // Nobody listens; what is written to stdout does not depend on it.
  }
}
