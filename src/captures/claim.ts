/** Whether a capture asks for room within the limits, and how much it may take. */
import { bytesClaimed, fingerprint, processFingerprint } from "../spec/request.ts";
import type { Place } from "../limits/admissions.ts";
import { isKnown, observe, type Parts } from "./observation.ts";
import { type Admission, desiredOf } from "../plan/plan.ts";

export interface Claiming extends Parts {
  readonly place: Place;
}

const GRANTED: Admission = { kind: "granted" };

/** Returns whether it asks for a place: all else that it needs is there. */
export function applies(parts: Claiming): boolean {
  if (parts.running) return true;
  const { state } = desiredOf(observe(parts, GRANTED));
  const keepsPlace = parts.place.granted !== undefined && (state === "paused" || state === "failing");
  return state === "capturing" || keepsPlace || mayGoOn(parts);
}

/** Returns how many bytes it may take at most while it runs. */
export function bytesAskedFor(parts: Claiming): number {
  const { tracker, folder, place, running } = parts;
  const asked = tracker?.request;
  const request = asked ?? (mayGoOn(parts) ? folder.manifest?.request : undefined);
  if (!request) return folder.bytes;
  const isRunning = running?.fingerprint === processFingerprint(request);
  const claim = bytesClaimed(request, folder.bytesNotOverwrittenBy(request, isRunning));
  return place.capped(claim, asked && tracker ? tracker.fingerprint : fingerprint(request));
}

/** Returns whether it ran before the controller was started, and it is not yet known whether it will again. */
function mayGoOn(parts: Claiming): boolean {
  return parts.place.ranBefore && !isKnown(parts);
}
