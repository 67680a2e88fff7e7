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
