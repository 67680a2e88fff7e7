import assert from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import { widened } from "../../../src/tcpdump/counters.ts";
import { Tcpdump } from "../../../src/tcpdump/tcpdump.ts";
import { waitFor } from "../../support/wait.ts";

Deno.test("Tcpdump.askCounters() sends SIGUSR1 only once tcpdump listens, because it would be killed by it before", async () => {
  const dir = await Deno.makeTempDir();
  const path = (name: string) => join(dir, name);
  const there = (name: string) => Deno.lstat(path(name)).then(() => true, () => false);
  try {
    // Counts SIGUSR1, and begins to listen when it is told.
    const script = `#!/bin/bash
      trap 'echo x >>${
      path("signals")
    }; echo "tcpdump: 1 packet captured, 2 packets received by filter, 3 packets dropped by kernel" >&2' USR1
      touch ${path("started")}
      until [[ -e ${path("listen")} ]]; do sleep 0.02; done
      echo "tcpdump: listening on any, link-type LINUX_SLL2 (Linux cooked v2), snapshot length 262144 bytes" >&2
      until [[ -e ${path("end")} ]]; do sleep 0.02; done`;
    await Deno.writeTextFile(path("tcpdump"), script, { mode: 0o755 });
    const tcpdump = new Tcpdump({
      tcpdump: path("tcpdump"),
      nsenter: "nsenter",
      request: { files: 1, fileSizeMB: 1, snaplen: 64, interface: "any", direction: "inout" },
      netnsPath: undefined,
      file: path("capture.pcap"),
      onLine() {},
    });
    try {
      await waitFor("the start", () => there("started"));
      for (let i = 0; i < 3; i++) tcpdump.askCounters();
      assert.equal(tcpdump.unansweredSince, undefined, "it is not taken for hung either");
      await Deno.writeTextFile(path("listen"), "");
      assert.equal(await tcpdump.listening, "LINUX_SLL2");
      tcpdump.askCounters();
      await waitFor("the answer", () => tcpdump.counters !== undefined);
      assert.deepEqual(tcpdump.counters, { captured: 1, received: 2, dropped: 3 });
      assert.equal(await Deno.readTextFile(path("signals")), "x\n", "as many signals as were due");
      await Deno.writeTextFile(path("end"), "");
      assert.equal((await tcpdump.exited).signal, null);
    } finally {
      await tcpdump.kill();
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("widened() follows a counter of 32 bits, however often it wraps between answers that are not too far apart", () => {
  const steps = fc.array(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { maxLength: 50 });
  fc.assert(fc.property(steps, (steps) => {
    let count = 0, known = 0;
    for (const step of steps) {
      count += step;
      known = widened(known, count % 2 ** 32);
      assert.equal(known, count);
    }
  }));
});

Deno.test("Tcpdump.counters go on when tcpdump's own wrap, also in what it says at the end", async () => {
  const dir = await Deno.makeTempDir();
  const lines = [
    "4294967290 packets captured, 4294967295 packets received by filter, 7 packets dropped by kernel",
    "4 packets captured, 9 packets received by filter, 7 packets dropped by kernel",
    "3000000000 packets captured, 3000000009 packets received by filter, 2147483655 packets dropped by kernel",
    "2 packets captured\\n1 packet received by filter\\n3 packets dropped by kernel\\n0 packets dropped by interface",
  ];
  try {
    const script = "#!/bin/bash\necho 'listening on any, link-type LINUX_SLL2 (x)' >&2\n" +
      lines.map((line, i) => `until [[ -e ${join(dir, `${i}`)} ]]; do sleep 0.02; done; printf '${line}\\n' >&2\n`)
        .join("");
    await Deno.writeTextFile(join(dir, "tcpdump"), script, { mode: 0o755 });
    const tcpdump = new Tcpdump({
      tcpdump: join(dir, "tcpdump"),
      nsenter: "nsenter",
      request: { files: 1, fileSizeMB: 1, snaplen: 64, interface: "any", direction: "inout" },
      netnsPath: undefined,
      file: join(dir, "capture.pcap"),
      onLine() {},
    });
    const wrap = 2 ** 32;
    const expected = [
      { captured: wrap - 6, received: wrap - 1, dropped: 7 },
      { captured: wrap + 4, received: wrap + 9, dropped: 7 },
      { captured: wrap + 3_000_000_000, received: wrap + 3_000_000_009, dropped: 2_147_483_655 },
      { captured: 2 * wrap + 2, received: 2 * wrap + 1, dropped: 3 + wrap },
    ];
    try {
      for (const [i, counters] of expected.entries()) {
        const before = tcpdump.counters;
        await Deno.writeTextFile(join(dir, `${i}`), "");
        if (counters === expected.at(-1)) await tcpdump.exited;
        else await waitFor("the answer", () => tcpdump.counters !== before);
        assert.deepEqual(tcpdump.counters, counters);
      }
    } finally {
      await tcpdump.kill();
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
