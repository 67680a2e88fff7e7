/** One capture as it asks for room within the limits: whether it does, and how much it may take. */
import { bytesClaimed, fingerprint, processFingerprint } from "../spec/request.ts";
import type { Asker, Place } from "./admissions.ts";
import { isKnown, observe, type Parts } from "./observation.ts";
import { type Admission, desiredOf } from "./plan.ts";

const GRANTED: Admission = { kind: "granted" };

export class Claimant implements Asker {
  readonly key: string;
  readonly namespace: string;
  readonly place: Place;
  readonly #parts: Parts;

  constructor(key: string, namespace: string, place: Place, parts: Parts) {
    this.key = key;
    this.namespace = namespace;
    this.place = place;
    this.#parts = parts;
  }

  get applies(): boolean {
    const parts = this.#parts;
    if (parts.running) return true;
    const { state } = desiredOf(observe(parts, GRANTED));
    const keepsPlace = this.place.granted !== undefined && (state === "paused" || state === "failing");
    return state === "capturing" || keepsPlace || this.#mayGoOn(parts);
  }

  get claim(): number {
    const parts = this.#parts;
    const { tracker, folder, running } = parts;
    const asked = tracker?.request;
    const request = asked ?? (this.#mayGoOn(parts) ? folder.manifest?.request : undefined);
    if (!request) return folder.bytes;
    const isRunning = running?.fingerprint === processFingerprint(request);
    const claim = bytesClaimed(request, folder.bytesNotOverwrittenBy(request, isRunning));
    return this.place.capped(claim, asked && tracker ? tracker.fingerprint : fingerprint(request));
  }

  get bytes(): number {
    return this.#parts.folder.bytes;
  }

  get uid(): string | undefined {
    return this.#parts.tracker?.uid;
  }

  /** Returns whether it ran before the controller was started, and it is not yet known whether it will again. */
  #mayGoOn(parts: Parts): boolean {
    return this.place.ranBefore && !isKnown(parts);
  }
}
