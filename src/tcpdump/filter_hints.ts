/** What a filter that does not compile looks like, and what to write instead. Pure; the rules know libpcap's words. */
import { quote } from "../base/quote.ts";

/** How much of a filter is shown, in characters. */
const LONGEST_SHOWN = 64;
/** Marks in which shells, documents and chats wrap a text; a pcap filter has none of them. */
const QUOTE = /["'`\u2018\u2019\u201c\u201d]/;
/** Words after which pcap takes the next one as a name: there `http` is a port and `web.tcp` a host. */
const TAKES_NAME = /^(?:host|net|port|portrange|src|dst|gateway|proto|protochain)$/i;

/** Words of Wireshark for protocols that pcap has no word for, and how they are captured. */
const PROTOCOLS = new Map(Object.entries({
  http: "tcp port 80",
  http2: "tcp port 80",
  websocket: "tcp port 80",
  https: "tcp port 443",
  tls: "tcp port 443",
  ssl: "tcp port 443",
  quic: "udp port 443",
  http3: "udp port 443",
  dns: "port 53",
  mdns: "udp port 5353",
  dhcp: "udp portrange 67-68",
  bootp: "udp portrange 67-68",
  dhcpv6: "udp portrange 546-547",
  ntp: "udp port 123",
  ssh: "tcp port 22",
  icmpv6: "icmp6",
  ipv6: "ip6",
  eth: "ether",
  vxlan: "udp port 4789, or 8472 for Flannel's",
  wireguard: "udp port 51820",
  redis: "tcp port 6379",
  mysql: "tcp port 3306",
  pgsql: "tcp port 5432",
  mongo: "tcp port 27017",
  kafka: "tcp port 9092",
  amqp: "tcp port 5672",
  grpc: "tcp port, and the server's port",
}));
/** Fields of Wireshark that pcap can compare, and the words in front of the value. */
const FIELDS = new Map(Object.entries({
  "tcp.port": "tcp port",
  "tcp.srcport": "tcp src port",
  "tcp.dstport": "tcp dst port",
  "udp.port": "udp port",
  "udp.srcport": "udp src port",
  "udp.dstport": "udp dst port",
  "sctp.port": "sctp port",
  "ip.addr": "host",
  "ip.host": "host",
  "ip.src": "src host",
  "ip.dst": "dst host",
  "ipv6.addr": "host",
  "ipv6.src": "src host",
  "ipv6.dst": "dst host",
  "eth.addr": "ether host",
  "eth.src": "ether src",
  "eth.dst": "ether dst",
}));
/** `tcp.port`, `http.request.method`: a protocol, a dot, a field. */
const FIELD =
  /^(?:tcp|udp|sctp|ip|ip6|ipv6|icmp|icmpv6|arp|eth|sll|vlan|frame|data|_ws|http2?|http3|tls|ssl|quic|dns|mdns|dhcp|bootp|vxlan|geneve|gre|mpls|ntp|ssh|grpc|websocket|kerberos|ldap|smb2?|mysql|pgsql|redis|mongo|kafka|amqp|wg)\.[a-z][a-z0-9_.]*$/i;
const COMPARISON = /^(?:==|!=|===|!==|<=|>=|=|<|>|~|eq|ne|gt|lt|ge|le|contains|matches|in)$/i;

/**
 * Returns what the filter looks like and what must be written, as a clause; undefined if nothing is known about it.
 *
 * @param said libpcap's message, without the program's name.
 */
export function filterHint(filter: string, said: string): string | undefined {
  return wrapped(filter) ?? displayFilter(filter) ?? commandLine(filter) ?? name(said) ?? quotesWithin(filter) ??
    bareAddress(filter);
}

function wrapped(filter: string): string | undefined {
  const isMark = (at: number) => /[\\\s]/.test(filter.charAt(at)) || QUOTE.test(filter.charAt(at));
  // By hand: on a text of a tenant's a regular expression for both ends may take time by the square of its length.
  let begin = 0, end = filter.length;
  while (begin < end && isMark(begin)) begin++;
  while (end > begin && isMark(end - 1)) end--;
  const inner = filter.slice(begin, end);
  // A display filter may well begin or end with a text of its own.
  if (inner === filter || QUOTE.test(inner)) return undefined;
  const display = displayFilter(inner);
  return `quotes are part of the value; it must be ${quote(inner, LONGEST_SHOWN)} without quotes of its own` +
    (display === undefined ? "" : `, and ${display}`);
}

function displayFilter(filter: string): string | undefined {
  const words = filter.match(/[A-Za-z0-9_.:/-]+|[=!<>~]+|\S/g) ?? [];
  for (const [i, word] of words.entries()) {
    const before = words[i - 1] ?? "", operator = words[i + 1] ?? "";
    const isCompared = COMPARISON.test(operator);
    if (FIELD.test(word) && (isCompared || !TAKES_NAME.test(before))) {
      return looksLikeDisplay(isCompared ? translated(word, operator, words[i + 2] ?? "") : undefined);
    }
    if (/^(?:eq|ne|contains|matches)$/i.test(word) && i > 0 && !/^host$/i.test(before)) return looksLikeDisplay();
    const capture = PROTOCOLS.get(word.toLowerCase());
    if (capture !== undefined && !TAKES_NAME.test(before)) {
      return `${word} is a word of Wireshark's display filters; it must be written as a capture filter: ${capture}`;
    }
  }
  return undefined;
}

function looksLikeDisplay(example = "tcp port 80 and host 10.0.0.1"): string {
  return `it looks like a Wireshark display filter and must be a capture filter, such as: ${example}`;
}

/** The comparison in pcap's words; undefined if it has none. */
function translated(field: string, operator: string, value: string): string | undefined {
  const words = FIELDS.get(field.toLowerCase());
  const negation = /^(?:!=|ne)$/i.test(operator) ? "not " : "";
  if (words === undefined || !/^[0-9A-Fa-f.:/]{1,43}$/.test(value)) return undefined;
  if (negation === "" && !/^(?:=|==|eq)$/i.test(operator)) return undefined;
  return `${negation}${value.includes("/") ? words.replace("host", "net") : words} ${value}`;
}

function commandLine(filter: string): string | undefined {
  return /^(?:tcpdump\b|-[A-Za-z])/.test(filter)
    ? "it looks like a command line and must be the expression alone: options have annotations of their own"
    : undefined;
}

function name(said: string): string | undefined {
  if (!/unknown (?:host|network)|link-level host name/i.test(said)) return undefined;
  return "names are not looked up: it must be an address " +
    "(kubectl get pods,services -o wide lists those of pods and Services)";
}

function quotesWithin(filter: string): string | undefined {
  return QUOTE.test(filter) ? "quotes are part of the value; it must be written without them" : undefined;
}

function bareAddress(filter: string): string | undefined {
  if (filter.length > LONGEST_SHOWN) return undefined;
  const address = /^\s*((?:[0-9]{1,3}\.){3}[0-9]{1,3}|[0-9a-f]*:[0-9a-f:]*:[0-9a-f:.]*)(\/[0-9]+)?\s*$/i.exec(filter);
  if (!address) return undefined;
  return `an address must have a word before it: ${address[2] === undefined ? "host" : "net"} ${filter.trim()}`;
}
