/**
 * The controller with other times than its own: TIMING is JSON with parts of the objects below. After SIGUSR2 no new timer ever
 * strikes, while all else goes on: what waits for one stands still.
 */
import { HEALTH_TIMING } from "../../../src/captures/health.ts";
import { PATIENCE } from "../../../src/controller.ts";
import { WATCH_TIMING } from "../../../src/pods/watch.ts";

const timing = JSON.parse(Deno.env.get("TIMING") ?? "{}");
Object.assign(HEALTH_TIMING, timing.health);
Object.assign(PATIENCE, timing.controller);
Object.assign(WATCH_TIMING, timing.watch);
Deno.addSignalListener("SIGUSR2", () => {
  Object.assign(globalThis, { setTimeout: () => 0 });
});

await import("../../../src/main.ts");
