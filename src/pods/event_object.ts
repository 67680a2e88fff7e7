/** An event of events.k8s.io/v1 on a pod, within all that the API server checks. */
import { printable } from "../base/printable.ts";
import { type EventReason, REQUEST_ANNOTATION } from "../spec/event.ts";
import type { PodRef } from "./pod.ts";

/** Kubernetes refuses longer ones (pkg/apis/core/validation/events.go: NoteLengthLimit), in bytes. */
const NOTE_BYTES = 1024;
/** The same for reportingInstance, in bytes (ReportingInstanceLengthLimit). */
const INSTANCE_LENGTH = 128;
/** Longest name of an object. */
const NAME_LENGTH = 253;

export interface PodEvent {
  readonly type: "Normal" | "Warning";
  readonly reason: EventReason;
  /** Text for people; made printable and cut to 1024 bytes when it is recorded. */
  readonly note: string;
}

export interface Occurrence {
  readonly pod: PodRef;
  /** Hash of the request that it answers. */
  readonly request: string;
  /** Its note is of `noteOf`. */
  readonly event: PodEvent;
  /** Name of the event object. */
  readonly name: string;
  readonly first: Date;
  readonly last: Date;
  /** Number of times that it has happened. */
  readonly count: number;
}

/** @param from the node, and the controller pod's name. */
export function eventObject(occurrence: Occurrence, from: { readonly nodeName: string; readonly instance: string }) {
  const { pod: { namespace, name, uid }, event, count } = occurrence;
  return {
    apiVersion: "events.k8s.io/v1",
    kind: "Event",
    metadata: { name: occurrence.name, namespace, annotations: { [REQUEST_ANNOTATION]: occurrence.request } },
    eventTime: microTime(occurrence.first),
    reportingController: "packet-capture",
    reportingInstance: from.instance.slice(0, INSTANCE_LENGTH),
    action: "Capture",
    type: event.type,
    reason: event.reason,
    note: event.note,
    regarding: { apiVersion: "v1", kind: "Pod", namespace, name, uid },
    related: { apiVersion: "v1", kind: "Node", name: from.nodeName },
    ...(count > 1 ? { series: seriesOf(count, occurrence.last) } : {}),
  };
}

/** Returns the part of an event that counts its repetitions; `count` is at least 2. */
export function seriesOf(count: number, last: Date) {
  return { count, lastObservedTime: microTime(last) };
}

/** Returns the pod's name, cut so that what follows fits, and 16 random hex digits: valid, and never used before. */
export function eventName(pod: string): string {
  const random = crypto.getRandomValues(new Uint8Array(8));
  const suffix = [...random].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return `${pod.slice(0, NAME_LENGTH - suffix.length - 1).replace(/[^a-z0-9]+$/, "")}.${suffix}`;
}

/** Makes a note of any text: printable, because it may quote filters and interface names, and cut to what the API server takes. */
export function noteOf(text: string): string {
  return cutToBytes(printable(text), NOTE_BYTES);
}

/**
 * Returns the longest beginning of the text that has at most so many bytes as UTF-8, ending in `…` if anything is
 * missing.
 */
export function cutToBytes(text: string, bytes: number): string {
  const whole = new Uint8Array(bytes);
  const { read } = new TextEncoder().encodeInto(text, whole);
  if (read === text.length) return text.toWellFormed();
  const room = new Uint8Array(bytes - 3);
  const { written } = new TextEncoder().encodeInto(text, room);
  return new TextDecoder().decode(room.subarray(0, written)) + "…";
}

/** Formats a time as Kubernetes' MicroTime. */
function microTime(date: Date): string {
  return date.toISOString().replace("Z", "000Z");
}
