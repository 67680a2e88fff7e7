/** The text that a process writes. */

/** What is told of text as it comes. */
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
  let text = "", line = "";
  while (true) {
    const { value, done } = await reader.read();
    const chunk = decoder.decode(value, { stream: !done });
    text += chunk;
    if (text.length > kept) text = text.slice(-kept);
    onText?.(chunk);
    if (onLine !== undefined) {
      const lines = (line + chunk).split("\n");
      line = (lines.pop() ?? "").slice(-kept);
      lines.forEach(onLine);
    }
    if (done) return text;
  }
}
