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
