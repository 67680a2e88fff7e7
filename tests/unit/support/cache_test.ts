/** What takes minutes to build is built once, shows that it goes on, and is never there half. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { cached, cacheDir } from "../../support/cache.ts";
import { clock, ticking } from "../../support/say.ts";

/** A name that nobody else has in the cache; what is made under it is gone when the scope ends. */
function fresh(): { name: string } & AsyncDisposable {
  const name = `test-${crypto.randomUUID()}`;
  return {
    name,
    async [Symbol.asyncDispose]() {
      for (const end of ["", ".part", ".lock"]) {
        await Deno.remove(join(cacheDir(), name + end), { recursive: true }).catch(() => {});
      }
    },
  };
}

Deno.test("cached() builds once, also when two ask at once, and gives what is there from then on", async () => {
  await using at = fresh();
  let builds = 0;
  const build = async (out: string) => {
    builds++;
    await Deno.writeTextFile(join(out, "program"), "built");
    await assert.rejects(Deno.stat(join(cacheDir(), at.name)), Deno.errors.NotFound);
  };
  const [one, two] = await Promise.all([cached(at.name, "x", build), cached(at.name, "x", build)]);
  assert.equal(await cached(at.name, "x", build), one);
  assert.equal(two, one);
  assert.equal(builds, 1);
  assert.equal(await Deno.readTextFile(join(one, "program")), "built");
});

Deno.test("cached() leaves nothing that looks whole when a build fails, and builds again the next time", async () => {
  await using at = fresh();
  const fails = async (out: string) => {
    await Deno.writeTextFile(join(out, "half"), "");
    throw new Error("no network");
  };
  await assert.rejects(cached(at.name, "x", fails), /no network/);
  const folder = await cached(at.name, "x", (out) => Deno.writeTextFile(join(out, "whole"), ""));
  assert.deepEqual(Array.from(Deno.readDirSync(folder), ({ name }) => name), ["whole"]);
});

Deno.test("ticking() reports every 15 s how long it has been, and no more after its end", () => {
  const real = globalThis.setInterval;
  const timers: { tick: () => void; ms: number }[] = [];
  const said: string[] = [];
  const write = Deno.stderr.writeSync;
  try {
    // A minute is too long for a test: its ticks are made here.
    globalThis.setInterval = ((tick: () => void, ms: number) => {
      timers.push({ tick, ms });
      return real(() => {}, 2 ** 30);
    }) as typeof setInterval;
    Deno.stderr.writeSync = (bytes) => {
      said.push(new TextDecoder().decode(bytes));
      return bytes.length;
    };
    using _ticker = ticking((elapsed) => `building: ${elapsed}`);
    timers[0]!.tick();
  } finally {
    globalThis.setInterval = real;
    Deno.stderr.writeSync = write;
  }
  assert.equal(timers.length, 1);
  assert.equal(timers[0]!.ms, Deno.stderr.isTerminal() ? 1000 : 15_000);
  assert.match(said.join(""), /building: 0 s/);
  assert.deepEqual([clock(99_000), clock(100_000), clock(605_000)], ["99 s", "1 min 40 s", "10 min 05 s"]);
});
