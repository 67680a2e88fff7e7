/** How many tests passed, as told by a JUnit report and an exit status. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

/**
 * Counts a JUnit report as `deno test` writes it (steps of tests count as tests). A run that failed outside any test, or in
 * which no test ran, counts as one failed.
 */
export function countsOf(report: string, exitCode: number): Counts {
  const count = (pattern: RegExp) => report.match(pattern)?.length ?? 0;
  const failed = count(/<failure[ >]|<error[ >]/g);
  const skipped = count(/<skipped[ />]/g);
  const passed = count(/<testcase /g) - failed - skipped;
  return { passed, failed: failed === 0 && (exitCode !== 0 || passed === 0) ? 1 : failed, skipped };
}

/** Which tests of a JUnit report did not pass, one line each: the file, the test, and the first line of what it said. */
export function failuresOf(report: string): string[] {
  const cases = report.matchAll(
    /<testcase name="([^"]*)"(?: classname="([^"]*)")?[^>]*>\s*<(failure|error|skipped)\b(?: message="([^"]*))?/g,
  );
  return Array.from(cases, ([, name, file, outcome, message]) => {
    const said = (message || outcome!).split("\n", 1)[0]!;
    return [...(file ? [file] : []), name!, said].map(unescapeXml).join(": ");
  });
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function unescapeXml(text: string): string {
  return text.replace(/&(\w+);/g, (whole, name) => ENTITIES[name] ?? whole);
}

/** All of them together. */
export function sum(all: readonly Counts[]): Counts {
  return all.reduce(
    (a, b) => ({ passed: a.passed + b.passed, failed: a.failed + b.failed, skipped: a.skipped + b.skipped }),
    { passed: 0, failed: 0, skipped: 0 },
  );
}

/** `3 passed, 0 failed`, and `, 1 skipped` if any was. */
export function summary({ passed, failed, skipped }: Counts): string {
  return `${passed} passed, ${failed} failed${skipped === 0 ? "" : `, ${skipped} skipped`}`;
}
