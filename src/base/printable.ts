/**
 * Text that comes from the cluster made safe for a terminal. Others can write pod names, Event notes, annotations and
 * error messages. An escape sequence in them could move the cursor, hide a line or set the window's title.
 */

// Controls; marks that change the direction of text or cannot be seen; line and paragraph separators; lone surrogates.
const HIDDEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu;

/**
 * Returns `text` on one line: each control or invisible character as `\n`, `\t`, `\x1b`, `\u202e`; all else
 * unchanged.
 */
export function printable(text: string): string {
  return text.replace(HIDDEN, (character) => {
    if (character === "\n") return "\\n";
    if (character === "\t") return "\\t";
    if (character === "\r") return "\\r";
    const hex = character.codePointAt(0)!.toString(16);
    if (hex.length > 4) return `\\u{${hex}}`;
    return hex.length < 3 ? `\\x${hex.padStart(2, "0")}` : `\\u${hex.padStart(4, "0")}`;
  });
}
