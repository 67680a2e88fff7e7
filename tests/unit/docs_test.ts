/** What the documentation names has to be there: files, make targets, chart values, annotations, commands, states, metrics, Events. */
import assert from "node:assert/strict";
import { dirname, join, relative } from "@std/path";
import { load } from "js-yaml";
import { Metrics } from "../../src/metrics.ts";
import { runPlugin } from "../../src/plugin/main.ts";
import { SUB_KEYS } from "../../src/spec/annotations.ts";
import { cli, ROOT, run } from "../rig/cli.ts";

interface Page {
  /** Relative to the project's root. */
  readonly path: string;
  readonly text: string;
  /** Code blocks of shell and code spans: what may name a command. */
  readonly code: readonly string[];
}

const pages = await allPages();

async function allPages(): Promise<Page[]> {
  const { code, stdout, stderr } = await run(
    "git",
    ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    {
      cwd: ROOT,
    },
  );
  assert.equal(code, 0, stderr);
  return await Promise.all(
    stdout.split("\n").filter(Boolean).map(async (path) => {
      const text = await Deno.readTextFile(join(ROOT, path));
      const blocks = shellBlocks(text).map(({ code }) => code);
      const spans = [...withoutBlocks(text).matchAll(/`([^`\n]+)`/g)].map(([, span]) => span!);
      return { path, text, code: [...blocks.flatMap((block) => block.replaceAll("\\\n", " ").split("\n")), ...spans] };
    }),
  );
}

function page(path: string): Page {
  const found = pages.find((p) => p.path === path);
  assert.ok(found, `${path} is missing`);
  return found;
}

function withoutBlocks(text: string): string {
  return text.replace(/^```[^]*?^```$/gm, "");
}

function shellBlocks(text: string): { code: string; mark: string | undefined }[] {
  return [...text.matchAll(/(?:^<!-- (.+) -->\n)?^```sh\n([^]*?)^```$/gm)].map(([, mark, code]) => ({
    mark,
    code: code!,
  }));
}

/** The anchors of a page's headings, as GitHub makes them. */
function anchors(text: string): string[] {
  return [...withoutBlocks(text).matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
    title!.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

/** What is wrong in any page, each with the page's path before it. */
function complaints(look: (page: Page) => Iterable<string>): string[] {
  return pages.flatMap((page) => [...look(page)].map((what) => `${page.path}: ${what}`));
}

Deno.test("every link in a Markdown file leads to a file and a heading that are there", async () => {
  const wrong: string[] = [];
  for (const { path, text } of pages) {
    for (const [, target] of withoutBlocks(text).replace(/`[^`\n]*`/g, "").matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target!)) continue;
      const [file, anchor] = target!.split("#") as [string, string?];
      const full = file === "" ? path : relative(ROOT, join(ROOT, dirname(path), file));
      const there = await Deno.stat(join(ROOT, full)).then(() => true, () => false);
      if (!there) wrong.push(`${path}: ${target}`);
      else if (anchor !== undefined && !anchors(page(full).text).includes(anchor)) wrong.push(`${path}: ${target}`);
    }
  }
  assert.deepEqual(wrong, []);
});

Deno.test("every page of docs/ is listed in its index, every decision in that of decisions", () => {
  const index = page("docs/README.md").text;
  const missing = pages.filter(({ path }) => path.startsWith("docs/") && path !== "docs/README.md")
    .filter(({ path }) => !index.includes(`](${path.slice("docs/".length)})`));
  assert.deepEqual(missing.map(({ path }) => path), []);
});

