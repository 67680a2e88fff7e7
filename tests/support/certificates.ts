/**
 * A certificate authority, leaves of it, and the kubeconfig files that use them, made with openssl in a folder. rustls (Deno's TLS)
 * refuses an authority's certificate as a leaf.
 */
import { join } from "node:path";
import { run } from "./run.ts";

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Files, PEM. */
export interface Leaf {
  readonly cert: string;
  readonly key: string;
}

/** How a kubeconfig's user proves itself: PEM files, a token, or a file with one. */
export type User = Leaf | { readonly token: string } | { readonly tokenFile: string };

export class Authority {
  private constructor(readonly dir: string, readonly cert: string) {}

  /** Makes an authority with its files in `dir`, which exists. */
  static async create(dir: string, name = "ca"): Promise<Authority> {
    const usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    const files = ["-keyout", `${name}.key`, "-out", `${name}.crt`, "-days", "3650", "-subj", `/CN=${name}`];
    await run(["openssl", "req", "-x509", ...EC_KEY, ...files, ...usage], { cwd: dir });
    return new Authority(dir, join(dir, `${name}.crt`));
  }

  /**
   * Makes a key and a certificate for server and client use.
   *
   * @param subject as openssl writes it: `/O=group/CN=user`.
   * @param altNames `DNS:…` and `IP:…`.
   */
  async issue(name: string, subject: string, altNames: readonly string[] = [`DNS:${name}`]): Promise<Leaf> {
    const cwd = this.dir;
    await run(["openssl", "req", ...EC_KEY, "-keyout", `${name}.key`, "-out", `${name}.csr`, "-subj", subject], {
      cwd,
    });
    const extensions =
      `basicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=${altNames}\n`;
    await Deno.writeTextFile(join(cwd, `${name}.ext`), extensions);
    // A serial of its own for each: they may be signed side by side.
    const serial = "0x" + crypto.randomUUID().replaceAll("-", "").slice(1);
    const ca = ["-CA", this.cert, "-CAkey", this.cert.replace(/crt$/, "key"), "-set_serial", serial, "-days", "3650"];
    await run(
      ["openssl", "x509", "-req", "-in", `${name}.csr`, "-out", `${name}.crt`, ...ca, "-extfile", `${name}.ext`],
      { cwd },
    );
    return { cert: join(cwd, `${name}.crt`), key: join(cwd, `${name}.key`) };
  }
}

export interface KubeconfigOptions {
  /** Name of the cluster and of the context. */
  readonly cluster: string;
  readonly server: string;
  /** The authority's certificate, a file. */
  readonly authority: string;
  /** Name of the user. */
  readonly name: string;
  readonly user: User;
  /** Holds what is in the PEM files, so that it can be copied anywhere. @default false: names the files. */
  readonly whole?: boolean;
}

/** Writes a kubeconfig with one context. */
export async function writeKubeconfig(path: string, options: KubeconfigOptions): Promise<void> {
  const { cluster, server, authority, name, user, whole = false } = options;
  const pem = async (field: string, file: string) =>
    whole ? { [`${field}-data`]: btoa(await Deno.readTextFile(file)) } : { [field]: file };
  const proof = "cert" in user
    ? { ...await pem("client-certificate", user.cert), ...await pem("client-key", user.key) }
    : user;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: cluster, cluster: { server, ...await pem("certificate-authority", authority) } }],
    users: [{ name, user: proof }],
    contexts: [{ name: cluster, context: { cluster, user: name } }],
    "current-context": cluster,
  };
  await Deno.writeTextFile(path, JSON.stringify(config, null, 2) + "\n", { mode: 0o600 }); // JSON is YAML
}
