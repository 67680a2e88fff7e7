/**
 * Events on pods (events.k8s.io/v1), for `kubectl describe pod`. They are a courtesy: recording one never
 * waits, never fails, and never holds more than a bounded number back. One worker sends them in order.
 *
 * A refused Event is not tried again: in a namespace that is being deleted the answer is 403, like that of
 * a missing role. At the end, what waits is sent once within the time given. Notes of lasting facts
 * (`CapturePacketsDropped`) contain no numbers, so that they count as repeats.
 */
import { backoffMs } from "../base/backoff.ts";
import { messageOf } from "../base/errors.ts";
import { settledWithin } from "../base/timeout.ts";
import type { Log } from "../log.ts";
import type { ApiClient } from "./api.ts";
import { eventName, eventObject, noteOf, type PodEvent, seriesOf } from "./event_object.ts";
import type { PodRef } from "./pod.ts";

export type { PodEvent };

/**
 * Events of one reason that are sent at once for a pod; after that, one every `REFILL_MS`. Repeats of one are counted in it and are
 * free. Each reason for itself, so that one which comes again and again in other words takes nothing from the others.
 */
const BURST = 5;
const REFILL_MS = 20_000;
/** A repeated event is brought up to date at most so often. */
const REPEAT_MS = 10_000;
/** The API server deletes events after an hour (--event-ttl): a repeat after so long is a new one. */
const FORGET_MS = 30 * 60_000;
/** Number of different events that are kept or wait to be sent. */
const REMEMBERED = 1000;
const DEADLINE_MS = 10_000;
const BACKOFF = { firstMs: 1000, mostMs: 60_000 };
/** Some 5 min of an API server that is away; what happened before that is of no use as news. */
const TRIES = 10;

/** Records an Event on a pod. @param isAnswer whether it is the first word on the request. */
export type Recorder = (pod: PodRef, event: PodEvent, request: string, isAnswer: boolean) => void;

export interface PodEventsOptions {
  readonly api: ApiClient;
  readonly nodeName: string;
  /** The controller pod's name. */
  readonly instance: string;
  readonly log: Log;
  /** False: nothing is ever sent. */
  readonly enabled: boolean;
}

/** One event and its repeats. */
interface Series {
  readonly pod: PodRef;
  readonly event: PodEvent;
  readonly request: string;
  readonly first: Date;
  last: Date;
  /** performance.now() of the last repeat. */
  lastAt: number;
  count: number;
  /** Number of them that the API server has. */
  sent: number;
  /** Up to this repeat somebody waits for the news: it is sent at once. */
  awaited: number;
  /**
   * Name of the event object; kept until the object exists, so that a try whose answer was lost makes no second one.
   */
  name: string;
  exists: boolean;
  tries: number;
  /** performance.now() before which nothing is sent. */
  notBefore: number;
}

/** Sends events one after the other, in the background. */
export class PodEvents {
  readonly #options: PodEventsOptions;
  /** Least recently recorded first. */
  readonly #series = new Map<string, Series>();
  readonly #allowance = new Map<string, { left: number; at: number }>();
  readonly #abort = new AbortController();
  #closing = false;
  #worker: Promise<void> | undefined;
  #wake = () => {};

  constructor(options: PodEventsOptions) {
    this.#options = options;
  }

  /**
   * Records an Event. Never throws, never waits; what is too much is dropped and logged.
   *
   * @param request hash of the request that it answers.
   * @param isAnswer whether it is the first word on that request: somebody waits for it, so that a repeat is sent at once too.
   */
  record(pod: PodRef, event: PodEvent, request: string, isAnswer = false): void {
    if (!this.#options.enabled || this.#closing) return;
    const { namespace, name, uid } = pod;
    const now = performance.now();
    const note = noteOf(event.note);
    const key = JSON.stringify([uid, event.type, event.reason, note, request]);
    let series = this.#series.get(key);
    // To the end of the line, also of what is forgotten first.
    this.#series.delete(key);
    if (series !== undefined && now - series.lastAt < FORGET_MS) {
      series.count++;
      series.last = new Date();
      series.lastAt = now;
      if (isAnswer && series.tries === 0 && this.#allowed(`${uid} ${event.reason}`, now)) {
        series.awaited = series.count;
        series.notBefore = now;
      }
    } else {
      if (!this.#allowed(`${uid} ${event.reason}`, now)) {
        this.#options.log.debug("event dropped: too many of this reason for this pod", {
          pod: `${namespace}/${name}`,
          uid,
          reason: event.reason,
          note,
        });
        return;
      }
      const date = new Date();
      series = {
        pod: { namespace, name, uid },
        event: { ...event, note },
        request,
        first: date,
        last: date,
        lastAt: now,
        count: 1,
        sent: 0,
        awaited: 0,
        name: eventName(name),
        exists: false,
        tries: 0,
        notBefore: 0,
      };
    }
    this.#series.set(key, series);
    if (this.#series.size > REMEMBERED) this.#series.delete(this.#series.keys().next().value!);
    this.#worker ??= this.#work();
    this.#wake();
  }

