/** The two containerd versions that the tests run, found, downloaded or built. */
import { join } from "@std/path";
import { containerdFolder } from "../support/binaries.ts";
import { cached } from "../support/cache.ts";
import { attempt, run } from "../support/run.ts";

/** "2": current, built from source. "debian": the package of this Debian or Ubuntu (Debian 12: 1.6.20). */
export type ContainerdVersion = "2" | "debian";
export const CONTAINERD_VERSIONS: readonly ContainerdVersion[] = ["2", "debian"];

/** Folder with containerd, its shim and ctr. */
export async function containerdBinaries(version: ContainerdVersion): Promise<string> {
  if (version === "2") return await containerdFolder();
  const folder = await cached("containerd-debian", "containerd of this Debian", async (out) => {
    // Downloaded and unpacked rather than installed: nothing is to run as a service of this machine.
    const options = ["-q", "-o", "APT::Sandbox::User=root"];
    const download = ["apt-get", ...options, "download", "containerd"];
    if ((await attempt(download, { cwd: out, timeoutMs: 300_000 })).code !== 0) {
      // The machine may have no list of packages yet, or one too old.
      await run(["apt-get", ...options, "update"], { timeoutMs: 300_000 });
      await run(download, { cwd: out, timeoutMs: 300_000 });
    }
    for await (const { name } of Deno.readDir(out)) {
      if (!name.endsWith(".deb")) continue;
      await run(["dpkg-deb", "--extract", name, "."], { cwd: out });
      await Deno.remove(join(out, name));
    }
  });
  return join(folder, "usr/bin");
}
