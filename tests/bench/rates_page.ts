/** What docs/performance.md shows of part `rates`: a table, and a picture of rate against loss. Both are of the samples alone. */
import { type Figure, median, short } from "./figures.ts";
import { limitText, type Panel, PANELS, type Point, pointsOf, type Way, WAYS } from "./rates.ts";

/** Between these lines of docs/performance.md stands what `make bench` writes. */
const BEGIN = "<!-- written by make bench -->\n";
const END = "<!-- end of what make bench writes -->\n";

const NAMES: Readonly<Record<Way, string>> = {
  ours: "packet-capture",
  "by hand": "tcpdump by hand",
  "with -U": "packet-capture's command with -U",
};

/** How each is drawn: colours that stay apart in grey, dashes and marks where they do not. */
const DRAWN: Readonly<Record<Way, { colour: string; dashes: string; mark: (x: number, y: number) => string }>> = {
  ours: { colour: "#00694c", dashes: "", mark: (x, y) => `<circle cx="${at(x)}" cy="${at(y)}" r="3.5"/>` },
  "by hand": {
    colour: "#d1600a",
    dashes: "6 3",
    mark: (x, y) => `<rect x="${at(x - 3)}" y="${at(y - 3)}" width="6" height="6"/>`,
  },
  "with -U": {
    colour: "#6a51c4",
    dashes: "2 3",
    mark: (x, y) => `<path d="M${at(x - 4)} ${at(y + 3)}h8l-4 -7z"/>`,
  },
};

const WIDTH = 984;
const HEIGHT = 312;
const PLOT = { top: 62, height: 200, width: 262, left: 48, step: 324 };
/** Between the marks of different ways at one rate. */
const APART = 3;
/** Percent that the axis shows at least, so that noise does not look like loss. */
const LEAST_SHOWN = 5;

/** Whether there is anything to show. */
export function isMeasured(figures: readonly Figure[]): boolean {
  return figures.some(({ part }) => part === "rates");
}

/** The text of docs/performance.md with the picture and a new table. */
export function withRates(page: string, figures: readonly Figure[]): string {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin < 0 || end < begin) {
    throw new RangeError(`The page lacks ${JSON.stringify(BEGIN)} before ${JSON.stringify(END)}`);
  }
  const shown = isMeasured(figures)
    ? `![Packets lost against packets a second](images/loss.svg)\n\n${lossTable(figures)}`
    : "Part `rates` was not measured yet.\n";
  return page.slice(0, begin + BEGIN.length) + shown + page.slice(end);
}

/** One row for each rate: percent lost, median and, where rounds differ, the least and the most. */
export function lossTable(figures: readonly Figure[]): string {
  const rows = panelsOf(figures).flatMap(({ panel, points }) =>
    points.map((point) => {
      const cells = [
        panel.captures,
        limitText(panel.cores),
        thousand(point),
        ...WAYS.map((way) => lossText(point, way)),
      ];
      return `| ${cells.join(" | ")} |\n`;
    })
  );
  return `| captures | CPU limit | packets/s in all | ${WAYS.map((way) => `lost by ${NAMES[way]}`).join(" | ")} |
|---|---|---|---|---|---|
${rows.join("")}`;
}

function panelsOf(figures: readonly Figure[]): { panel: Panel; points: Point[] }[] {
  return PANELS.map((panel) => {
    const figure = figures.find(({ id }) => id === panel.id);
    if (figure === undefined) throw new RangeError(`No samples of "${panel.id}": make bench takes them`);
    return { panel, points: pointsOf(figure.samples) };
  });
}

function lossText({ lost }: Point, way: Way): string {
  const values = lost[way];
  const [least, middle, most] = [Math.min(...values), median(values), Math.max(...values)].map(percent);
  return least === most ? `${middle} %` : `${middle} (${least}–${most}) %`;
}

/** Hundredths are one packet in ten thousand: less is nothing. */
function percent(value: number): string {
  return short(Math.round(value * 100) / 100);
}

function thousand({ perSecond }: Point): string {
  return `${Math.round(perSecond / 1000)} thousand`;
}

