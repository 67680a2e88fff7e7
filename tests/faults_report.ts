/**
 * docs/reliability.md: the table of tests/faults.json with the figures of one run of its tests, written by that run.
 *
 * It ends with a hash of itself, so that an edit by hand is noticed. Figures differ from run to run: what has to fit the
 * repository is the list of the faults.
 */
import { join } from "@std/path";
import { ROOT } from "./support/paths.ts";
import { type FaultResult, type FaultRow, FULL, ROWS } from "./faults/fault.ts";

export const REPORT = join(ROOT, "docs/reliability.md");

/** What the figures depend on, in words. */
export interface Circumstances {
  /** Its hash, and whether the tree has changes that are not committed. */
  readonly commit: string;
  readonly changed: boolean;
  readonly machine: string;
  /** Every fault was as long and as large as its words say. */
  readonly full: boolean;
}

/** What is wrong with the results of a run: rows without a result. One sentence each. */
export function missing(rows: readonly FaultRow[], results: readonly FaultResult[]): string[] {
  return rows.filter(({ id }) => !results.some((result) => result.id === id))
    .map(({ id, fault, test }) => `No result of "${id}" (${fault}): ${test} did not record it`);
}

/** The text of docs/reliability.md. */
export async function render(
  rows: readonly FaultRow[],
  results: readonly FaultResult[],
  { commit, changed, machine, full }: Circumstances,
): Promise<string> {
  if (changed) throw new RangeError("Figures of a tree with changes are of no commit: commit them first");
  const seeds = results.flatMap(({ id, seed }) => seed === undefined ? [] : [`${id}: ${seed}`]);
  const lines = rows.map((row) => {
    const { id } = row;
    const result = results.find((result) => result.id === id);
    if (!result) throw new RangeError(`No result of "${id}"`);
    const { proof, seconds, packetsLost, leftovers } = result;
    const cells = [
      `\`${id}\``,
      words(row, full),
      proof,
      `${seconds.toFixed(seconds < 10 ? 2 : 0)} s`,
      packetsLost ?? "–",
      leftovers,
    ];
    return `| ${cells.map((cell) => cellText(String(cell))).join(" | ")} |`;
  });
  const text = `# Reliability

Each fault below is produced for real by a test of \`make check\`: on a real API server behind a proxy, a real containerd, real
tcpdump processes, and a file system of its own. A test first shows that the fault has happened, then that all is right again:
every capture that is wanted runs in its pod's network namespace, none that is not, and no file is there that ought not to be.
"Right again" counts from the fault, or from its end where nothing can be right while it lasts.

Packets are counted of a capture that runs when the fault strikes: those that come meanwhile, some 50 a second, or, where none can be
captured meanwhile, those that were in its files before. Some are lost where there is no tcpdump for a while; "–": none were counted.
A tcpdump that is killed (kill -9, the kernel for want of memory, its container) loses what its buffer held besides: at most 4 KiB.

This page is written by \`make reliability\`; \`make check\` fails if it was edited, lacks a fault of \`tests/faults.json\`, or is of no
commit. Some faults are shorter or smaller in \`make check\`, which is said ("here"); \`make faults-full\` makes them as they are.

- Commit: ${commit}
- Form: ${full ? FULL_FORM : "bounded"}
- Machine: ${machine}
- Seeds: ${seeds.length === 0 ? "no test of this run made random choices" : seeds.join(", ")}

| id | fault | how it was seen to have happened | right again | packets lost | leftovers |
|---|---|---|---|---|---|
${lines.join("\n")}
`;
  return `${text}\n<!-- written by tests/faults_report.ts; sha256 ${await sha256(text)} -->\n`;
}

/**
 * What is wrong with a text of docs/reliability.md: one sentence each. The commit it names need not be one of this repository: a
 * squash or a rebase makes another of it.
 */
export async function problems(rows: readonly FaultRow[], text: string): Promise<string[]> {
  const end = /\n<!-- written by tests\/faults_report\.ts; sha256 ([0-9a-f]{64}) -->\n$/.exec(text);
  if (!end) {
    return ["docs/reliability.md does not end with its hash: it was edited, or not written by make reliability"];
  }
  const found: string[] = [];
  if (await sha256(text.slice(0, end.index)) !== end[1]) found.push("docs/reliability.md was edited by hand");
  const commit = /^- Commit: (.*)$/m.exec(text)?.[1] ?? "";
  if (!/^[0-9a-f]{12,40}$/.test(commit)) {
    found.push(`docs/reliability.md is of "${commit}", which is no commit: make reliability writes it anew`);
  }
  const full = text.includes(`\n- Form: ${FULL_FORM}\n`);
  const cells = new Map<string, string>();
  for (const [, id, cell] of text.matchAll(/^\| `([^`]+)` \| ((?:[^|\\]|\\.)*) \|/gm)) cells.set(id!, cell!);
  for (const row of rows) {
    const cell = cells.get(row.id);
    if (cell === undefined) found.push(`docs/reliability.md has no row "${row.id}"`);
    else if (cell !== cellText(words(row, full))) {
      found.push(`docs/reliability.md has other words for "${row.id}" than tests/faults.json: ${cell}`);
    }
  }
  for (const id of cells.keys()) {
    if (!rows.some((row) => row.id === id)) {
      found.push(`docs/reliability.md has a row "${id}" that tests/faults.json lacks`);
    }
  }
  return found;
}

const FULL_FORM = "full, every fault as its words say";

/** The fault in words, with what was shorter or smaller in this form. */
function words({ fault, test, bounded }: FaultRow, full: boolean): string {
  return `[${fault}](../${test})${bounded === undefined || full ? "" : `; here ${bounded}`}`;
}

/** What one line of a table can hold. */
function cellText(text: string): string {
  return text.replace(/\s+/g, " ").replaceAll("|", "\\|").replaceAll("<", "&lt;");
}

async function sha256(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(digest).toHex();
}

async function git(cwd: string, ...args: string[]): Promise<{ code: number; said: string }> {
  const { code, stdout } = await new Deno.Command("git", { args, cwd, stderr: "null" }).output();
  return { code, said: new TextDecoder().decode(stdout).trim() };
}

/** The commit, machine and form of this run. */
export async function circumstances(): Promise<Circumstances> {
  const release = await Deno.readTextFile("/etc/os-release").catch(() => "");
  const system = /^PRETTY_NAME="(.*)"$/m.exec(release)?.[1] ?? "Linux";
  const memory = Math.round(Deno.systemMemoryInfo().total / 2 ** 30);
  return {
    commit: (await git(ROOT, "rev-parse", "--short=12", "HEAD")).said,
    changed: (await git(ROOT, "status", "--porcelain", "--", "src", "tests")).said !== "",
    machine: `${navigator.hardwareConcurrency} cores, ${memory} GiB of memory, ${system}, Linux ` +
      `${Deno.osRelease().split("-")[0]}, Deno ${Deno.version.deno}`,
    full: FULL,
  };
}

export { ROWS };
