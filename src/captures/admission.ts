/** Who may capture within the node's limits. Pure. */
import type { Room } from "./plan.ts";

export interface AdmissionLimits {
  /** How many captures may run at once. */
  readonly maxCaptures: number;
  /** MB (10^6 bytes) that captures may take of the disk, all together. */
  readonly diskBudgetMB: number;
}

/** A capture that wants to run, or runs. */
export interface Applicant {
  readonly key: string;
  /** Bytes that its place was given for; undefined: it has no place. It keeps it as long as it claims no more than that. */
  readonly granted: number | undefined;
  /** It ran before the controller was restarted. */
  readonly ranBefore: boolean;
  /** Order of first sight, ascending. */
  readonly firstSeen: number;
  readonly uid: string;
  /** Bytes that it may take at most. */
  readonly claim: number;
  /** Bytes that its files take now. */
  readonly bytes: number;
}

/**
 * Gives each applicant its room. Whoever has a place and claims no more than it was given for keeps it, whatever others do. The
 * rest, among them those who have a place and claim more, come in order: those that ran before a restart, then first seen, then
 * by UID. It is strict: whoever does not fit is not overtaken by a smaller one, lest a large one never starts.
 *
 * @param othersBytes what files of captures that do not apply (held, completed, retained) take of the same budget.
 */
export function admit(
  applicants: readonly Applicant[],
  othersBytes: number,
  limits: AdmissionLimits,
): Map<string, Room> {
  const budget = limits.diskBudgetMB * 1_000_000;
  const rooms = new Map<string, Room>();
  const order: Applicant[] = [];
  let count = 0;
  let taken = othersBytes;
  for (const applicant of applicants) {
    const { key, granted, claim, bytes } = applicant;
    if (granted !== undefined) count++;
    taken += granted ?? bytes;
    if (granted !== undefined && claim <= granted) rooms.set(key, YES);
    else order.push(applicant);
  }
  order.sort((a, b) =>
    Number(b.ranBefore) - Number(a.ranBefore) || a.firstSeen - b.firstSeen ||
    (a.uid < b.uid ? -1 : a.uid > b.uid ? 1 : 0)
  );
  let full: string | undefined;
  for (const { key, granted, claim, bytes } of order) {
    if (claim > budget) {
      rooms.set(key, {
        kind: "never",
        reason: `it may take ${mb(claim)} of disk (2 × files × file size), accepted is at most ` +
          `limits.diskBudgetMB, ${limits.diskBudgetMB} MB`,
      });
      continue;
    }
    const byOthers = taken - (granted ?? bytes);
    full ??= granted === undefined && count >= limits.maxCaptures
      ? `${count} captures are running on this node, accepted are at most limits.maxCaptures, ${limits.maxCaptures}`
      : byOthers + claim > budget
      ? `it may take ${mb(claim)} of disk, and ${mb(byOthers)} of limits.diskBudgetMB, ` +
        `${limits.diskBudgetMB} MB, are taken on this node`
      : undefined;
    if (full !== undefined) {
      rooms.set(key, { kind: "wait", reason: full });
      continue;
    }
    if (granted === undefined) count++;
    taken = byOthers + claim;
    rooms.set(key, YES);
  }
  return rooms;
}

const YES: Room = { kind: "yes" };

function mb(bytes: number): string {
  return `${Math.ceil(bytes / 1_000_000)} MB`;
}