/** docs/images/loss.svg. */
export function lossPicture(figures: readonly Figure[]): string {
  const panels = panelsOf(figures).map(({ panel, points }, i) => panelOf(panel, points, PLOT.left + i * PLOT.step));
  const legend = WAYS.map((way, i) => {
    const [x, y] = [PLOT.left + i * 240, 18];
    const { colour, dashes, mark } = DRAWN[way];
    return `<g stroke="${colour}" fill="${colour}"><path d="M${x} ${y}h30" stroke-width="2"${dashed(dashes)}/>${
      mark(x + 15, y)
    }</g>\n<text x="${x + 36}" y="${y + 4}">${NAMES[way]}</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${HEIGHT}" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img">
<title>Packets lost against packets a second</title>
<style>text { font: 12px sans-serif; fill: #12272e } .head { font-weight: bold } .axis { stroke: #999; fill: none } .grid { stroke: #e4e4e4 }</style>
<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>
${legend.join("\n")}
${panels.join("\n")}
</svg>
`;
}

function panelOf({ captures, cores }: Panel, points: readonly Point[], left: number): string {
  const { top, height, width } = PLOT;
  const mostRate = Math.max(...points.map(({ perSecond }) => perSecond));
  const rateStep = mostRate > 250_000 ? 100_000 : 50_000;
  const rateEnd = Math.ceil(mostRate * 1.05 / rateStep) * rateStep;
  const mostLost = Math.max(LEAST_SHOWN, ...points.flatMap(({ lost }) => WAYS.flatMap((way) => lost[way])));
  const lossStep = [1, 2, 5, 10, 20].find((step) => mostLost / step <= 5) ?? 20;
  const lossEnd = Math.ceil(mostLost / lossStep) * lossStep;
  const x = (rate: number) => left + width * rate / rateEnd;
  const y = (lost: number) => top + height * (1 - lost / lossEnd);
  const lines: string[] = [
    `<text class="head" x="${left}" y="${top - 14}">${captures === 1 ? "1 capture" : `${captures} captures at once`}, ${
      cores === undefined ? "no CPU limit" : `CPU limit ${limitText(cores)}`
    }: packets lost</text>`,
  ];
  for (let lost = 0; lost <= lossEnd; lost += lossStep) {
    lines.push(`<path class="grid" d="M${left} ${at(y(lost))}h${width}"/>`);
    lines.push(`<text x="${left - 6}" y="${at(y(lost) + 4)}" text-anchor="end">${lost} %</text>`);
  }
  for (let rate = 0; rate <= rateEnd; rate += rateStep) {
    lines.push(`<text x="${at(x(rate))}" y="${top + height + 18}" text-anchor="middle">${rate / 1000}</text>`);
  }
  lines.push(`<path class="axis" d="M${left} ${top}v${height}h${width}"/>`);
  const middle = left + width / 2;
  lines.push(`<text x="${middle}" y="${top + height + 38}" text-anchor="middle">thousand packets/s</text>`);
  // What is ours is drawn last, above the others.
  for (const way of WAYS.toReversed()) {
    const { colour, dashes, mark } = DRAWN[way];
    const aside = (WAYS.indexOf(way) - 1) * APART;
    const spots = points.map(({ perSecond, lost }) => ({
      x: x(perSecond) + aside,
      y: y(median(lost[way])),
      least: y(Math.min(...lost[way])),
      most: y(Math.max(...lost[way])),
    }));
    const path = spots.map((spot, i) => `${i === 0 ? "M" : "L"}${at(spot.x)} ${at(spot.y)}`).join("");
    const whiskers = spots.filter(({ least, most }) => least !== most)
      .map(({ x, least, most }) => `<path d="M${at(x)} ${at(least)}V${at(most)}"/>`);
    lines.push(
      `<g stroke="${colour}" fill="none"><path d="${path}" stroke-width="2"${dashed(dashes)}/>${whiskers.join("")}</g>`,
    );
    lines.push(`<g fill="${colour}">${spots.map((spot) => mark(spot.x, spot.y)).join("")}</g>`);
  }
  return lines.join("\n");
}

function dashed(dashes: string): string {
  return dashes === "" ? "" : ` stroke-dasharray="${dashes}"`;
}

/** A coordinate. */
function at(value: number): string {
  return String(Math.round(value * 10) / 10);
}
