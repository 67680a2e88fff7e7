/**
 * `start` says only what the node's list confirms of the request that it made: real API server, real kubectl, real Events. The test plays
 * the controller, and its list by a kubectl whose `exec` answers what a file says.
 */
import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { join } from "@std/path";
import { requestOf } from "../../../src/plugin/commands/request.ts";
import { REQUEST_ANNOTATION } from "../../../src/spec/event.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { controllerPod, eventually, install, Sandbox } from "./rig.ts";

const KEY = "tcpdump.antrea.io";
const PODS = "/api/v1/namespaces/default/pods";
const EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events";
const X = { [KEY]: "5", [`${KEY}/filter`]: "udp" };
const Y = { [KEY]: "5", [`${KEY}/filter`]: "host no.such.name" };

let server: ApiServer;
let sandbox: Sandbox;
Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  await server.createNamespace("packet-capture");
  await install(server, [controllerPod("worker1")]);

  sandbox = await Sandbox.create();
  const found = await new Deno.Command("sh", { args: ["-c", "command -v kubectl"] }).output();
  const kubectl = new TextDecoder().decode(found.stdout).trim();
  await Deno.writeTextFile(
    sandbox.path("bin/kubectl"),
    `#!/bin/sh\nif [ "$1" != exec ]; then exec '${kubectl}' "$@"; fi\n` +
      `echo look >>'${sandbox.path("looks")}'\ncat '${sandbox.path("refusal")}' >&2 && exit 1\n` +
      `cat '${sandbox.path("rows.json")}'\n`,
  );
});
Deno.test.afterAll(async () => {
  await sandbox?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

/** A pod on worker1, and an empty list of that node, which may be asked. */
async function pod(name: string, annotations: Record<string, string> = {}): Promise<{ uid: string }> {
  await rows([]);
  await Deno.remove(sandbox.path("refusal")).catch(() => {});
  await Deno.writeTextFile(sandbox.path("looks"), "");
  await server.createPod({ name, node: "worker1", annotations });
  return { uid: (await server.call("GET", `${PODS}/${name}`)).metadata.uid };
}

function start(name: string, filter: string, more: readonly string[] = []) {
  return sandbox.run(["start", name, "--filter", filter, ...more], { env: env() });
}

function env() {
  return { KUBECONFIG: join(server.dir, "admin.kubeconfig") };
}

/** Waits until the pod's annotations are those of a request. */
async function asked(name: string, request: Record<string, string>): Promise<void> {
  await eventually(async () => {
    const { metadata: { annotations = {} } } = await server.call("GET", `${PODS}/${name}`);
    return requestOf(KEY, annotations) === requestOf(KEY, request);
  });
}

/** Waits until the plugin has looked once more at the list. */
async function lookedAt(): Promise<void> {
  const looks = async () => (await Deno.readTextFile(sandbox.path("looks"))).length;
  const before = await looks();
  await eventually(async () => await looks() > before);
}

async function rows(rows: readonly unknown[]): Promise<void> {
  await Deno.writeTextFile(sandbox.path("rows.new"), JSON.stringify(rows));
  await Deno.rename(sandbox.path("rows.new"), sandbox.path("rows.json"));
}

function row(name: string, uid: string, request: Record<string, string> | undefined, more: Record<string, unknown>) {
  return {
    ...{ namespace: "default", pod: name, uid, state: "capturing", reason: "", since: null, files: 1, bytes: 0 },
    ...{ packets: 0, dropped: 0, oldest: null, newest: null, filter: null },
    ...(request === undefined ? {} : { request: requestOf(KEY, request), listening: false }),
    ...more,
  };
}

/** Records an Event; `request`: that it answers, undefined: an older controller. */
async function event(
  name: string,
  uid: string,
  reason: string,
  note: string,
  request: Record<string, string> | undefined,
): Promise<string> {
  const annotations = request === undefined ? {} : { [REQUEST_ANNOTATION]: requestOf(KEY, request) };
  const { metadata } = await server.call("POST", EVENTS, {
    metadata: { name: `${name}.${crypto.randomUUID()}`, annotations },
    eventTime: new Date().toISOString().replace("Z", "000Z"),
    ...{ reportingController: "packet-capture", reportingInstance: "x", action: "Capture", type: "Normal" },
    ...{ reason, note, regarding: { kind: "Pod", namespace: "default", name, uid } },
  });
  return metadata.name;
}

/** Counts an Event once more, as a controller does that held the repeat back. */
async function repeat(name: string): Promise<void> {
  const series = { count: 2, lastObservedTime: "2026-01-01T00:00:00.000000Z" };
  await server.call("PATCH", `${EVENTS}/${name}`, { series });
}

Deno.test("start never reports capturing for a repeat of an earlier request's Event: the list reports failing", async () => {
  const { uid } = await pod("web", X);
  const earlier = await event("web", uid, "CaptureStarted", "Capturing", X);
  await rows([row("web", uid, X, { listening: true })]);
  const [{ code, text, stderr }] = await Promise.all([
    start("web", "host no.such.name"),
    (async () => {
      await asked("web", Y);
      await lookedAt();
      await repeat(earlier);
      await lookedAt();
      await rows([row("web", uid, Y, { state: "failing", reason: "unknown host" })]);
    })(),
  ]);
  deepStrictEqual([code, text, stderr], [
    1,
    "",
    `default/web: failing: unknown host; changed: filter "udp" → "host no.such.name"\n`,
  ]);
});

Deno.test("start reports capturing only once tcpdump listens, even where an Event of this request came before", async () => {
  const { uid } = await pod("soon");
  const earlier = await event("soon", uid, "CaptureStarted", "Capturing", X);
  const [{ code, text, stderr }] = await Promise.all([
    start("soon", "udp"),
    (async () => {
      await asked("soon", X);
      await rows([row("soon", uid, X, {})]);
      await repeat(earlier);
      await lookedAt();
      await lookedAt();
      await rows([row("soon", uid, X, { listening: true })]);
    })(),
  ]);
  deepStrictEqual([code, text, stderr], [
    0,
    "default/soon: capturing on node worker1 (5 files of 1 MB, filter udp)\n",
    "",
  ]);
});

Deno.test("start reports that what it asked for never came to listen", async () => {
  const { uid } = await pod("deaf");
  await rows([row("deaf", uid, X, {})]);
  const { code, text, stderr } = await start("deaf", "udp", ["--wait", "1s"]);
  match(stderr, /^default\/deaf: annotated, but tcpdump does not listen after 1 s /);
  deepStrictEqual([code, text], [1, ""]);
});

Deno.test("start finds a capture that is completed, and answers at once, without an Event", async () => {
  const { uid } = await pod("ten", X);
  const ten = { ...X, [`${KEY}/packets`]: "10" };
  await rows([row("ten", uid, ten, { state: "completed" })]);
  const began = performance.now();
  const { code, text, stderr } = await start("ten", "udp", ["--packets", "10", "--wait", "60s"]);
  ok(performance.now() - began < 45_000, "it waited for its whole time");
  deepStrictEqual([code, text, stderr], [
    0,
    "default/ten: completed on node worker1 (5 files of 1 MB, filter udp, for 10 packets): " +
    "its duration or packet count is reached, its files are kept; changed: packets none → 10\n",
    "",
  ]);
});

Deno.test("start that drops options of an earlier request names them, with what they were and are", async () => {
  const before = {
    ...{ [KEY]: "5", [`${KEY}/filter`]: "tcp port 80", [`${KEY}/file-size`]: "2", [`${KEY}/snaplen`]: "128" },
    ...{ [`${KEY}/interface`]: "eth0", [`${KEY}/direction`]: "in", [`${KEY}/duration`]: "10m" },
    ...{ [`${KEY}/packets`]: "10", [`${KEY}/hold`]: "true" },
  };
  const { uid } = await pod("edited", before);
  await rows([row("edited", uid, { [KEY]: "8" }, { listening: true })]);
  const { code, text, stderr } = await sandbox.run(["start", "edited", "--files", "8"], { env: env() });
  deepStrictEqual([code, text, stderr], [
    0,
    "default/edited: capturing on node worker1 (8 files of 1 MB); changed: files 5 → 8, " +
    'filter "tcp port 80" → none, file-size 2 → 1, snaplen 128 → 262144, interface eth0 → any, ' +
    "direction in → inout, duration 10m → none, packets 10 → none, hold true → false\n",
    "",
  ]);
});

Deno.test("start reports at once that a pod without a sandbox is pending, and why", async () => {
  const { uid } = await pod("late");
  await rows([row("late", uid, X, { state: "pending", reason: "no ConfigMap" })]);
  const began = performance.now();
  const { code, text, stderr } = await start("late", "udp", ["--wait", "60s"]);
  ok(performance.now() - began < 45_000, "it waited for its whole time");
  deepStrictEqual([code, text, stderr], [
    0,
    "default/late: annotated; captured once it runs, until then pending: no ConfigMap\n",
    "",
  ]);
});

Deno.test("start takes the Events of this request alone where the user may not ask the node", async () => {
  const { uid } = await pod("blind");
  const refusal = 'Error from server (Forbidden): pods "x" is forbidden: User "dev" cannot create resource ' +
    '"pods/exec" in API group "" in the namespace "packet-capture"\n';
  await Deno.writeTextFile(sandbox.path("refusal"), refusal);
  const earlier = await event("blind", uid, "CaptureStarted", "Capturing", X);
  const [{ code, text, stderr }] = await Promise.all([
    start("blind", "host no.such.name"),
    (async () => {
      await asked("blind", Y);
      await repeat(earlier);
      await event("blind", uid, "CaptureFailed", "unknown host", Y);
    })(),
  ]);
  deepStrictEqual([code, text, stderr], [
    1,
    "",
    `default/blind: failed: unknown host\n`,
  ]);
  strictEqual((await Deno.readTextFile(sandbox.path("looks"))).trim(), "look", "it was asked again");
});

Deno.test("start takes an older controller's Events as they are, and reports it once", async () => {
  const { uid } = await pod("old");
  await rows([row("old", uid, undefined, {})]);
  const [{ code, text, stderr }] = await Promise.all([
    start("old", "udp"),
    asked("old", X).then(() => event("old", uid, "CaptureStarted", "Capturing", undefined)),
  ]);
  deepStrictEqual([code, text, stderr], [
    0,
    "default/old: capturing on node worker1 (5 files of 1 MB, filter udp)\n",
    "The controller of node worker1 is older than this plugin and does not name the request that it answers: " +
    "an answer may be one to an earlier request\n",
  ]);
});

Deno.test("start never passes over what an older controller lists, whatever the state", async () => {
  const { uid } = await pod("older");
  await rows([row("older", uid, undefined, { state: "unknown" })]);
  const { code, text, stderr } = await start("older", "udp", ["--wait", "1s"]);
  match(stderr, /^default\/older: annotated; unknown$/m);
  deepStrictEqual([code, text], [1, ""]);
});

Deno.test("stop waits for the Event that answers it, not for an earlier one", async () => {
  const { uid } = await pod("end", X);
  await rows([row("end", uid, X, { listening: true })]);
  const [{ code, text }] = await Promise.all([
    sandbox.run(["stop", "end", "--yes"], { env: env() }),
    (async () => {
      await asked("end", {});
      await event("end", uid, "CaptureStopped", "Held: its files are kept", { ...X, [`${KEY}/hold`]: "true" });
      await event("end", uid, "CaptureStopped", "Annotation removed", {});
    })(),
  ]);

  deepStrictEqual([code, text], [0, "default/end: Annotation removed\n"]);
});
