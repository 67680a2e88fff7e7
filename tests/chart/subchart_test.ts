import assert from "node:assert/strict";
import { join } from "@std/path";
import { CHART, refusal, render, template, type Values } from "./helm.ts";

/** Runs `work` with a chart that depends on ours. */
async function inParent(work: (chart: string) => Promise<void>): Promise<void> {
  const parent = await Deno.makeTempDir({ prefix: "packet-capture-parent-" });
  try {
    await Deno.mkdir(join(parent, "charts"));
    await Deno.mkdir(join(parent, "templates"));
    await copy(CHART, join(parent, "charts/packet-capture"));
    await Deno.writeTextFile(
      join(parent, "Chart.yaml"),
      [
        "apiVersion: v2",
        "name: platform",
        "version: 1.2.3",
        "dependencies: [{name: packet-capture, version: '*', condition: packet-capture.enabled}]",
      ].join("\n"),
    );
    await Deno.writeTextFile(join(parent, "values.yaml"), "global: {region: north}\n");
    await work(parent);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to);
  for await (const { name, isDirectory } of Deno.readDir(from)) {
    await (isDirectory ? copy : Deno.copyFile)(join(from, name), join(to, name));
  }
}

function ours(values: Values): Values {
  return { "packet-capture": values };
}

Deno.test("as a dependency the chart takes global values and a condition", () =>
  inParent(async (chart) => {
    const values = ours({ enabled: true, annotationKey: "capture.example.com" });
    const rendered = await render(values, { chart, release: "plat" });
    assert.equal(rendered.daemonSet.metadata.name, "plat");
    assert.equal(rendered.env["ANNOTATION_KEY"], "capture.example.com");
    assert.equal(rendered.container.image, "packet-capture:0.1.0");
    assert.match(rendered.daemonSet.metadata.labels["helm.sh/chart"], /^packet-capture-/);
    const { code, stdout } = await template(ours({ enabled: false }), { chart });
    assert.deepEqual([code, stdout.trim()], [0, ""]);
  }));

Deno.test("as a dependency the chart refuses what it refuses alone", () =>
  inParent(async (chart) => {
    assert.match(
      await refusal(ours({ nosuch: 1 }), { chart }),
      /packet-capture: - at '': additional properties 'nosuch'/,
    );
    assert.match(
      await refusal(ours({ allowHostNetworkPods: true }), { chart }),
      /values of packet-capture cannot be used: - allowHostNetworkPods: true needs/,
    );
  }));
