/**
 * The heart: the next step for one `namespace/name`, from what the API asks and what is there. Pure, so that the invariant can be
 * tested by properties. The caller observes, carries out the step, observes again, and asks again, until the step is `settle`; a
 * state that is settled does not change when the plan is asked again.
 */
import type { ParsedAnnotations } from "../spec/annotations.ts";
import type { CaptureState } from "../spec/state.ts";
import { type CaptureRequest, fingerprint, processFingerprint } from "../spec/request.ts";

/** Verdict on whether a capture may run within the node's limits. */
export type Admission =
  | { readonly kind: "granted" }
  /** Queued: `reason` is what it waits for. */
  | { readonly kind: "queued"; readonly reason: string }
  /** Impossible: no end of another capture lets it fit. */
  | { readonly kind: "impossible"; readonly reason: string };

/** Facts on which the next step depends, all of them. */
export interface Observed {
  /** The controller is being stopped: nothing starts, what runs is flushed, files stay. */
  readonly stopping: boolean;
  /** Whether it is proven that no pod has this name. Without a pod and without proof, files stay. */
  readonly gone: boolean;
  /** The pod object of this name, if one was seen. */
  readonly pod?: {
    readonly uid: string;
    readonly asked: ParsedAnnotations;
    /** Whether its annotations mark it as the mirror object of a static pod. */
    readonly isMirror: boolean;
  };
  /** The annotation was removed. The old capture is torn down first, even if the annotation has come back since. */
  readonly removed: boolean;
  /** The request has been another one since it was counted: what is completed or used up of it begins again. */
  readonly edited: boolean;
  /** tcpdump's verdict on the request is known, or it needs none. */
  readonly checked: boolean;
  /** The verdict, if the request is refused. */
  readonly refused?: string;
  /** The pod's newest READY sandbox, if the runtime has one. */
  readonly sandbox?: { readonly id: string; readonly hostNetwork: boolean };
  /** The reason why there is none, from the API. */
  readonly awaits?: string;
  /** Whether the pod has ended for good, by the API: it never gets a sandbox again. */
  readonly hasFinished?: boolean;
  readonly allowHostNetworkPods: boolean;
  /** A deleted pod's files are kept for a while. */
  readonly retains: boolean;
  /**
   * The folder of this name, if it exists. Its `uid` is unknown where the manifest was damaged: it then belongs to
   * the pod that has the name now.
   */
  readonly folder?: {
    readonly uid: string | undefined;
    /** Fingerprint of the request that was completed. */
    readonly completed?: string;
    /** Whether a capture has run. */
    readonly hasRun?: boolean;
  };
  /** The tcpdump of this folder, until its end has been accounted for. */
  readonly process?: {
    readonly uid: string;
    readonly fingerprint: string;
    readonly sandboxId: string;
    /** The reason for which it is being flushed. */
    readonly flushing?: string;
    readonly exited: boolean;
  };
  /** The request's duration or packet count is used up. */
  readonly reached: boolean;
  readonly admission: Admission;
  /** Reason why no capture may write now (the disk is at its floor); undefined: they may. */
  readonly paused?: string;
  /** Reason why the last start failed, while its back-off lasts; undefined: it may be tried. */
  readonly backoff?: string;
}

/** State that a capture should have. `none`: nothing is requested, nothing is to be left. */
export interface Desired {
  readonly state: Exclude<CaptureState, "retained"> | "none";
  /** One sentence for people; empty where the state is enough. */
  readonly reason: string;
}

/**
 * The cases, in the order in which they are decided. "Wanted" is a pod with an annotation that was not removed meanwhile.
 *
 * | process             | folder     | pod and request                                          | step     |
 * | ------------------- | ---------- | -------------------------------------------------------- | -------- |
 * | exited              | any        | any                                                      | reap     |
 * | another pod's       | its own    | a pod has the name                                       | kill     |
 * | runs                | its own    | no pod, and its files are retained or it is not proven   | flush    |
 * | runs                | its own    | nothing is wanted                                        | kill     |
 * | is being flushed    | its own    | wanted                                                   | flush    |
 * | none                | another's  | a pod has the name; the controller is not stopping       | retire   |
 * | none                | any        | proven gone, or nothing wanted; not stopping             | retire   |
 * | none                | another's  | a pod has the name; the controller is stopping           | settle   |
 * | none                | none       | the annotation was removed, and is there again           | rearm    |
 * | any                 | any        | wanted, and edited since it was counted                  | rearm    |
 * | runs                | its own    | the capture ought not to run, or runs in another sandbox | flush    |
 * | any                 | any        | there is a sandbox, and no verdict on the request        | check    |
 * | another request's   | its own    | the capture ought to run                                 | flush    |
 * | none                | its own    | the request is used up, and that is not recorded         | complete |
 * | none                | none, own  | the capture ought to run                                 | start    |
 * | as it ought to be   | any        | all else                                                 | settle   |
 */
