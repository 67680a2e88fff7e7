/** A copy of parts of the project in a folder of its own, to change at will; removed at the end of the `using` block. */
import { dirname, join } from "@std/path";
import { ROOT } from "./cli.ts";

export interface Tree extends AsyncDisposable {
  readonly path: string;
  /** Writes a file, relative to path. */
  write(file: string, text: string): Promise<void>;
  read(file: string): Promise<string>;
}

/**
 * @param parts Files and folders to copy, relative to the project's root; `node_modules` becomes a link to the project's.
 */
export async function tree(...parts: string[]): Promise<Tree> {
  const path = await Deno.makeTempDir({ prefix: "packet-capture-tree-" });
  for (const part of parts) {
    if (part === "node_modules") await Deno.symlink(join(ROOT, part), join(path, part));
    else await copy(join(ROOT, part), join(path, part));
  }
  return {
    path,
    async write(file, text) {
      await Deno.mkdir(dirname(join(path, file)), { recursive: true });
      await Deno.writeTextFile(join(path, file), text);
    },
    read: (file) => Deno.readTextFile(join(path, file)),
    [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }),
  };
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(dirname(to), { recursive: true });
  if ((await Deno.stat(from)).isFile) return await Deno.copyFile(from, to);
  await Deno.mkdir(to, { recursive: true });
  for await (const { name } of Deno.readDir(from)) await copy(join(from, name), join(to, name));
}
