/** PodEvents against a real API server. */
import assert from "node:assert/strict";
import { ApiClient } from "../../../src/pods/api.ts";
import { type PodEvent, PodEvents } from "../../../src/pods/events.ts";
import type { PodRef } from "../../../src/pods/pod.ts";
import { waitFor } from "../../support/wait.ts";
import { ApiServer } from "../../rig/apiserver.ts";
import { NODE, Recorder } from "../../rig/follower.ts";
import { FaultProxy, type Match } from "../../rig/proxy.ts";

let server: ApiServer;
let proxy: FaultProxy;
let api: ApiClient;

const isEvent: Match = ({ url }) => url.pathname.includes("/events");

Deno.test.beforeAll(async () => {
  server = await ApiServer.start();
  proxy = await FaultProxy.start(server);
  const { user, token } = await server.serviceAccount("controller");
  await server.grant(user, [{ apiGroups: ["events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] }]);
  api = await ApiClient.load({ kubeconfig: await server.kubeconfig("controller", { token }, proxy.url) });
});

Deno.test.afterAll(async () => {
  api?.close();
  await proxy?.[Symbol.asyncDispose]();
  await server?.[Symbol.asyncDispose]();
});

interface EventObject {
  readonly metadata: { readonly name: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly type: string;
  readonly reason: string;
  readonly note: string;
  readonly reportingController: string;
  readonly reportingInstance: string;
  readonly regarding: Record<string, string>;
  readonly series?: { readonly count: number };
}

async function eventsOn(pod: PodRef): Promise<EventObject[]> {
  const { items } = await server.call("GET", `/apis/events.k8s.io/v1/namespaces/${pod.namespace}/events`);
  return items.filter(({ regarding }: EventObject) => regarding.uid === pod.uid);
}

async function newPod(name: string, namespace = "default"): Promise<PodRef> {
  const { metadata: { uid } } = await server.createPod({ name, namespace, node: NODE });
  return { namespace, name, uid };
}

function recorder(enabled = true): { events: PodEvents; log: Recorder } {
  const log = new Recorder();
  return { events: new PodEvents({ api, nodeName: NODE, instance: "packet-capture-x7k2p", log, enabled }), log };
}

const REQUEST = "0123456789abcdef";
const STARTED: PodEvent = { type: "Normal", reason: "CaptureStarted", note: "capturing on any, 5 files of 1 MB" };

/** Sends what there is. */
async function flush(events: PodEvents): Promise<void> {
  await events.close(AbortSignal.timeout(10_000));
}

function requests(from: number): string[] {
  return proxy.requests.slice(from).filter(isEvent).map(({ method, status }) => `${method} ${status}`);
}

Deno.test("record() makes an event that kubectl describe pod shows", async () => {
  const pod = await newPod("shown");
  const { events, log } = recorder();
  events.record(pod, STARTED, REQUEST);
  await waitFor("the event", async () => (await eventsOn(pod)).length === 1);
  const [event] = await eventsOn(pod);
  assert.equal(event!.type, "Normal");
  assert.equal(event!.reason, "CaptureStarted");
  assert.equal(event!.note, STARTED.note);
  assert.equal(event!.reportingController, "packet-capture");
  assert.equal(event!.reportingInstance, "packet-capture-x7k2p");
  assert.deepEqual(event!.regarding, { apiVersion: "v1", kind: "Pod", ...pod });
  // What kubectl describe asks for.
  const fields = encodeURIComponent(`involvedObject.uid=${pod.uid}`);
  const { items } = await server.call("GET", `/api/v1/namespaces/default/events?fieldSelector=${fields}`);
  assert.equal(items[0].message, STARTED.note);
  assert.deepEqual(log.lines, []);
  await flush(events);
});

Deno.test("record() counts repeats in one event, and others apart", async () => {
  const [pod, other] = [await newPod("repeats"), await newPod("repeats-not")];
  const from = proxy.requests.length;
  const { events } = recorder();
  events.record(pod, STARTED, REQUEST);
  await waitFor("the event", async () => (await eventsOn(pod)).length === 1);
  for (let i = 0; i < 50; i++) events.record(pod, STARTED, REQUEST);
  events.record(other, STARTED, REQUEST);
  events.record(pod, { ...STARTED, type: "Warning", reason: "CaptureFailed" }, REQUEST);
  await flush(events);
  const found = await eventsOn(pod);
  assert.deepEqual(found.map(({ reason, series }) => [reason, series?.count]).sort(), [
    ["CaptureFailed", undefined],
    ["CaptureStarted", 51],
  ]);
  assert.equal((await eventsOn(other)).length, 1);
  assert.deepEqual(requests(from).sort(), ["PATCH 200", "POST 201", "POST 201", "POST 201"]);
});

Deno.test("record() sends a repeat at once where it is the first word on a request, and reports which request it answers", async () => {
  const pod = await newPod("answered");
  const { events } = recorder();
  events.record(pod, STARTED, REQUEST, true);
  await waitFor("the event", async () => (await eventsOn(pod)).length === 1);
  const since = performance.now();
  events.record(pod, STARTED, REQUEST, false);
  events.record(pod, STARTED, REQUEST, true);
  await waitFor("the repeats to be counted", async () => (await eventsOn(pod))[0]?.series?.count === 3);
  assert(performance.now() - since < 5000, `${performance.now() - since} ms`);
  assert.deepEqual((await eventsOn(pod))[0]?.metadata.annotations, { "packet-capture.antrea.io/request": REQUEST });
  // Another request's is another Event, though it is in the same words.
  events.record(pod, STARTED, "fedcba9876543210", true);
  await waitFor("the other one", async () => (await eventsOn(pod)).length === 2);
  await flush(events);
});

Deno.test("record() sends a repeat at once that was recorded while the event was on its way", async () => {
  const pod = await newPod("on-its-way");
  const { events } = recorder();
  events.record(pod, STARTED, REQUEST, true);
  events.record(pod, STARTED, REQUEST, true);
  const since = performance.now();
  await waitFor("the repeat to be counted", async () => (await eventsOn(pod))[0]?.series?.count === 2);
  assert(performance.now() - since < 5000, `${performance.now() - since} ms`);
  await flush(events);
});

Deno.test("record() makes an event again that the API server has deleted", async () => {
  const pod = await newPod("forgotten");
  const { events } = recorder();
  events.record(pod, STARTED, REQUEST);
  await waitFor("the event", async () => (await eventsOn(pod)).length === 1);
  const [{ metadata: { name } }] = await eventsOn(pod) as [EventObject];
  await server.call("DELETE", `/apis/events.k8s.io/v1/namespaces/default/events/${name}`);
  events.record(pod, STARTED, REQUEST);
  await flush(events);
  assert.deepEqual((await eventsOn(pod)).map(({ series }) => series?.count), [2]);
});

Deno.test("record() cuts notes and names to what the API server takes", async () => {
  const pod = await newPod(`${"n".repeat(236)}.${"m".repeat(16)}`);
  const { events, log } = recorder();
  // 4 bytes each, and the limit falls in the middle of one.
  events.record(pod, { ...STARTED, note: "x" + "🦈".repeat(5000) }, REQUEST);
  events.record(pod, { ...STARTED, note: "control \u0000 \u001b characters and half a pair \ud83e" }, REQUEST);
  await flush(events);
  const notes = (await eventsOn(pod)).map(({ note }) => note).sort();
  assert.equal(notes.length, 2, JSON.stringify(log.lines));
  assert.ok(new TextEncoder().encode(notes[1]).length <= 1024);
  assert.match(notes[1]!, /^x(🦈)+…$/u);
});

Deno.test("record() makes an event's note printable, whatever a filter or an interface's name holds", async () => {
  const pod = await newPod("printable");
  const { events } = recorder();
  const note =
    "capturing on \u001b]0;x\u0007eth0, filter udp\n  Normal  Fake  node says\u202e 08 trop\u2028, 5 files of 1 MB";
  events.record(pod, { ...STARTED, note }, REQUEST);
  await flush(events);
  assert.deepEqual((await eventsOn(pod)).map(({ note }) => note), [
    "capturing on \\x1b]0;x\\x07eth0, filter udp\\n  Normal  Fake  node says\\u202e 08 trop\\u2028, 5 files of 1 MB",
  ]);
});

Deno.test("record() gives up at once in a namespace that is being deleted, and reports it once", async () => {
  await server.createNamespace("ending");
  const pod = await newPod("last", "ending");
  await server.terminateNamespace("ending");
  const from = proxy.requests.length;
  const { events, log } = recorder();
  events.record(pod, STARTED, REQUEST);
  await waitFor("the log", () => log.lines.length === 1);
  assert.match(String(log.lines[0]!.fields.error), /^403 .*because it is being terminated/);
  await flush(events);
  assert.deepEqual(requests(from), ["POST 403"]);
});

Deno.test("record() tries again after failures, as late as the server demands", async () => {
  const pod = await newPod("retried");
  const { events, log } = recorder();
  const from = proxy.requests.length;
  proxy.answerNext(503, { match: isEvent });
  proxy.answerNext(429, { match: isEvent, headers: { "Retry-After": "3" } });
  const begun = performance.now();
  events.record(pod, STARTED, REQUEST);
  await waitFor("the event", async () => (await eventsOn(pod)).length === 1);
  assert.ok(performance.now() - begun >= 3000);
  assert.deepEqual(requests(from), ["POST 503", "POST 429", "POST 201"]);
  assert.deepEqual(log.lines, []);
  await flush(events);
});

Deno.test("record() does not make an event twice when only the answer was lost", async () => {
  const pod = await newPod("once");
  const { events } = recorder();
  proxy.cutNextBody(isEvent);
  events.record(pod, STARTED, REQUEST);
  await waitFor("the cut", () => proxy.count("cut") >= 1);
  await waitFor("the second try", () => proxy.requests.filter((r) => isEvent(r) && r.status === 409).length === 1);
  events.record(pod, STARTED, REQUEST);
  await flush(events);
  assert.deepEqual((await eventsOn(pod)).map(({ series }) => series?.count), [2]);
});

Deno.test("record() sends five different events of a reason at once, drops the flood after them, and nothing else", async () => {
  const [pod, other] = [await newPod("flood"), await newPod("quiet")];
  const { events, log } = recorder();
  for (let i = 0; i < 100; i++) events.record(pod, { ...STARTED, note: `attempt ${i}` }, REQUEST);
  events.record(pod, { ...STARTED, reason: "CaptureStopped" }, REQUEST);
  events.record(other, STARTED, REQUEST);
  await flush(events);
  const reasons = (await eventsOn(pod)).map(({ reason }) => reason).sort();
  assert.deepEqual(reasons, [...Array(5).fill("CaptureStarted"), "CaptureStopped"]);
  assert.equal((await eventsOn(other)).length, 1);
  assert.equal(log.lines.filter(({ level }) => level === "debug").length, 95);
});

Deno.test("record() asks about a refused event no more often than about one that was taken", async () => {
  await server.createNamespace("ended");
  const pod = await newPod("last", "ended");
  await server.terminateNamespace("ended");
  const elsewhere = await newPod("elsewhere");
  const { events, log } = recorder();
  const from = proxy.requests.length;
  events.record(pod, STARTED, REQUEST);
  await waitFor("the refusal", () => log.lines.length === 1);
  for (let i = 0; i < 5; i++) {
    events.record(pod, STARTED, REQUEST);
    events.record(elsewhere, { ...STARTED, note: `${i}` }, REQUEST);
    await waitFor("another pod's event", async () => (await eventsOn(elsewhere)).length === i + 1);
  }
  assert.equal(requests(from).filter((request) => request === "POST 403").length, 1);
  assert.equal(log.lines.length, 1);
  await flush(events);
});

Deno.test("record() does nothing when events are off, and nothing after close()", async () => {
  const pod = await newPod("off");
  const from = proxy.requests.length;
  const off = recorder(false).events;
  off.record(pod, STARTED, REQUEST);
  await flush(off);
  const closed = recorder().events;
  await flush(closed);
  closed.record(pod, STARTED, REQUEST);
  assert.deepEqual(requests(from), []);
});

Deno.test("close() sends what waits, but no longer than it is given", async () => {
  const pod = await newPod("closing");
  const first = recorder().events;
  proxy.answerNext(503, { match: isEvent });
  first.record(pod, STARTED, REQUEST);
  await waitFor("the failure", () => proxy.count("answer 503") >= 1);
  await flush(first);
  assert.equal((await eventsOn(pod)).length, 1, "the back-off is not waited for");

  const second = recorder().events;
  await proxy.refuse();
  for (let i = 0; i < 5; i++) second.record(pod, { ...STARTED, note: `late ${i}` }, REQUEST);
  await proxy.calm();
  proxy.blackhole();
  const begun = performance.now();
  await second.close(AbortSignal.timeout(300));
  assert.ok(performance.now() - begun < 1500);
  await proxy.calm();
});
