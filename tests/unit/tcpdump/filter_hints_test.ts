/** The words are those of the real tcpdump: a hint hangs on what it says. */
import { deepStrictEqual as assertEquals, ok as assert } from "node:assert/strict";
import { checkFilter } from "../../../src/tcpdump/tcpdump_queries.ts";

const DISPLAY = "it looks like a Wireshark display filter and must be a capture filter, such as: ";
const WORD = "is a word of Wireshark's display filters; it must be written as a capture filter: ";
const NAME = "names are not looked up: it must be an address " +
  "(kubectl get pods,services -o wide lists those of pods and Services)";
const QUOTED = "quotes are part of the value; it must be ";
const ETHERNET =
  "any has no Ethernet headers: annotation …/interface must name an Ethernet interface of the pod, such as eth0";
const PLAIN = "it must be a pcap filter expression";

/** What a user writes, and how the sentence about it must end. */
const HINTS: Record<string, string> = {
  "tcp.port == 80": `${DISPLAY}tcp port 80`,
  "tcp.dstport==443": `${DISPLAY}tcp dst port 443`,
  "ip.addr == 1.2.3.4": `${DISPLAY}host 1.2.3.4`,
  "ip.addr eq 1.2.3.4": `${DISPLAY}host 1.2.3.4`,
  "ip.src=10.0.0.0/8": `${DISPLAY}src net 10.0.0.0/8`,
  "ipv6.addr==::1": `${DISPLAY}host ::1`,
  "!(ip.addr != 1.2.3.4)": `${DISPLAY}not host 1.2.3.4`,
  "tcp port 80 && ip.src == 1.2.3.4": `${DISPLAY}src host 1.2.3.4`,
  "tcp && ip.src": `${DISPLAY}tcp port 80 and host 10.0.0.1`,
  "tcp port eq 80": `${DISPLAY}tcp port 80 and host 10.0.0.1`,
  "udp.port in {53}": `${DISPLAY}tcp port 80 and host 10.0.0.1`,
  'http.request.method == "GET"': `${DISPLAY}tcp port 80 and host 10.0.0.1`,
  'frame contains "x"': `${DISPLAY}tcp port 80 and host 10.0.0.1`,
  http: `http ${WORD}tcp port 80`,
  "tcp and TLS": `TLS ${WORD}tcp port 443`,
  "dns or arp": `dns ${WORD}port 53`,
  icmpv6: `icmpv6 ${WORD}icmp6`,
  vxlan: `vxlan ${WORD}udp port 4789, or 8472 for Flannel's`,
  '"tcp port 80"': `${QUOTED}"tcp port 80" without quotes of its own`,
  "'tcp port 80'": `${QUOTED}"tcp port 80" without quotes of its own`,
  "\u201ctcp port 80\u201d": `${QUOTED}"tcp port 80" without quotes of its own`,
  '\\"tcp port 80\\"': `${QUOTED}"tcp port 80" without quotes of its own`,
  "'tcp port 80": `${QUOTED}"tcp port 80" without quotes of its own`,
  "'tcp.port == 80'": `${QUOTED}"tcp.port == 80" without quotes of its own, and ${DISPLAY}tcp port 80`,
  'tcp port "80"': `${QUOTED}written without them`,
  "host web-0": NAME,
  "host example.com and port 80": NAME,
  "host tcp.svc": NAME,
  "net web": NAME,
  "ether host web": NAME,
  vlan: ETHERNET,
  "vlan 7 and tcp": ETHERNET,
  "ether host 00:11:22:33:44:55": ETHERNET,
  mpls: ETHERNET,
  "-i eth0 port 80":
    "it looks like a command line and must be the expression alone: options have annotations of their own",
  "tcpdump port 80":
    "it looks like a command line and must be the expression alone: options have annotations of their own",
  "10.0.0.1": "an address must have a word before it: host 10.0.0.1",
  "10.0.0.0/8": "an address must have a word before it: net 10.0.0.0/8",
  "fe80::1": "an address must have a word before it: host fe80::1",
  // Its own words say it all, or nothing is known of it.
  "tcp prot 80": PLAIN,
  "port 99999": PLAIN,
  "port nosuch": PLAIN,
  "tcp port": PLAIN,
  "web-0": PLAIN,
};

async function check(filter: string): Promise<string | undefined> {
  return await checkFilter({ tcpdump: "tcpdump", unshare: "unshare", filter, linkType: "LINUX_SLL2" });
}

Deno.test("a filter that does not compile is told what it looks like and what it must be", async () => {
  const ends = await Promise.all(
    Object.keys(HINTS).map(async (filter) => {
      const problem = await check(filter) ?? "it compiles";
      return [filter, /^does not compile: [^;]+; (.*)$/s.exec(problem)?.[1] ?? problem];
    }),
  );
  assertEquals(Object.fromEntries(ends), HINTS);
});

Deno.test("filters with words of both languages compile as they are", async () => {
  const honest = [
    "port http",
    "tcp port http or domain",
    "host 1.2.3.4",
    "tcp && udp || !arp",
    "tcp[13] == 2",
    "geneve",
  ];
  for (const filter of honest) assertEquals(await check(filter), undefined, filter);
});

Deno.test("hints of the longest filters take no time", async () => {
  const texts = ["'", " ", "::", "a.", "tcp.port==1 ", '" ', "\\", "x "].map((text) =>
    `${text.repeat(8190 / text.length)}z!`
  );
  const { filterHint } = await import("../../../src/tcpdump/filter_hints.ts");
  const begin = performance.now();
  for (const text of texts) filterHint(text, `unknown host '${text}'`);
  assert(performance.now() - begin < 500, `${performance.now() - begin} ms`);
});
