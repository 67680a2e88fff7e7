/** What takes minutes to make: made once, and kept for all clones of the repository. */
import { dirname, join } from "node:path";
import { isThere } from "./paths.ts";
import { say, ticking } from "./say.ts";

/** Returns the folder of the cache. */
export function cacheDir(): string {
  const home = Deno.env.get("HOME") || "/root";
  return join(Deno.env.get("XDG_CACHE_HOME") || join(home, ".cache"), "packet-capture");
}

/**
 * The folder `name` of the cache, filled by `build` if it is not there. It appears by one rename, when it is whole; a lock lets
 * several builds at once wait for the first.
 */
export async function cached(
  name: string,
  what: string,
  build: (out: string, count: (line: string) => void) => Promise<void>,
): Promise<string> {
  const folder = join(cacheDir(), name);
  if (await isThere(folder)) return folder;
  await Deno.mkdir(dirname(folder), { recursive: true });
  using lock = await Deno.open(`${folder}.lock`, { create: true, write: true });
  await lock.lock(true);
  if (await isThere(folder)) return folder;
  say(`building ${what} into ${folder}`);
  const out = `${folder}.part`;
  await Deno.remove(out, { recursive: true }).catch(() => {});
  await Deno.mkdir(out);
  let lines = 0, last = "";
  {
    using _ticker = ticking((elapsed) => `building ${what}: ${elapsed}, ${lines} steps, now ${last || "downloading"}`);
    await build(out, (line) => (lines++, last = line.trim()));
  }
  await Deno.rename(out, folder);
  return folder;
}
