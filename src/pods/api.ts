/**
 * Calls to the API server on Deno's own fetch. client-node's calls and watches hang for ever on Deno after a reset or a quiet
 * half minute (docs/adr/0040), so only its KubeConfig is used (kubeconfig.ts).
 */
import { VERSION } from "../version.ts";
import { bytesOf, causeOf } from "../base/body.ts";
import { messageOf } from "../base/errors.ts";
import { abortable, Deadline } from "../base/timeout.ts";
import { type Credentials, CredentialSource, KubeConfigError, type KubeConfigOptions } from "./kubeconfig.ts";

/** client-go re-reads its token files as often (transport/token_source.go: period of 1 min). */
export const CREDENTIALS_MAX_AGE_MS = 60_000;
/** Milliseconds for calls that set no deadline of their own. */
const DEADLINE_MS = 30_000;

export interface ApiOptions extends KubeConfigOptions {
  /** Milliseconds on the monotonic clock; for tests. @default `performance.now` */
  readonly now?: () => number;
}

export interface ApiInit {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
  /** Milliseconds. @default 30_000 */
  readonly timeoutMs?: number;
}

/** A client of one API server that follows its credentials as they change on disk. */
export class ApiClient implements Disposable {
  readonly #source: CredentialSource;
  readonly #now: () => number;
  #credentials: Credentials;
  #client: Deno.HttpClient;
  #readAt: number;
  #reading: Promise<boolean> | undefined;
  /** Reason why the credentials could not be read again, last time. */
  #problem = "";

  private constructor(source: CredentialSource, credentials: Credentials, now: () => number) {
    this.#source = source;
    this.#now = now;
    this.#readAt = now();
    this.#credentials = credentials;
    this.#client = createClient(credentials);
  }

  /**
   * Finds the API server: the given kubeconfig, else the cluster we run in (KUBERNETES_SERVICE_HOST), else KUBECONFIG or
   * ~/.kube/config. Nothing is sent yet.
   * @throws {KubeConfigError} with a sentence that names what is wrong and what it must be.
   */
  static async load(options: ApiOptions = {}): Promise<ApiClient> {
    const source = new CredentialSource(options);
    return new ApiClient(source, await source.read(), options.now ?? (() => performance.now()));
  }

  /** `https://host:port[/path]`. */
  get server(): string {
    return this.#credentials.server;
  }

  /** One sentence: why the credentials could not be read again (the earlier ones are used meanwhile); empty when all is well. */
  get problem(): string {
    return this.#problem;
  }

  /**
   * Makes one whole call: the deadline covers the body too, which is read before this returns. A 401 or a connection
   * that fails is answered by reading the credentials again and, if they have changed, one more try.
   * @param path from the root, with its query: `/api/v1/pods?limit=1`.
   * @throws {DOMException} TimeoutError when the deadline passes, AbortError when `signal` is aborted.
   * @throws {TypeError} when the connection fails or the body is cut.
   */
  async fetch(path: string, init: ApiInit = {}): Promise<Response> {
    return await this.#deadline(init, async (signal) => await whole(await this.#send(path, init, signal), signal));
  }

