/** `packet-capture purge`: empties captureDir, so that nothing is left on the node after an uninstall with hostPath storage. */
import { count } from "./base/format.ts";
import { getLog } from "./log.ts";
import { CaptureDir, DirectoryHeld, DirectoryRefused } from "./store/capture_dir.ts";

export interface PurgeOptions {
  readonly captureDir: string;
  readonly annotationKey: string;
  readonly release: string;
}

/**
 * Deletes every capture, retained ones too, and gives the directory up. While a controller holds it only what it has no use for
 * is deleted: retained files. Captures of annotated pods are its own, and it deletes them when the annotation goes.
 *
 * @returns the exit code: 0 if nothing of ours is left, 1 if a controller still has captures or there is something that is not a
 * capture, 2 if the directory is not ours.
 */
export async function runPurge(options: PurgeOptions): Promise<number> {
  const log = getLog();
  const path = { path: options.captureDir };
  if (!await Deno.stat(options.captureDir).then(({ isDirectory }) => isDirectory, () => false)) {
    log.info("nothing to purge: there is no such directory", path);
    return 0;
  }
  try {
    using directory = await CaptureDir.take({
      ...options,
      path: options.captureDir,
      holder: `purge (process ${Deno.pid})`,
    });
    const folders = await directory.folders();
    for (const { namespace, pod } of folders) await directory.removeFolder(namespace, pod);
    const retained = await removeRetained(directory);
    const others = await directory.giveUp();
    log.info("purged", { ...path, captures: folders.length, retained });
    if (others.length === 0) return 0;
    log.error(`Cannot empty ${options.captureDir}: it has files that are no captures; remove them by hand`, {
      names: others.join(" "),
    });
    return 1;
  } catch (error) {
    if (error instanceof DirectoryRefused) {
      log.error(error.message);
      return 2;
    }
    if (!(error instanceof DirectoryHeld)) throw error;
    using directory = await CaptureDir.visit(options.captureDir);
    const retained = await removeRetained(directory);
    const captures = (await directory.folders()).length;
    if (captures === 0) {
      log.info("purged; the controller gives the directory up when it is stopped", { ...path, retained });
      return 0;
    }
    log.error(
      `Cannot purge ${count(captures, "capture")}: the controller runs them; remove their annotations first ` +
        `(kubectl annotate pods --all --all-namespaces ${options.annotationKey}-)`,
      { ...path, retained },
    );
    return 1;
  }
}

async function removeRetained(directory: CaptureDir): Promise<number> {
  const uids = await directory.retained();
  for (const uid of uids) await directory.removeRetained(uid);
  return uids.length;
}
