/** The chart and the controller must mean the same: names, defaults and limits of the settings. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { load } from "js-yaml";
import { FLAGS, readSettings, type Settings } from "../../src/settings.ts";
import { VERSION } from "../../src/version.ts";
import { EFFECTS, valuesOf } from "./effects.ts";
import { type Any, CHART, render, type Rendered, type Values } from "./helm.ts";

/** What the image knows better than the chart, and what IPv6-only clusters set by extraEnv. */
const NOT_THE_CHARTS = ["HTTP_HOST", "NSENTER", "TCPDUMP"];

/** What the controller makes of the environment that the chart gives it. */
function settingsOf({ env }: Rendered): Settings {
  const given: Record<string, string> = { ...env, NODE_NAME: "worker1", POD_NAME: "pc-x7x7x" };
  return readSettings({ env: (name) => given[name], flags: {} });
}

Deno.test("the chart sets every setting that is its to set, by its name", async () => {
  const names = FLAGS.map(({ flag }) => flag.replace(/^--/, "").replaceAll("-", "_").toUpperCase());
  const { env } = await render();
  assert.deepEqual(Object.keys(env).sort(), names.filter((name) => !NOT_THE_CHARTS.includes(name)).sort());
  assert.equal(env["NODE_NAME"], "spec.nodeName");
  assert.equal(env["POD_NAME"], "metadata.name");
});

Deno.test("the chart's defaults are the controller's", async () => {
  const bare = readSettings({ env: (name) => name === "NODE_NAME" ? "worker1" : undefined, flags: {} });
  assert.deepEqual(settingsOf(await render()), { ...bare, podName: "pc-x7x7x", release: "tools.pc" });
});

Deno.test("the controller takes what the chart makes of every value that is changed", async () => {
  for (const effect of EFFECTS) settingsOf(await render(valuesOf(effect, true)));
});

Deno.test("a namespace gets half of the node's limits where nothing else is said, also by null", async () => {
  for (const empty of ["", null]) {
    const limits = { maxCaptures: 9, diskBudgetMB: 400, perNamespace: { maxCaptures: empty, diskBudgetMB: empty } };
    const { perNamespace } = settingsOf(await render({ limits })).limits;
    assert.deepEqual(perNamespace, { maxCaptures: 5, diskBudgetMB: 200 });
  }
});

Deno.test("the controller takes the least and the most that the chart lets through", async () => {
  const least = {
    maxFiles: 1,
    maxFileSizeMB: 1,
    maxCaptures: 1,
    diskBudgetMB: 2,
    perNamespace: { maxCaptures: 1, diskBudgetMB: 2 },
    minFreePercent: 0,
    maxBufferMB: 4,
    maxDuration: "1s",
  };
  const most = {
    maxFiles: 10_000,
    maxFileSizeMB: 2_000,
    maxCaptures: 10_000,
    diskBudgetMB: 100_000_000,
    perNamespace: { maxCaptures: 10_000, diskBudgetMB: 100_000_000 },
    minFreePercent: 99,
    maxBufferMB: 1_024,
    maxDuration: "8760h",
  };
  const both: Values[] = [
    { limits: least, retention: { afterPodDeletion: "0s" }, metrics: { port: 1024 } },
    { limits: most, retention: { afterPodDeletion: "8760h" }, metrics: { port: 65_535 } },
    { annotationKey: "x".repeat(63) },
    { captureDir: "/a_b/-c.d/E", netnsDir: "/N_s", cri: { socket: "/x/Y.sock" } },
  ];
  for (const values of both) settingsOf(await render(values));
  await render({}, { release: `${"a".repeat(25)}.${"b".repeat(27)}` }).then(settingsOf);
});

Deno.test("the chart's version and its appVersion are the program's, as the release publishes them", async () => {
  const { version, appVersion } = load(await Deno.readTextFile(join(CHART, "Chart.yaml"))) as Any;
  assert.deepEqual([version, appVersion], [VERSION, VERSION]);
});
