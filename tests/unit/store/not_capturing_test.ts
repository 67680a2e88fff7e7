import { deepStrictEqual as assertEquals, rejects as assertRejects } from "node:assert/strict";
import { join } from "@std/path";
import { NOT_CAPTURING, writeNotCapturing } from "../../../src/store/not_capturing.ts";

Deno.test("writeNotCapturing() leaves nothing behind when it cannot write", async () => {
  const directory = await Deno.makeTempDir({ prefix: "packet-capture-not-capturing-" });
  try {
    // Nothing can take the place of a folder.
    await Deno.mkdir(join(directory, NOT_CAPTURING));
    await assertRejects(writeNotCapturing(directory, "[]"));
    assertEquals(Array.from(Deno.readDirSync(directory), ({ name }) => name), [NOT_CAPTURING]);
    await Deno.remove(join(directory, NOT_CAPTURING));
    await writeNotCapturing(directory, "[]");
    assertEquals(await Deno.readTextFile(join(directory, NOT_CAPTURING)), "[]\n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("writeNotCapturing() writes a file for its owner alone, and never through what has the place of its temporary one", async () => {
  const directory = await Deno.makeTempDir({ prefix: "packet-capture-not-capturing-" });
  const [path, temporary] = [join(directory, NOT_CAPTURING), join(directory, `${NOT_CAPTURING}.tmp`)];
  try {
    await Deno.writeTextFile(join(directory, "precious"), "precious");
    await Deno.symlink(join(directory, "precious"), temporary);
    await writeNotCapturing(directory, "[]");
    assertEquals(await Deno.readTextFile(join(directory, "precious")), "precious");
    const { isFile, mode } = await Deno.lstat(path);
    assertEquals([isFile, (mode ?? 0) & 0o777], [true, 0o600]);
    await Deno.mkdir(join(temporary, "sub"), { recursive: true });
    await assertRejects(writeNotCapturing(directory, "[1]"), /not empty/i);
    assertEquals(await Deno.readTextFile(path), "[]\n");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("writeNotCapturing() takes no file for its own that appears as it begins to write", async () => {
  const directory = await Deno.makeTempDir({ prefix: "packet-capture-not-capturing-" });
  const [precious, temporary] = [join(directory, "precious"), join(directory, `${NOT_CAPTURING}.tmp`)];
  const { remove } = Deno;
  try {
    await Deno.writeTextFile(precious, "precious");
    Deno.remove = async (path, options) => {
      Deno.remove = remove;
      await remove(path, options).finally(() => Deno.symlink(precious, temporary));
    };
    await assertRejects(writeNotCapturing(directory, "[]"), Deno.errors.AlreadyExists);
    assertEquals(await Deno.readTextFile(precious), "precious");
  } finally {
    Deno.remove = remove;
    await Deno.remove(directory, { recursive: true });
  }
});
