import { deepStrictEqual as assertEquals, match as assertMatch, ok, throws as assertThrows } from "node:assert/strict";
import type { Figure } from "../../bench/figures.ts";
import { frame } from "../../bench/flood.ts";
import { JSON_FILE, PERFORMANCE, PICTURE } from "../../bench/main.ts";
import { checkNoGap, numbersOf } from "../../bench/numbers.ts";
import { losslessUpTo, PANELS, pointsOf, WAYS } from "../../bench/rates.ts";
import { isMeasured, lossPicture, lossTable, withRates } from "../../bench/rates_page.ts";

/** Samples of two rates, three rounds each; of 200 thousand asked for, 180 were sent. */
const SAMPLES = {
  "packets/s asked for": [100_000, 100_000, 100_000, 200_000, 200_000, 200_000],
  "ours": [0, 0, 0.02, 0, 1, 0],
  "by hand": [0, 0, 0, 4, 2, 3],
  "with -U": [0.2, 0.3, 0.4, 12, 10, 14],
  ...Object.fromEntries(WAYS.map((way) => [
    `${way}, packets/s sent`,
    [99_900, 99_900, 100_100, 180_000, 179_000, 181_000],
  ])),
};
const figures = PANELS.map(({ id }) => ({ id, part: "rates", samples: SAMPLES }) as unknown as Figure);

Deno.test("pointsOf() groups the samples by the rate asked for, and reports which was sent", () => {
  const [first, second] = pointsOf(SAMPLES);
  assertEquals([first!.perSecond, second!.perSecond], [99_900, 180_000]);
  assertEquals(second!.lost, { ours: [0, 1, 0], "by hand": [4, 2, 3], "with -U": [12, 10, 14] });
  assertEquals([second!.more, second!.noise], [-3, 1]);
});

Deno.test("losslessUpTo() ends below the first rate at which some are lost", () => {
  const points = pointsOf(SAMPLES);
  assertEquals(WAYS.map((way) => losslessUpTo(points, way)), [180_000, 99_900, undefined]);
});

Deno.test("lossTable() has the median of each rate, and how far apart the rounds are", () => {
  const rows = lossTable(figures).split("\n");
  assertEquals(rows.length, 2 + 2 * PANELS.length + 1);
  assertEquals(rows[2], "| 1 | 500m | 100 thousand | 0 (0–0.02) % | 0 % | 0.3 (0.2–0.4) % |");
  assertEquals(rows[3], "| 1 | 500m | 180 thousand | 0 (0–1) % | 3 (2–4) % | 12 (10–14) % |");
  assertThrows(() => lossTable(figures.slice(1)), /No samples of "rates-500m"/);
});

Deno.test("lossPicture() has a mark for each rate and way, and a line from the least to the most of its rounds", () => {
  const picture = lossPicture(figures);
  const panels = PANELS.length;
  assertEquals(picture.match(/<circle /g)!.length, 2 * panels + 1);
  assertEquals(picture.match(/<path d="M[0-9. ]+V[0-9.]+"\/>/g)!.length, 5 * panels);
  // 14 % is the most: the axis goes to 15. The mark of 12 % at 180 of 200 thousand is at 12/15 of the height.
  assertMatch(picture, />15 %</);
  const spot = /stroke="#6a51c4" fill="none"><path d="M[0-9.]+ [0-9.]+L([0-9.]+) ([0-9.]+)"/.exec(picture)!;
  assertEquals(spot.slice(1).map(Number), [48 + 262 * 180 / 200 + 3, 62 + 200 * 3 / 15]);
});

Deno.test("withRates() replaces what stands between its marks, and nothing else", () => {
  const page = "before\n<!-- written by make bench -->\nold\n<!-- end of what make bench writes -->\nafter\n";
  const text = withRates(page, figures);
  assertEquals(
    text,
    page.replace("old\n", `![Packets lost against packets a second](images/loss.svg)\n\n${lossTable(figures)}`),
  );
  assertEquals(withRates(text, figures), text);
  assertEquals(withRates(text, []), page.replace("old\n", "Part `rates` was not measured yet.\n"));
  assertThrows(() => withRates("no marks", figures), /The page lacks/);
});

Deno.test("docs/performance.md and docs/images/loss.svg are of the samples in tests/bench/benchmarks.json", async () => {
  const { figures } = JSON.parse(await Deno.readTextFile(JSON_FILE)) as { figures: Figure[] };
  const page = await Deno.readTextFile(PERFORMANCE);
  assertEquals(page, withRates(page, figures));
  const picture = await Deno.readTextFile(PICTURE).catch(() => undefined);
  assertEquals(picture, isMeasured(figures) ? lossPicture(figures) : undefined);
});

Deno.test("frame() is a datagram whose headers a kernel accepts", () => {
  const view = frame({ netns: "", wire: "", mac: "02:00:00:00:00:0a", address: "10.255.255.2" }, 64);
  assertEquals([view.byteLength, view.getUint16(12), view.getUint16(16), view.getUint16(38)], [106, 0x0800, 92, 72]);
  assertEquals([view.getUint8(5), view.getUint8(33)], [10, 2]);
  let sum = 0;
  for (let at = 14; at < 34; at += 2) sum += view.getUint16(at);
  ok((sum & 0xffff) + (sum >> 16) === 0xffff, "the header's checksum");
});

Deno.test("numbersOf() reads the numbers of the flood's packets alone, and checkNoGap() finds the one that is missing", () => {
  const file = (numbers: readonly number[]) => {
    const target = { netns: "", wire: "", mac: "02:00:00:00:00:02", address: "10.255.255.2" };
    const records = numbers.flatMap((number) => {
      const datagram = frame(target, 64);
      datagram.setBigUint64(42, BigInt(number));
      const bytes = new Uint8Array(16 + 20 + 92);
      new DataView(bytes.buffer).setUint32(8, 112, true);
      new DataView(bytes.buffer).setUint16(16, 0x0800);
      bytes.set(new Uint8Array(datagram.buffer, 14), 36);
      // An answer of ARP between each two.
      const other = new Uint8Array(16 + 48);
      new DataView(other.buffer).setUint32(8, 48, true);
      new DataView(other.buffer).setUint16(16, 0x0806);
      return [...bytes, ...other];
    });
    const header = new Uint8Array(24);
    new DataView(header.buffer).setUint32(20, 276, true);
    return new Uint8Array([...header, ...records]);
  };
  assertEquals(numbersOf(file([7, 8, 9]), "ring.pcap0"), [7, 8, 9]);
  checkNoGap(numbersOf(file([7, 8, 9]), "ring.pcap0"));
  assertThrows(() => checkNoGap(numbersOf(file([7, 9]), "ring.pcap0")), /Packet 7 is followed by 9/);
  assertThrows(() => checkNoGap([]), /No packet/);
});
