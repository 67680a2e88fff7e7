/** Counts the tests that passed, by a JUnit report and an exit status. */
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

/** The first lines of what a failed test said: with its assertion, what it was given. */
const SAID_LINES = 25;

/** Which tests of a JUnit report did not pass: the file, the test, and the first lines of what it said. */
export function failuresOf(report: string): string[] {
  const cases = report.matchAll(
    /<testcase name="([^"]*)"(?: classname="([^"]*)")?[^>]*>\s*<(failure|error|skipped)\b(?: message="([^"]*))?/g,
  );
  return Array.from(cases, ([, name, file, outcome, message]) => {
    const said = (message || outcome!).split(/\n|&#10;|&#xA;/, SAID_LINES).join("\n    ");
    return [...(file ? [file] : []), name!, said].map(unescapeXml).join(": ");
  });
}

/** As Surefire calls a failure of a test that passed when it was run again. */
export function flakyElement(said: string): string {
  return `<flakyFailure message="${escapeXml(said)}"/>`;
}

/** What a report holds of {@linkcode flakyElement}. */
export function flakyOf(report: string): string[] {
  return Array.from(report.matchAll(/<flakyFailure message="([^"]*)"\/>/g), ([, said]) => unescapeXml(said!));
}

const ENTITIES: Readonly<Record<string, string>> = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };

function escapeXml(text: string): string {
  return Object.entries(ENTITIES).reduce((all, [name, char]) => all.replaceAll(char, `&${name};`), text);
}

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
