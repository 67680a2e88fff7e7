/**
 * The controller, which kills itself (SIGKILL, nothing is tidied up) at one call of its run. KILL_AT is JSON:
 *
 *     { "call": "rename", "path": "capture\\.json", "nth": 1, "when": "before" | "half" | "after" }
 *
 * `path` is a pattern for the call's first path (of a spawn, its arguments; of a kill, the signal to a child); `half`: a write of which half was done.
 */
interface KillAt {
  readonly call: "mkdir" | "open" | "write" | "rename" | "remove" | "spawn" | "kill";
  readonly path: string;
  readonly nth: number;
  readonly when: "before" | "half" | "after";
}

const at: KillAt = JSON.parse(Deno.env.get("KILL_AT") ?? "{}");
let left = at.nth;
const die = () => Deno.kill(Deno.pid, "SIGKILL");
const isIt = (call: KillAt["call"], path: string) => call === at.call && new RegExp(at.path).test(path) && --left === 0;

for (const call of ["mkdir", "rename", "remove"] as const) {
  // deno-lint-ignore no-explicit-any -- three signatures
  const real = Deno[call] as any;
  // deno-lint-ignore no-explicit-any
  (Deno as any)[call] = async (path: string, ...rest: unknown[]) => {
    const now = isIt(call, path);
    if (now && at.when === "before") die();
    const result = await real(path, ...rest);
    if (now) die();
    return result;
  };
}

const paths = new WeakMap<Deno.FsFile, string>();
const open = Deno.open;
Deno.open = async (path, options) => {
  const now = isIt("open", String(path));
  if (now && at.when === "before") die();
  const file = await open(path, options);
  paths.set(file, String(path));
  if (now) die();
  return file;
};

const write = Deno.FsFile.prototype.write;
Deno.FsFile.prototype.write = async function (bytes) {
  const now = isIt("write", paths.get(this) ?? "");
  if (now && at.when === "before") die();
  const n = await write.call(this, now && at.when === "half" ? bytes.subarray(0, bytes.length / 2) : bytes);
  if (now) die();
  return n;
};

const Command = Deno.Command;
Deno.Command = class extends Command {
  readonly #words: string;
  constructor(command: string | URL, options?: Deno.CommandOptions) {
    super(command, options);
    this.#words = [command, ...options?.args ?? []].join(" ");
  }
  override spawn() {
    const now = isIt("spawn", this.#words);
    if (now && at.when === "before") die();
    const child = super.spawn();
    if (now) die();
    return child;
  }
};

const kill = Deno.ChildProcess.prototype.kill;
Deno.ChildProcess.prototype.kill = function (signal) {
  const now = isIt("kill", String(signal ?? "SIGTERM"));
  if (now && at.when === "before") die();
  kill.call(this, signal);
  if (now) die();
};

await import("../../../src/main.ts");
