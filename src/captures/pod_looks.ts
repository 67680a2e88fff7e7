/** Asks the API, a few at a time, for pods that have no sandbox: whether they are this node's, and what they wait for. */
import { Semaphore } from "../base/semaphore.ts";
import type { Pod } from "../pods/pod.ts";
import type { PodStatus } from "../pods/status.ts";
import type { Subject } from "./subject.ts";

/** Pods that are looked at in the API at a time. */
const LOOKS_AT_ONCE = 4;

export interface PodLooksOptions {
  readonly nodeName: string;
  readonly isStopping: () => boolean;
  /** Asks the container runtime for all sandboxes. */
  readonly refreshSandboxes: () => Promise<void>;
  /** Asks the API for the pod's status; undefined: there is no such pod. */
  readonly statusOf: (pod: Pod) => Promise<PodStatus | undefined>;
  /** Enqueues a capture. */
  readonly enqueue: (key: string) => void;
}

export class PodLooks {
  readonly #options: PodLooksOptions;
  readonly #turns = new Semaphore(LOOKS_AT_ONCE);

  constructor(options: PodLooksOptions) {
    this.#options = options;
  }

  /** Returns whether to ask for the pod: it has no sandbox, and perhaps is another node's, or waits for something. */
  isDue({ tracker, sandbox, report }: Subject): boolean {
    if (this.#options.isStopping() || sandbox) return false;
    return tracker !== undefined && tracker.asked.kind !== "nothing" && tracker.look.isDue &&
      (!report.isHere || report.desired.state === "pending");
  }

  /** Asks the API for the pod, and enqueues the capture with what was found. */
  async look(subject: Subject): Promise<void> {
    const { tracker, report, log } = subject;
    if (!tracker) return;
    const { look, pod, uid } = tracker;
    const { nodeName, isStopping, enqueue } = this.#options;
    look.begin();
    let status: PodStatus | undefined;
    try {
      status = await this.#statusOf(pod);
      look.isFailureLogged = false;
    } catch (error) {
      if (isStopping()) return;
      const write = look.isFailureLogged ? log.debug : log.warn;
      look.isFailureLogged = true;
      write("cannot find out why the pod has no sandbox: retrying later", { error });
      return;
    }
    // A pod that is gone, or has a sandbox meanwhile, is no matter of this look.
    if (subject.tracker !== tracker || status?.uid !== uid || subject.sandbox) return;
    if (status.nodeName !== nodeName) {
      if (status.nodeName !== undefined) look.end();
      return;
    }
    look.found = status;
    report.found();
    enqueue(subject.key);
  }

  #statusOf(pod: Pod): Promise<PodStatus | undefined> {
    return this.#turns.take(async () => {
      // Only an answer of the runtime shows that the pod has no sandbox.
      await this.#options.refreshSandboxes();
      return await this.#options.statusOf(pod);
    });
  }
}
