import assert from "node:assert/strict";
import { Report } from "../../../src/captures/report.ts";
import { getLog } from "../../../src/log.ts";
import type { Pod } from "../../../src/pods/pod.ts";
import { requestHash } from "../../../src/spec/annotations.ts";
import type { Manifest } from "../../../src/store/manifest.ts";

const ANNOTATIONS = { "tcpdump.antrea.io": "five" };
const HASH = requestHash(ANNOTATIONS);
const SINCE = "2026-01-31T12:00:00.000Z";
const pod = { namespace: "default", name: "web", uid: "u", annotations: ANNOTATIONS } as unknown as Pod;

/** Returns a report in which a former controller has rejected the request, and the notes of its Events. */
function restored(): { report: Report; notes: string[] } {
  const notes: string[] = [];
  const report = new Report({ log: getLog(), record: (_pod, { note }) => notes.push(note) });
  const manifest = { state: "rejected", reason: "as it was said", since: SINCE, annotations: ANNOTATIONS };
  report.restore(manifest as unknown as Manifest);
  report.found();
  return { report, notes };
}

function settle(report: Report, reason: string, request = HASH): void {
  const { news } = report.settle({ state: "rejected", reason }, request, true, pod);
  if (news) report.say(news, request, pod, false);
}

Deno.test("a rejection that a restarted controller words otherwise is reported no second time, and keeps its time", () => {
  const { report, notes } = restored();
  settle(report, "as it is said now");
  assert.deepEqual(notes, []);
  assert.equal(report.since.toISOString(), SINCE);
  assert.deepEqual(report.desired, { state: "rejected", reason: "as it is said now" });
});

Deno.test("a rejection is reported for another reason later, and for another request at once", () => {
  const later = restored();
  settle(later.report, "as it is said now");
  settle(later.report, "another reason");
  assert.deepEqual(later.notes, ["Another reason"]);
  assert.notEqual(later.report.since.toISOString(), SINCE);
  const other = restored();
  settle(other.report, "another request's", requestHash({}));
  assert.deepEqual(other.notes, ["Another request's"]);
});
