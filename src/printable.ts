/**
 * Text that comes from the cluster made safe for a terminal: pod names, Event notes, annotations and error messages can be
 * written by others, and an escape sequence in them could move the cursor, hide a line or set the window's title.
 */

// Controls C0, DEL, C1; line and paragraph separators; marks that change the direction of text or cannot be seen; lone surrogates.
const HIDDEN =
  // deno-lint-ignore no-control-regex
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]|[\ud800-\udfff]/gu;

/** `text` on one line: each control or invisible character as `\n`, `\t`, `\x1b`, `\u202e`; all else unchanged. */
export function printable(text: string): string {
  return text.replace(HIDDEN, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    if (character === "\r") return "\\r";
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
