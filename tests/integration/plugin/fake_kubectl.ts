/**
 * Stands in for kubectl where a fault is wanted that a real one shows only by chance: a connection that breaks half way, an answer that never
 * ends. It follows the rules in $FAKE_KUBECTL/rules.json and notes each call in $FAKE_KUBECTL/calls.jsonl.
 */
export interface Rule {
  /** Words that all occur in the command line. The first rule that fits counts. */
  readonly when: readonly string[];
  /** How often it counts; after that, later rules do. @default always */
  readonly times?: number;
  readonly stdout?: string;
  /** A file to deliver, and how much of it. */
  readonly file?: string;
  readonly bytes?: number;
  readonly bytesPerSecond?: number;
  readonly stderr?: string;
  readonly code?: number;
  /** Never ends by itself, having delivered. */
  readonly hang?: boolean;
  /** Ends, having delivered, when standard input does. */
  readonly untilStdin?: boolean;
}

export interface Call {
  readonly rule: number;
  readonly pid: number;
  readonly args: readonly string[];
}

if (import.meta.main) {
  const dir = Deno.env.get("FAKE_KUBECTL")!;
  const rule = choose(dir);
  if (rule === undefined) {
    await write(Deno.stderr, `fake kubectl: no rule for ${Deno.args.join(" ")}\n`);
    Deno.exit(99);
  }
  await write(Deno.stdout, rule.stdout ?? "");
  if (rule.file !== undefined) await deliver(rule.file, rule);
  await write(Deno.stderr, rule.stderr ?? "");
  if (rule.hang) await new Promise(() => setInterval(() => {}, 60_000));
  if (rule.untilStdin) await new Response(Deno.stdin.readable).text();
  Deno.exit(rule.code ?? 0);
}

function choose(dir: string): Rule | undefined {
  const rules: Rule[] = JSON.parse(Deno.readTextFileSync(`${dir}/rules.json`));
  using file = Deno.openSync(`${dir}/calls.jsonl`, { read: true, append: true, create: true });
  file.lockSync(true);
  const calls = Deno.readTextFileSync(`${dir}/calls.jsonl`).split("\n").filter(Boolean).map((line): Call =>
    JSON.parse(line)
  );
  const line = Deno.args.join(" ");
  const index = rules.findIndex(({ when, times = Infinity }, index) =>
    when.every((word) => line.includes(word)) && calls.filter(({ rule }) => rule === index).length < times
  );
  const call: Call = { rule: index, pid: Deno.pid, args: Deno.args };
  file.writeSync(new TextEncoder().encode(`${JSON.stringify(call)}\n`));
  return rules[index];
}

async function deliver(path: string, { bytes = Infinity, bytesPerSecond = Infinity }: Rule): Promise<void> {
  const content = (await Deno.readFile(path)).subarray(0, bytes);
  const slice = Math.min(65_536, Math.max(1, Math.floor(bytesPerSecond / 20)));
  for (let at = 0; at < content.length; at += slice) {
    await write(Deno.stdout, content.subarray(at, at + slice));
    if (bytesPerSecond < Infinity) await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function write(to: { write(bytes: Uint8Array): Promise<number> }, what: string | Uint8Array): Promise<void> {
  let bytes = typeof what === "string" ? new TextEncoder().encode(what) : what;
  while (bytes.length > 0) bytes = bytes.subarray(await to.write(bytes));
}
