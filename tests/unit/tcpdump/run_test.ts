import assert from "node:assert/strict";
import { join } from "@std/path";
import { Run } from "../../../src/tcpdump/run.ts";
import { Tcpdump } from "../../../src/tcpdump/tcpdump.ts";
import { CAPTURE_TIMING } from "../../../src/timing.ts";

/** A tcpdump that listens, and answers with what stands in the file `captured`. */
const SCRIPT = `#!/bin/bash
trap 'read n <$(dirname "$0")/captured; echo "$n packets captured, $n packets received by filter, 0 packets dropped by kernel" >&2' USR1
echo "listening on any, link-type LINUX_SLL2 (Linux cooked v2)" >&2
while :; do read -t 1 <> <(:); done
`;

Deno.test("Run.countNow() has a slow capture written, once all of it has been counted, and a busy one only when asked", async () => {
  const dir = await Deno.makeTempDir();
  await Deno.writeTextFile(join(dir, "tcpdump"), SCRIPT, { mode: 0o755 });
  const { flushBuffer } = Tcpdump.prototype;
  let flushes = 0;
  Tcpdump.prototype.flushBuffer = () => Promise.resolve(void flushes++);
  const request = { files: 1, fileSizeMB: 1, snaplen: 64, interface: "any", direction: "inout" } as const;
  const run = new Run({
    ...{ uid: "u", fingerprint: "f", requestHash: "h", sandboxId: "s", remainingSeconds: undefined },
    tcpdump: {
      ...{ tcpdump: join(dir, "tcpdump"), nsenter: "nsenter", request, netnsPath: undefined, file: join(dir, "x") },
      onLine() {},
    },
    timing: CAPTURE_TIMING,
    onListening() {},
    onEnd() {},
  });
  try {
    await run.begun;
    /** Counts when so many have been captured. @returns how often it was flushed for that. */
    const flushesAt = async (captured: number, flushed = false) => {
      await Deno.writeTextFile(join(dir, "captured"), `${captured}\n`);
      const before = flushes;
      assert.equal(await run.countNow(flushed), true);
      assert.equal(run.counters?.captured, captured);
      return flushes - before;
    };
    assert.equal(await flushesAt(0), 0, "nothing has come");
    assert.equal(await flushesAt(1), 1);
    assert.equal(await flushesAt(1), 0, "nothing has come since");
    assert.equal(await flushesAt(1000), 1);
    assert.equal(await flushesAt(2000), 0, "so many fill the buffer by themselves");
    assert.equal(await flushesAt(3000), 0);
    assert.equal(await flushesAt(3000), 1, "the last of them");
    assert.equal(await flushesAt(9000, true), 1, "a reader asks");
    assert.equal(await flushesAt(9000), 0);
  } finally {
    await run.kill("the test is over");
    Tcpdump.prototype.flushBuffer = flushBuffer;
    await Deno.remove(dir, { recursive: true });
  }
});
