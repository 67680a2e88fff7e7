/** The JSON objects of a stream that holds one after the other, as `kubectl get --watch -o json` prints them. */

/** An object larger than this is not one of Kubernetes' (etcd's limit is 1.5 MiB): characters. */
const LARGEST = 16_000_000;

/** @throws {SyntaxError} the stream holds something else. */
export async function* jsonValues(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<unknown> {
  let text = "", scanned = 0, depth = 0, inString = false;
  for await (const chunk of bytes.pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (; scanned < text.length; scanned++) {
      const character = text[scanned];
      if (inString) {
        if (character === "\\") scanned++;
        else if (character === '"') inString = false;
      } else if (character === '"') inString = true;
      else if (character === "{") depth++;
      else if (character === "}" && --depth === 0) {
        yield JSON.parse(text.slice(0, scanned + 1));
        text = text.slice(scanned + 1);
        scanned = -1;
      }
    }
    if (text.length > LARGEST) throw new SyntaxError("Cannot read JSON: an object does not end");
  }
}
