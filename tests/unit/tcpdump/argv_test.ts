import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import fc from "fast-check";
import { tcpdumpArgv } from "../../../src/tcpdump/tcpdump.ts";

Deno.test("tcpdumpArgv() is the promised command, with the filter as the one argument after --", () => {
  const argv = (filter?: string, bufferMB?: number) =>
    tcpdumpArgv({
      tcpdump: "/usr/local/bin/tcpdump",
      nsenter: "/usr/bin/nsenter",
      request: {
        files: 5,
        fileSizeMB: 1,
        snaplen: 262144,
        interface: "any",
        direction: "inout",
        ...(filter === undefined ? {} : { filter }),
        ...(bufferMB === undefined ? {} : { bufferMB }),
      },
      netnsPath: "/run/netns/cni-1",
      file: "/captures/default/web/capture-web.pcap",
    });
  assertEquals(
    argv().join(" "),
    "/usr/bin/nsenter --net=/run/netns/cni-1 -- " +
      // The tests run as root; with fewer capabilities fewer are kept.
      "capsh --no-new-privs --caps=cap_net_raw,cap_setgid,cap_setuid=ep --shell=/usr/bin/prlimit -- --as=85000000 --core=1 -- " +
      "/usr/local/bin/tcpdump -n -p -C 1 -W 5 -s 262144 -i any -Z root -B 4096 " +
      "-w /captures/default/web/capture-web.pcap",
  );
  assert(argv(undefined, 32).join(" ").includes(" --as=114000000 "), "it maps its buffer");
  assert(argv(undefined, 32).join(" ").includes(" -B 32768 "));
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.constantFrom("-z sh", "-w /etc/passwd", "; id", "$(id)", "--")), (filter) => {
      const vector = argv(filter);
      assertEquals(vector.slice(-2), ["--", filter]);
      assertEquals(vector.slice(0, -2), argv());
    }),
  );
});
