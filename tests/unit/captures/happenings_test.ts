/** Captures by properties: whatever happens, in whatever order, each settles as the invariant (design, section 2) demands. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { waitFor } from "../../support/wait.ts";
import { exists, World } from "./world.ts";

const NAMES = ["web", "web-1", "db", "job"] as const;

const happening = fc.record({
  is: fc.constantFrom(
    ...["annotated", "annotated", "annotated", "un-annotated", "deleted", "replaced", "replaced"] as const,
    ...["sandbox ended", "sandbox re-created", "tcpdump killed", "tcpdump ended", "controller restarted"] as const,
  ),
  name: fc.constantFrom(...NAMES),
  annotations: fc.constantFrom<Record<string, string>>(
    { "": "3" },
    { "": "2" },
    { "": "3", filter: "udp" },
    { "": "3", hold: "true" },
    { "": "3", packets: "5" },
    { "": "none" },
  ),
  /** Milliseconds until the next: a start takes some ten, a flush twenty (World's timing). */
  pause: fc.oneof(fc.constant(0), fc.constant(0), fc.nat(60)),
});

interface Pod {
  readonly uid: string;
  annotations: Record<string, string>;
  sandbox: string | undefined;
}

/** Returns the argument vectors of all processes that capture. */
function commands(world: World): string[][] {
  return world.processes().map((pid) => {
    try {
      return Deno.readTextFileSync(`/proc/${pid}/cmdline`).split("\0");
    } catch {
      return [];
    }
  });
}

/** Asserts that a pod's capture is where it ought to be. @returns its state. */
async function isRight(world: World, name: string, pod: Pod | undefined): Promise<string | undefined> {
  const mine = commands(world).filter((argv) => argv.includes(`${world.folder(name)}/capture-${name}.pcap`));
  if (!pod?.annotations[""]) {
    assert(mine.length === 0 && !exists(world.folder(name)), `${name} has left something`);
    return undefined;
  }
  const { "": n, hold, packets, filter } = pod.annotations;
  const manifest = await world.manifest(name);
  const listed = (await world.listed()).find((line) => line.startsWith(`${name}:`));
  // A pod whose sandbox was never here is not reported.
  const state = manifest?.state ?? listed?.split(":")[1];
  const states = n === "none"
    ? ["rejected"]
    : packets && (manifest?.completed || pod.sandbox)
    ? [hold ? "held" : "completed", "waiting"]
    : hold
    ? ["held"]
    : pod.sandbox
    ? ["capturing", "waiting"]
    : ["pending"];
  assert(states.includes(state ?? "") || (state === undefined && !pod.sandbox), `${name} is ${state}, not ${states}`);
  if (manifest) assertEquals(manifest.uid, pod.uid);
  assertEquals(mine.length, state === "capturing" ? 1 : 0, `processes of ${name}`);
  if (state !== "capturing") return state;
  assertEquals([mine[0]!.includes(n!), mine[0]!.includes("udp")], [true, filter !== undefined]);
  assertEquals(manifest?.runs.filter(({ endedAt }) => endedAt === undefined).length, 1);
  assertEquals(manifest?.runs.at(-1)?.sandboxId, pod.sandbox);
  assert(world.files(name).length <= Number(n), `${world.files(name).length} files of ${name}`);
  return state;
}

Deno.test("Captures settles as the invariant demands, whatever happens, in whatever order", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(happening, { minLength: 30, maxLength: 30 }),
      fc.record({
        RETENTION_AFTER_POD_DELETION: fc.constantFrom("0s", "1h"),
        MAX_CAPTURES: fc.constantFrom("2", "64"),
      }),
      async (happenings, env) => {
        const pods = new Map<string, Pod>();
        let count = 0;
        let world = await World.start({ env });
        try {
          const sandbox = (name: string, { uid, sandbox }: Pod) =>
            sandbox ? world.sandbox(name, sandbox, uid) : world.noSandbox(name, uid);
          const annotate = (name: string, { uid, annotations }: Pod) => world.annotate(name, annotations, { uid });
          for (const { is, name, annotations, pause } of happenings) {
            let pod = pods.get(name);
            if (is === "annotated" || is === "replaced") {
              if (is === "replaced" && pod) world.gone(name, pod.uid);
              if (is === "replaced" || !pod) {
                pod = { uid: `uid-${name}-${++count}`, annotations, sandbox: `s${++count}` };
                pods.set(name, pod);
                sandbox(name, pod);
              }
              pod.annotations = annotations;
              annotate(name, pod);
            } else if (is === "un-annotated" && pod) {
              pod.annotations = {};
              annotate(name, pod);
            } else if (is === "deleted" && pod) {
              pods.delete(name);
              world.gone(name, pod.uid);
            } else if (is.startsWith("sandbox") && pod) {
              pod.sandbox = is === "sandbox ended" ? undefined : `s${++count}`;
              sandbox(name, pod);
            } else if (is.startsWith("tcpdump")) {
              for (const pid of world.processes().slice(0, 1)) {
                try {
                  Deno.kill(pid, is === "tcpdump killed" ? "SIGKILL" : "SIGTERM");
                } catch {
                  // It has ended.
                }
              }
            } else if (is === "controller restarted") {
              const dir = await world.leave();
              assertEquals(world.processes(), [], "something runs after the stop");
              world = await World.start({
                dir,
                env,
                before: (again) => {
                  world = again;
                  for (const [name, pod] of pods) {
                    sandbox(name, pod);
                    annotate(name, pod);
                  }
                },
              });
            }
            const files = commands(world).filter((argv) => argv.length > 0).map((argv) => argv[argv.indexOf("-w") + 1]);
            assertEquals(new Set(files).size, files.length, "two processes for one folder");
            await new Promise((resolve) => setTimeout(resolve, pause));
          }
          await waitFor("all to be right", async () => {
            const states = [];
            for (const name of NAMES) states.push(await isRight(world, name, pods.get(name)));
            const running = states.filter((state) => state === "capturing").length;
            assert(
              !states.includes("waiting") || running === Number(env.MAX_CAPTURES),
              "it waits though there is room",
            );
            return true;
          }, { timeoutMs: 20_000, everyMs: 50 });
          assertEquals(
            world.lines.filter((line) => /(?:reconcile|check|look-up|update|retention) failed/.test(line)),
            [],
          );
        } catch (error) {
          throw new Error(`${(error as Error).message}\n${world.lines.slice(-30).join("\n")}`);
        } finally {
          await world[Symbol.asyncDispose]();
        }
      },
    ),
    { numRuns: 3, endOnFailure: true },
  );
});
