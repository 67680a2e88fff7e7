/**
 * Address of the API server and credentials for it: client-node's KubeConfig, with what it silently gets wrong (or what
 * Deno's TLS client cannot do) refused in one sentence each.
 */
// The deep import keeps undici, the generated API classes and their 60 MiB out of the process (docs/adr/0040).
import { KubeConfig } from "@kubernetes/client-node/dist/config.js";
import type { User } from "@kubernetes/client-node/dist/config_types.js";
import * as yaml from "js-yaml";
import { dirname, isAbsolute, join } from "@std/path";
import { messageOf } from "../base/errors.ts";
import { deadline } from "../base/timeout.ts";
import { UsageError } from "../settings.ts";

/** An exec plugin that has not answered by then will not: a hung `aws` or `gcloud` must not hang the controller. */
const EXEC_DEADLINE_MS = 30_000;

/** The configuration cannot work as it is; the message is one sentence for the user. */
export class KubeConfigError extends UsageError {
  override readonly name = "KubeConfigError";
}

/** The parts that a connection to the API server needs. Never logged: it holds secrets. */
export interface Credentials {
  /** `https://host:port[/path]`, without a slash at the end. */
  readonly server: string;
  readonly headers: Readonly<Record<string, string>>;
  /** PEM. */
  readonly ca: string | undefined;
  readonly cert: string | undefined;
  readonly key: string | undefined;
}

export interface KubeConfigOptions {
  /** Kubeconfig files, `:` between them; wins over everything else. */
  readonly kubeconfig?: string;
  /** Directory above `/var/run/secrets/kubernetes.io/serviceaccount`. @default "" */
  readonly root?: string;
}

/** Reads credentials again and again: tokens, certificates and CAs are replaced under a running process. */
export class CredentialSource {
  readonly #options: KubeConfigOptions;
  #config: KubeConfig | undefined;

  constructor(options: KubeConfigOptions = {}) {
    this.#options = options;
  }

  /**
   * Reads every file again. A cached answer of an exec plugin is used until it expires, unless `fresh`.
   * @throws {KubeConfigError} with a sentence that names the setting or file.
   */
  async read(fresh = false): Promise<Credentials> {
    const plugin = this.#config?.getCurrentUser()?.exec;
    const config = fresh || !plugin || !this.#config ? loadConfig(this.#options) : this.#config;
    check(config);
    const options: { headers?: Record<string, string>; auth?: string; ca?: unknown; cert?: unknown; key?: unknown } =
      {};
    try {
      await deadline(config.applyToHTTPSOptions(options), EXEC_DEADLINE_MS);
    } catch (error) {
      throw new KubeConfigError(explain(config, error));
    }
    this.#config = config;
    const headers = { ...options.headers };
    if (options.auth !== undefined) headers["Authorization"] = `Basic ${base64(options.auth)}`;
    const [ca, cert, key] = [options.ca, options.cert, options.key].map(pem);
    if ((cert === undefined) !== (key === undefined)) {
      throw new KubeConfigError(
        `Cannot use user "${config.getCurrentUser()?.name}" of the kubeconfig: it has ${
          cert ? "a client certificate without its key" : "a client key without its certificate"
        }; it must have both or neither`,
      );
    }
    if (key !== undefined && /ENCRYPTED/.test(key)) {
      throw new KubeConfigError(
        `Cannot use the client key of user "${config.getCurrentUser()?.name}" in the kubeconfig: it is encrypted; it must be a key without a passphrase`,
      );
    }
    // Deno takes any text for a CA, and then trusts no certificate.
    if (ca !== undefined && !ca.includes("-----BEGIN CERTIFICATE-----")) {
      throw new KubeConfigError(
        `Cannot use the CA of cluster "${config.getCurrentCluster()?.name}" of the kubeconfig: there is no certificate in it; it must be PEM`,
      );
    }
    // Fetch's error has the value, which is secret.
    for (const [name, value] of Object.entries(headers)) {
      if (/[^\t\x20-\x7e\x80-\xff]/.test(value.trim())) {
        throw new KubeConfigError(
          `Cannot use the credentials of user "${config.getCurrentUser()?.name}" of the kubeconfig: header ${name} has ` +
            "more than one line, or characters that no header can hold; it must be one line of printable characters",
        );
      }
    }
    return { server: config.getCurrentCluster()!.server, headers, ca, cert, key };
  }
}

