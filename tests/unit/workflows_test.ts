/** The workflows of .github: linted by actionlint, pinned, and allowed no more than they need. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { load } from "js-yaml";
import { cached, go } from "../cluster/binaries.ts";
import { ROOT, run } from "../rig/cli.ts";

const ACTIONLINT = "1.7.12";
const FOLDER = join(ROOT, ".github/workflows");

interface Step {
  uses?: string;
  with?: Record<string, unknown>;
}

interface Job {
  permissions?: Record<string, string>;
  "timeout-minutes"?: number;
  uses?: string;
  steps?: Step[];
}

interface Workflow {
  permissions?: Record<string, string>;
  concurrency?: unknown;
  jobs: Record<string, Job>;
}

const workflows = await Promise.all(
  Array.from(Deno.readDirSync(FOLDER), async ({ name }) => {
    const text = await Deno.readTextFile(join(FOLDER, name));
    return { ...load(text) as Workflow, name, text };
  }),
);

/** actionlint, built from the Go module proxy the first time (10 s). */
async function actionlint(): Promise<string> {
  const folder = await cached(`actionlint-${ACTIONLINT}`, "actionlint (10 s)", async (out, count) => {
    const module = `github.com/rhysd/actionlint/cmd/actionlint@v${ACTIONLINT}`;
    await go(["install", "-v", module], out, count, { GOBIN: out });
  });
  return join(folder, "actionlint");
}

Deno.test("actionlint finds nothing wrong with the workflows", async () => {
  const { code, stdout, stderr } = await run(await actionlint(), ["-no-color", "-oneline"], { cwd: ROOT });
  assert.equal(`${stdout}${stderr}`, "");
  assert.equal(code, 0);
});

Deno.test("every action is pinned to a commit, and its version said", () => {
  let pinned = 0;
  for (const { name, text } of workflows) {
    for (const [line, action] of text.matchAll(/^ *(?:- )?uses: (\S+).*$/gm)) {
      if (action!.startsWith("./")) continue;
      assert.match(line, /@[0-9a-f]{40} # v\d+\.\d+\.\d+$/, name);
      pinned++;
    }
  }
  assert.ok(pinned > 5);
});

Deno.test("workflows may read the repository, and only jobs that publish packages may write those", () => {
  for (const { name, permissions, concurrency, jobs, text } of workflows) {
    assert.deepEqual(permissions, { contents: "read" }, name);
    assert.ok(concurrency, name);
    for (const [id, job] of Object.entries(jobs)) {
      const where = `${name}: ${id}`;
      if (job.uses === undefined) assert.ok(job["timeout-minutes"], `${where} has no deadline`);
      const publishes = (job.steps ?? []).some(({ uses }) => uses?.startsWith("docker/login-action@"));
      const own = publishes ? { contents: "read", packages: "write" } : undefined;
      assert.deepEqual(job.permissions, own, where);
      for (const step of job.steps ?? []) {
        if (step.uses?.startsWith("actions/checkout@")) assert.equal(step.with?.["persist-credentials"], false, where);
      }
    }
    assert.doesNotMatch(text, /pull_request_target/, name);
  }
});

Deno.test("a tag publishes image and chart for both architectures, after the whole gate", () => {
  const release = workflows.find(({ name }) => name === "release.yml")!;
  assert.match(release.text, /tags: \["v\*"\]/);
  assert.equal(release.jobs.gate?.uses, "./.github/workflows/ci.yml");
  for (const arch of ["amd64", "arm64"]) assert.match(release.text, new RegExp(`"\\$IMAGE:\\$VERSION-${arch}"`));
  assert.match(release.text, /helm push /);
  const ci = workflows.find(({ name }) => name === "ci.yml")!;
  assert.match(ci.text, /\.ci\/run$/m);
  assert.match(ci.text, /CLUSTER_PROVIDER: kind\n[^]*- run: make e2e$/m);
  // Nowhere else is a NetworkPolicy enforced.
  assert.match(ci.text, /- run: make deploy VALUES="--set networkPolicy\.enabled=true"\n +- run: make test$/m);
});
