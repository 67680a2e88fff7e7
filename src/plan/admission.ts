/** Decides which captures may run within the limits of the node and of their namespace. Pure. */
import { count } from "../base/format.ts";
import type { Admission } from "./plan.ts";

/** Number of captures that may run at once, and MB (10^6 bytes) of disk that they may take, all together. */
interface Share {
  readonly maxCaptures: number;
  readonly diskBudgetMB: number;
}

export interface AdmissionLimits extends Share {
  /** The most that one namespace has of the node's. */
  readonly perNamespace: Share;
}

/** Files of a capture that does not apply: held, completed or retained. */
export interface Occupant {
  /** "" where it is not known any more: only the node's budget counts them then. */
  readonly namespace: string;
  /** Order of first sight, ascending. */
  readonly firstSeen: number;
  /** Bytes that its files take now. */
  readonly bytes: number;
}

/** A capture that is to run, or runs. */
export interface Applicant extends Occupant {
  readonly key: string;
  /** Bytes that its place was given for; undefined: it has no place. It keeps it as long as it claims no more than that. */
  readonly granted: number | undefined;
  /** Whether it ran before the controller was restarted. */
  readonly ranBefore: boolean;
  readonly uid: string;
  /** Bytes that it may take at most. */
  readonly claim: number;
}

/**
 * Decides on each applicant. One that was granted a place and claims no more than it was granted keeps it, whatever
 * others do. The rest, among them those who have a place and claim more, come in order: those that ran before a
 * restart, then first seen, then by UID.
 *
 * Within a namespace the order is strict: a smaller applicant does not overtake one that does not fit. Between
 * namespaces, what fits starts, except in what an older claim reserves: a claim that waits for the node's limits
 * waits only for those that were there before it. All that come after it together leave what it reserves, so it
 * starts when those have ended, and no stream of small captures keeps a large one waiting for ever. A claim that
 * waits for its own namespace's limits reserves nothing.
 *
 * @param others captures that do not apply, whose files take of the same budgets.
 */
export function admit(
  applicants: readonly Applicant[],
  others: readonly Occupant[],
  limits: AdmissionLimits,
): Map<string, Admission> {
  const admissions = new Map<string, Admission>();
  const node = new Taken(limits, "on this node", "limits");
  const namespaces = new Map<string, Taken>();
  const takenIn = (namespace: string) => {
    const known = namespaces.get(namespace) ??
      new Taken(limits.perNamespace, `by namespace ${namespace}`, "limits.perNamespace");
    namespaces.set(namespace, known);
    return known;
  };
  for (const occupant of [...applicants, ...others]) {
    const [count, bytes] = held(occupant);
    node.add(count, bytes);
    takenIn(occupant.namespace).add(count, bytes);
  }
  const waiting: Waiting[] = [];
  /** The first of each namespace that has to wait. */
  const heads = new Map<string, string>();
  for (const applicant of applicants.toSorted(inOrder)) {
    const { key, namespace, granted, claim } = applicant;
    const share = takenIn(namespace);
    if (granted !== undefined && claim <= granted) {
      admissions.set(key, GRANTED);
      continue;
    }
    const never = node.excludes(claim) ?? share.excludes(claim);
    if (never !== undefined) {
      admissions.set(key, { kind: "impossible", reason: never });
      continue;
    }
    const head = heads.get(namespace);
    const ownLimit = share.whyNotNow(applicant);
    const reason = node.whyNotNow(applicant) ?? ownLimit ??
      (head && `${head} of the same namespace came first and waits`) ??
      waiting.map((one) => one.whyReserved(applicant)).find((why) => why !== undefined);
    if (reason === undefined) {
      admissions.set(key, GRANTED);
      const [count, bytes] = held(applicant);
      for (const taken of [node, share, ...waiting.map(({ younger }) => younger)]) taken.add(1 - count, claim - bytes);
      continue;
    }
    admissions.set(key, { kind: "queued", reason });
    if (head !== undefined) continue;
    heads.set(namespace, key);
    if (ownLimit === undefined) waiting.push(new Waiting(applicant, [...applicants, ...others], limits));
  }
  return admissions;
}

