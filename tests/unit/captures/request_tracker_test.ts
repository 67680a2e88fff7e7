/** Knowledge about a request, and when it is forgotten. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { FilterChecks, PodFilter } from "../../../src/tcpdump/filter_checks.ts";
import { RequestTracker } from "../../../src/captures/request_tracker.ts";
import { CAPTURE_TIMING } from "../../../src/timing.ts";
import type { Pod } from "../../../src/pods/pod.ts";
import { readSettings } from "../../../src/settings.ts";

const KEY = "tcpdump.antrea.io";
const env: Record<string, string> = { NODE_NAME: "node-1" };
const settings = readSettings({ env: (name) => env[name], flags: {} });

function pod(annotations: Record<string, string>): Pod {
  const keys = Object.entries(annotations).map(([sub, value]) => [sub === "" ? KEY : `${KEY}/${sub}`, value]);
  const meta = { namespace: "default", name: "web", uid: "uid-web", resourceVersion: "1", terminating: false };
  return { ...meta, annotations: Object.fromEntries(keys) };
}

function tracker(annotations: Record<string, string>, refused: readonly string[] = []): RequestTracker {
  const filters = new FilterChecks({ tcpdump: "/bin/true", signal: AbortSignal.abort(new Error("no checks here")) });
  return new RequestTracker(pod(annotations), {
    settings: { ...settings, namespaces: { allow: [], deny: refused } },
    filter: new PodFilter(filters, "default"),
    timing: CAPTURE_TIMING,
  });
}

Deno.test("RequestTracker notes an edit and a removal until it is rearmed, and neither at first sight", () => {
  const request = tracker({ "": "3" });
  const noted = () => [request.isEdited, request.isRemoved];
  assertEquals(noted(), [false, false]);
  assertEquals(request.update(pod({ "": "3" })), false);
  assertEquals(request.update(pod({ "": "3", hold: "true" })), true);
  assertEquals(noted(), [false, false], "the same capture, held");
  request.update(pod({ "": "4" }));
  request.update(pod({ "": "3" }));
  assertEquals(noted(), [true, false], "it has been another one");
  request.rearm();
  request.update(pod({}));
  request.update(pod({ "": "3" }));
  assertEquals(noted(), [true, true]);
  request.rearm();
  assertEquals(noted(), [false, false]);
});

Deno.test("RequestTracker applies a verdict to its own request only, and in the sandbox that it was about", () => {
  const request = tracker({ "": "3", filter: "udp" });
  const seen = (sandboxId?: string) => {
    const { checked, refused } = request.observed(sandboxId);
    return [checked, refused];
  };
  assertEquals(seen("s1"), [false, undefined]);
  request.judge({ problem: "no", sandboxId: "s1" });
  assertEquals([seen("s1"), seen(), seen("s2")], [[true, "no"], [true, "no"], [false, undefined]]);
  request.update(pod({ "": "3", filter: "tcp" }));
  assertEquals(seen("s1"), [false, undefined]);
  request.judge({ problem: undefined });
  assertEquals([seen("s1"), seen("s2")], [[true, undefined], [true, undefined]]);
  request.update(pod({}));
  request.judge({ problem: "no" });
  assertEquals(seen("s1"), [true, undefined], "nothing is asked for");
});

Deno.test("RequestTracker measures from when a request is first seen, once", () => {
  const request = tracker({ "": "3" });
  assert(request.started()! >= 0);
  assertEquals(request.started(), undefined);
  request.update(pod({ "": "3" }));
  assertEquals(request.started(), undefined);
  request.update(pod({ "": "4" }));
  assert(request.started()! >= 0);
});

Deno.test("RequestTracker reports what a pod without a sandbox waits for, until it has one, and for how long it has had none", () => {
  const { now } = performance;
  let later = 0;
  performance.now = () => now.call(performance) + later;
  try {
    const request = tracker({ "": "3" });
    const lacksFor = () => Math.round(request.lacksSandboxMs / 1000);
    later += 5000;
    assertEquals(lacksFor(), 0, "it was not observed yet");
    for (let i = 0; i < 3; i++, later += 2000) request.observeSandbox(false);
    request.look.found = { uid: "uid-web", nodeName: "node-1", why: "the image is pulled", hasFinished: false };
    assertEquals([lacksFor(), request.observed(undefined).awaits], [6, "the image is pulled"]);
    request.observeSandbox(true);
    assertEquals([lacksFor(), request.observed("s1").awaits], [0, undefined]);
    request.observeSandbox(false);
    later += 9000;
    assertEquals(lacksFor(), 9);
    request.update(pod({ "": "4" }));
    assertEquals(lacksFor(), 0, "something else is asked for");
  } finally {
    performance.now = now;
  }
});

Deno.test("RequestTracker refuses a request in a namespace whose pods are not captured, and no pod that asks for nothing", () => {
  const request = tracker({}, ["default"]);
  assertEquals([request.asked.kind, request.request, request.fingerprint], ["nothing", undefined, ""]);
  assertEquals(request.update(pod({ "": "3" })), true);
  assertEquals([request.asked.kind, request.request], ["invalid", undefined]);
  assertEquals(tracker({ "": "3" }).asked.kind, "valid");
});
