/**
 * Draws what tshark says of a capture file as a table, a colour for each interface: the picture in the README.
 *
 *     tools/deno run --allow-all tests/e2e/picture.ts web.pcapng docs/images/merged.svg
 */
import { run } from "../support/run.ts";

/** Heading, tshark's field, and width in characters. */
const COLUMNS: readonly (readonly [heading: string, field: string, width: number])[] = [
  ["No.", "frame.number", 6],
  ["Time", "frame.time_relative", 10],
  ["Interface", "frame.interface_name", 23],
  ["Source", "ip.src", 13],
  ["Destination", "ip.dst", 13],
  ["Protocol", "_ws.col.Protocol", 9],
  ["Info", "_ws.col.Info", 58],
];
/** Wireshark's light row colours. */
const COLOURS = ["#e4ffc7", "#dae8ff", "#ffe5cc", "#f0e0ff"];
const ROW = 20;
const CHARACTER = 7.3;
const MARGIN = 10;

/** @param filter a display filter @param rows how many packets of those that pass it, around the last change from one pod to another */
export async function picture(file: string, filter: string, rows: number): Promise<string> {
  const fields = COLUMNS.flatMap(([, field]) => ["-e", field]);
  const text = await run(["tshark", "-n", "-r", file, "-Y", filter, "-T", "fields", ...fields], { timeoutMs: 60_000 });
  const all = text.split("\n").filter(Boolean).map((line) => line.split("\t"));
  const change = all.findLastIndex((packet, i) => i > 0 && packet[2] !== all[i - 1]![2]);
  const first = Math.max(0, Math.min(change - Math.floor(rows / 2), all.length - rows));
  const packets = all.slice(first, first + rows);
  const interfaces = [...new Set(packets.map((packet) => packet[2]))];
  const width = Math.round(MARGIN * 2 + COLUMNS.reduce((sum, [, , width]) => sum + width, 0) * CHARACTER);
  const height = ROW * (packets.length + 1) + MARGIN * 2;
  const title = `tshark's view of ${file.split("/").at(-1)}: ${interfaces.join(", ")}`;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" role="img">`,
    `<title>${escape(title)}</title>`,
    "<style>text { font: 12px monospace; white-space: pre; fill: #12272e } .head { font-weight: bold }</style>",
    `<rect width="${width}" height="${height}" fill="#fff" stroke="#999"/>`,
    ...row(0, COLUMNS.map(([heading]) => heading), "#ddd", width, "head"),
    ...packets.flatMap((packet, i) => {
      return row(i + 1, packet, COLOURS[interfaces.indexOf(packet[2]) % COLOURS.length]!, width, "packet");
    }),
    "</svg>\n",
  ].join("\n");
}

function row(index: number, cells: readonly string[], colour: string, width: number, style: string): string[] {
  const y = MARGIN + index * ROW;
  let x = MARGIN + 4;
  return [
    `<rect x="${MARGIN}" y="${y}" width="${width - 2 * MARGIN}" height="${ROW}" fill="${colour}"/>`,
    ...cells.map((cell, i) => {
      const [, , wide] = COLUMNS[i]!;
      const seconds = COLUMNS[i]![1] === "frame.time_relative" && style === "packet" ? Number(cell).toFixed(6) : cell;
      const words = seconds.length > wide - 1 ? `${seconds.slice(0, wide - 2)}…` : seconds;
      const text = `<text class="${style}" x="${x.toFixed(1)}" y="${y + 14}">${escape(words)}</text>`;
      x += wide * CHARACTER;
      return text;
    }),
  ];
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

if (import.meta.main) {
  const [file, to] = Deno.args as [string, string];
  await Deno.writeTextFile(to, await picture(file, "http.request or tcp.flags.syn == 1", 16));
}
