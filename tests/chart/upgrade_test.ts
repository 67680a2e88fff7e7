/** Upgrades of a release of an earlier chart, by the real helm against a real API server. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { loadAll } from "js-yaml";
import { run } from "../support/run.ts";
import { ApiServer } from "../rig/apiserver.ts";
import { ROOT } from "../rig/cli.ts";
import { type Any, CHART, HELM, render, Rendered, type Values } from "./helm.ts";

/** The last commit of chart 0.1.0 that lacks namespaces, readPolicy, reader, limits.perNamespace and limits.maxBufferMB. */
const EARLIER = "cba36af";

/** Objects in one order, whatever helm's. */
function sorted(objects: readonly Any[]): Any[] {
  const name = ({ kind, metadata }: Any) => `${kind}/${metadata.name}`;
  return objects.toSorted((a, b) => name(a) < name(b) ? -1 : 1);
}

Deno.test("helm upgrade takes a release of an earlier chart", async (t) => {
  await using server = await ApiServer.start();
  await server.createNamespace("tools");
  const leaf = await server.authority.issue("root", "/O=system:masters/CN=root");
  const env = { KUBECONFIG: await server.kubeconfig("root", leaf), HELM_NAMESPACE: "tools" };
  const helm = (...args: string[]) => run([HELM, ...args], { env });
  /** The objects of the release now, less those of hooks. */
  const manifest = async () =>
    new Rendered(loadAll(await helm("get", "manifest", "pc")).filter((object) => object !== null) as Any[]);
  /** The same as a new installation of this chart makes them. */
  const fresh = async (values: Values) => {
    const { objects } = await render(values);
    return sorted(objects.filter(({ metadata }) => metadata.annotations?.["helm.sh/hook"] === undefined));
  };
  const earlier = join(server.dir, "earlier");
  await Deno.mkdir(earlier);
  await run(["git", "-C", ROOT, "archive", "-o", join(earlier, "chart.tar"), EARLIER, "charts"]);
  await run(["tar", "-xf", join(earlier, "chart.tar"), "-C", earlier]);
  await helm("install", "pc", join(earlier, "charts"), "--set", "limits.maxFiles=7");

  await t.step("with --reuse-values: what it lacks is as in this chart's values.yaml", async () => {
    await helm("upgrade", "pc", CHART, "--reuse-values");
    // The default of a value that it has stays the earlier chart's.
    assert.deepEqual(sorted((await manifest()).objects), await fresh({ limits: { maxFiles: 7 }, affinity: null }));
  });

  await t.step("with --reuse-values and values that are new", async () => {
    const set = ["readPolicy.subjects[0].kind=User", "readPolicy.subjects[0].name=jane"]
      .concat([
        "limits.perNamespace.maxCaptures=3",
        "reader.resources.limits.memory=64Mi",
        "namespaces.allow={shop}",
        "namespaces.deny={bank}",
      ]);
    await helm("upgrade", "pc", CHART, "--reuse-values", ...set.flatMap((value) => ["--set", value]));
    const release = await manifest();
    assert.equal(release.env["MAX_CAPTURES_PER_NAMESPACE"], "3");
    assert.equal(release.env["NAMESPACES_ALLOW"], "shop");
    release.one("RoleBinding", "pc-readers");
    assert.ok(release.readPolicy);
    const off = ["--set", "readPolicy.enabled=false", "--set-json", "readPolicy.subjects=[]"];
    await helm("upgrade", "pc", CHART, "--reuse-values", ...off);
    assert.deepEqual((await manifest()).all("ValidatingAdmissionPolicy"), []);
  });

  await t.step("with --reset-then-reuse-values: as this chart, with the release's own values", async () => {
    await helm("rollback", "pc", "1");
    await helm("upgrade", "pc", CHART, "--reset-then-reuse-values");
    assert.deepEqual(sorted((await manifest()).objects), await fresh({ limits: { maxFiles: 7 } }));
  });
});
