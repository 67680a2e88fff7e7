import assert from "node:assert/strict";
import { join } from "@std/path";
import { Tcpdump } from "../../../src/captures/tcpdump.ts";
import { waitFor } from "../../cluster/wait.ts";

Deno.test("Tcpdump.askCounters() sends SIGUSR1 only once tcpdump listens: before, it would die of it", async () => {
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
