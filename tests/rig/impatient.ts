/**
 * The controller with other times than its own, so that a fault of seconds shows what one of minutes would. No user needs them as
 * settings: TIMING is JSON with parts of `ControllerOptions.timing`, in the names and units of the sources:
 *
 *     { "watch": { "idle": 4000, "tick": 500 }, "controller": { "stalled": 6000 } }
 *
 * After SIGUSR2 no new timer ever strikes, while all else goes on: what waits for one stands still.
 */
import { type ControllerOptions, runController } from "../../src/controller.ts";
import { getLog, setupLog, stderr } from "../../src/log.ts";
import { logEffective, readSettings } from "../../src/settings.ts";

export type Timing = NonNullable<ControllerOptions["timing"]>;

const timing: Timing = JSON.parse(Deno.env.get("TIMING") ?? "{}");
const settings = readSettings({ env: (name) => Deno.env.get(name), flags: {} }, ["nodeName"]);
setupLog({ level: settings.logLevel, format: settings.logFormat });
logEffective(settings, getLog());
Deno.addSignalListener("SIGUSR2", () => {
  Object.assign(globalThis, { setTimeout: () => 0 });
});
const ended = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) {
  Deno.addSignalListener(name, () => ended.abort(new Error(`ended by ${name}`)));
}
const code = await runController(settings, ended.signal, { timing });
await stderr.flush(2000);
Deno.exit(code);
