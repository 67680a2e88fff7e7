/** The context of every command of the plugin, and the steps that several share. */
import { messageOf } from "../../base/errors.ts";
import { nameOf } from "../format.ts";
import {
  DEFAULT_ANNOTATION_KEY,
  findInstallation,
  findRelease,
  type Installation,
  installationOf,
  type InstallationOptions,
} from "../installation.ts";
import { Forbidden } from "../kubectl/explain.ts";
import type { Kubectl } from "../kubectl/kubectl.ts";
import type { Target } from "../targets.ts";
import type { Terminal } from "../terminal.ts";

export interface Context {
  readonly kubectl: Kubectl;
  readonly terminal: Terminal;
}

/** Calls of kubectl that change pods, at once. */
export const CHANGES_AT_ONCE = 8;

/** Reports what became of each pod as soon as it is known, and counts failures. */
export class Report {
  readonly #terminal: Terminal;
  /** Additions to the answers, by UID. */
  readonly #additions = new Map<string, string>();
  failures = 0;

  constructor(terminal: Terminal) {
    this.#terminal = terminal;
  }

  /** Adds a clause to the answer that is still to come. */
  add(target: Target, text: string): void {
    this.#additions.set(target.uid, `; ${text}`);
  }

  good(target: Target, text: string): void {
    this.#terminal.line(this.#answer(target, text));
  }

  bad(target: Target, text: string): void {
    this.failures++;
    this.#terminal.note(this.#answer(target, text));
  }

  #answer(target: Target, text: string): string {
    return `${nameOf(target)}: ${text}${this.#additions.get(target.uid) ?? ""}`;
  }

  /** Prints a remark on a pod, for which nothing went wrong. */
  warn(target: Target, text: string): void {
    this.#terminal.note(`${nameOf(target)}: ${text}`);
  }

  get exitCode(): number {
    return this.failures === 0 ? 0 : 1;
  }
}

/**
 * Finds the installation, and warns of what is amiss with it.
 *
 * @throws as `findInstallation`.
 */
export async function installationFor(context: Context, options: InstallationOptions): Promise<Installation> {
  return warned(context, await findInstallation(context.kubectl, options));
}

function warned({ terminal }: Context, installation: Installation): Installation {
  if (installation.warning !== undefined) terminal.note(installation.warning);
  return installation;
}

/**
 * Returns the installation, for commands that only change annotations: those need no right on the controller's
 * namespace. A user who may not look for the controllers gets the key as far as it can be found, a warning, and no
 * installation.
 */
export async function installationIfAllowed(
  context: Context,
  options: InstallationOptions,
): Promise<{ readonly installation: Installation | undefined; readonly key: string }> {
  let key = options.annotationKey ?? DEFAULT_ANNOTATION_KEY;
  try {
    const release = await findRelease(context.kubectl, options);
    key = release?.annotationKey ?? key;
    const installation = warned(context, await installationOf(context.kubectl, release, options));
    return { installation, key: installation.release.annotationKey };
  } catch (error) {
    if (!(error instanceof Forbidden)) throw error;
    context.terminal.note(`Cannot find the controllers (${messageOf(error)}): taking annotation ${key}`);
    return { installation: undefined, key };
  }
}
