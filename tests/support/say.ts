/** Progress for the person who waits: lines on standard error, and a counter that rewrites itself on a terminal. */

const started = performance.now();

export function say(text: string): void {
  Deno.stderr.writeSync(new TextEncoder().encode(`[${clock(performance.now() - started)}] ${text}\n`));
}

/** `93 s` or `4 min 02 s`. */
export function clock(ms: number): string {
  const s = Math.floor(ms / 1000);
  return s < 100 ? `${s} s` : `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
}

/** Says `text()` every 15 s, on a terminal every second in place, until disposed. */
export function ticking(text: (elapsed: string) => string): Disposable {
  const since = performance.now();
  const terminal = Deno.stderr.isTerminal();
  const timer = setInterval(() => {
    const now = text(clock(performance.now() - since));
    if (terminal) Deno.stderr.writeSync(new TextEncoder().encode(`\r\x1b[K${now}`));
    else say(now);
  }, terminal ? 1000 : 15_000);
  return {
    [Symbol.dispose]() {
      clearInterval(timer);
      if (terminal) Deno.stderr.writeSync(new TextEncoder().encode("\r\x1b[K"));
    },
  };
}