Deno.test("README and security model say before their first heading what exec means, and who can record", () => {
  for (const path of ["README.md", "docs/security.md"]) {
    const [first] = page(path).text.split("\n## ");
    const words = first!.replace(/[*>\s]+/g, " ");
    assert.match(words, /exec\b[^.]*node.administrat(or|ion)[^.]* every namespace's captures/, path);
    assert.match(words, /Anyone who can annotate a pod can have its traffic recorded/, path);
  }
});

Deno.test("every promise of the security model names tests that are there", async () => {
  const promises = rows(page("docs/security.md"), /promise/);
  assert.ok(promises.length >= 10);
  const missing: string[] = [];
  for (const [promise, held] of promises) {
    const tests = held!.split(", ");
    assert.ok(tests.every((test) => /^tests\/[\w/]+_test\.ts$/.test(test)), `${promise}: ${held}`);
    for (const test of tests) {
      if (!await Deno.stat(join(ROOT, test)).then(() => true, () => false)) missing.push(test);
    }
  }
  assert.deepEqual(missing, []);
});

Deno.test("every make target that is named exists", async () => {
  const makefile = await Deno.readTextFile(join(ROOT, "Makefile"));
  const targets = [...makefile.matchAll(/^\.PHONY: (.+)$/gm)].flatMap(([, names]) => names!.split(" "));
  assert.ok(targets.includes("check"));
  assert.deepEqual(
    complaints(function* ({ code }) {
      for (const line of code) {
        for (const [, target] of line.matchAll(/\bmake ([a-z][a-z0-9-]*)/g)) {
          if (!targets.includes(target!)) yield `make ${target}`;
        }
      }
    }),
    [],
  );
});

Deno.test("every chart value that is named exists", async () => {
  const values = load(await Deno.readTextFile(join(ROOT, "charts/values.yaml"))) as Record<string, unknown>;
  const exists = (name: string) => {
    let at: unknown = values;
    for (const key of name.replace(/\[\d+\]/g, "").split(".")) {
      // What is below an empty object or list is the user's.
      if (Array.isArray(at) || (at !== null && typeof at === "object" && Object.keys(at).length === 0)) return true;
      if (at === null || typeof at !== "object" || !(key in at)) return false;
      at = (at as Record<string, unknown>)[key];
    }
    return true;
  };
  assert.ok(exists("limits.maxFiles") && exists("seLinuxOptions.type") && !exists("limits.maxFile"));
  assert.deepEqual(
    complaints(function* ({ code }) {
      for (const line of code) {
        for (const [, name] of line.matchAll(/--set '?([A-Za-z][\w.[\]]*)=/g)) {
          if (!exists(name!)) yield `--set ${name}`;
        }
        // A code span such as `limits.maxFiles` or `storage.type=hostPath`.
        const [, name, top] = /^(([a-z][A-Za-z]+)\.[A-Za-z.]+)(?:[=:].*)?$/.exec(line) ?? [];
        if (name !== undefined && top! in values && !exists(name)) yield name;
      }
    }),
    [],
  );
});

Deno.test("every annotation that is named exists, and README and docs/annotations.md name them all", () => {
  const keys: readonly string[] = SUB_KEYS;
  const named = ({ code }: Page) =>
    code.flatMap((line) => [...line.matchAll(/(?:tcpdump\.antrea\.io|…)\/([a-z-]+)/g)].map(([, key]) => key!));
  assert.deepEqual(complaints((page) => named(page).filter((key) => !keys.includes(key))), []);
  for (const path of ["README.md", "docs/annotations.md"]) {
    const there = named(page(path));
    assert.deepEqual(keys.filter((key) => !there.includes(key)), [], path);
  }
});

/** Command lines that the pages have for a program: command, and the flags that it is given. */
function* commandLines(start: RegExp): Generator<{ path: string; command: string; flags: string[] }> {
  for (const { path, code } of pages) {
    for (const line of code) {
      const words = start.exec(line);
      if (words === null) continue;
      const rest = line.slice(words.index + words[0].length).split(/[|>#]/)[0]!;
      const [command, ...args] = rest.trim().split(/\s+/);
      if (command === undefined || !/^[a-z]/.test(command)) continue;
      yield { path, command, flags: args.map((a) => a.split("=")[0]!).filter((a) => /^--?[a-z]/i.test(a)) };
    }
  }
}

/** Says which of the commands and flags a program's help does not know. */
async function unknown(start: RegExp, help: (command: string) => Promise<string>): Promise<string[]> {
  const wrong: string[] = [];
  const helps = new Map<string, string>();
  for (const { path, command, flags } of commandLines(start)) {
    if (!helps.has(command)) helps.set(command, await help(command));
    const text = helps.get(command)!;
    // Asked for a command that it does not have, a program gives its own help.
    if (!new RegExp(`^Usage: .*packet-capture ${command} `, "m").test(text)) {
      wrong.push(`${path}: no command ${command}`);
    }
    for (const flag of flags) {
      if (!new RegExp(`(^|[\\s,])${flag}([\\s,]|$)`, "m").test(text)) wrong.push(`${path}: ${command} ${flag}`);
    }
  }
  assert.ok(helps.size >= 3, `only ${[...helps.keys()]} were found`);
  return wrong;
}

Deno.test("every command of the controller's program that is named exists, with its flags", async () => {
  const help = async (command: string) => (await cli([command, "--help"])).stdout;
  assert.deepEqual(await unknown(/(?:^|-- )packet-capture (?=[a-z])/, help), []);
});

Deno.test("every command of the plugin that is named exists, with its flags", async () => {
  const help = async (command: string) => {
    let text = "";
    const to = { document: (words: string) => void (text += words), note() {} };
    await runPlugin([command, "--help"], new AbortController().signal, to as never);
    return text;
  };
  assert.deepEqual(await unknown(/\bkubectl packet-capture (?=[a-z])/, help), []);
});

const decisions = pages.filter(({ path }) => path.startsWith("docs/adr/"));

Deno.test("decisions have numbers of their own, which are in their titles", () => {
  const numbers = decisions.map(({ path }) => /^docs\/adr\/(\d{4})-[a-z0-9-]+\.md$/.exec(path)?.[1] ?? path);
  assert.deepEqual(numbers.filter((n, i) => numbers.indexOf(n) !== i), []);
  assert.deepEqual(
    decisions.filter(({ text }, i) => !text.startsWith(`# ${numbers[i]}: `)).map(({ path }) => path),
    [],
  );
});

/** More are notes on a module, which belong at its top. */
const MOST_DECISIONS = 20;
const DECISION =
  /^# \d{4}: .+\n\n- Date: 20\d\d-\d\d-\d\d\n- Status: (?:accepted|superseded by \d{4})\n\n## Context\n[^]+\n## Decision\n[^]+\n## Not done\n[^]+$/;
/** So many lines are a page. */
const DECISION_LINES = 45;

Deno.test("decisions are few, each on one page with date, status, context, decision and what was not done", () => {
  assert.ok(decisions.length >= 10 && decisions.length <= MOST_DECISIONS, `there are ${decisions.length} decisions`);
  const unlike = decisions.filter(({ text }) => !DECISION.test(text) || text.split("\n").length > DECISION_LINES);
  assert.deepEqual(unlike.map(({ path }) => path), []);
});

Deno.test("a decision that a source names is there", async () => {
  const { code, stdout } = await run("git", ["grep", "-noE", "(adr/|ADR )[0-9]{4}", "--", ":!*.md"], { cwd: ROOT });
  assert.equal(code, 0);
  const named = stdout.trim().split("\n");
  assert.ok(named.length >= 5, stdout);
  const there = decisions.map(({ path }) => path.slice("docs/adr/".length, "docs/adr/".length + 4));
  assert.deepEqual(named.filter((line) => !there.includes(line.slice(-4))), []);
});

/** A sentence with more words is hard to read aloud. */
const MOST_WORDS = 25;

/** The sentences of a page's running text, lists included; a code span is one word. Tables, code and output are left out. */
function sentences(text: string): string[] {
  const prose = withoutBlocks(text)
    .replace(/<!--[^]*?-->/g, "")
    .replace(/^(?:\||#|!\[| {4}).*$/gm, "")
    .replace(/`[^`\n]*`/g, "CODE")
    .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
    .replaceAll("*", "");
  const paragraphs = prose.split(/\n\s*\n|\n *(?:-|\d+\.) /);
  return paragraphs.flatMap((p) => p.replace(/\s+/g, " ").split(/(?<=[.!?:])\s+(?=["(]?[A-Z0-9])/)).filter((s) =>
    s.trim() !== ""
  );
}

/** Written by programs, or one line for each change. */
const NOT_PROSE = ["CHANGELOG.md", "docs/benchmarks.md", "docs/reliability.md"];
Deno.test("no sentence of a page is longer than can be read aloud", () => {
  const read = pages.filter(({ path }) => !NOT_PROSE.includes(path));
  const all = read.flatMap(({ path, text }) => sentences(text).map((sentence) => ({ path, sentence })));
  assert.ok(all.length > 500, `only ${all.length} sentences were found`);
  const long = all.filter(({ sentence }) => (sentence.match(/\p{L}[^\s]*/gu) ?? []).length > MOST_WORDS);
  assert.deepEqual(long, []);
});

/** Words that are not the field's. */
const NOT_OUR_WORDS = /\b(?:anew|whoever|ahead of need|in vain|leave away|not seen to)\b/i;

Deno.test("no page uses a word that is not the field's", () => {
  const read = pages.filter(({ path }) => !NOT_PROSE.includes(path));
  const found = read.flatMap(({ path, text }) =>
    text.split("\n").filter((line) => NOT_OUR_WORDS.test(line)).map((line) => `${path}: ${line}`)
  );
  assert.deepEqual(found, []);
});

Deno.test("the Events that the docs explain are those that the code writes", async () => {
  const written = new Set<string>();
  for (const path of ["captures", "plan"].flatMap((room) => filesIn(`src/${room}`))) {
    const source = await Deno.readTextFile(join(ROOT, path));
    for (const [, reason] of source.matchAll(/reason: "(Capture[A-Za-z]+)"/g)) written.add(reason!);
  }
  const explained = rows(page("docs/troubleshooting.md"), /Event/).flatMap(([cell]) =>
    [...cell!.matchAll(/`(\w+)`/g)].map(([, reason]) => reason!)
  );
  assert.deepEqual(explained.sort(), [...written].sort());
  assert.deepEqual(
    complaints(({ code }) => code.filter((span) => /^Capture[A-Z]\w+$/.test(span) && !written.has(span))),
    [],
  );
});

Deno.test("the metrics and states that the docs explain are those that the code has", async () => {
  const metrics = new Metrics();
  const text = await metrics.text();
  const has = [...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name!);
  const told = rows(page("docs/metrics.md"), /metric/).map(([cell]) => cell!.replaceAll("`", ""));
  assert.deepEqual(told.sort(), has.sort());
  const states = [...text.matchAll(/^packet_capture_requests\{state="(\w+)"\}/gm)].map(([, state]) => state!);
  const explained = rows(page("docs/concepts.md"), /state/).map(([cell]) => cell!.replaceAll("`", ""));
  assert.deepEqual(explained, states);
});

/** The cells of the first table whose first column's heading matches. */
function rows({ path, text }: Page, heading: RegExp): string[][] {
  for (const [table] of text.matchAll(/(?:^\|.*\|$\n?)+/gm)) {
    const cells = table.trim().split("\n").map((line) => line.slice(1, -1).split("|").map((cell) => cell.trim()));
    if (heading.test(cells[0]![0]!)) return cells.slice(2);
  }
  throw new Error(`${path} has no table with a first column ${heading}`);
}

/** What a block of shell needs that a test of the documentation does not have. */
const NEEDS = /^(?:needs (?:a registry|a cluster|the plugin)|ends the captures of the whole cluster)$/;

Deno.test("a block of shell in README and docs is of make targets, or states what it needs", () => {
  assert.deepEqual(
    complaints(function* ({ path, text }) {
      if (path.startsWith("charts/")) return; // its template is helm-docs'
      for (const { code, mark } of shellBlocks(text)) {
        if (mark !== undefined && NEEDS.test(mark)) continue;
        const other = code.split("\n").filter((line) => line.trim() !== "" && !/^make [a-z]/.test(line));
        if (other.length > 0) yield other[0]!;
      }
    }),
    [],
  );
});

function filesIn(folder: string): string[] {
  return Array.from(Deno.readDirSync(join(ROOT, folder)), ({ name }) => join(folder, name));
}
