/** Description of a capture in the file written of it: its interfaces, their counters, its comments. */
import type { Manifest, Run } from "../store/manifest.ts";
import { quote } from "../base/quote.ts";
import { VERSION } from "../version.ts";
import type { Capture } from "./locate.ts";
import type { Interface } from "../pcap/packet.ts";
import type { PcapHeader } from "../pcap/pcap_format.ts";
import type { Counters } from "../pcap/writer.ts";

/** The comment for readers that may see no payload (headers.ts). */
export const HEADERS_ONLY = "headers only: packets are cut after their transport header, DNS (port 53) is whole; " +
  "their lengths are those on the wire";

interface DescribedInterface {
  readonly described: Interface;
  /** Comments of its interface block. */
  readonly comments: readonly string[];
  /** Numbers of the runs that captured with it. */
  readonly runs: Set<number>;
}

/**
 * The interfaces of a capture, one for each combination of link type, snaplen and what a run was asked to capture, numbered
 * in the order in which they were first asked for: `ns/pod@node`, then `ns/pod@node#2` …
 */
export class CaptureInterfaces {
  readonly all: DescribedInterface[] = [];
  readonly #numbers = new Map<string, number>();
  readonly #comments: readonly string[];

  /** @param options.headersOnly whether their packets are cut after the headers. */
  constructor({ headersOnly = false }: { readonly headersOnly?: boolean | undefined } = {}) {
    this.#comments = headersOnly ? [HEADERS_ONLY] : [];
  }

  /** Returns the number of the interface to which the packets of a file belong. */
  numberOf({ namespace, pod, manifest }: Capture, header: PcapHeader, run: number): number {
    const { linkType, snaplen, digits } = header;
    const { interface: device, direction, filter } = manifest?.runs.find(({ n }) => n === run)?.request ?? {};
    const key = JSON.stringify([linkType, snaplen, digits, device, direction, filter]);
    let number = this.#numbers.get(key);
    if (number === undefined) {
      number = this.all.length;
      this.#numbers.set(key, number);
      const name = `${namespace}/${pod}@${manifest?.node ?? "unknown"}${number === 0 ? "" : `#${number + 1}`}`;
      const description = device === undefined ? {} : { description: `tcpdump -i ${device} -Q ${direction}` };
      const described = {
        name,
        linkType,
        snaplen,
        digits,
        ...description,
        ...(filter === undefined ? {} : { filter }),
      };
      this.all.push({ described, comments: this.#comments, runs: new Set() });
    }
    this.all[number]!.runs.add(run);
    return number;
  }

  /** Returns what tcpdump has counted for each interface. @param comments for the first interface. */
  counters(manifest: Manifest | undefined, comments: readonly string[] = []): Counters[] {
    return this.all.map(({ runs: numbers }, i) => {
      const runs = manifest?.runs.filter(({ n }) => numbers.has(n)) ?? [];
      const sum = (count: (run: Run) => number) =>
        runs.length > 0 ? runs.reduce((n, run) => n + count(run), 0) : undefined;
      return {
        received: sum((run) => run.received),
        dropped: sum((run) => run.dropped),
        comments: i === 0 ? comments : [],
      };
    });
  }
}

/**
 * Returns the comments that a file of a capture begins with: whose packets they are, how they were asked for, and
 * when captured.
 */
export function captureComments({ manifest, namespace, pod, damage }: Capture): string[] {
  if (!manifest) return [`packet-capture ${VERSION}: ${namespace}/${pod}`, damage];
  const annotations = Object.entries(manifest.annotations).map(([key, value]) => `${key}=${quote(value)}`);
  const runs = manifest.runs.map(({ n, startedAt, endedAt, ended }) =>
    `run ${n} from ${startedAt}${endedAt ? ` to ${endedAt}` : ""}${ended ? ` (${ended})` : ""}`
  );
  return [
    `packet-capture ${VERSION}: ${namespace}/${pod} on ${manifest.node}, pod UID ${manifest.uid}`,
    `annotations: ${annotations.join(" ")}`,
    ...(runs.length > 0 ? [runs.join(", ")] : []),
  ];
}
