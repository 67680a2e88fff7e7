/** Starts with a filter take turns; tcpdump's verdict on a filter where it is started. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { join } from "@std/path";
import { lasting, waitFor } from "../../support/wait.ts";
import { exists, World } from "./world.ts";

/** Pods of a namespace that ask for a capture with the same filter. */
function ask(world: World, namespace: string, names: readonly string[]): void {
  for (const name of names) {
    world.sandbox(name, "s1", `uid-${name}`, namespace);
    world.annotate(name, { "": "1", filter: "udp" }, { namespace });
  }
}

const numbered = (name: string, n: number) => Array.from({ length: n }, (_, i) => `${name}-${i}`);

Deno.test("Captures starts two captures with a filter of a namespace at a time, and no other waits for them", async () => {
  await using world = await World.start();
  world.steer("mute", "");
  ask(world, "default", numbered("many", 10));
  await waitFor("the first starts", () => world.calls("starts") === 2, { everyMs: 5 });
  // Neither another namespace nor a request without a filter waits.
  ask(world, "other", ["b-1"]);
  await waitFor("the start in the other namespace", () => world.calls("starts") === 3, { everyMs: 5 });
  world.sandbox("plain");
  world.annotate("plain", { "": "1" });
  await waitFor("the start without a filter", () => world.calls("starts") === 4, { everyMs: 5 });
  assertEquals(world.calls("starts"), 4);
  world.steer("mute", undefined);
  await waitFor("all of them", () => world.events.filter((event) => event.includes("CaptureStarted")).length === 12, {
    timeoutMs: 20_000,
    everyMs: 5,
  });
  assertEquals(world.calls("checks"), 1, "one for all");
});

Deno.test("Captures gives back the turn of a start that fails, is killed, or is not wanted any more", async () => {
  await using world = await World.start();
  world.steer("mute", "");
  ask(world, "default", ["a", "b", "c", "d"]);
  await waitFor("the first starts", () => world.calls("starts") === 2, { everyMs: 5 });
  // One that waits is edited, one is not wanted any more.
  world.annotate("c", { "": "2", filter: "udp" });
  world.annotate("d", {});
  for (const pid of world.processes()) Deno.kill(pid, "SIGKILL");
  world.steer("mute", undefined);
  for (const name of ["a", "b", "c"]) await world.capturing(name);
  assert((await world.manifest("c"))?.request?.files === 2);
  await world.clean("d");
  world.steer("mute", "");
  ask(world, "default", ["e", "f", "g"]);
  await waitFor("two starts", () => world.processes().length === 5, { everyMs: 5 });
  world.gone("e");
  world.gone("f");
  await waitFor("the next start", () => world.events.length > 0 && world.processes().length === 4, { everyMs: 5 });
});

Deno.test("Captures.stop() ends at once though starts wait for a turn", async () => {
  await using world = await World.start();
  world.steer("mute", "");
  ask(world, "default", numbered("many", 10));
  await waitFor("the first starts", () => world.calls("starts") === 2, { everyMs: 5 });
  const begin = performance.now();
  await world.stop();
  assert(performance.now() - begin < 3000);
  assertEquals(world.processes(), []);
  assertEquals(world.calls("starts"), 2);
});

Deno.test("Captures refuses a filter that does not compile on the pod's interface, once and for good", async () => {
  await using world = await World.start();
  world.steer("fail", "no VLAN support for Raw IP");
  world.steer("link", "RAW");
  world.steer("check", `case "$*" in *"RAW -- vlan"*) echo "tcpdump: no VLAN support for Raw IP" >&2; exit 1; esac`);
  world.sandbox("web");
  world.annotate("web", { "": "3", filter: "vlan", interface: "wg0" });
  const told = await world.told(/CaptureRejected/);
  assert(told.includes("filter does not compile: no VLAN support for Raw IP"), told);
  assert(told.includes("(interface wg0 is RAW)"), told);
  const starts = world.calls("starts");
  world.sandbox("web");
  const until = performance.now() + 1000; // a failure is tried again after 0.25 s
  await lasting("no further start", () => performance.now() > until, () => assertEquals(world.calls("starts"), starts));
  assertEquals(starts, 1);
  // In another sandbox the interface may be another one.
  world.steer("fail", undefined);
  world.sandbox("web", "s2");
  await world.capturing("web");
});

