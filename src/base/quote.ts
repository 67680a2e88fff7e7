/** Characters that JSON leaves as they are but that end a line, turn the text around them or cannot be seen. */
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * Returns a text in double quotes, on one line, whatever is in it: control characters, line separators, marks that
 * turn the text around and lone surrogates are escaped as JSON escapes them. A text longer than `longest` UTF-16
 * units is cut, with its length after it.
 */
export function quote(text: string, longest = Infinity): string {
  if (text.length > longest) {
    // Not between the two halves of a surrogate pair.
    const end = /[\ud800-\udbff]/.test(text[longest - 1] ?? "") ? longest - 1 : longest;
    return quote(`${text.slice(0, end)}… (${text.length} characters)`);
  }
  return JSON.stringify(text).replace(HIDDEN, (hidden) => hidden.split("").map(escape).join(""));
}

/**
 * Returns a value as JSON on several lines, with the same characters escaped in its texts, so that it can be shown on
 * a terminal.
 */
export function jsonText(value: unknown): string {
  // JSON itself escapes the controls below U+0020 in texts; the line breaks that are left are its layout.
  return JSON.stringify(value, null, 2).replace(
    HIDDEN,
    (hidden) => hidden === "\n" ? hidden : hidden.split("").map(escape).join(""),
  );
}

function escape(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
