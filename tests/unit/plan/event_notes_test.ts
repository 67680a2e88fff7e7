/** The words of the Events on a pod. */
import { deepStrictEqual as assertEquals, strictEqual as assertSame } from "node:assert/strict";
import * as notes from "../../../src/plan/event_notes.ts";
import type { Desired } from "../../../src/plan/plan.ts";
import type { CaptureRequest } from "../../../src/spec/request.ts";

const REQUEST: CaptureRequest = { files: 5, fileSizeMB: 1, snaplen: 262_144, interface: "eth0", direction: "inout" };
const KEPT = "its files are kept while the annotation is there";
const NEWS = { podIsGoing: false, isAnswer: false };
const ANSWER = { podIsGoing: false, isAnswer: true };
const of = (state: Desired["state"], before: Desired["state"], about = NEWS) => {
  const event = notes.eventFor({ state, reason: "the reason" }, before, about);
  return event && `${event.type} ${event.reason}: ${event.note}`;
};

Deno.test("eventFor() reports why a capture is not under way, whatever it was before", () => {
  const always: [state: Desired["state"], words: string][] = [
    ["rejected", "Warning CaptureRejected: The reason"],
    ["waiting", "Warning CaptureWaiting: Queued: the reason"],
    ["paused", "Warning CapturePaused: Paused: the reason; it resumes by itself"],
    ["completed", `Normal CaptureCompleted: Duration or packet count reached: ${KEPT}`],
  ];
  for (const [state, words] of always) {
    for (const before of ["none", "capturing", "pending"] as const) {
      for (const about of [NEWS, ANSWER, { podIsGoing: true, isAnswer: false }]) {
        assertSame(of(state, before, about), words);
      }
    }
  }
});

Deno.test("eventFor() reports that a capture stopped if one ran, or if that answers the request", () => {
  const held = `Normal CaptureStopped: Held: stopped and flushed, ${KEPT}`;
  assertEquals([of("held", "capturing"), of("held", "none", ANSWER), of("held", "none")], [held, held, undefined]);
  const ended = `Normal CaptureStopped: The pod's sandbox has ended: ${KEPT}`;
  for (const state of ["pending", "finished"] as const) {
    assertEquals([of(state, "capturing"), of(state, "capturing", ANSWER), of(state, "none")], [
      ended,
      ended,
      undefined,
    ]);
    for (const before of ["capturing", "none"] as const) {
      assertSame(of(state, before, { podIsGoing: true, isAnswer: true }), undefined);
    }
  }
  assertSame(of("pending", "none", ANSWER), "Normal CapturePending: The reason");
  assertSame(of("finished", "none", ANSWER), "Normal CaptureStopped: The reason");
});

Deno.test("eventFor() reports nothing of a capture that runs, fails, or is none", () => {
  for (const state of ["capturing", "failing", "none"] as const) {
    for (const about of [NEWS, ANSWER]) assertSame(of(state, "pending", about), undefined);
  }
});

Deno.test("the Events of a run report what is captured, and since when it was not", () => {
  assertEquals(notes.started(REQUEST, undefined, "the controller was restarted"), {
    type: "Normal",
    reason: "CaptureStarted",
    note: "Capturing: 5 files of 1 MB, interface eth0",
  });
  assertEquals(notes.started(REQUEST, "2026-01-31T12:00:00.000Z", "the controller was restarted"), {
    type: "Normal",
    reason: "CaptureRestarted",
    note: "Capturing again (5 files of 1 MB, interface eth0): the controller was restarted; " +
      "not captured since 2026-01-31T12:00:00.000Z",
  });
  assertEquals(notes.servedOn(REQUEST), {
    type: "Normal",
    reason: "CaptureStarted",
    note: "Capturing: 5 files of 1 MB, interface eth0; tcpdump goes on as it is",
  });
  assertEquals(notes.failed("tcpdump ended"), {
    type: "Warning",
    reason: "CaptureFailed",
    note: "tcpdump ended; the controller retries",
  });
  assertEquals(notes.filesDeleted(2, 1_300_000), {
    type: "Normal",
    reason: "CaptureStopped",
    note: "Annotation removed: deleted 2 files (1.3 MB)",
  });
});

Deno.test("noPackets() reports where none came, with which filter, and what interfaces there are", () => {
  const note = (request: CaptureRequest, ...interfaces: string[]) => {
    const { note, ...event } = notes.noPackets(request, 30.9, interfaces);
    assertEquals(event, { type: "Normal", reason: "CaptureNoPackets" });
    return note;
  };
  assertSame(note(REQUEST), "No packets came in the first 30 s on interface eth0");
  assertSame(
    note({ ...REQUEST, filter: "udp" }, "lo", "net1"),
    "No packets came in the first 30 s on interface eth0 with filter udp; the pod has lo, net1",
  );
});

Deno.test("packetsDropped() names what helps, without numbers, lest each is another Event", () => {
  const note = (isSteady: boolean, isThrottled: boolean) => {
    const { type, reason, note } = notes.packetsDropped({ isSteady, isThrottled });
    assertEquals([type, reason, /\d/.test(note)], ["Warning", "CapturePacketsDropped", false]);
    return note;
  };
  const count = "(packet-capture list shows how many)";
  assertSame(note(false, false), `The kernel dropped packets in a burst ${count}: a larger buffer-size helps`);
  assertSame(
    note(true, false),
    `The kernel dropped packets because more come than tcpdump can write ${count}: a filter or a smaller snaplen helps`,
  );
  for (const isSteady of [false, true]) {
    assertSame(
      note(isSteady, true),
      `The kernel dropped packets because the controller is at its CPU limit ${count}: a filter, a smaller snaplen or ` +
        "a higher limit (resources.limits.cpu of the chart) helps",
    );
  }
});