function loadConfig(options: KubeConfigOptions): KubeConfig {
  const config = new KubeConfig();
  if (options.kubeconfig === undefined && Deno.env.get("KUBERNETES_SERVICE_HOST")) {
    if (!Deno.env.get("KUBERNETES_SERVICE_PORT")) {
      throw new KubeConfigError(
        "Cannot find the API server: KUBERNETES_SERVICE_HOST is set, but KUBERNETES_SERVICE_PORT is not; in a cluster both must be",
      );
    }
    config.loadFromCluster(options.root ?? "");
    return config;
  }
  const home = Deno.env.get("HOME");
  const paths: string = options.kubeconfig ?? Deno.env.get("KUBECONFIG") ?? (home ? join(home, ".kube", "config") : "");
  const files = paths.split(":").filter((file) => file !== "");
  if (files.length === 0) {
    throw new KubeConfigError(
      "Cannot find the API server: neither KUBERNETES_SERVICE_HOST (in a cluster) nor KUBECONFIG (elsewhere) is set; one of them must be",
    );
  }
  for (const [index, file] of files.entries()) {
    try {
      const one = index === 0 ? config : new KubeConfig();
      one.loadFromFile(file);
      one.users = one.users.map((user) => withTokenFile(user, file));
      if (one !== config) config.mergeConfig(one, true);
    } catch (error) {
      throw new KubeConfigError(`Cannot read the kubeconfig ${file}: ${message(error)}`);
    }
  }
  return config;
}

/**
 * Names the token file in the form that client-node reads: it ignores `tokenFile`, and would go on as
 * system:anonymous.
 */
function withTokenFile(user: User, file: string): User {
  const raw = yaml.load(Deno.readTextFileSync(file)) as { users?: { name?: string; user?: { tokenFile?: unknown } }[] };
  const tokenFile = raw.users?.find(({ name }) => name === user.name)?.user?.tokenFile;
  if (typeof tokenFile !== "string") return user;
  const { token: _overruled, ...rest } = user;
  const path: string = isAbsolute(tokenFile) ? tokenFile : join(dirname(file), tokenFile);
  return { ...rest, authProvider: { name: "tokenFile", config: { tokenFile: path } } };
}

/** Refuses what would fail later, or worse, work differently from what was written. */
function check(config: KubeConfig): void {
  const context = config.getContextObject(config.getCurrentContext());
  if (!context) {
    throw new KubeConfigError(
      `Cannot use the kubeconfig: its current-context "${
        config.getCurrentContext() ?? ""
      }" is none of its contexts; it must name one`,
    );
  }
  const cluster = config.getCluster(context.cluster);
  if (!cluster) {
    throw new KubeConfigError(
      `Cannot use the kubeconfig: context "${context.name}" names no cluster that it has; it must name one`,
    );
  }
  const user = config.getUser(context.user);
  if (!user) {
    throw new KubeConfigError(
      `Cannot use the kubeconfig: context "${context.name}" names no user that it has; it must name one`,
    );
  }
  const refuse = (setting: string, mustBe: string): never => {
    throw new KubeConfigError(
      `Cannot use cluster "${cluster.name}" of the kubeconfig: ${setting} is not supported; ${mustBe}`,
    );
  };
  if (!cluster.server.startsWith("https://") || !URL.canParse(cluster.server)) {
    refuse(`server "${cluster.server}"`, "it must be an https:// address");
  }
  if (cluster.skipTLSVerify) {
    refuse("insecure-skip-tls-verify", "certificate-authority must name the server's CA");
  }
  if (cluster.tlsServerName) {
    refuse("tls-server-name", "server must be an address that its certificate names");
  }
  if (cluster.proxyUrl) refuse("proxy-url", "HTTPS_PROXY must name the proxy instead");
  const provider = user.authProvider?.name;
  if (provider && provider !== "tokenFile") {
    throw new KubeConfigError(
      `Cannot use user "${user.name}" of the kubeconfig: auth-provider "${provider}" is not supported; it must be a token, tokenFile, client certificate, password or exec plugin`,
    );
  }
  // client-node does not hand the plugin the request; some plugins refuse without it.
  if (user.exec && !user.exec.env?.some(({ name }: { name: string }) => name === "KUBERNETES_EXEC_INFO")) {
    const info = { apiVersion: user.exec.apiVersion, kind: "ExecCredential", spec: { interactive: false } };
    user.exec.env = [...user.exec.env ?? [], { name: "KUBERNETES_EXEC_INFO", value: JSON.stringify(info) }];
  }
}

function explain(config: KubeConfig, error: unknown): string {
  const exec = config.getCurrentUser()?.exec;
  if (!exec) return `Cannot read the API server's credentials: ${message(error)}`;
  if ((error as { code?: string }).code === "ENOENT") {
    return `Cannot run the kubeconfig's exec plugin "${exec.command}": it is not installed, or not in PATH`;
  }
  return `Cannot get credentials from the kubeconfig's exec plugin "${exec.command}": ${message(error)}`;
}

function base64(text: string): string {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function pem(value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  return typeof value === "string" ? value : new TextDecoder().decode(value as Uint8Array);
}

function message(error: unknown): string {
  const text = messageOf(error);
  return text.trim().split("\n")[0] || "no reason given";
}
