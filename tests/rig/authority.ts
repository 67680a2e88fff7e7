/** A certificate authority and leaves of it, made with openssl in a folder. rustls (Deno's TLS) refuses an authority as a leaf. */
import { join } from "node:path";
import { run } from "../support/run.ts";

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** Files, PEM. */
export interface Leaf {
  readonly cert: string;
  readonly key: string;
}

export class Authority {
  private constructor(readonly dir: string, readonly cert: string) {}

  /** A new authority with its files in `dir`, which exists. */
  static async create(dir: string, name = "rig-ca"): Promise<Authority> {
    const usage = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
    const files = ["-keyout", `${name}.key`, "-out", `${name}.crt`, "-days", "3650", "-subj", `/CN=${name}`];
    await run(["openssl", "req", "-x509", ...EC_KEY, ...files, ...usage], { cwd: dir });
    return new Authority(dir, join(dir, `${name}.crt`));
  }

  /**
   * A key and a certificate for server and client use.
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