Deno.test("Captures starts with a filter that compiles on the pod's interface though not on Ethernet", async () => {
  await using world = await World.start();
  world.steer("link", "RAW");
  world.steer("check", `case "$*" in *EN10MB*) echo "tcpdump: not on Ethernet" >&2; exit 1; esac`);
  world.sandbox("web");
  world.annotate("web", { "": "3", filter: "odd", interface: "wg0" });
  await world.capturing("web");
});

Deno.test("Captures refuses a filter that runs out of memory only when it is started, and tries again what was killed", async () => {
  await using world = await World.start();
  world.steer("fail", "malloc");
  world.sandbox("web");
  world.annotate("web", { "": "3", filter: "udp" });
  assert((await world.told(/CaptureRejected/)).includes("filter is too complex: tcpdump needs more than 64 MB"));
  assertEquals(world.calls("starts"), 1);
  world.steer("fail", "eth0: That device is not up");
  world.annotate("web", { "": "2", filter: "udp" });
  await world.told(/CaptureFailed: .*the controller retries/);
  world.steer("fail", undefined);
  await world.capturing("web");
});

Deno.test("Captures names an interface that is missing or down, and those that the pod has, and tries again", async () => {
  await using world = await World.start();
  const has = "(the pod has eth0 [Up, Running, Connected], lo [Up, Running, Loopback])";
  const mustBe = "annotation tcpdump.antrea.io/interface must be an interface of the pod that is up, or any";
  const causes = [
    ["web", "eth9: No such device exists\n(No such device exists)", "the pod has no such interface"],
    ["db", "eth9: That device is not up", "it is not up"],
  ] as const;
  for (const [name, said, what] of causes) {
    world.steer("fail", said);
    world.sandbox(name);
    world.annotate(name, { "": "3", interface: "eth9" });
    const told = await world.told(new RegExp(`uid-${name} CaptureFailed`));
    const note = `Cannot capture on interface eth9: ${what} ${has}; ${mustBe}; the controller retries`;
    assertEquals(told, `uid-${name} CaptureFailed: ${note}`);
    world.steer("fail", undefined);
    await world.capturing(name);
  }
});

Deno.test("a start that failed is not reported on the next pod of the name, though it came while the cause was looked for", async () => {
  await using world = await World.start();
  const listing = join(world.dir, "listing");
  world.steer("devices", `touch ${listing}; while [ -e "$here/fail" ]; do sleep 0.01; done`);
  world.steer("fail", "eth9: That device is not up");
  world.sandbox("web");
  world.annotate("web", { "": "3", interface: "eth9" });
  await waitFor("the question for interfaces", () => exists(listing), { everyMs: 5 });
  // Both come in one turn, as from a list.
  const owner = { namespace: "default", name: "web", uid: "uid-web-2" };
  world.sandboxes.set("uid-web-2", { ...world.sandboxes.get("uid-web")!, id: "s2", owner });
  world.gone("web");
  world.annotate("web", { "": "3" }, { uid: "uid-web-2" });
  world.steer("fail", undefined);
  await world.told(/^uid-web-2 CaptureStarted/);
  assertEquals(world.events.filter((event) => /^uid-web-2 CaptureFailed/.test(event)), []);
});

Deno.test("Captures checks few of a thousand edits, and another namespace's filter meanwhile", async () => {
  await using world = await World.start();
  world.steer("check", "sleep 0.05");
  ask(world, "edited", ["edited"]);
  ask(world, "other", ["other"]);
  let edits = 0;
  while (edits < 1000) {
    world.annotate("edited", { "": "1", filter: `port ${++edits}` }, { namespace: "edited" });
    if (edits % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  ask(world, "third", ["third"]);
  await Promise.all(["other", "third"].map((name) => world.told(new RegExp(`uid-${name} CaptureStarted`))));
  await world.told(/uid-edited Capture(Started|Restarted).*port 1000/);
  assert(world.calls("checks") < 30, `${world.calls("checks")} checks`);
  assertEquals(world.lines.filter((line) => /failed/.test(line)), []);
});
