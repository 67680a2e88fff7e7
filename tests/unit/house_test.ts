/** The layout of src/: which room may import which, and how long a file may be. That of the tests' own library, too. */
import assert from "node:assert/strict";
import { join, relative } from "@std/path";
import { ROOT, run } from "../rig/cli.ts";

/**
 * The rooms that each room may import, lowest first. A room is a folder of src/, or a file there; of src/plugin/ each folder and file is one.
 * An import of a room that stands at the same place or further down would be an arrow up, so that there can be no circle.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  version: [],
  base: [],
  log: ["base"],
  spec: ["base"],
  pcap: ["base"],
  store: ["base", "spec", "pcap"],
  settings: ["base", "log"],
  timing: [],
  metrics: ["version", "spec"],
  http: ["base", "log", "metrics"],
  pods: ["version", "base", "log", "spec", "settings", "metrics"],
  sandboxes: ["base", "log"],
  plan: ["version", "base", "spec", "store", "pods"],
  tcpdump: ["base", "spec", "settings", "timing", "plan"],
  limits: ["log", "store", "plan"],
  captures: [
    "timing",
    "base",
    "log",
    "spec",
    "store",
    "settings",
    "metrics",
    "pods",
    "sandboxes",
    "plan",
    "tcpdump",
    "limits",
  ],
  reading: ["version", "base", "spec", "pcap", "store"],
  "plugin/failure": [],
  "plugin/format": [],
  "plugin/command_line": ["plugin/failure"],
  "plugin/names": ["plugin/failure"],
  "plugin/terminal": ["base", "plugin/failure"],
  "plugin/kubectl": ["base", "plugin/failure", "plugin/terminal"],
  "plugin/installation": ["base", "plugin/failure", "plugin/kubectl"],
  "plugin/targets": ["base", "plugin/failure", "plugin/names", "plugin/kubectl"],
  "plugin/fetch": [
    ...["version", "base", "spec", "pcap"],
    ...["failure", "format", "terminal", "kubectl", "installation", "targets"].map((room) => `plugin/${room}`),
  ],
  "plugin/commands": [
    ...["version", "base", "spec", "pcap"],
    ...["failure", "format", "terminal", "kubectl", "installation", "targets", "fetch"].map((room) => `plugin/${room}`),
  ],
  "plugin/main": [
    ...["version", "base", "spec"],
    ...["failure", "command_line", "terminal", "kubectl", "commands"].map((room) => `plugin/${room}`),
  ],
  check: ["base", "settings", "pods"],
  purge: ["base", "log", "store"],
  controller: [
    "base",
    "log",
    "store",
    "settings",
    "metrics",
    "http",
    "pods",
    "sandboxes",
    "timing",
    "tcpdump",
    "captures",
  ],
  main: ["version", "base", "log", "settings", "reading", "check", "purge", "controller"],
};

/** A file of more lines is to be split. Generated files are as long as they are. */
const MOST_LINES = 300;
const GENERATED = ["src/sandboxes/cri_pb.ts"];
/** Files that are still longer, each with the lines that it may have. Entries only go. */
const STILL_LONGER: Readonly<Record<string, number>> = {};

interface Source {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
}

const sources = await sourcesBelow("src");

async function sourcesBelow(...folders: string[]): Promise<Source[]> {
  const list = ["ls-files", "--cached", "--others", "--exclude-standard", ...folders];
  const { code, stdout, stderr } = await run("git", list, { cwd: ROOT });
  assert.equal(code, 0, stderr);
  const paths = stdout.split("\n").filter((path) => path.endsWith(".ts"));
  const texts = await Promise.all(paths.map((path) => Deno.readTextFile(join(ROOT, path)).catch(() => undefined)));
  return paths.flatMap((path, i) => texts[i] === undefined ? [] : [{ path, text: texts[i] }]);
}

