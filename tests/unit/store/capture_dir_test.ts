import { deepStrictEqual as assertEquals, ok as assert, rejects, throws } from "node:assert/strict";
import { join } from "@std/path";
import fc from "fast-check";
import { CaptureDir, DirectoryHeld, DirectoryRefused } from "../../../src/store/capture_dir.ts";
import { checkNames } from "../../../src/store/layout.ts";
import { runPurge } from "../../../src/purge.ts";

async function temporary(): Promise<AsyncDisposable & { path: string }> {
  const path = await Deno.makeTempDir({ prefix: "pc-dir-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

const take = (path: string, change = {}) =>
  CaptureDir.take({
    path,
    annotationKey: "tcpdump.antrea.io",
    release: "ns/packet-capture",
    holder: "pod one",
    ...change,
  });

async function listing(path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(path)) {
    found.push(entry.name);
    if (entry.isDirectory) found.push(...(await listing(join(path, entry.name))).map((name) => join(entry.name, name)));
  }
  return found.sort();
}

Deno.test("take() makes the marker in an empty directory, for nobody else to read, and recognises it again", async () => {
  await using tmp = await temporary();
  const path = join(tmp.path, "new", "captures");
  {
    using directory = await take(path);
    assertEquals(directory.path, path);
    const marker = JSON.parse(await Deno.readTextFile(join(path, ".packet-capture")));
    assertEquals(marker, { annotationKey: "tcpdump.antrea.io", release: "ns/packet-capture" });
    assertEquals(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o700);
    assertEquals(((await Deno.stat(join(path, ".packet-capture"))).mode ?? 0) & 0o777, 0o600);
  }
  using again = await take(path);
  assert(await again.isIntact());
});

Deno.test("take() takes a fresh file system with lost+found, and goes on where it was killed before writing the marker", async () => {
  await using tmp = await temporary();
  await Deno.mkdir(join(tmp.path, "lost+found"));
  await Deno.writeTextFile(join(tmp.path, ".packet-capture"), "");
  using directory = await take(tmp.path);
  assert(await directory.isIntact());
});

Deno.test("take() refuses somebody else's files and touches nothing", async () => {
  await using tmp = await temporary();
  await Deno.mkdir(join(tmp.path, "default", "web"), { recursive: true });
  await Deno.writeTextFile(join(tmp.path, "default", "web", "diary"), "mine");
  await Deno.chmod(tmp.path, 0o755);
  const before = await listing(tmp.path);
  await rejects(take(tmp.path), (error: Error) => {
    assert(error instanceof DirectoryRefused);
    assert(error.message.includes("not empty") && error.message.includes(tmp.path), error.message);
    return true;
  });
  assertEquals(await listing(tmp.path), before);
  assertEquals(((await Deno.stat(tmp.path)).mode ?? 0) & 0o777, 0o755);
});

Deno.test("take() refuses another release's or another key's directory, also an emptied marker with files next to it", async () => {
  await using tmp = await temporary();
  (await take(tmp.path))[Symbol.dispose]();
  for (const change of [{ release: "ns/other" }, { annotationKey: "other.example.com" }]) {
    await rejects(
      take(tmp.path, change),
      (error: Error) => error instanceof DirectoryRefused && error.message.includes("it must be "),
    );
  }
  await Deno.writeTextFile(join(tmp.path, ".packet-capture"), "");
  await Deno.mkdir(join(tmp.path, "default"));
  await rejects(take(tmp.path), DirectoryRefused);
});

Deno.test("take() names the holder to a second controller, which gets the directory once the first lets go", async () => {
  await using tmp = await temporary();
  {
    using _first = await take(tmp.path, { holder: "pod one on node w1" });
    await rejects(
      take(tmp.path),
      (error: Error) => error instanceof DirectoryHeld && error.message.includes("pod one on node w1"),
    );
  }
  using _second = await take(tmp.path);
});

Deno.test("isIntact() notices that the directory was replaced", async () => {
  await using tmp = await temporary();
  const path = join(tmp.path, "captures");
  using directory = await take(path);
  await Deno.rename(path, join(tmp.path, "moved"));
  assert(!await directory.isIntact());
  await Deno.mkdir(path);
  assert(!await directory.isIntact());
  using _other = await take(path);
  assert(!await directory.isIntact(), "another directory's marker is not ours");
});

Deno.test("checkNames() lets no name through that is not one of Kubernetes'", () => {
  checkNames("default", "web-0");
  checkNames("a".repeat(63), `${"b".repeat(126)}.${"c".repeat(126)}`);
  for (
    const [namespace, pod] of [
      ["..", "web"],
      ["default", ".."],
      ["", "web"],
      ["default", ""],
      ["a/b", "web"],
      ["default", "a/b"],
      ["default", "web\u0000"],
      ["Default", "web"],
      ["default", "-web"],
      ["a.b", "web"],
      ["a".repeat(64), "web"],
      ["default", "b".repeat(254)],
      ["default", "web\n"],
      [".retained", "web"],
      ["default", "$(id)"],
      ["default", "a..b"],
    ] as const
  ) throws(() => checkNames(namespace, pod), RangeError, `${namespace}/${pod}`);
});

Deno.test("folderOf() never leaves the directory", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const name = fc.oneof(
    fc.string(),
    fc.constantFrom("..", ".", "a/../..", "web", "a.b"),
    fc.stringMatching(/^[-a-z0-9./]{1,20}$/),
  );
  fc.assert(
    fc.property(name, name, (namespace, pod) => {
      let folder: string;
      try {
        folder = directory.folderOf(namespace, pod);
      } catch (error) {
        assert(error instanceof RangeError);
        return;
      }
      assertEquals(folder.split("/").slice(0, -2).join("/"), tmp.path);
      assert(!folder.slice(tmp.path.length).split("/").some((part) => part === ".." || part === "."));
    }),
    { numRuns: 2000 },
  );
});

Deno.test("makeFolder() makes 0700 folders and throws out what is not a regular file", async () => {
  await using tmp = await temporary();
  using directory = await take(join(tmp.path, "captures"));
  const folder = await directory.makeFolder("default", "web");
  for (const path of [folder, join(folder, "..")]) assertEquals(((await Deno.stat(path)).mode ?? 0) & 0o777, 0o700);
  await Deno.writeTextFile(join(tmp.path, "precious"), "precious");
  await Deno.symlink(join(tmp.path, "precious"), join(folder, "capture-web.pcap0"));
  await Deno.symlink(tmp.path, join(folder, "up"));
  await Deno.mkdir(join(folder, "sub"));
  await Deno.writeTextFile(join(folder, "capture-web.pcap1"), "kept");
  await directory.makeFolder("default", "web");
  assertEquals(await listing(folder), ["capture-web.pcap1"]);
  assertEquals(await Deno.readTextFile(join(tmp.path, "precious")), "precious");
});

Deno.test("makeFolder() and removeFolder() do not follow a symlink that has a pod's or a namespace's name", async () => {
  await using tmp = await temporary();
  using directory = await take(join(tmp.path, "captures"));
  const outside = join(tmp.path, "outside");
  await Deno.mkdir(join(outside, "web"), { recursive: true });
  await Deno.writeTextFile(join(outside, "web", "precious"), "precious");
  await Deno.symlink(outside, join(directory.path, "evil"));
  await Deno.mkdir(join(directory.path, "default"));
  await Deno.symlink(join(outside, "web"), join(directory.path, "default", "web"));
  await rejects(directory.makeFolder("evil", "web"), Deno.errors.NotADirectory);
  await rejects(directory.makeFolder("default", "web"), Deno.errors.NotADirectory);
  await directory.removeFolder("evil", "web");
  await directory.removeFolder("default", "web");
  assertEquals(await directory.folders(), []);
  assertEquals(await listing(outside), ["web", "web/precious"]);
});

Deno.test("removeFolder() takes away exactly one pod's folder, and the namespace's with the last", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  for (const pod of ["web", "web-1", "web-10", "web.pcap1"]) {
    await Deno.writeTextFile(join(await directory.makeFolder("default", pod), `capture-${pod}.pcap1`), "x");
  }
  await directory.removeFolder("default", "web-1");
  await directory.removeFolder("default", "web");
  assertEquals((await directory.folders()).map(({ pod }) => pod).sort(), ["web-10", "web.pcap1"]);
  await directory.removeFolder("default", "web-10");
  await directory.removeFolder("default", "web.pcap1");
  assertEquals((await listing(tmp.path)).filter((name) => !name.startsWith(".")), []);
});

