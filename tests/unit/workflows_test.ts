/** The workflows of .github: linted by actionlint, pinned, and allowed no more than they need. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { load } from "js-yaml";
import { go } from "../support/binaries.ts";
import { cached } from "../support/cache.ts";
import { ROOT, run } from "../rig/cli.ts";
import { standIns } from "../rig/stand_ins.ts";
import { tree } from "../rig/tree.ts";

const ACTIONLINT = "1.7.12";
const FOLDER = join(ROOT, ".github/workflows");

interface Step {
  uses?: string;
  run?: string;
  with?: Record<string, unknown>;
}

interface Job {
  permissions?: Record<string, string>;
  "timeout-minutes"?: number;
  uses?: string;
  needs?: string | string[];
  env?: Record<string, unknown>;
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

Deno.test("every action is pinned to a commit, with its version after it", () => {
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

/** What jobs may beyond reading the repository. */
const MAY: Readonly<Record<string, Record<string, string>>> = {
  "release.yml: image": { contents: "read", packages: "write" },
  "release.yml: publish": { attestations: "write", contents: "write", "id-token": "write", packages: "write" },
};

Deno.test("workflows may read the repository, and only jobs that publish may write", () => {
  for (const { name, permissions, concurrency, jobs, text } of workflows) {
    assert.deepEqual(permissions, { contents: "read" }, name);
    assert.ok(concurrency, name);
    for (const [id, job] of Object.entries(jobs)) {
      const where = `${name}: ${id}`;
      if (job.uses === undefined) assert.ok(job["timeout-minutes"], `${where} has no deadline`);
      assert.deepEqual(job.permissions, MAY[where], where);
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
  assert.doesNotMatch(ci.text, /DENORT_CHECK|PACKET_CAPTURE_FROZEN/);
  assert.match(ci.text, /\.ci\/run$/m);
  assert.match(ci.text, /CLUSTER_PROVIDER: kind\n[^]*- run: make e2e$/m);
  // Nowhere else is a NetworkPolicy enforced.
  assert.match(ci.text, /- run: make deploy VALUES="--set networkPolicy\.enabled=true"\n +- run: make test$/m);
});

/** What all steps of a job run, one after the other. */
function scripts(job: Job | undefined): string {
  return (job?.steps ?? []).map(({ run, uses }) => run ?? `uses: ${uses?.replace(/@.*/, "")}`).join("\n");
}

Deno.test("a release is made of pinned bases, locked packages and runtimes of known hashes, or fails", async () => {
  const { jobs } = workflows.find(({ name }) => name === "release.yml")!;
  assert.match(scripts(jobs.versions), /^tools\/check-bases$/m);
  assert.match(scripts(jobs.versions), /gh api "repos\/denoland\/deno\/releases\/tags\/v\$deno"/);
  for (const id of ["gate", "image", "plugin"]) assert.ok(jobs[id]!.needs?.includes("versions"), `${id} does not wait`);
  const build = jobs.image!.steps!.find(({ uses }) => uses?.startsWith("docker/build-push-action@"))!;
  for (const arg of ["RUNTIME=compile", "PACKET_CAPTURE_FROZEN=1", "DENORT_CHECK=required"]) {
    assert.ok((build.with!["build-args"] as string).split("\n").includes(arg), arg);
  }
  assert.deepEqual(jobs.plugin!.env, { PACKET_CAPTURE_FROZEN: 1, DENORT_CHECK: "required" });
  for (const id of ["image", "plugin"]) {
    const pins = jobs[id]!.steps!.find(({ uses }) => uses?.startsWith("actions/download-artifact@"));
    assert.deepEqual(pins?.with, { name: "denort", path: "tools" }, id);
  }
  const dockerfile = await Deno.readTextFile(join(ROOT, "Dockerfile"));
  for (const arg of ["PACKET_CAPTURE_FROZEN", "DENORT_CHECK"]) {
    assert.match(dockerfile, new RegExp(`^ARG ${arg}=""$`, "m"));
  }
});

Deno.test("image, chart and plugin are signed or attested before they are released, and the chart names the image's digest", async () => {
  const { jobs } = workflows.find(({ name }) => name === "release.yml")!;
  const all = scripts(jobs.publish);
  const order = [
    /uses: sigstore\/cosign-installer/,
    /cosign sign --yes --recursive "\$IMAGE@\$digest"/,
    /cosign attest --yes --type cyclonedx --predicate dist\/release\/packet-capture\.cdx\.json "\$IMAGE@\$digest"/,
    /uses: actions\/attest-build-provenance/,
    /^sed -i .* charts\/values\.yaml$/m,
    /helm template charts \| grep -qF "image: \\"\$IMAGE@\$DIGEST\\""/,
    /helm push /,
    /cosign sign --yes "\$IMAGE\/charts\/packet-capture@/,
    /sha256sum -- \* >SHA256SUMS/,
    /uses: actions\/attest-build-provenance/,
    /gh release create .* dist\/release\/\*/,
  ];
  let rest = all;
  for (const step of order) {
    const at = rest.search(step);
    assert.ok(at >= 0, `${step} is not where it has to be`);
    rest = rest.slice(at + 1);
  }
  // What this line makes of the values.
  await using chart = await tree("charts/values.yaml");
  const [edit] = /^sed -i .*$/m.exec(all)!;
  const digest = `sha256:${"0".repeat(64)}`;
  const env = { IMAGE: "registry.example/pc", DIGEST: digest };
  assert.equal((await run("bash", ["-c", edit], { cwd: chart.path, env })).code, 0);
  const { image } = load(await chart.read("charts/values.yaml")) as { image: Record<string, string> };
  assert.deepEqual([image.repository, image.digest], ["registry.example/pc", digest]);
  assert.match(scripts(jobs.plugin), /^make bundle\ntools\/plugin --release$/m);
});

Deno.test("check-bases takes bases that are pinned and that the registry has, and no others", async () => {
  await using programs = await standIns({ docker: `[[ $4 != *gone* ]]` });
  const check = async (dockerfile: string) => {
    await using project = await tree("tools/check-bases");
    await project.write("Dockerfile", dockerfile);
    return await run(join(project.path, "tools/check-bases"), [], { env: { PATH: programs.path } });
  };
  const ours = await Deno.readTextFile(join(ROOT, "Dockerfile"));
  assert.deepEqual(await check(ours), { code: 0, stdout: "", stderr: "" });
  const asked = (await programs.calls()).map((call) => call.at(-1));
  assert.deepEqual(asked, Array.from(ours.matchAll(/^ARG [A-Z]+_IMAGE=(.*)$/gm), ([, base]) => base));
  assert.equal(asked.length, 2);
  const cases: [string, RegExp][] = [
    [
      ours.replace(/(ARG DEBIAN_IMAGE=[^@]*)@.*/, "$1"),
      /^check-bases: the base image debian:\S+ is not pinned by digest\n$/,
    ],
    [
      ours.replace("ARG DENO_IMAGE=", "ARG DENO_IMAGE=gone/"),
      /^check-bases: the registry does not have .*gone\/denoland/,
    ],
    [`${ours}FROM alpine:3\n`, /^check-bases: the Dockerfile has a base that is no argument: FROM alpine:3\n$/],
  ];
  for (const [dockerfile, words] of cases) {
    const { code, stderr } = await check(dockerfile);
    assert.equal(code, 1);
    assert.match(stderr, words);
  }
});

Deno.test("the Deno that builds is one version everywhere, and Renovate knows where", async () => {
  const version = /^version=(.*)$/m.exec(await Deno.readTextFile(join(ROOT, "tools/deno")))![1]!;
  assert.match(
    await Deno.readTextFile(join(ROOT, "Dockerfile")),
    new RegExp(`^ARG DENO_IMAGE=denoland/deno:${RegExp.escape(version)}@`, "m"),
  );
  const { customManagers, packageRules } = JSON.parse(await Deno.readTextFile(join(ROOT, "renovate.json")));
  const [manager] = customManagers;
  const found = new RegExp(manager.matchStrings[0]).exec(await Deno.readTextFile(join(ROOT, "tools/deno")));
  assert.equal(found?.groups?.currentValue, version);
  const { versioning } = packageRules.find((rule: { versioning?: string }) => rule.versioning !== undefined);
  const debian = /^ARG DEBIAN_IMAGE=debian:([^@]*)@/m.exec(await Deno.readTextFile(join(ROOT, "Dockerfile")))![1]!;
  assert.match(debian, new RegExp(versioning.replace(/^regex:/, "")));
});