export type Step =
  /** Account for the end of tcpdump, asked for or not. */
  | { readonly do: "reap" }
  /** End tcpdump at once: its files go with it. */
  | { readonly do: "kill"; readonly why: string }
  /** Stop tcpdump with its last packets: its files stay. */
  | { readonly do: "flush"; readonly why: string }
  /** Take the folder away; `podGone`: it may be retained. */
  | { readonly do: "retire"; readonly podGone: boolean }
  /** Count for the present request from now. */
  | { readonly do: "rearm" }
  /** Ask tcpdump for its verdict on the request. */
  | { readonly do: "check"; readonly request: CaptureRequest }
  /** Record that the request is used up. */
  | { readonly do: "complete"; readonly request: CaptureRequest }
  | { readonly do: "start"; readonly request: CaptureRequest }
  /** Nothing to do but to report the state. */
  | { readonly do: "settle"; readonly desired: Desired };

/** Returns the next step towards what is desired. */
export function plan(observed: Observed): Step {
  const { pod, process, folder, stopping } = observed;
  const desired = desiredOf(observed);
  if (process) {
    if (process.exited) return { do: "reap" };
    if (pod && pod.uid !== process.uid) return { do: "kill", why: "another pod has the name" };
    if (!pod && (observed.retains || !observed.gone)) return { do: "flush", why: "pod deleted" };
    if (desired.state === "none") return { do: "kill", why: pod ? "annotation removed" : "pod deleted" };
    if (process.flushing !== undefined) return { do: "flush", why: process.flushing };
  } else if (folder) {
    const another = pod !== undefined && folder.uid !== undefined && folder.uid !== pod.uid;
    const unwanted = pod ? desired.state === "none" : observed.gone;
    if ((another || unwanted) && !stopping) return { do: "retire", podGone: another || !pod };
    // It can neither be written to nor taken away.
    if (another) {
      return { do: "settle", desired: { state: "pending", reason: "files of an earlier pod of this name are there" } };
    }
  }
  if (pod && observed.removed && pod.asked.kind !== "nothing") return { do: "rearm" };
  if (observed.edited && !observed.removed) return { do: "rearm" };
  if (process && desired.state !== "capturing") return { do: "flush", why: desired.reason || desired.state };
  if (process && observed.sandbox?.id !== process.sandboxId) return { do: "flush", why: "sandbox re-created" };
  const request = wantedOf(observed);
  if (!request) return { do: "settle", desired };
  if (!observed.checked && observed.sandbox && !stopping && observed.backoff === undefined) {
    return { do: "check", request };
  }
  if (process) {
    const isOther = processFingerprint(request) !== process.fingerprint;
    return isOther ? { do: "flush", why: "annotation changed" } : { do: "settle", desired };
  }
  if (desired.state === "completed" && folder && folder.completed !== fingerprint(request)) {
    return { do: "complete", request };
  }
  return desired.state === "capturing" ? { do: "start", request } : { do: "settle", desired };
}

/** Returns where the capture ought to be. */
export function desiredOf(observed: Observed): Desired {
  const desired = desiredWithout(observed);
  // A user who edits a request into one that is rejected must learn what that did to the capture.
  const hasStopped = desired.state === "rejected" && !observed.process && observed.folder?.hasRun &&
    observed.folder.uid === observed.pod?.uid;
  return hasStopped ? { ...desired, reason: `${desired.reason}; ${STOPPED}` } : desired;
}

const STOPPED = "the capture that ran is stopped, and its files are kept while the annotation is there";

function desiredWithout(observed: Observed): Desired {
  const { pod } = observed;
  if (!pod || pod.asked.kind === "nothing" || observed.removed) return { state: "none", reason: "" };
  const { asked, isMirror } = pod;
  if (asked.kind === "invalid") return { state: "rejected", reason: asked.problem };
  if (observed.refused !== undefined) return { state: "rejected", reason: observed.refused };
  if (isCompleted(observed, asked.request)) return { state: "completed", reason: "" };
  if (asked.hold) return { state: "held", reason: "" };
  if (observed.sandbox?.hostNetwork && !observed.allowHostNetworkPods) {
    return {
      state: "rejected",
      reason: "the pod uses the node's network, which would record the node and every process on it; " +
        "it must have a network of its own, or the chart's allowHostNetworkPods must be true",
    };
  }
  const { admission } = observed;
  if (admission.kind === "impossible") return { state: "rejected", reason: admission.reason };
  if (!observed.sandbox) {
    return {
      state: observed.hasFinished ? "finished" : "pending",
      reason: isMirror && !observed.hasFinished
        ? "no static pod of this namespace and name runs here with the UID that annotation kubernetes.io/config.mirror names"
        : observed.awaits ?? "the pod has no running sandbox on this node",
    };
  }
  if (observed.stopping) return { state: "pending", reason: "the controller is stopping" };
  if (observed.paused !== undefined) return { state: "paused", reason: observed.paused };
  if (admission.kind === "queued") return { state: "waiting", reason: admission.reason };
  if (observed.backoff !== undefined) return { state: "failing", reason: observed.backoff };
  return { state: "capturing", reason: "" };
}

/** Returns the request, if one is asked for that is valid and was not removed meanwhile. */
function wantedOf({ pod, removed }: Observed): CaptureRequest | undefined {
  return pod?.asked.kind === "valid" && !removed ? pod.asked.request : undefined;
}

function isCompleted({ reached, folder }: Observed, request: CaptureRequest): boolean {
  return reached || folder?.completed === fingerprint(request);
}
