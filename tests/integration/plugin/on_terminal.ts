/** Runs the plugin on a terminal, as a user does who looks at it and types. */
import { join } from "@std/path";
import type { Sandbox } from "./rig.ts";

/** What does not come by then does not come: milliseconds. */
const DEADLINE_MS = 60_000;

export interface TerminalOptions {
  readonly env: Record<string, string>;
  readonly cwd: string;
  /** A file as standard output, in place of the terminal. */
  readonly to?: string | undefined;
}

/** A command on a terminal of its own, which `script` makes and hands on. */
export class Terminal implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #read: Promise<void>;
  #changed = Promise.withResolvers<void>();
  #isOver = false;
  /** What is shown, and how much of it was waited for. */
  #text = "";
  #seen = 0;

  constructor(command: readonly string[], { env, cwd, to }: TerminalOptions) {
    const words = command.map((word) => `'${word}'`).join(" ");
    // script runs a line of shell.
    this.#child = new Deno.Command("script", {
      args: [
        "--quiet",
        "--return",
        "--flush",
        "--command",
        to ? `exec ${words} > '${to}'` : `exec ${words}`,
        "/dev/null",
      ],
      ...{ cwd, env: { ...env, SHELL: "/bin/sh" }, stdin: "piped", stdout: "piped", stderr: "inherit" },
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#read = this.#readAll();
  }

  async #readAll(): Promise<void> {
    for await (const chunk of this.#child.stdout.pipeThrough(new TextDecoderStream())) {
      this.#text += chunk;
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
    }
    this.#isOver = true;
    this.#changed.resolve();
  }

  /** Waits until what is shown, since the last time, fits. */
  async until(pattern: RegExp): Promise<void> {
    const late = Promise.withResolvers<void>();
    let isLate = false;
    const timer = setTimeout(() => late.resolve(void (isLate = true)), DEADLINE_MS);
    try {
      for (;;) {
        const found = pattern.exec(this.#text.slice(this.#seen));
        if (found !== null) return void (this.#seen += found.index + found[0].length);
        if (this.#isOver || isLate) throw new Error(`${pattern} is not shown: ${JSON.stringify(this.#text)}`);
        await Promise.race([this.#changed.promise, late.promise]);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  type(text: string): void {
    this.#input.write(new TextEncoder().encode(text)).catch(() => {});
  }

  /** Waits for the command's end. */
  async end(): Promise<{ readonly code: number; readonly text: string }> {
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), DEADLINE_MS);
    const { code } = await this.#child.status;
    clearTimeout(timer);
    await this.#read;
    return { code, text: this.#text };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#isOver) this.#child.kill("SIGTERM");
    await this.#child.status;
    await this.#input.close().catch(() => {});
  }
}

/**
 * Makes the sandbox's kubectl the real one, but for `exec`, which gets its credentials as the real one does and is then answered by the sandbox's
 * rules.
 */
export async function fakeKubectl(sandbox: Sandbox): Promise<void> {
  const own = sandbox.path("bin/kubectl"), scripted = sandbox.path("bin/scripted-kubectl");
  await Deno.rename(own, scripted);
  const { stdout } = await new Deno.Command("sh", { args: ["-c", "command -v kubectl"] }).output();
  const real = new TextDecoder().decode(stdout).trim();
  const script = `#!/bin/sh\n[ "$1" = exec ] || exec '${real}' "$@"\n` +
    `'${real}' get --raw /version > '${join(sandbox.dir, "version")}.$$' || exit 1\nexec '${scripted}' "$@"\n`;
  await Deno.writeTextFile(own, script, { mode: 0o755 });
}