Deno.test("retainFolder() keeps a deleted pod's files under its UID, where a new pod of the name does not reach them", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  await Deno.writeTextFile(join(await directory.makeFolder("default", "web"), "capture-web.pcap0"), "old");
  const kept = await directory.retainFolder("default", "web", "1b4e28ba-2fa1-11d2-883f-0016d3cca427");
  await Deno.writeTextFile(join(await directory.makeFolder("default", "web"), "capture-web.pcap0"), "new");
  assertEquals(await Deno.readTextFile(join(kept, "capture-web.pcap0")), "old");
  assertEquals(await directory.retained(), ["1b4e28ba-2fa1-11d2-883f-0016d3cca427"]);
  await directory.removeRetained("1b4e28ba-2fa1-11d2-883f-0016d3cca427");
  assertEquals(await directory.retained(), []);
  throws(() => directory.retainedFolderOf("../default"), RangeError);
});

Deno.test("giveUp() leaves an empty directory, and one with files as it is", async () => {
  await using tmp = await temporary();
  const path = join(tmp.path, "captures");
  using directory = await take(path);
  await Deno.writeTextFile(join(await directory.makeFolder("default", "web"), "capture-web.pcap0"), "x");
  await Deno.mkdir(join(path, "empty"));
  const before = await listing(path);
  await directory.giveUp();
  assertEquals(await listing(path), before);
  await directory.removeFolder("default", "web");
  await directory.giveUp();
  assertEquals(await listing(path), []);
});

