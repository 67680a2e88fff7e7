/**
 * A test of one fault of tests/faults.json. It has to show first that the fault has happened, then that all is right again:
 *
 *     fault("tcpdump-killed", async (record) => {
 *       …
 *       record.happened(`process ${pid} is dead`);
 *       …
 *       record.right({ seconds, packetsLost, leftovers });
 *     });
 *
 * What was recorded goes to the file that FAULTS_RESULTS names, one JSON line a fault; tests/faults_report.ts makes
 * docs/reliability.md of it.
 */
import { ok as assert } from "node:assert/strict";
import type { Timing } from "../rig/impatient.ts";

/** A row of tests/faults.json. */
export interface FaultRow {
  readonly id: string;
  /** The fault in words. */
  readonly fault: string;
  /** The file that makes it. */
  readonly test: string;
  /** Seconds within which all must be right again. */
  readonly budget: number;
  /** What is shorter or smaller than the fault's words say, where it is, unless FAULTS=full. */
  readonly bounded?: string;
}

/** FAULTS=full: every fault as long and as large as its words say. `make check` has no time for that. */
export const FULL = isFull(Deno.env.get("FAULTS"));

export function isFull(faults: string | undefined): boolean {
  if (faults === undefined || faults === "full") return faults === "full";
  throw new RangeError(`FAULTS is ${JSON.stringify(faults)}: accepted is full, or nothing for the bounded form`);
}

/** A length or a number: in `make check`, and with FAULTS=full. */
export function bounded(inCheck: number, full: number): number {
  return FULL ? full : inCheck;
}

/** How to start the controller with less patience (impatient.ts) while its fault is bounded; with FAULTS=full as it is. */
export function impatient(timing: Timing): [env: Record<string, string>, options: { main?: string }] {
  if (FULL) return [{}, {}];
  return [{ TIMING: JSON.stringify(timing) }, { main: new URL("../rig/impatient.ts", import.meta.url).pathname }];
}

/** What was measured of a fault that was survived. */
export interface FaultResult {
  readonly id: string;
  readonly proof: string;
  readonly seconds: number;
  readonly packetsLost?: number;
  readonly leftovers: number;
  /** What the test's random choices were made of, if it made any. */
  readonly seed?: number;
}

export const ROWS: readonly FaultRow[] = JSON.parse(
  Deno.readTextFileSync(new URL("../faults.json", import.meta.url)),
);

export class FaultRecord {
  readonly #row: FaultRow;
  #proof: string | undefined;
  #result: FaultResult | undefined;
  /** Set by a test that makes random choices. */
  seed: number | undefined;

  constructor(row: FaultRow) {
    this.#row = row;
  }

  /** Records how it was seen that the fault is there: a dead process, a figure of statfs, a proxy's counter. */
  happened(proof: string): void {
    this.#proof = this.#proof === undefined ? proof : `${this.#proof}; ${proof}`;
  }

  /**
   * Says that all is right again.
   *
   * @param right.seconds from the fault, or from its end if nothing can be right while it lasts.
   * @param right.packetsLost of those that were sent meanwhile; left out where none were sent.
   * @param right.leftovers processes, files and folders that ought not to be there.
   */
  right(right: { seconds: number; packetsLost?: number; leftovers: number }): void {
    assert(this.#proof !== undefined, "the test says that all is right before it has shown that the fault happened");
    assert(
      right.seconds <= this.#row.budget,
      `it took ${right.seconds.toFixed(1)} s, accepted are ${this.#row.budget} s`,
    );
    assert(right.leftovers === 0, `${right.leftovers} leftovers`);
    const seed = this.seed === undefined ? {} : { seed: this.seed };
    this.#result = { id: this.#row.id, proof: this.#proof, ...right, ...seed };
  }

  /** @throws if the test did not say both. */
  result(): FaultResult {
    assert(this.#proof !== undefined, "the test did not show that the fault happened");
    assert(this.#result !== undefined, "the test did not show that all was right again");
    return this.#result;
  }
}

/** Registers the test of the row with this id. What is started for several of them ends with the file's last test. */
export function fault(id: string, test: (record: FaultRecord) => Promise<void>): void {
  const row = ROWS.find((row) => row.id === id);
  if (!row) throw new RangeError(`tests/faults.json has no row "${id}"`);
  Deno.test({
    name: `${id}: ${row.fault}`,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: async () => {
      const record = new FaultRecord(row);
      await test(record);
      const results = Deno.env.get("FAULTS_RESULTS");
      const line = JSON.stringify(record.result());
      if (results) await Deno.writeTextFile(results, line + "\n", { append: true });
      else if (Deno.env.get("RIG_LOG")) Deno.stderr.writeSync(new TextEncoder().encode(line + "\n"));
    },
  });
}

/** What the faults of a file share: started when the first of them asks, ended behind the last. */
export function shared<T extends AsyncDisposable>(start: () => Promise<T>): () => Promise<T> {
  let started: Promise<T> | undefined;
  Deno.test.afterAll(async () => await (await started)?.[Symbol.asyncDispose]());
  return () => started ??= start();
}

/** Seconds since `performance.now()` was this. */
export function since(start: number): number {
  return (performance.now() - start) / 1000;
}
