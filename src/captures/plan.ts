/**
 * The heart: what is to be done next for one `namespace/name`, from what the API asks and what is there. Pure, so that the
 * invariant can be tested by properties. The caller carries out one step, looks again, and asks again, until the step is
 * `rest`; applying it to a state at rest changes nothing.
 */
import type { Asked } from "../spec/annotations.ts";
import type { CaptureState } from "../spec/state.ts";
import { type CaptureRequest, fingerprint, processFingerprint } from "../spec/request.ts";

/** Whether a capture may run within the node's limits. */
export type Room =
  | { readonly kind: "yes" }
  /** Not now: `reason` says what it waits for. */
  | { readonly kind: "wait"; readonly reason: string }
  /** It can never fit. */
  | { readonly kind: "never"; readonly reason: string };

/** All that the next step depends on. */
export interface View {
  /** The controller is being stopped: nothing starts, what runs is flushed, files stay. */
  readonly stopping: boolean;
  /** It is proven that no pod has this name. Without a pod and without proof nothing is known: files stay. */
  readonly gone: boolean;
  /** The pod object of this name, if one was seen. */
  readonly pod?: {
    readonly uid: string;
    readonly asked: Asked;
    /** Its annotations say that it is the mirror object of a static pod. */
    readonly isMirror: boolean;
  };
  /** The pod's newest READY sandbox, if the runtime has one. */
  readonly sandbox?: { readonly id: string; readonly hostNetwork: boolean };
  /** Why there is none, as the API says. */
  readonly awaits?: string;
  /** The API says that the pod has ended for good: it never gets a sandbox again. */
  readonly hasFinished?: boolean;
  readonly allowHostNetworkPods: boolean;
  /** A deleted pod's files are kept for a while. */
  readonly retains: boolean;
  /** The folder of this name, if it exists. Its `uid` is unknown where the manifest was damaged: it then belongs to whoever has the name now. */
  readonly folder?: {
    readonly uid: string | undefined;
    /** Fingerprint of the request that was completed. */
    readonly completed?: string;
    /** Whether a capture has run. */
    readonly hasRun?: boolean;
  };
  /** The tcpdump that runs in this folder. */
  readonly process?: { readonly uid: string; readonly fingerprint: string; readonly sandboxId: string };
  /** The request's duration or packet count is used up. */
  readonly reached: boolean;
  readonly room: Room;
  /** The request passed tcpdump's own check (its filter compiles); a string: the reason why not. */
  readonly refused?: string;
  /** Why no capture may write now (the disk is at its floor); undefined: they may. */
  readonly paused?: string;
  /** Why the last start failed, while its back-off lasts; undefined: it may be tried. */
  readonly backoff?: string;
}

/** Where a capture ought to be. `none`: nothing is wanted, nothing is to be left. */
export interface Goal {
  readonly state: Exclude<CaptureState, "retained"> | "none";
  /** One sentence for people; empty where the state says it all. */
  readonly reason: string;
}

export type Step =
  /** End tcpdump at once: its files go with it. */
  | { readonly do: "kill"; readonly why: string }
  /** Stop tcpdump with its last packets: its files stay. */
  | { readonly do: "flush"; readonly why: string }
  /** Take the folder away; `podGone`: it may be retained. */
  | { readonly do: "retire"; readonly podGone: boolean }
  | { readonly do: "start"; readonly request: CaptureRequest }
  /** Record that the request is used up. */
  | { readonly do: "complete"; readonly request: CaptureRequest }
  /** Nothing to do but to say so. */
  | { readonly do: "rest"; readonly goal: Goal };

/** Where the capture of this view ought to be. */
export function goalOf(view: View): Goal {
  const goal = goalWithout(view);
  // Whoever edits a request into one that is refused must hear what that did to the capture.
  const hasStopped = goal.state === "rejected" && !view.process && view.folder?.hasRun &&
    view.folder.uid === view.pod?.uid;
  return hasStopped ? { ...goal, reason: `${goal.reason}; ${STOPPED}` } : goal;
}

const STOPPED = "the capture that ran is stopped, and its files are kept while the annotation is there";

function goalWithout(view: View): Goal {
  const asked = view.pod?.asked;
  if (!asked || asked.kind === "nothing") return { state: "none", reason: "" };
  if (asked.kind === "invalid") return { state: "rejected", reason: asked.problem };
  if (view.refused !== undefined) return { state: "rejected", reason: view.refused };
  if (isCompleted(view)) return { state: "completed", reason: "" };
  if (asked.hold) return { state: "held", reason: "" };
  if (view.sandbox?.hostNetwork && !view.allowHostNetworkPods) {
    return {
      state: "rejected",
      reason: "the pod uses the node's network, which would record the node and every process on it; " +
        "it must have a network of its own, or the chart's allowHostNetworkPods must be true",
    };
  }
  if (view.room.kind === "never") return { state: "rejected", reason: view.room.reason };
  if (!view.sandbox) {
    return {
      state: view.hasFinished ? "finished" : "pending",
      reason: view.pod?.isMirror && !view.hasFinished
        ? "no static pod of this namespace and name runs here with the UID that annotation kubernetes.io/config.mirror names"
        : view.awaits ?? "the pod has no running sandbox on this node",
    };
  }
  if (view.stopping) return { state: "pending", reason: "the controller is stopping" };
  if (view.paused !== undefined) return { state: "paused", reason: view.paused };
  if (view.room.kind === "wait") return { state: "waiting", reason: view.room.reason };
  if (view.backoff !== undefined) return { state: "failing", reason: view.backoff };
  return { state: "capturing", reason: "" };
}

function isCompleted(view: View): boolean {
  const asked = view.pod?.asked;
  const completed = view.folder?.completed;
  return asked?.kind === "valid" &&
    (view.reached || (completed !== undefined && completed === fingerprint(asked.request)));
}

/** The next step towards the goal. */
export function plan(view: View): Step {
  const { pod, process, folder } = view;
  const goal = goalOf(view);
  if (process) {
    if (pod && pod.uid !== process.uid) return { do: "kill", why: "another pod has the name" };
    if (!pod && (view.retains || !view.gone)) return { do: "flush", why: "pod deleted" };
    if (goal.state === "none") return { do: "kill", why: pod ? "annotation removed" : "pod deleted" };
    if (goal.state !== "capturing") {
      return { do: "flush", why: goal.reason || goal.state };
    }
    if (pod?.asked.kind === "valid" && processFingerprint(pod.asked.request) !== process.fingerprint) {
      return { do: "flush", why: "annotation changed" };
    }
    if (view.sandbox?.id !== process.sandboxId) return { do: "flush", why: "sandbox re-created" };
    return { do: "rest", goal };
  }
  if (folder && !view.stopping) {
    const another = pod !== undefined && folder.uid !== undefined && folder.uid !== pod.uid;
    const unwanted = pod ? goal.state === "none" : view.gone;
    if (another || unwanted) return { do: "retire", podGone: another || !pod };
  }
  // A folder of another pod while the controller stops: it can neither be written to nor taken away.
  if (folder && pod && folder.uid !== undefined && folder.uid !== pod.uid) {
    return { do: "rest", goal: { state: "pending", reason: "files of an earlier pod of this name are there" } };
  }
  const asked = pod?.asked;
  if (asked?.kind === "valid") {
    if (goal.state === "completed" && folder && folder.completed !== fingerprint(asked.request)) {
      return { do: "complete", request: asked.request };
    }
    if (goal.state === "capturing") return { do: "start", request: asked.request };
  }
  return { do: "rest", goal };
}
