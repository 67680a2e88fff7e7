/**
 * Lets the credential plugin of the user's kubeconfig ask: for a code (MFA), or to log in elsewhere (device login).
 *
 * kubectl hands its standard input and its stderr on to the plugin. The first call of a command gets the user's terminal as both, and the others
 * wait for it, so that the user is asked once: what it obtained is in the plugin's cache then.
 */
import { printable } from "../../base/printable.ts";
import type { Terminal } from "../terminal.ts";

/**
 * Beginning of the reason that client-go gives for a credential plugin without an answer
 * (plugin/pkg/client/auth/exec).
 */
export const NO_CREDENTIALS = /getting credentials: (?<why>.*)$/m;
/** Its reason for a plugin with `interactiveMode: Always`, whether the plugin would ask or not. */
export const NO_TERMINAL = /cannot support interactive mode: standard input is not a terminal/;
/** Lines on stderr that are handled elsewhere: of kubectl's log, and of the command that it runs in a pod. */
const LOGGED = /^([EWIF]\d{4} \d\d:\d\d:\d\d|packet-capture: )/;
/** kubectl's output after a credential plugin's words. */
const KUBECTLS = /([EWIF]\d{4} \d\d:\d\d:\d\d|Unable to connect to the server: ).*/;
/** kubectl's last words, which `explain` puts into a sentence. */
const LAST_WORDS = /^(error: |Error from server|Unable to connect|The connection to the server|command terminated)/;

/** End of a call of kubectl, as far as it counts here. */
interface Ended {
  readonly stderr: string;
}

export class Login {
  readonly #terminal: Terminal | undefined;
  #everyCall = false;
  #last: Promise<void> | undefined;
  #needsTerminal = false;

  /** @param terminal Where the user is asked; undefined, or not seen by the user: nobody is. */
  constructor(terminal?: Terminal) {
    this.#terminal = terminal?.showsProgress ? terminal : undefined;
  }

  /** The terminal for a call whose standard input is not free; undefined: the plugin does without (all but `interactiveMode: Always`). */
  get needed(): Terminal | undefined {
    return this.#needsTerminal ? this.#terminal : undefined;
  }

  /**
   * Makes a call of kubectl, which gets the terminal if it is the first, or gets no credentials without; those with the terminal are made one
   * after the other.
   */
  async call<T extends Ended>(call: (terminal: Terminal | undefined) => Promise<T>): Promise<T> {
    if (this.#terminal === undefined) return await call(undefined);
    if (this.#last !== undefined && !this.#everyCall) {
      await this.#last;
      const outcome = await call(undefined);
      if (!NO_CREDENTIALS.test(outcome.stderr)) return outcome;
      // No request was sent. The plugin has no cache, or what was in it has expired.
      this.#everyCall = true;
      this.#needsTerminal ||= NO_TERMINAL.test(outcome.stderr);
    }
    const mine = (this.#last ?? Promise.resolve()).then(() => call(this.#terminal));
    this.#last = mine.then(() => {}, () => {});
    return await mine;
  }
}

/**
 * Returns what to give kubectl's stderr to as it comes: it hands on what a credential plugin writes, a prompt without
 * a line's end too. Of kubectl's own lines the log is dropped, and what may be its last words waits until more
 * follows.
 */
export function handOn(show: (text: string) => void): (chunk: string) => void {
  let waiting = "", isOthers = false;
  return (chunk) => {
    // kubectl writes a whole line at a time, and so begins one where a prompt has ended.
    for (const piece of chunk.split(/(?<=\n)/)) {
      if (LOGGED.test(piece)) continue;
      // What follows kubectl's words may be the server's too.
      isOthers ||= LAST_WORDS.test(piece);
      const text = isOthers ? piece.split("\n").map(printable).join("\n") : piece;
      if (LAST_WORDS.test(piece)) waiting += text;
      else if (text !== "") {
        show(waiting + text);
        waiting = "";
      }
    }
  };
}

/** Returns the last line of a stderr that is a credential plugin's, as far as it can be recognised. */
export function wordsOfPlugin(stderr: string): string | undefined {
  // A prompt has no line's end.
  const lines = stderr.split("\n").map((line) => line.replace(KUBECTLS, "").trim());
  return lines.findLast((line) => line !== "" && !NO_CREDENTIALS.test(line) && !LOGGED.test(line));
}
