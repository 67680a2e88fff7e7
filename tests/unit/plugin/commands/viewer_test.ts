/** Where Wireshark and tshark are looked for. */
import { deepStrictEqual, strictEqual, throws } from "node:assert";
import { join } from "@std/path";
import { openViewer, programsOf } from "../../../../src/plugin/commands/viewer.ts";

const NO_ENV = () => undefined;

Deno.test("programsOf() gives the places of Wireshark's installers on macOS and Windows", () => {
  deepStrictEqual(programsOf("wireshark", "darwin", NO_ENV), [
    "wireshark",
    "/Applications/Wireshark.app/Contents/MacOS/Wireshark",
  ]);
  deepStrictEqual(programsOf("tshark", "darwin", NO_ENV), [
    "tshark",
    "/Applications/Wireshark.app/Contents/MacOS/tshark",
  ]);
  const env = (name: string) => ({ "ProgramFiles": "D:\\Programs", "ProgramFiles(x86)": "D:\\Old" })[name];
  deepStrictEqual(programsOf("wireshark", "windows", env), [
    "wireshark",
    "D:\\Programs\\Wireshark\\Wireshark.exe",
    "D:\\Old\\Wireshark\\Wireshark.exe",
  ]);
  deepStrictEqual(programsOf("tshark", "windows", NO_ENV), [
    "tshark",
    "C:\\Program Files\\Wireshark\\tshark.exe",
    "C:\\Program Files (x86)\\Wireshark\\tshark.exe",
  ]);
  // Packages of other systems put it into PATH.
  deepStrictEqual(programsOf("wireshark", "linux", NO_ENV), ["wireshark"]);
});

/** Makes a program that writes its own path, its arguments and its input to a file next to it. */
async function program(path: string): Promise<void> {
  await Deno.writeTextFile(path, '#!/bin/sh\n{ echo "$0 $*"; /bin/cat; } > "$0.out"\n', { mode: 0o755 });
}

async function show(sink: ReturnType<typeof openViewer>): Promise<void> {
  await using shown = sink;
  await shown.write(new TextEncoder().encode("packets"));
  strictEqual(await shown.exitCode(), 0);
}

Deno.test("openViewer() starts the first of the programs that is there", async () => {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-viewer-" });
  try {
    const [first, second] = [join(dir, "Wireshark"), join(dir, "other")];
    await program(first);
    await program(second);
    await show(openViewer("wireshark", [join(dir, "absent"), first, second]));
    strictEqual(await Deno.readTextFile(`${first}.out`), `${first} -k -i -\npackets`);
    await show(openViewer("tshark", [second, first]));
    strictEqual(await Deno.readTextFile(`${second}.out`), `${second} -l -r -\npackets`);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("openViewer() names each place where it has looked", () => {
  throws(() => openViewer("wireshark", ["wireshark", "/absent/A", "/absent/B"]), {
    name: "Failure",
    message:
      "Cannot find wireshark in PATH or at /absent/A or at /absent/B: install it, or send the stream through a pipe",
  });
});
