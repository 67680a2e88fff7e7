/** The text that a process writes. */
import { LineSplitter } from "../../base/line_splitter.ts";

/** Functions that are called with text as it comes. */
export interface Listeners {
  readonly onText?: ((text: string) => void) | undefined;
  readonly onLine?: ((line: string) => void) | undefined;
}

/** Reads to the end; keeps the last `kept` characters, and hands all on. */
export async function textOf(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  kept: number,
  { onText, onLine }: Listeners = {},
): Promise<string> {
  const decoder = new TextDecoder();
  const lines = new LineSplitter({ longest: kept, keepsEnd: true });
  let text = "";
  while (true) {
    const { value, done } = await reader.read();
    const chunk = decoder.decode(value, { stream: !done });
    text += chunk;
    if (text.length > kept) text = text.slice(-kept);
    onText?.(chunk);
    if (done) return text;
    if (onLine !== undefined) lines.take(value).forEach(onLine);
  }
}
