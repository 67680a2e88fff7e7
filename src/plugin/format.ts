/** Texts for people and for programs. Pure. */
import { dump } from "js-yaml";

/** Characters that end a line, turn the text around them or cannot be seen; a line feed is YAML's own layout. */
const HIDDEN = /[^\P{C}\n]|[\p{Zl}\p{Zp}]/gu;

/** Writes a value as YAML in blocks, with every hidden character in its texts escaped, so that it can be shown on a terminal. */
export function yamlText(value: unknown): string {
  const options = { lineWidth: -1, noRefs: true };
  const text = dump(value, options);
  if (text.search(HIDDEN) === -1) return text;
  // Only what stands in double quotes can be escaped.
  return dump(value, { ...options, forceQuotes: true, quoteStyle: "double" }).replace(HIDDEN, (hidden) => {
    return `\\U${hidden.codePointAt(0)!.toString(16).padStart(8, "0")}`;
  });
}

/** Returns the name of a pod as all output writes it: `NAMESPACE/POD`. */
export function nameOf(target: { readonly namespace: string; readonly name: string }): string {
  return `${target.namespace}/${target.name}`;
}

/** Returns how long ago an ISO 8601 time was, as kubectl writes it: "42s", "5m", "3h", "2d". */
export function age(time: string | null | undefined, now: number): string {
  const seconds = Math.max(0, Math.round((now - Date.parse(time ?? "")) / 1000));
  if (Number.isNaN(seconds)) return "-";
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}