  /**
   * Sends what is still to be sent, without waiting for back-offs, until it is done or `signal` is aborted. Never
   * throws.
   */
  async close(signal: AbortSignal): Promise<void> {
    this.#closing = true;
    const stop = () => this.#abort.abort();
    if (signal.aborted) stop();
    signal.addEventListener("abort", stop, { once: true });
    this.#wake();
    await this.#worker;
    signal.removeEventListener("abort", stop);
  }

  /** Takes a token from the bucket of the pod and reason. @returns whether there was one. */
  #allowed(bucket: string, now: number): boolean {
    if (this.#allowance.size > REMEMBERED) {
      for (const [other, { left, at }] of this.#allowance) {
        if (left + (now - at) / REFILL_MS >= BURST) this.#allowance.delete(other);
      }
    }
    const was = this.#allowance.get(bucket) ?? { left: BURST, at: now };
    const left = Math.min(BURST, was.left + (now - was.at) / REFILL_MS);
    this.#allowance.set(bucket, { left: left >= 1 ? left - 1 : left, at: now });
    return left >= 1;
  }

  /** Runs while there is something to send, now or later. */
  async #work(): Promise<void> {
    const { signal } = this.#abort;
    while (!signal.aborted) {
      const series = this.#next();
      if (series === undefined) {
        this.#worker = undefined;
        return;
      }
      const wait = series.notBefore - performance.now();
      if (wait > 0 && !this.#closing) await this.#sleep(wait);
      else await this.#send(series);
    }
  }

  /** Returns the series that is due first, of those with something to send. */
  #next(): Series | undefined {
    let next: Series | undefined;
    for (const series of this.#series.values()) {
      if (series.count > series.sent && (next === undefined || series.notBefore < next.notBefore)) next = series;
    }
    return next;
  }

  /** Waits for so long, or until something new is recorded. */
  async #sleep(ms: number): Promise<void> {
    const woken = Promise.withResolvers<void>();
    this.#wake = woken.resolve;
    await settledWithin(ms, woken.promise);
  }

  async #send(series: Series): Promise<void> {
    const { count } = series;
    let problem: string;
    // Nobody waits for another try once we are closing.
    let hopeless = this.#closing;
    let retryAfter = 0;
    try {
      const response = await this.#call(series);
      if (response.ok) {
        series.exists = true;
        series.sent = count;
        series.tries = 0;
        // A repeat that somebody waits for may have been recorded while this one was on its way.
        series.notBefore = performance.now() + (series.awaited > count ? 0 : REPEAT_MS);
        return;
      }
      if (response.status === 404 && series.exists) {
        // The event has expired meanwhile: make it again.
        series.exists = false;
        series.name = eventName(series.pod.name);
        return;
      }
      if (response.status === 409 && !series.exists) {
        series.exists = true;
        series.sent = Math.max(series.sent, 1);
        return;
      }
      const { message } = await response.json().catch(() => ({}));
      problem = `${response.status} ${message ?? ""}`.trim();
      retryAfter = 1000 * Number(response.headers.get("Retry-After") ?? 0) || 0;
      // 403: the namespace is being deleted, or we may not write events at all.
      hopeless ||= response.status < 500 && response.status !== 429 && response.status !== 401;
    } catch (error) {
      problem = messageOf(error);
    }
    series.tries++;
    if (hopeless || series.tries >= TRIES) {
      series.sent = count;
      series.tries = 0;
      series.notBefore = performance.now() + REPEAT_MS;
      if (this.#abort.signal.aborted) return;
      const { pod: { namespace, name, uid }, event: { reason } } = series;
      this.#options.log.warn("event not sent", { pod: `${namespace}/${name}`, uid, reason, error: problem });
      return;
    }
    const wait = Math.max(backoffMs(series.tries, BACKOFF), Math.min(retryAfter, BACKOFF.mostMs));
    series.notBefore = performance.now() + wait;
  }

  async #call(series: Series): Promise<Response> {
    const { api } = this.#options;
    const { namespace } = series.pod;
    const path = `/apis/events.k8s.io/v1/namespaces/${encodeURIComponent(namespace)}/events`;
    const call = { signal: this.#abort.signal, timeoutMs: DEADLINE_MS };
    if (series.exists) {
      return await api.fetch(`${path}/${encodeURIComponent(series.name)}`, {
        ...call,
        method: "PATCH",
        headers: { "Content-Type": "application/merge-patch+json" },
        body: JSON.stringify({ series: seriesOf(series.count, series.last) }),
      });
    }
    return await api.fetch(path, {
      ...call,
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(eventObject(series, this.#options)),
    });
  }
}
