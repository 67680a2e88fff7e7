import assert from "node:assert/strict";
import { Metrics } from "../../src/metrics.ts";
import { VERSION } from "../../src/version.ts";

const web = { namespace: "default", name: "web-0" };

/** The samples of one metric as name and labels → value. */
async function samples(metrics: Metrics): Promise<Map<string, number>> {
  const lines = (await metrics.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

Deno.test("Metrics has the names, types and labels that users rely on, and nothing else", async () => {
  const metrics = new Metrics();
  metrics.failures.inc({ reason: "exit" });
  metrics.watchRestarts.inc({ reason: "gone" });
  metrics.setCapture(web, { captured: 1, received: 1, dropped: 0, ringBytes: 24 });
  const text = await metrics.text();
  const types = Object.fromEntries(
    Array.from(text.matchAll(/^# TYPE packet_capture_(\S+) (\S+)$/gm), (m) => [m[1], m[2]]),
  );
  assert.deepEqual(types, {
    active: "gauge",
    requests: "gauge",
    starts_total: "counter",
    failures_total: "counter",
    packets_total: "counter",
    packets_dropped_total: "counter",
    packets_lost_percent: "gauge",
    ring_bytes: "gauge",
    start_duration_seconds: "histogram",
    watch_restarts_total: "counter",
    last_watch_activity_seconds: "gauge",
    disk_free_bytes: "gauge",
    build_info: "gauge",
  });
  assert.equal(text.match(/^# TYPE /gm)?.length, Object.keys(types).length);
  const labels = Object.fromEntries(Array.from(
    text.matchAll(/^packet_capture_([a-z_]+)\{(.*)\}/gm),
    (m) => [m[1], m[2]!.replace(/="[^"]*"/g, "")],
  ));
  assert.deepEqual(labels, {
    requests: "state",
    failures_total: "reason",
    packets_total: "namespace,pod",
    packets_dropped_total: "namespace,pod",
    packets_lost_percent: "namespace,pod",
    ring_bytes: "namespace,pod",
    start_duration_seconds_bucket: "le",
    watch_restarts_total: "reason",
    build_info: "version,deno",
  });
  assert.match(
    text,
    new RegExp(`^packet_capture_build_info\\{version="${VERSION}",deno="${Deno.version.deno}"\\} 1$`, "m"),
  );
});

Deno.test("Metrics.setCapture() shows the latest numbers, also when a counter began again", async () => {
  const metrics = new Metrics();
  for (const packets of [10, 25, 3]) {
    metrics.setCapture(web, {
      ...{ captured: packets, received: packets * 8, dropped: packets * 2, ringBytes: packets * 100 },
    });
    const found = await samples(metrics);
    assert.equal(found.get('packet_capture_packets_total{namespace="default",pod="web-0"}'), packets);
    assert.equal(found.get('packet_capture_packets_dropped_total{namespace="default",pod="web-0"}'), packets * 2);
    assert.equal(found.get('packet_capture_packets_lost_percent{namespace="default",pod="web-0"}'), 25);
    assert.equal(found.get('packet_capture_ring_bytes{namespace="default",pod="web-0"}'), packets * 100);
  }
});

Deno.test("Metrics.removeCapture() ends the series of that pod and of no other", async () => {
  const metrics = new Metrics();
  const numbers = { captured: 1, received: 1, dropped: 1, ringBytes: 1 };
  for (const name of ["web-1", "web-10"]) metrics.setCapture({ namespace: "default", name }, numbers);
  metrics.setCapture({ namespace: "other", name: "web-1" }, numbers);
  metrics.removeCapture({ namespace: "default", name: "web-1" });
  const left = [...(await samples(metrics)).keys()].filter((name) => name.includes("namespace="));
  assert.equal(left.length, 8);
  assert.ok(left.every((name) => !name.includes('namespace="default",pod="web-1"')), left.join("\n"));
});

Deno.test("Metrics.setRequests() shows zero for the states that nothing is in", async () => {
  const metrics = new Metrics();
  metrics.setRequests({ capturing: 2, rejected: 1 });
  metrics.setRequests({ capturing: 1 });
  const found = [...(await samples(metrics))].filter(([name]) => name.startsWith("packet_capture_requests"));
  assert.equal(found.length, 10);
  for (const [name, value] of found) assert.equal(value, name.includes('"capturing"') ? 1 : 0, name);
});

Deno.test("Metrics.watchActive() makes the watch's silence begin again", async () => {
  const metrics = new Metrics();
  const age = async () => (await samples(metrics)).get("packet_capture_last_watch_activity_seconds")!;
  const before = await age();
  const deadline = performance.now() + 5000;
  while (await age() < before + 0.05) assert.ok(performance.now() < deadline, "the age does not grow");
  const old = await age();
  metrics.watchActive();
  assert.ok(await age() < old);
});

Deno.test("Metrics.startDuration distinguishes starts of 5 ms from those of 30 s", async () => {
  const metrics = new Metrics();
  metrics.startDuration.observe(0.004);
  metrics.startDuration.observe(0.120);
  metrics.startDuration.observe(29);
  const found = await samples(metrics);
  const upTo = (le: string) => found.get(`packet_capture_start_duration_seconds_bucket{le="${le}"}`);
  assert.deepEqual([upTo("0.005"), upTo("0.1"), upTo("0.15"), upTo("10"), upTo("30")], [1, 1, 2, 2, 3]);
});