Deno.test("giveUp() keeps the marker while there is anything that is not ours, so that our next start is not refused", async () => {
  for (const stray of ["out.pcapng", ".hidden", "default/note", "Not-A-Namespace/x"]) {
    await using tmp = await temporary();
    const path = join(tmp.path, "captures");
    {
      using directory = await take(path);
      await Deno.mkdir(join(path, stray, ".."), { recursive: true });
      await Deno.writeTextFile(join(path, stray), "mine");
      assertEquals(await directory.giveUp(), [stray.split("/")[0]]);
    }
    using _again = await take(path);
    assertEquals(await Deno.readTextFile(join(path, stray)), "mine");
  }
});

Deno.test("giveUp() leaves no empty folders, and lost+found where it is", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  for (const name of ["lost+found", "default", ".retained"]) await Deno.mkdir(join(tmp.path, name));
  await Deno.writeTextFile(join(tmp.path, ".not-capturing.json"), "[]");
  assertEquals(await directory.giveUp(), []);
  assertEquals(await listing(tmp.path), ["lost+found"]);
});

Deno.test("take() takes a directory in which the holder's name cannot be written", async () => {
  await using tmp = await temporary();
  (await take(tmp.path))[Symbol.dispose]();
  const { writeTextFile } = Deno;
  Deno.writeTextFile = () => Promise.reject(new Error("No space left on device"));
  try {
    using _directory = await take(tmp.path);
  } finally {
    Deno.writeTextFile = writeTextFile;
  }
});

Deno.test("retained() passes over a symlink that has the directory's name", async () => {
  await using tmp = await temporary();
  using directory = await take(join(tmp.path, "captures"));
  await Deno.mkdir(join(tmp.path, "others", "uid-1"), { recursive: true });
  await Deno.symlink(join(tmp.path, "others"), join(directory.path, ".retained"));
  assertEquals(await directory.retained(), []);
});

Deno.test("removeFolder() takes a folder away in which something appears meanwhile", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = await directory.makeFolder("default", "web");
  await Deno.writeTextFile(join(folder, "capture.json"), "{}");
  const { remove } = Deno;
  let late = 2;
  Deno.remove = async (path, options) => {
    // A reader's lock, just before the folder itself is removed.
    if (path === folder && late-- > 0) await Deno.writeTextFile(join(folder, ".reading"), "");
    await remove(path, options);
  };
  try {
    await directory.removeFolder("default", "web");
  } finally {
    Deno.remove = remove;
  }
  assertEquals(await directory.folders(), []);
});

