/** A controller next to one that holds captureDir. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { CaptureDir } from "../../../src/store/capture_dir.ts";
import { runController } from "../../../src/controller.ts";
import { setupLog } from "../../../src/log.ts";
import { readSettings } from "../../../src/settings.ts";
import { waitFor } from "../../support/wait.ts";

/** Counts, until it is disposed of, how many listeners there are on all AbortSignals beyond those that were there. */
class Listeners implements Disposable {
  count = 0;
  readonly #add = AbortSignal.prototype.addEventListener;
  readonly #remove = AbortSignal.prototype.removeEventListener;

  constructor() {
    const change = (by: number) => this.count += by;
    const [add, remove] = [this.#add, this.#remove];
    AbortSignal.prototype.addEventListener = function (...args: unknown[]) {
      change(1);
      return Reflect.apply(add, this, args);
    };
    AbortSignal.prototype.removeEventListener = function (...args: unknown[]) {
      change(-1);
      return Reflect.apply(remove, this, args);
    };
  }

  [Symbol.dispose](): void {
    AbortSignal.prototype.addEventListener = this.#add;
    AbortSignal.prototype.removeEventListener = this.#remove;
  }
}

Deno.test("a controller that waits for captureDir leaves nothing behind of each try", async () => {
  const dir = await Deno.makeTempDir();
  const { take } = CaptureDir;
  const umask = Deno.umask();
  const abort = new AbortController();
  setupLog({ level: "error", format: "logfmt" });
  try {
    const kubeconfig = join(dir, "kubeconfig");
    const config = {
      clusters: [{ name: "c", cluster: { server: "https://127.0.0.1:1111" } }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    await Deno.writeTextFile(kubeconfig, JSON.stringify(config));
    Deno.env.set("KUBECONFIG", kubeconfig);
    const settings = readSettings({
      env: (name) =>
        ({ NODE_NAME: "node-1", CAPTURE_DIR: join(dir, "captures"), HTTP_PORT: "0", HTTP_HOST: "127.0.0.1" })[name],
      flags: {},
    });
    const { captureDir: path, annotationKey, release } = settings;
    using _held = await CaptureDir.take({ path, annotationKey, release, holder: "the test" });
    let tries = 0;
    CaptureDir.take = (options) => {
      tries++;
      return take.call(CaptureDir, options);
    };
    using listeners = new Listeners();
    const done = runController(settings, abort.signal, { timing: { controller: { heldRetry: 1 } } });
    await waitFor("some tries", () => tries > 5, { everyMs: 5 });
    const before = listeners.count;
    const from = tries;
    await waitFor("more tries", () => tries > from + 30, { everyMs: 5 });
    assert.ok(listeners.count - before < 10, `${listeners.count - before} more listeners after 30 tries`);
    abort.abort();
    assert.equal(await done, 0);
  } finally {
    abort.abort();
    CaptureDir.take = take;
    Deno.umask(umask);
    Deno.env.delete("KUBECONFIG");
    setupLog({ level: "info", format: "logfmt" });
    await Deno.remove(dir, { recursive: true });
  }
});
