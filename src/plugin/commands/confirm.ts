/** Waits until the nodes' lists show what became of requests. An Event is only a reason to look again: it may be an earlier one. */
import { backoffMs } from "../../base/backoff.ts";
import { settledWithin } from "../../base/timeout.ts";
import { type Captures, findCaptures, type NodeCapture, nodesOf } from "../fetch/captures.ts";
import type { Installation } from "../installation.ts";
import type { Kubectl } from "../kubectl/kubectl.ts";
import type { Target } from "../targets.ts";
import type { Announcement, Announcements } from "./announcements.ts";

/** Pauses between two looks at the lists: after the first one and after an Event, then doubled. */
const PAUSES = { firstMs: 500, mostMs: 4000 };

/** A pod and the request that it carries. */
export interface Question {
  readonly target: Target;
  /** Hash of the annotations that it has now (`requestHash`). */
  readonly request: string;
}

/** The state of it at one moment. */
export interface Finding {
  /** Its row in the list of its node, perhaps of an earlier request. */
  readonly row: NodeCapture | undefined;
  /** Reason why its node cannot be asked; undefined: it was. */
  readonly unasked: string | undefined;
  /** The newest Event of this request, or, of an older controller, that names no request. */
  readonly heard: Announcement | undefined;
}

export interface ConfirmOptions {
  readonly kubectl: Kubectl;
  /** undefined: nobody can be asked. */
  readonly installation: Installation | undefined;
  /** undefined: no Events can be read. */
  readonly events: Announcements | undefined;
  readonly questions: Iterable<Question>;
  readonly waitMs: number;
  /** @returns whether the finding answers the question, which then is not looked at again. */
  readonly answers: (question: Question, finding: Finding) => boolean;
}

/** @returns the questions without an answer when the time was over, with what was found at last. */
export async function confirm(options: ConfirmOptions): Promise<Map<Question, Finding>> {
  const { kubectl, installation, events, waitMs, answers } = options;
  const open = new Map([...options.questions].map((question) => [question.target.uid, question]));
  const heard = new Map<string, Announcement>();
  const end = performance.now() + waitMs;
  const over = new AbortController();
  let wakeUp = () => {};
  // A user who may not ask is told once: the answer would be the same.
  let refused: string | undefined;
  const listening = events?.listen(waitMs, (announcement) => {
    const question = open.get(announcement.uid);
    if (question !== undefined && (announcement.request ?? question.request) === question.request) {
      heard.set(announcement.uid, announcement);
      wakeUp();
    }
    return false;
  }, over.signal);
  try {
    for (let looks = 1;; looks++) {
      const sooner = Promise.withResolvers<void>();
      wakeUp = () => sooner.resolve();
      const targets = [...open.values()].map(({ target }) => target);
      const lists = installation === undefined || refused !== undefined
        ? undefined
        : await findCaptures(kubectl, installation, nodesOf(targets));
      if (lists?.captures.length === 0) refused = lists.refused?.message;
      const findings = new Map<Question, Finding>();
      for (const [uid, question] of open) {
        const finding = { ...findingIn(lists, question.target, refused), heard: heard.get(uid) };
        if (answers(question, finding)) open.delete(uid);
        else findings.set(question, finding);
      }
      const leftMs = end - performance.now();
      if (findings.size === 0 || leftMs <= 0) return findings;
      const waitMs = Math.min(leftMs, backoffMs(looks, PAUSES));
      if (await settledWithin(waitMs, sooner.promise, kubectl.signal)) looks = 0;
    }
  } finally {
    over.abort();
    await listening;
  }
}

/** Reads from the lists what a pod has; undefined: no controller was asked. */
function findingIn(lists: Captures | undefined, { uid, node }: Target, refused: string | undefined) {
  const row = lists?.captures.find((one) => one.uid === uid);
  if (row !== undefined) return { row, unasked: undefined };
  if (lists === undefined) return { row, unasked: refused ?? "it cannot be asked" };
  return { row, unasked: [...lists.unreachable, ...lists.damaged].find((one) => one.node === node)?.reason };
}
