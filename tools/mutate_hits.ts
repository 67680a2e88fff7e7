/**
 * Ends a test that a mistake makes run for ever, in a moment instead of 20 s. tools/mutate.ts has Deno run it before the test: first
 * without a mistake, when it notes how often the test comes by each place, and then with one, which throws where the test comes
 * by a hundred times as often, and 10,000 times more: random tests differ. StrykerJS does so itself with other runners.
 */
interface Stryker {
  readonly activeMutant?: string;
  readonly mutantCoverage?: { readonly static: Readonly<Record<string, number>> };
  readonly hitCount?: number;
  readonly hitLimit?: number;
}

const scope = globalThis as { __stryker__?: Stryker };
const file = Deno.env.get("MUTATE_HITS");
const mutant = Deno.env.get("__STRYKER_ACTIVE_MUTANT__");

if (file !== undefined) {
  const before = read(file);
  if (mutant === undefined) {
    addEventListener("unload", () => {
      // A folder's tests run one after the other: the most counts.
      const here = scope.__stryker__?.mutantCoverage?.static ?? {};
      for (const [id, hits] of Object.entries(here)) before[id] = Math.max(before[id] ?? 0, hits);
      Deno.writeTextFileSync(file, JSON.stringify(before));
    });
  } else {
    scope.__stryker__ = { activeMutant: mutant, hitCount: 0, hitLimit: 10_000 + 100 * (before[mutant] ?? 0) };
  }
}

function read(file: string): Record<string, number> {
  try {
    return JSON.parse(Deno.readTextFileSync(file));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
}