Deno.test("removeFolder() removes the manifest last, so that what an interruption leaves is known to be that pod's", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = await directory.makeFolder("default", "web");
  for (const name of ["a", "capture.json", "capture-web.pcap0", "z"]) await Deno.writeTextFile(join(folder, name), "x");
  const { remove } = Deno;
  let left: string[] | undefined;
  Deno.remove = async (path, options) => {
    if (path === join(folder, "capture.json")) left = await listing(folder);
    await remove(path, options);
  };
  try {
    await directory.removeFolder("default", "web");
  } finally {
    Deno.remove = remove;
  }
  assertEquals(left, ["capture.json"]);
});

Deno.test("runPurge() empties the directory, but takes nothing from a controller that is at work", async () => {
  await using tmp = await temporary();
  const options = {
    captureDir: join(tmp.path, "captures"),
    annotationKey: "tcpdump.antrea.io",
    release: "ns/packet-capture",
  };
  const fill = async (directory: CaptureDir) => {
    await Deno.writeTextFile(join(await directory.makeFolder("default", "web"), "capture-web.pcap0"), "x");
    await Deno.writeTextFile(join(await directory.makeFolder("default", "gone"), "capture-gone.pcap0"), "x");
    await directory.retainFolder("default", "gone", "uid-1");
  };
  {
    using directory = await take(options.captureDir);
    await fill(directory);
    assertEquals(await runPurge(options), 1);
    assertEquals(await directory.folders(), [{ namespace: "default", pod: "web" }]);
    assertEquals(await directory.retained(), []);
    await fill(directory);
  }
  // The socket of a controller that was killed.
  const socket = Deno.listen({ transport: "unix", path: join(tmp.path, "old") });
  await Deno.rename(join(tmp.path, "old"), join(options.captureDir, ".control"));
  socket.close();
  assertEquals(await runPurge({ ...options, release: "ns/other" }), 2);
  await Deno.writeTextFile(join(options.captureDir, "note"), "mine");
  assertEquals(await runPurge(options), 1);
  await Deno.remove(join(options.captureDir, "note"));
  assertEquals(await runPurge(options), 0);
  assertEquals(await listing(options.captureDir), []);
  assertEquals(await runPurge({ ...options, captureDir: join(tmp.path, "none") }), 0);
});

Deno.test("a directory can be taken as soon as it was let go of, even while the former holder looks at it", async () => {
  await using tmp = await temporary();
  for (let turn = 0; turn < 50; turn++) {
    const directory = await take(tmp.path);
    const look = directory.isIntact();
    // The look is somewhere between its calls of the system.
    await Deno.lstat(tmp.path);
    directory[Symbol.dispose]();
    const again = await take(tmp.path);
    again[Symbol.dispose]();
    await look;
  }
});

Deno.test("a directory can be taken as soon as it was let go of, even while other threads start processes", async () => {
  await using tmp = await temporary();
  const starts = `onmessage = async () => { for (;;) await new Deno.Command("true", { clearEnv: true }).output(); };`;
  const url = URL.createObjectURL(new Blob([starts], { type: "text/javascript" }));
  const threads = Array.from({ length: 3 }, () => new Worker(url, { type: "module" }));
  try {
    for (const thread of threads) thread.postMessage("");
    for (let turn = 0; turn < 100; turn++) (await take(tmp.path))[Symbol.dispose]();
  } finally {
    for (const thread of threads) thread.terminate();
    URL.revokeObjectURL(url);
  }
});

/** Puts another function in the place of one of Deno's, until it is disposed of. */
function instead<K extends "lstat" | "mkdir" | "open" | "remove">(
  name: K,
  make: (real: typeof Deno[K]) => (...args: Parameters<typeof Deno[K]>) => ReturnType<typeof Deno[K]>,
): Disposable {
  const real = Deno[name];
  Object.assign(Deno, { [name]: make(real as never) });
  return { [Symbol.dispose]: () => void Object.assign(Deno, { [name]: real }) };
}