  /**
   * Begins a call whose body goes on: the deadline covers the headers only, and all of an answer that is not 2xx.
   * Read the body with `chunksOf` and the same signal, to its end or until the signal is aborted. Errors are those of
   * `fetch`.
   */
  async open(path: string, init: ApiInit & { readonly signal: AbortSignal }): Promise<Response> {
    return await this.#deadline(init, async (signal) => {
      const response = await this.#send(path, init, signal);
      return response.ok ? response : await whole(response, signal);
    }, false);
  }

  /** Drops every connection, so that no broken one can be used again. Calls under way go on. */
  renew(): void {
    this.#use(createClient(this.#credentials));
  }

  #use(client: Deno.HttpClient): void {
    const old = this.#client;
    this.#client = client;
    old.close();
  }

  /** Closes the client: no calls can follow. */
  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @param ends false: what `work` returns goes on, and ends with the caller's signal. */
  async #deadline<T>(init: ApiInit, work: (signal: AbortSignal) => Promise<T>, ends = true): Promise<T> {
    const { signal: outer, timeoutMs = DEADLINE_MS } = init;
    outer?.throwIfAborted();
    const late = () => {
      // Most likely the pooled connection is broken: the next call must not use it.
      this.renew();
      return new DOMException(`no answer within ${timeoutMs / 1000} s`, "TimeoutError");
    };
    using held = new DisposableStack();
    const limit = held.use(new Deadline(timeoutMs, late, outer));
    const result = await abortable(work(limit.signal), limit.signal);
    if (!ends) {
      limit.stopClock();
      held.move();
    }
    return result;
  }

  async #send(path: string, init: ApiInit, signal: AbortSignal): Promise<Response> {
    if (this.#now() - this.#readAt > CREDENTIALS_MAX_AGE_MS) await this.#refresh(false);
    let response: Response;
    try {
      response = await this.#sendOnce(path, init, signal);
    } catch (error) {
      // A CA or a client certificate that has been replaced shows itself as a connection that fails.
      if (signal.aborted || !await this.#refresh(false)) throw error;
      return await this.#sendOnce(path, init, signal);
    }
    if (response.status !== 401 || !await this.#refresh(true)) return response;
    await response.body?.cancel();
    return await this.#sendOnce(path, init, signal);
  }

  async #sendOnce(path: string, init: ApiInit, signal: AbortSignal): Promise<Response> {
    const { server, headers } = this.#credentials;
    try {
      return await fetch(server + path, {
        method: init.method ?? "GET",
        headers: {
          "Accept": "application/json",
          "User-Agent": `packet-capture/${VERSION}`,
          ...init.headers,
          ...headers,
        },
        body: init.body ?? null,
        // The API server redirects nobody; another place must not see our token.
        redirect: "error",
        client: this.#client,
        signal,
      });
    } catch (error) {
      const cause = causeOf(error);
      throw cause === error ? error : new TypeError(cause.message, { cause });
    }
  }

  /** Reads the credentials again, once for all callers meanwhile. @returns whether they have changed. */
  #refresh(fresh: boolean): Promise<boolean> {
    this.#reading ??= this.#readAgain(fresh).finally(() => this.#reading = undefined);
    return this.#reading;
  }

  async #readAgain(fresh: boolean): Promise<boolean> {
    this.#readAt = this.#now();
    const old = this.#credentials;
    try {
      const now = await this.#source.read(fresh);
      const tlsChanged = now.ca !== old.ca || now.cert !== old.cert || now.key !== old.key;
      if (tlsChanged) this.#use(createClient(now));
      this.#credentials = now;
      this.#problem = "";
      return tlsChanged || JSON.stringify(now.headers) !== JSON.stringify(old.headers);
    } catch (error) {
      this.#problem = messageOf(error);
      return false;
    }
  }
}

/** Returns the same answer with its body read. */
async function whole({ status, statusText, headers, body }: Response, signal: AbortSignal): Promise<Response> {
  const bytes = await bytesOf(body, signal);
  return new Response(bytes.size > 0 ? bytes : null, { status, statusText, headers });
}

/**
 * Makes a client of HTTP/1.1 only: Deno's pool goes on using an HTTP/2 session whose other end has silently gone, for
 * new calls too, while over HTTP/1.1 a watch has a connection of its own and fails alone.
 */
function createClient({ ca, cert, key }: Credentials): Deno.HttpClient {
  try {
    return Deno.createHttpClient({
      http2: false,
      ...(ca === undefined ? {} : { caCerts: [ca] }),
      ...(cert === undefined || key === undefined ? {} : { cert, key }),
    });
  } catch (error) {
    throw new KubeConfigError(
      `Cannot use the kubeconfig's client certificate: ${
        (error as Error).message
      }; it must be a certificate with its key, both PEM`,
    );
  }
}
