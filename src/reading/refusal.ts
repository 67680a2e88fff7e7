/** A request that cannot be carried out: one sentence for people, and the exit code that goes with it (2: usage). */
export class Refusal extends Error {
  readonly code: 1 | 2;

  constructor(code: 1 | 2, message: string) {
    super(message);
    this.name = "Refusal";
    this.code = code;
  }
}
