/**
 * The controller with less patience, so that a fault that lasts seconds shows what one of minutes would. Played for 20 s, an API
 * server that is down shows nothing of a /healthz that waits 60 s. No user needs these numbers as settings. IMPATIENT is JSON, with
 * the names and units of the sources:
 *
 *     { "watch": { "idle": 4000, "tick": 500 }, "controller": { "stalled": 6000 } }
 */
import { HEALTH_TIMING } from "../../../src/captures/health.ts";
import { PATIENCE } from "../../../src/controller.ts";
import { WATCH_TIMING } from "../../../src/pods/watch.ts";

const { watch = {}, controller = {}, health = {} } = JSON.parse(Deno.env.get("IMPATIENT") ?? "{}");
Object.assign(WATCH_TIMING, watch);
Object.assign(PATIENCE, controller);
Object.assign(HEALTH_TIMING, health);

await import("../../../src/main.ts");
