/**
 * Programs of a test's own, first in PATH, for what no test machine can have (Docker's daemon) or must not really do (installing
 * packages). Each writes down the words it was called with.
 */
import { join } from "@std/path";

export interface StandIns extends AsyncDisposable {
  /** The folder they are in. */
  readonly folder: string;
  /** A value for PATH: they come first, then this machine's own programs. */
  readonly path: string;
  /** All calls in their order, each the program's name and its arguments. */
  calls(): Promise<string[][]>;
}

/**
 * @param programs Name → what it does, in bash. `docker: "exit 1"` is there and always fails.
 * @param real Programs of this machine that are to be found in `folder` too, for a PATH of that alone.
 */
export async function standIns(
  programs: Readonly<Record<string, string>>,
  real: readonly string[] = [],
): Promise<StandIns> {
  const folder = await Deno.makeTempDir({ prefix: "packet-capture-programs-" });
  const log = join(folder, ".calls");
  for (const [name, script] of Object.entries(programs)) {
    // One write a call, so that calls at the same time do not mix. Words end with the unit separator, calls with the record separator.
    const record = `printf '%s' "$(printf '%s\\x1f' "\${0##*/}" "$@")"$'\\x1e' >>'${log}'`;
    await Deno.writeTextFile(join(folder, name), `#!/bin/bash\n${record}\n${script}\n`, { mode: 0o755 });
  }
  const machine = Deno.env.get("PATH")!;
  for (const name of real) await Deno.symlink(await find(name, machine), join(folder, name));
  return {
    folder,
    path: `${folder}:${machine}`,
    async calls() {
      const text = await Deno.readTextFile(log).catch(() => "");
      return text.split("\x1e").filter(Boolean).map((call) => call.split("\x1f").slice(0, -1));
    },
    [Symbol.asyncDispose]: () => Deno.remove(folder, { recursive: true }),
  };
}

async function find(name: string, path: string): Promise<string> {
  for (const folder of path.split(":")) {
    const file = join(folder, name);
    if (await Deno.stat(file).then(({ isFile }) => isFile, () => false)) return file;
  }
  throw new Error(`No ${name} in PATH`);
}
