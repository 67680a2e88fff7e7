/** `version`: the plugin's version, and those of the controllers. */
import { messageOf } from "../../base/errors.ts";
import { count } from "../../base/format.ts";
import { mapConcurrent } from "../../base/map_concurrent.ts";
import { VERSION } from "../../version.ts";
import { Failure } from "../failure.ts";
import { ask, versionIn } from "../fetch/ask.ts";
import { NODES_AT_ONCE } from "../fetch/captures.ts";
import { type InstallationOptions, noControllers } from "../installation.ts";
import { type Context, installationFor } from "./command.ts";

export interface VersionOptions extends InstallationOptions {
  /** Ask no cluster. */
  readonly client: boolean;
}

/**
 * @returns the exit code: 1 if some controller could not be asked. Versions that differ are noted, and are no failure.
 * @throws {Failure} no controller can be found; the plugin's own version is written before.
 */
export async function version(context: Context, options: VersionOptions): Promise<number> {
  const { kubectl, terminal } = context;
  terminal.line(`Client: ${VERSION}`);
  if (options.client) return 0;
  const installation = await installationFor(context, options);
  if (installation.controllers.size === 0) throw new Failure(noControllers(installation));
  const nodes = new Map<string, string[]>();
  const problems: string[] = [];
  await mapConcurrent([...installation.controllers.values()], NODES_AT_ONCE, async (controller) => {
    const { node } = controller;
    try {
      const its = versionIn((await ask(kubectl, controller, ["version"])).stdout) ?? "unknown";
      nodes.set(its, [...nodes.get(its) ?? [], node]);
    } catch (error) {
      kubectl.signal.throwIfAborted();
      problems.push(`Cannot ask node ${node}: ${messageOf(error)}`);
    }
  });
  for (const [its, on] of [...nodes].sort(([a], [b]) => a < b ? -1 : 1)) {
    const which = its === VERSION ? "" : `: ${on.sort().join(", ")}`;
    terminal.line(`Controllers: ${its} (${count(on.length, "node")}${which})`);
  }
  if ([...nodes.keys()].some((its) => its !== VERSION)) {
    terminal.note("The versions differ: use the plugin and the chart in the same version");
  }
  problems.sort().forEach((problem) => terminal.note(problem));
  return problems.length === 0 ? 0 : 1;
}
