/** Waits for the Events that the controllers record on pods. */
import { Deadline } from "../../base/timeout.ts";
import { REQUEST_ANNOTATION } from "../../spec/event.ts";
import { Failure } from "../failure.ts";
import { explain } from "../kubectl/explain.ts";
import { jsonValues } from "../kubectl/json_values.ts";
import type { Kubectl } from "../kubectl/kubectl.ts";
import { itemsOf, type ObjectMeta } from "../kubectl/objects.ts";
import type { Target } from "../targets.ts";
import type { Terminal } from "../terminal.ts";
import type { Context } from "./command.ts";

/** An Event of ours. */
export interface Announcement {
  readonly uid: string;
  /** `CaptureStarted`, `CaptureRejected` … */
  readonly reason: string;
  readonly note: string;
  /** Hash of the request that it answers; undefined: an older controller does not send it. */
  readonly request: string | undefined;
}

interface EventObject {
  readonly metadata: ObjectMeta;
  readonly reason?: string;
  readonly note?: string;
  readonly regarding?: { readonly kind?: string; readonly uid?: string };
}

const EVENTS = "events.v1.events.k8s.io";

export class Announcements {
  readonly #kubectl: Kubectl;
  readonly #terminal: Terminal;
  readonly #scope: readonly string[];
  /** resourceVersion by UID of the Events that were there before. */
  readonly #before: ReadonlyMap<string, string>;

  private constructor({ kubectl, terminal }: Context, scope: readonly string[], before: ReadonlyMap<string, string>) {
    this.#kubectl = kubectl;
    this.#terminal = terminal;
    this.#scope = scope;
    this.#before = before;
  }

  /**
   * Notes the Events on the pods so far. To be called before the change whose effect is awaited: no clock is
   * compared, because the user's and the nodes' differ. @returns undefined, after a note, if the user may not read
   * Events.
   */
  static async ifAllowed(context: Context, targets: readonly Target[]): Promise<Announcements | undefined> {
    try {
      return await Announcements.#from(context, targets);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      context.kubectl.signal.throwIfAborted();
      context.terminal.note(`Cannot read Events: ${error.message}`);
      return undefined;
    }
  }

  static async #from(context: Context, targets: readonly Target[]): Promise<Announcements> {
    const [first] = targets;
    const oneNamespace = targets.every(({ namespace }) => namespace === first?.namespace);
    const scope = [
      ...(oneNamespace && first !== undefined ? ["-n", first.namespace] : ["--all-namespaces"]),
      `--field-selector=${targets.length === 1 ? `regarding.uid=${first?.uid}` : "regarding.kind=Pod"}`,
    ];
    const events = itemsOf<EventObject>(await context.kubectl.json(["get", EVENTS, ...scope]));
    return new Announcements(
      context,
      scope,
      new Map(events.map(({ metadata }) => [metadata.uid, metadata.resourceVersion ?? ""])),
    );
  }

  /**
   * Calls `heard` with each new Event, until it returns true, or `waitMs` have passed, or the Events cannot be
   * watched, which is noted.
   *
   * @param signal ends it early.
   */
  async listen(
    waitMs: number,
    heard: (announcement: Announcement) => boolean,
    signal?: AbortSignal,
  ): Promise<void> {
    using enough = new Deadline(waitMs, () => undefined, signal);
    const args = ["get", EVENTS, ...this.#scope, "--watch", "--output-watch-events", "-o", "json"];
    try {
      while (!enough.signal.aborted) {
        const { bytes, outcome } = this.#kubectl.deliver(args, { signal: enough.signal });
        for await (const value of jsonValues(bytes)) {
          const announcement = this.#read(value);
          if (announcement !== undefined && heard(announcement)) return;
        }
        const { code, stderr } = await outcome;
        if (code !== 0) throw explain(stderr, `kubectl get events --watch failed with exit code ${code}`);
        // The server may end a watch at any time: look again. Events come again then, which does no harm.
      }
    } catch (error) {
      this.#kubectl.signal.throwIfAborted();
      if (enough.signal.aborted) return;
      if (!(error instanceof Failure)) throw error;
      this.#terminal.note(`Cannot wait for Events: ${error.message}`);
    } finally {
      enough.abort();
    }
  }

  #read(value: unknown): Announcement | undefined {
    const { type, object } = value as { type?: string; object?: EventObject };
    const uid = object?.regarding?.uid, reason = object?.reason;
    if (type === "DELETED" || uid === undefined || reason === undefined || !reason.startsWith("Capture")) {
      return undefined;
    }
    if (this.#before.get(object?.metadata.uid ?? "") === object?.metadata.resourceVersion) return undefined;
    return { uid, reason, note: object?.note ?? "", request: object?.metadata.annotations?.[REQUEST_ANNOTATION] };
  }
}
