/**
 * Admission of captures: the requests, the grants, and the captures to enqueue because the limits left have changed.
 */
import { type AdmissionLimits, admit, type Applicant, type Occupant } from "../plan/admission.ts";
import type { Admission, Desired } from "../plan/plan.ts";

/** The place of one capture within the limits. */
export class Place {
  /** Order of first sight among all captures. */
  firstSeen: number;
  /** Whether it ran before the controller was started and may go on: its place is kept. */
  ranBefore = false;
  /** The answer when it asked last. */
  answer: Admission["kind"] = "granted";
  #granted: { readonly bytes: number; readonly fingerprint: string } | undefined;

  constructor(firstSeen: number) {
    this.firstSeen = firstSeen;
  }

  /** Bytes that were granted; undefined: it has no place. */
  get granted(): number | undefined {
    return this.#granted?.bytes;
  }

  /** Returns what a request claims at most: once it has its place, no more than was granted to it. */
  capped(claim: number, fingerprint: string): number {
    return this.#granted?.fingerprint === fingerprint ? Math.min(claim, this.#granted.bytes) : claim;
  }

  /** Returns whether the place was granted to this request. */
  isFor(fingerprint: string): boolean {
    return this.#granted?.fingerprint === fingerprint;
  }

  /** Takes the place, as large as the claim is now. @returns whether others may have some of what it had. */
  take(bytes: number, fingerprint: string): boolean {
    const had = this.granted ?? 0;
    this.#granted = { bytes, fingerprint };
    return bytes < had;
  }

  /**
   * Gives the place up where the capture is settled and does not need it.
   *
   * @param isFinal whether it is known that it will not go on as it did before the controller was started.
   * @returns whether it had a place, and has none now.
   */
  settle({ state }: Desired, isRunning: boolean, isFinal: boolean): boolean {
    if (isRunning) {
      this.ranBefore = false;
      return false;
    }
    if (state === "paused" || state === "failing") return false;
    const had = this.#granted !== undefined;
    this.#granted = undefined;
    // The precedence of those that ran before lasts until it is known that this one does not go on.
    if (state !== "waiting" && isFinal) this.ranBefore = false;
    return had;
  }
}

/** A capture, as far as the limits go. */
export interface Asker {
  readonly key: string;
  readonly namespace: string;
  readonly place: Place;
  /** Whether it asks for a place: all else that it needs is there. */
  readonly applies: boolean;
  /** Bytes that it may take at most. */
  readonly claim: number;
  readonly folder: {
    /** Bytes that its files take now. */
    readonly bytes: number;
  };
  readonly uid: string | undefined;
}

export interface AdmissionsOptions {
  readonly limits: AdmissionLimits;
  /** All captures. */
  readonly askers: () => Iterable<Asker>;
  /** Files of deleted pods, which take of the same budgets. */
  readonly retained: () => Iterable<Occupant>;
  /** Enqueues a capture whose answer is another one now. */
  readonly enqueue: (key: string) => void;
  /** Follows each pass through all captures. */
  readonly onPass: () => void;
}

export class Admissions {
  readonly #options: AdmissionsOptions;
  #answers: Map<string, Admission> | undefined;
  #pass: ReturnType<typeof setTimeout> | undefined;

  constructor(options: AdmissionsOptions) {
    this.#options = options;
  }

  /** Returns the answer for a capture, and notes it as its last one. */
  ask(asker: Asker): Admission {
    const answer = this.#answerTo(asker);
    asker.place.answer = answer.kind;
    return answer;
  }

  /** Drops all answers, because some capture needs something else. */
  forget(): void {
    this.#answers = undefined;
  }

  /** Enqueues those whose answer is another one now. Many changes at once make one pass. */
  changed(): void {
    this.forget();
    this.#pass ??= setTimeout(() => {
      this.#pass = undefined;
      const { askers, enqueue, onPass } = this.#options;
      for (const asker of askers()) {
        const { answer } = asker.place;
        if (answer !== "granted" && this.#answerTo(asker).kind !== answer) enqueue(asker.key);
      }
      onPass();
    });
  }

  close(): void {
    clearTimeout(this.#pass);
  }

  #answerTo(asker: Asker): Admission {
    this.#answers ??= this.#admit();
    // One without an answer did not apply when they were given.
    if (asker.applies && !this.#answers.has(asker.key)) this.#answers = this.#admit();
    return this.#answers.get(asker.key) ?? { kind: "granted" };
  }

  #admit(): Map<string, Admission> {
    const { askers, retained, limits } = this.#options;
    const applicants: Applicant[] = [];
    const others: Occupant[] = [...retained()];
    for (const asker of askers()) {
      const { key, namespace, place: { firstSeen, ranBefore, granted }, folder: { bytes } } = asker;
      if (!asker.applies) {
        others.push({ namespace, firstSeen, bytes });
        continue;
      }
      const { claim, uid = "" } = asker;
      applicants.push({ key, namespace, granted, ranBefore, firstSeen, uid, claim, bytes });
    }
    return admit(applicants, others, limits);
  }
}
