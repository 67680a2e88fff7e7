import { deepStrictEqual as assertEquals, strictEqual, throws } from "node:assert/strict";
import { join } from "@std/path";
import { atControlPath } from "../../../src/store/control_path.ts";

Deno.test("atControlPath() gives a path that the kernel takes for a socket, counted in bytes, and stays where it is", async () => {
  const base = await Deno.makeTempDir({ prefix: "pc-control-" });
  const before = Deno.cwd();
  /** A directory whose socket's path has so many bytes. */
  const directory = async (bytes: number, fill: string) => {
    const left = bytes - base.length - "/".length - "/.control".length;
    const name = fill.repeat(Math.floor(left / new TextEncoder().encode(fill).length));
    const path = join(base, name.padEnd(name.length + left - new TextEncoder().encode(name).length, "x"));
    await Deno.mkdir(path, { recursive: true });
    return path;
  };
  try {
    for (const fill of ["x", "é"]) {
      const short = await directory(107, fill);
      assertEquals(atControlPath(short, (path) => [path, Deno.cwd()]), [join(short, ".control"), before]);
      const long = await directory(108, fill);
      assertEquals(atControlPath(long, (path) => [path, Deno.cwd()]), [".control", await Deno.realPath(long)]);
      strictEqual(Deno.cwd(), before);
      throws(() =>
        atControlPath(long, () => {
          throw new Error("refused");
        }), /refused/);
      strictEqual(Deno.cwd(), before);
      // As long as the kernel takes it, and no longer.
      atControlPath(long, (path) => Deno.listen({ transport: "unix", path }).close());
      atControlPath(short, (path) => Deno.listen({ transport: "unix", path }).close());
    }
  } finally {
    Deno.chdir(before);
    await Deno.remove(base, { recursive: true });
  }
});
