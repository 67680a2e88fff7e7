/** Socket in captureDir by which readers ask the controller: only both of them have that folder. */
import { join } from "@std/path";

export const CONTROL = ".control";
/** sun_path of sockaddr_un, less the zero that ends it: longer paths cannot be given to the kernel. */
const MAX_SOCKET_PATH = 107;

/**
 * Calls something with a path of the socket that is short enough, relative to the working directory if it must be. The path is valid
 * only for what is done before the first wait: listening, or beginning to connect.
 */
export function atControlPath<T>(directory: string, use: (path: string) => T): T {
  const path = join(directory, CONTROL);
  if (new TextEncoder().encode(path).length <= MAX_SOCKET_PATH) return use(path);
  const before = Deno.cwd();
  Deno.chdir(directory);
  try {
    return use(CONTROL);
  } finally {
    Deno.chdir(before);
  }
}