Deno.test("take() reports what is in the way and what must be there", async () => {
  await using tmp = await temporary();
  const message = async (expected: string, change = {}) =>
    await rejects(take(tmp.path, change), { message: `Cannot use captureDir ${tmp.path}: ${expected}` });
  await Deno.writeTextFile(join(tmp.path, "note"), "mine");
  await message(
    "it is not empty and has no marker file .packet-capture; it must be an empty directory, or one of this release",
  );
  await Deno.mkdir(join(tmp.path, ".packet-capture"));
  await message(
    "it is not empty and has no marker file .packet-capture; it must be an empty directory, or one of this release",
  );
  await Deno.remove(join(tmp.path, ".packet-capture"));
  await Deno.writeTextFile(join(tmp.path, ".packet-capture"), `\n ${"x".repeat(300)} \n`);
  const wanted = '{"annotationKey":"tcpdump.antrea.io","release":"ns/packet-capture"}';
  await message(`its marker file .packet-capture is "${"x".repeat(200)}"; it must be ${wanted}`);
  await Deno.writeTextFile(join(tmp.path, ".packet-capture"), ` ${wanted}`);
  (await take(tmp.path))[Symbol.dispose]();
  {
    using _first = await take(tmp.path);
    await message("it is held by pod one");
    await Deno.remove(join(tmp.path, ".holder"));
    await message("it is held by an unknown process");
  }
  const file = join(tmp.path, "note");
  await rejects(take(file), (error: Error) => {
    assert(error instanceof DirectoryRefused);
    assert(error.message.startsWith(`Cannot use captureDir ${file}: `), error.message);
    assert(error.message.endsWith("; it must be a directory that this process may write to"), error.message);
    return true;
  });
});

Deno.test("take() writes marker and holder as lines for their owner, and the marker once", async () => {
  await using tmp = await temporary();
  const [marker, holder] = [join(tmp.path, ".packet-capture"), join(tmp.path, ".holder")];
  // Whoever made the marker was killed before it was written.
  await Deno.writeTextFile(marker, "");
  await Deno.writeTextFile(holder, "");
  (await take(tmp.path))[Symbol.dispose]();
  assertEquals(
    await Deno.readTextFile(marker),
    '{"annotationKey":"tcpdump.antrea.io","release":"ns/packet-capture"}\n',
  );
  assertEquals(await Deno.readTextFile(holder), "pod one\n");
  assertEquals(((await Deno.stat(holder)).mode ?? 0) & 0o777, 0o600);
  await Deno.utime(marker, 1000, 1000);
  (await take(tmp.path))[Symbol.dispose]();
  assertEquals((await Deno.stat(marker)).mtime?.getTime(), 1_000_000);
});

Deno.test("take() takes no holder's file that appears as it writes its own", async () => {
  await using tmp = await temporary();
  const [path, precious] = [join(tmp.path, "captures"), join(tmp.path, "precious")];
  await Deno.writeTextFile(precious, "precious");
  using _remove = instead("remove", (remove) => async (...args) => {
    await remove(...args).finally(() => Deno.symlink(precious, join(path, ".holder")));
  });
  using _directory = await take(path);
  assertEquals(await Deno.readTextFile(precious), "precious");
});

Deno.test("take() notices that the directory is replaced while it takes it, also by one on another disk", async () => {
  await using tmp = await temporary();
  const path = join(tmp.path, "captures");
  {
    using _open = instead("open", (open) => async (...args) => {
      const file = await open(...args);
      await Deno.rename(path, join(tmp.path, "moved"));
      await Deno.mkdir(path);
      return file;
    });
    await rejects(take(path), {
      name: "Error",
      message: `Cannot use captureDir ${path}: it was replaced just now`,
    });
  }
  using directory = await take(path);
  using _lstat = instead("lstat", (lstat) => async (...args) => {
    const info = await lstat(...args);
    return { ...info, dev: info.dev + 1 };
  });
  assert(!await directory.isIntact());
});

