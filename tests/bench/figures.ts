/**
 * The figures of `make bench`: raw samples and what is made of them. tests/bench/benchmarks.json holds the samples;
 * the table of docs/benchmarks.md is generated from them.
 */

/** One row of the table. */
export interface Figure {
  /** What CHECK finds the published figure by. */
  readonly id: string;
  /** The part of the benchmark that measures it: `make bench ONLY=…`. */
  readonly part: string;
  /** What is measured, for people. */
  readonly what: string;
  /** The figure, in its unit. */
  readonly value: number;
  readonly unit: "×" | "ms" | "s" | "MiB" | "KiB" | "MB" | "MB/s" | "%" | "points";
  readonly target?: { readonly atMost: number } | { readonly atLeast: number };
  /** How far beyond the target still meets it, since repeats of one and the same thing differ by as much. @default 0 */
  readonly tolerance?: number;
  /** Figures of the same run besides it: the physical limit, spread, what is not covered. */
  readonly beside: string;
  /** A figure that is compared with the published one by CHECK: a ratio, or a count; not a time. */
  readonly stable: boolean;
  readonly better: "lower" | "higher";
  /** Raw samples of each series, in the order they were taken, in the series' unit. */
  readonly samples: Readonly<Record<string, readonly number[]>>;
}

export interface Origin {
  readonly commit: string;
  readonly machine: string;
}

/** What was measured where. */
export interface Report extends Origin {
  /** The origin of parts that were measured at another time than the rest. */
  readonly parts?: Readonly<Record<string, Origin>>;
  readonly figures: readonly Figure[];
}

/** How much worse than the published one a stable figure may be. */
const WORSE = 1.5;

export function quantile(samples: readonly number[], q: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  if (sorted.length === 0) throw new RangeError("No samples");
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))]!;
}

export function median(samples: readonly number[]): number {
  return quantile(samples, 0.5);
}

/** The median of how much each sample is more than that of the same round. */
export function medianOfPairs(samples: readonly number[], others: readonly number[]): number {
  return median(samples.map((value, i) => value - others[i]!));
}

/** Half of how far apart repeats of one and the same thing are: smaller differences say nothing. */
export function noiseOf(samples: readonly number[]): number {
  return (Math.max(...samples) - Math.min(...samples)) / 2;
}

/** `p50 17.2, p95 23.0, max 41.7 ms`. */
export function spread(samples: readonly number[], unit: string): string {
  return `p50 ${short(median(samples))}, p95 ${short(quantile(samples, 0.95))}, max ${
    short(Math.max(...samples))
  } ${unit}`;
}

/** `17.2 (16.0–18.9) ms`. */
export function range(samples: readonly number[], unit: string): string {
  return `${short(median(samples))} (${short(Math.min(...samples))}–${short(Math.max(...samples))}) ${unit}`;
}

/** Three digits. */
export function short(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
}

/** Whether the target is met; undefined where there is none. */
export function met({ value, target, tolerance = 0 }: Figure): boolean | undefined {
  if (target === undefined) return undefined;
  return "atMost" in target ? value <= target.atMost + tolerance : value >= target.atLeast - tolerance;
}

/** The stable figures that are much worse than published: one sentence each. */
export function regressions(published: Report, now: readonly Figure[]): string[] {
  const found: string[] = [];
  for (const figure of now) {
    const before = published.figures.find(({ id }) => id === figure.id);
    if (!figure.stable || before === undefined) continue;
    const worse = figure.better === "lower" ? figure.value / before.value : before.value / figure.value;
    if (worse > WORSE) {
      found.push(
        `${figure.id} is ${short(figure.value)} ${figure.unit}, published is ${short(before.value)}: ` +
          `${worse.toFixed(1)} times worse, ${WORSE} is accepted`,
      );
    }
  }
  return found;
}

/** One line for each figure. */
export function table(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const { id, part, what, value, unit, beside } = figure;
    const verdict = { true: "yes", false: "**no**", undefined: "–" }[String(met(figure)) as "true"];
    return `| \`${id}\` | ${what} | ${wanted(figure)} | ${
      short(value)
    } ${unit} | ${verdict} | ${beside} | \`ONLY=${part}\` |`;
  });
  return `| id | figure | target | measured | met | beside it, in the same run | \`make bench\` |
|---|---|---|---|---|---|---|
${rows.join("\n")}
`;
}

function wanted({ target, tolerance, unit }: Figure): string {
  if (target === undefined) return "–";
  const limit = "atMost" in target ? `≤ ${target.atMost} ${unit}` : `≥ ${target.atLeast} ${unit}`;
  return tolerance === undefined ? limit : `${limit}, ± ${short(tolerance)} of noise`;
}

/** The report with new figures of some parts in place of the old ones. @param order all parts, in the order of the page. */
export function withParts(
  report: Report,
  figures: readonly Figure[],
  origin: Origin,
  order: readonly string[],
): Report {
  const fresh = new Set(figures.map(({ part }) => part));
  const all = [...report.figures.filter(({ part }) => !fresh.has(part)), ...figures];
  return {
    ...report,
    parts: { ...report.parts, ...Object.fromEntries([...fresh].map((part) => [part, origin])) },
    figures: order.flatMap((part) => all.filter((figure) => figure.part === part)),
  };
}

/** Where all was measured, and which parts elsewhere. */
function originOf({ parts = {}, ...report }: Report, what: keyof Origin): string {
  const apart = Object.entries(parts).filter(([, origin]) => origin[what] !== report[what]);
  return [report[what], ...apart.map(([part, origin]) => `\`${part}\` ${origin[what]}`)].join("; ");
}

/** docs/benchmarks.md. @param parts that there are: those that no figure is of are named. */
export function page(report: Report, parts: readonly string[] = []): string {
  const { figures } = report;
  const lacking = parts.filter((part) => !figures.some((figure) => figure.part === part)).map((part) => `\`${part}\``);
  const missed = figures.filter((figure) => met(figure) === false).map(({ id }) => `\`${id}\``);
  return `# Benchmarks

Written by \`make bench\` from the raw samples in [tests/bench/benchmarks.json](../tests/bench/benchmarks.json).
Do not edit it: \`make check\` would notice. What the figures mean, what they do not cover, and where the time
and memory go is in [performance.md](performance.md).

- Commit: ${originOf(report, "commit")}
- Machine: ${originOf(report, "machine")}
- Targets missed: ${missed.length === 0 ? "none" : missed.join(", ")}
${lacking.length === 0 ? "" : `- Parts not measured yet: ${lacking.join(", ")}\n`}
Real API server, real containerd, real tcpdump; the controller is the image's bundle with the image's flags. Times are taken from
outside the controller. Ours and what it is compared with take turns in one run; ratios are of medians. "p50", "p95" and "max" are
of all rounds; "a (b–c)" is the median with the least and the most.

${table(figures)}`;
}
