/** How a program ended that was run for a capture. */
export interface Exit {
  readonly code: number;
  readonly signal: string | null;
  /** What it last said on stderr, one line. */
  readonly said: string;
}

export function isClean({ code, signal }: Exit): boolean {
  return code === 0 && signal === null;
}
