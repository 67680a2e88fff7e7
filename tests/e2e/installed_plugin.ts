/** The kubectl plugin as its users have it: bundled, installed by `deno install`, run as `kubectl packet-capture …`. */
import { dirname, join } from "node:path";
import { attempt, run, type RunResult } from "../support/run.ts";
import { tool } from "../support/tool.ts";
import type { Kube } from "./kube.ts";

/** Where `make image` puts it, next to the controller's. */
const BUNDLE = join(import.meta.dirname!, "../../dist/kubectl-packet_capture.js");

export interface PluginRun {
  /** A folder whose programs come first in PATH, with a kubectl among them. */
  readonly first?: string;
  /** @default the administrator's */
  readonly kubeconfig?: string;
}

export class InstalledPlugin implements AsyncDisposable {
  private constructor(readonly dir: string, readonly kube: Kube) {}

  /** Installs it into a folder of its own. @param bundle another one than `make image` has made */
  static async install(kube: Kube, bundle = BUNDLE): Promise<InstalledPlugin> {
    const dir = await Deno.makeTempDir({ prefix: "packet-capture-plugin-" });
    await run([
      ...[Deno.execPath(), "install", "--global", "--quiet", "--root", dir, "--name", "kubectl-packet_capture"],
      ...["--no-config", "--no-lock", "--allow-run", "--allow-read", "--allow-write", "--allow-env", bundle],
    ]);
    // kubectl by its own name, wherever it comes from; a second folder can be put before it.
    const found = (await run(["sh", "-c", `command -v "${tool("kubectl")}"`])).trim();
    await Deno.symlink(found, join(dir, "bin/kubectl"));
    return new InstalledPlugin(dir, kube);
  }

  /** kubectl, which finds the plugin in `env`'s PATH. */
  get kubectl(): string {
    return join(this.dir, "bin/kubectl");
  }

  env({ first, kubeconfig }: PluginRun = {}): Record<string, string> {
    const path = [...(first ? [first] : []), join(this.dir, "bin"), dirname(Deno.execPath()), Deno.env.get("PATH")];
    return { ...this.kube.env, ...(kubeconfig ? { KUBECONFIG: kubeconfig } : {}), PATH: path.join(":") };
  }

  /** Runs `kubectl packet-capture …` in the folder `dir`. */
  async run(args: readonly string[], options: PluginRun = {}): Promise<RunResult> {
    const kubectl = options.first ? join(options.first, "kubectl") : this.kubectl;
    return await attempt([kubectl, "packet-capture", ...args], {
      cwd: this.dir,
      env: this.env(options),
      timeoutMs: 120_000,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.dir, { recursive: true });
  }
}
