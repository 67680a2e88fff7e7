/**
 * Runs all integration tests. Each file has an API server, a runtime and network namespaces of its own.
 *
 *     tools/deno run -A tests/integration/suite.ts [--junit-path=FILE]
 */
import { runFiles, testsIn, writeReport } from "../driver.ts";

const { code, report } = await runFiles({
  files: testsIn("tests/integration"),
  // No more: tests of readers that keep up with a ring need some of a core.
  atOnce: Math.max(2, navigator.hardwareConcurrency),
  longest: ["captures/requests", "reading/headers", "reading/ring", "reading/formats", "plugin/get"],
});
await writeReport(Deno.args, report);
Deno.exit(code);
