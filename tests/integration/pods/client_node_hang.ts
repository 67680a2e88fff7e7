/**
 * A program: makes client-node's calls and watches meet what Deno makes them hang on, and prints how each ended, and how Deno's own
 * fetch did, as JSON: `{"cut":{"native":"rejected","clientNode":"pending"}, …}`. Run by client_node_test.ts, in a process of its own.
 *
 * - cut: the server breaks off in the middle of an answer
 * - reset: it resets the connection of a watch
 * - idle: nothing comes on a watch, which client-node gives up after 30 s; here after less
 */
import { CoreV1Api, KubeConfig, Watch } from "@kubernetes/client-node";
import { createServer, type Socket } from "node:net";

/** On Node each call is rejected, and each watch ended, after 0.6 s at most. */
const PATIENCE_MS = 3000;
const IDLE_MS = 500;

const JSON_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";

/** A server that answers the first request of a connection so, and its address. */
async function serve(answer: (socket: Socket) => void): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

function configOf(server: string): KubeConfig {
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [{ name: "c", server, skipTLSVerify: true }],
    users: [{ name: "u" }],
    contexts: [{ name: "x", cluster: "c", user: "u" }],
    currentContext: "x",
  });
  return config;
}

async function within(call: Promise<unknown>): Promise<string> {
  const pending = new Promise<string>((resolve) => setTimeout(() => resolve("pending"), PATIENCE_MS));
  return await Promise.race([call.then(() => "ended", () => "rejected"), pending]);
}

/** Ends when client-node says that the watch has. */
async function watch(server: string): Promise<void> {
  const ended = Promise.withResolvers<void>();
  const watch = new Watch(configOf(server));
  Object.assign(watch, { requestTimeoutMs: IDLE_MS });
  await watch.watch("/api/v1/pods", {}, () => {}, () => ended.resolve());
  await ended.promise;
}

const fetched = (server: string, signal?: AbortSignal) =>
  fetch(`${server}/api/v1/pods`, signal ? { signal } : {}).then((response) => response.text());

const EVENT = `${JSON.stringify({ type: "ADDED", object: { metadata: { name: "a" } } })}\n`;
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;
const beginWatch = (socket: Socket) => socket.write(`${JSON_HEAD}Transfer-Encoding: chunked\r\n\r\n${chunk(EVENT)}`);

const cut = await serve((socket) =>
  socket.end(`${JSON_HEAD}Content-Length: 1000\r\n\r\n{"kind":"NamespaceList","items":[`)
);
const reset = await serve((socket) => {
  beginWatch(socket);
  setTimeout(() => socket.resetAndDestroy(), 200);
});
const idle = await serve(beginWatch);

const result = {
  cut: {
    native: await within(fetched(cut)),
    clientNode: await within(configOf(cut).makeApiClient(CoreV1Api).listNamespace()),
  },
  reset: { native: await within(fetched(reset)), clientNode: await within(watch(reset)) },
  idle: {
    native: await within(fetched(idle, AbortSignal.timeout(IDLE_MS))),
    clientNode: await within(watch(idle)),
  },
};
await Deno.stdout.write(new TextEncoder().encode(JSON.stringify(result) + "\n"));
Deno.exit(0);