const GRANTED: Admission = { kind: "granted" };

/** Places and bytes that are taken of a share. */
class Taken {
  #count = 0;
  #bytes = 0;
  readonly #share: Share;
  readonly #bounds: string;
  readonly #value: string;

  /** @param bounds whose it is, for people. @param value the chart's name of the share. */
  constructor(share: Share, bounds: string, value: string) {
    this.#share = share;
    this.#bounds = bounds;
    this.#value = value;
  }

  add(count: number, bytes: number): void {
    this.#count += count;
    this.#bytes += bytes;
  }

  /** Returns why the claim can never fit; undefined: it can. */
  excludes(claim: number): string | undefined {
    const { diskBudgetMB } = this.#share;
    if (claim <= diskBudgetMB * MB) return undefined;
    return `the capture may take ${mb(claim)} of disk (2 × files × file size); ` +
      `it must be at most ${this.limit("diskBudgetMB")} MB`;
  }

  /** Returns why an applicant does not fit now, besides all others; undefined: it does. */
  whyNotNow(applicant: Applicant): string | undefined {
    const lacks = this.lacks(applicant);
    if (lacks === undefined) return undefined;
    const { claim } = applicant;
    const [, bytes] = held(applicant);
    return lacks === "maxCaptures"
      ? `${count(this.#count, "capture")} ${this.#count === 1 ? "is" : "are"} running ${this.#bounds}, ` +
        `and ${this.#value}.${lacks} is ${this.#share[lacks]}`
      : `it may take ${mb(claim)} of disk, and ${mb(this.#bytes - bytes)} of ${this.limit(lacks)} MB, ` +
        `are taken ${this.#bounds}`;
  }

  /** Gives the limit that an applicant would exceed. @param kept what has to stay free besides. */
  lacks(applicant: Applicant, kept = { count: 0, bytes: 0 }): keyof Share | undefined {
    const { maxCaptures, diskBudgetMB } = this.#share;
    const [count, bytes] = held(applicant);
    if (count === 0 && this.#count + kept.count >= maxCaptures) return "maxCaptures";
    return this.#bytes - bytes + kept.bytes + applicant.claim > diskBudgetMB * MB ? "diskBudgetMB" : undefined;
  }

  /** Names a limit, with its value. */
  limit(name: keyof Share): string {
    return `${this.#value}.${name}, ${this.#share[name]}`;
  }
}

/** A claim that waits for the node's limits, and what is taken by those who came after it. */
class Waiting {
  readonly younger: Taken;
  readonly #claim: Applicant;

  constructor(claim: Applicant, all: readonly (Applicant | Occupant)[], limits: AdmissionLimits) {
    this.#claim = claim;
    this.younger = new Taken(limits, "", "limits");
    for (const one of all) if (isYounger(one, claim)) this.younger.add(...held(one));
  }

  /** Returns why a later applicant would take what this one reserves; undefined: it would not. */
  whyReserved(applicant: Applicant): string | undefined {
    const { granted, claim } = this.#claim;
    const lacks = this.younger.lacks(applicant, { count: granted === undefined ? 1 : 0, bytes: claim });
    // Not whose it is: the reason is read in another namespace.
    return lacks &&
      `what is left of ${this.younger.limit(lacks)}${lacks === "diskBudgetMB" ? " MB" : ""}, is reserved for ` +
        `an earlier request of another namespace`;
  }
}

/** Places and bytes that are set aside for it. */
function held(one: Applicant | Occupant): [count: number, bytes: number] {
  const granted = "granted" in one ? one.granted : undefined;
  return granted === undefined ? [0, one.bytes] : [1, granted];
}

function inOrder(a: Applicant, b: Applicant): number {
  return Number(b.ranBefore) - Number(a.ranBefore) || a.firstSeen - b.firstSeen ||
    (a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0);
}

function isYounger(one: Applicant | Occupant, than: Applicant): boolean {
  return "uid" in one ? inOrder(one, than) > 0 : one.firstSeen > than.firstSeen;
}

const MB = 1_000_000;

function mb(bytes: number): string {
  return `${Math.ceil(bytes / MB)} MB`;
}