Deno.test("makeFolder() tries again when the namespace's folder goes away, but not for ever, and not for another error", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = join(tmp.path, "default", "web");
  for (const [times, tried] of [[4, 5], [9, 5]] as const) {
    let calls = 0;
    using _mkdir = instead("mkdir", (mkdir) => async (...args) => {
      if (args[0] === folder && ++calls <= times) await Deno.remove(join(tmp.path, "default"));
      await mkdir(...args);
    });
    if (times < 5) assertEquals(await directory.makeFolder("default", "web"), folder);
    else await rejects(directory.makeFolder("default", "web"), Deno.errors.NotFound);
    assertEquals(calls, tried);
    await directory.removeFolder("default", "web");
  }
  let calls = 0;
  using _mkdir = instead("mkdir", (mkdir) => async (...args) => {
    if (++calls > 20) return await mkdir(...args);
    throw new Deno.errors.PermissionDenied("no");
  });
  await rejects(directory.makeFolder("default", "web"), Deno.errors.PermissionDenied);
  assertEquals(calls, 1);
});

Deno.test("makeFolder() throws out folders with all that is in them, and reports what is no folder", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = await directory.makeFolder("default", "web");
  await Deno.mkdir(join(folder, "sub", "sub"), { recursive: true });
  await directory.makeFolder("default", "web");
  assertEquals(await listing(folder), []);
  await directory.removeFolder("default", "web");
  await Deno.writeTextFile(join(tmp.path, "default"), "");
  await rejects(directory.makeFolder("default", "web"), {
    message: `Cannot use ${join(tmp.path, "default")} as a folder: something that is not a directory is there`,
  });
});

Deno.test("removeFolder() takes away what is in folders too, and gives up what fills again and again, or cannot be removed", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = await directory.makeFolder("default", "web");
  await Deno.mkdir(join(folder, "sub", "sub"), { recursive: true });
  await directory.removeFolder("default", "web");
  assertEquals(await directory.folders(), []);
  // POSIX allows either of the two codes for a directory that is not empty.
  for (const code of ["ENOTEMPTY", "EEXIST", "EACCES"]) {
    await directory.makeFolder("default", "web");
    let calls = 0;
    {
      using _remove = instead("remove", (remove) => async (...args) => {
        // Not for ever, lest one who never gives up hangs.
        if (args[0] !== folder || ++calls > 20) return await remove(...args);
        throw Object.assign(new Error("cannot be removed"), { code });
      });
      await rejects(directory.removeFolder("default", "web"), /cannot be removed/);
    }
    assertEquals([code, calls], [code, code === "EACCES" ? 1 : 5]);
    calls = 0;
    // The folder of a namespace that is not empty stays, whatever its system calls that.
    using _remove = instead("remove", (remove) => async (...args) => {
      if (args[0] !== join(tmp.path, "default")) return await remove(...args);
      calls++;
      throw Object.assign(new Error("cannot be removed"), { code });
    });
    const removed = directory.removeFolder("default", "web");
    if (code === "EACCES") await rejects(removed, /cannot be removed/);
    else await removed;
    assertEquals(calls, 1);
  }
});

Deno.test("removeFolder() is content with a folder that goes away by itself", async () => {
  await using tmp = await temporary();
  using directory = await take(tmp.path);
  const folder = await directory.makeFolder("default", "web");
  using _remove = instead("remove", (remove) => async (...args) => {
    if (args[0] === folder) await remove(folder);
    await remove(...args);
  });
  await directory.removeFolder("default", "web");
  assertEquals(await directory.folders(), []);
});

Deno.test("removeRetained() does not follow a symlink that has the directory's name", async () => {
  await using tmp = await temporary();
  using directory = await take(join(tmp.path, "captures"));
  await Deno.mkdir(join(tmp.path, "others", "uid-1"), { recursive: true });
  await Deno.symlink(join(tmp.path, "others"), join(directory.path, ".retained"));
  await directory.removeRetained("uid-1");
  assertEquals(await listing(join(tmp.path, "others")), ["uid-1"]);
});

Deno.test("a directory that is let go of leaves nothing open", async () => {
  await using tmp = await temporary();
  const directory = await take(tmp.path);
  const { close } = Deno.FsFile.prototype;
  let closed = 0;
  Deno.FsFile.prototype.close = function () {
    closed++;
    close.call(this);
  };
  try {
    directory[Symbol.dispose]();
  } finally {
    Deno.FsFile.prototype.close = close;
  }
  assertEquals(closed, 1);
});