function roomOf(path: string): string {
  const [room = "", inner] = path.replace(/^src\//, "").replace(/\.ts$/, "").split("/");
  return room === "plugin" ? `${room}/${inner}` : room;
}

/** The files of a folder, src/ by default, that a file imports, statically or not. */
function importsOf({ path, text }: Source, folder = "src/"): string[] {
  return [...text.matchAll(/(?:from|import|import\() ?"(\.[^"]+)"/g)]
    .map(([, spec]) => relative(ROOT, join(ROOT, path, "..", spec!)))
    .filter((imported) => imported.startsWith(folder));
}

Deno.test("a room imports only what lies below it", () => {
  const rooms = Object.keys(MAY_IMPORT);
  for (const [room, allowed] of Object.entries(MAY_IMPORT)) {
    const up = allowed.filter((other) => rooms.indexOf(other) >= rooms.indexOf(room));
    assert.deepEqual(up, [], `the table itself lets ${room} import what does not lie below it`);
  }
  const wrong = sources.flatMap((source) => {
    const room = roomOf(source.path);
    const allowed = MAY_IMPORT[room];
    if (allowed === undefined) return [`${source.path}: its room is not in the table`];
    return importsOf(source)
      .filter((imported) => roomOf(imported) !== room && !allowed.includes(roomOf(imported)))
      .map((imported) => `${source.path} imports ${imported}`);
  });
  assert.deepEqual(wrong, []);
});

Deno.test("rig and cluster stand on support, and none of the three on another", async () => {
  const rooms = ["support", "rig", "cluster"];
  const roomAt = (path: string) => rooms.find((room) => path.startsWith(`tests/${room}/`));
  const wrong = (await sourcesBelow(...rooms.map((room) => `tests/${room}`))).flatMap((source) =>
    importsOf(source, "tests/")
      .filter((imported) => ![roomAt(source.path), "support"].includes(roomAt(imported) ?? "support"))
      .map((imported) => `${source.path} imports ${imported}`)
  );
  assert.deepEqual(wrong, []);
});

Deno.test("no file imports itself by way of others", () => {
  const imports = new Map(sources.map((source) => [source.path, importsOf(source)]));
  /** Files from which no way leads back. */
  const free = new Set<string>();
  const circleFrom = (file: string, way: readonly string[]): readonly string[] | undefined => {
    if (free.has(file)) return undefined;
    if (way.includes(file)) return [...way.slice(way.indexOf(file)), file];
    for (const next of imports.get(file) ?? []) {
      const circle = circleFrom(next, [...way, file]);
      if (circle) return circle;
    }
    free.add(file);
    return undefined;
  };
  assert.deepEqual([...imports.keys()].map((file) => circleFrom(file, [])).find(Boolean), undefined);
});

Deno.test("each import that the table allows is needed", () => {
  const needed = new Set(
    sources.flatMap((source) => importsOf(source).map((imported) => `${roomOf(source.path)} ${roomOf(imported)}`)),
  );
  const idle = Object.entries(MAY_IMPORT).flatMap(([room, allowed]) =>
    allowed.filter((other) => !needed.has(`${room} ${other}`)).map((other) => `${room} imports nothing of ${other}`)
  );
  assert.deepEqual(idle, []);
});

Deno.test("no file of src/ is longer than can be read at once", () => {
  const long = sources
    .filter(({ path }) => !GENERATED.includes(path))
    .map(({ path, text }) => ({ path, lines: text.split("\n").length - 1 }))
    .filter(({ path, lines }) => lines > (STILL_LONGER[path] ?? MOST_LINES));
  assert.deepEqual(long, []);
});

/** Comments that begin neither with a verb nor with a noun, and words that are not the field's. */
const NOT_OUR_COMMENT =
  /\/\*\*[\s*]+(?:Has|It|What|Who|Whoever|How|Why|Where|When|Which)\b[^\n]*|\b(?:anew|whoever|in vain|ahead of need|not seen to)\b/g;
/** Folders whose comments are still to be worded. Entries only go. */
const STILL_TO_BE_WORDED = ["src/tcpdump/"];

Deno.test("comments begin with a verb or a noun, and use the field's words", () => {
  const found = sources
    .filter(({ path }) => !GENERATED.includes(path) && !STILL_TO_BE_WORDED.some((folder) => path.startsWith(folder)))
    .flatMap(({ path, text }) => [...text.matchAll(NOT_OUR_COMMENT)].map(([words]) => `${path}: ${words}`));
  assert.deepEqual(found, []);
});
