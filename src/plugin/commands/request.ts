/** Turns the flags of `start` into annotations. Pure. */
import { parseDuration } from "../../base/duration.ts";
import { quote } from "../../base/quote.ts";
import { readAnnotations, requestHash, SUB_KEYS } from "../../spec/annotations.ts";
import { initialText, OPTION_NAMES, type OptionName } from "../../spec/options.ts";
import type { CaptureRequest } from "../../spec/request.ts";
import { UsageFailure } from "../failure.ts";
import type { Changes } from "../kubectl/annotate.ts";

/** The flags of a request: those of its options, by the names of their annotations. */
export type RequestFlag = OptionName;

/** The arguments of `start`: the values as they were typed. */
export interface RequestOptions {
  readonly files: string;
  readonly values: Readonly<Partial<Record<RequestFlag, string>>>;
}

/** The value of each annotation that is not there, as a user reads it. */
export const DEFAULTS: Readonly<Record<typeof SUB_KEYS[number], string>> = {
  ...Object.fromEntries(OPTION_NAMES.map((name) => [name, initialText(name)])) as Record<OptionName, string>,
  hold: "false",
};

/**
 * Returns the annotations of a whole request: what is not asked for is removed, so that nothing of an earlier request
 * goes on unseen. Sub-keys that are not known are left to the controller, which refuses them by name.
 *
 * @param env The controller's settings, for its limits.
 * @throws {UsageFailure} a value is not accepted.
 */
export function requestChanges(key: string, options: RequestOptions, env: Readonly<Record<string, string>>): {
  readonly changes: Changes;
  readonly request: CaptureRequest;
} {
  const set: Record<string, string> = { [key]: options.files };
  for (const [name, value] of Object.entries(options.values)) set[`${key}/${name}`] = value;
  const asked = readAnnotations(set, key, {
    maxFiles: Number(env.MAX_FILES ?? 100),
    maxFileSizeMB: Number(env.MAX_FILE_SIZE_MB ?? 100),
    maxBufferMB: Number(env.MAX_BUFFER_MB ?? 32),
    maxDurationSeconds: parseDuration(env.MAX_DURATION ?? "") ?? 86_400,
  });
  if (asked.kind !== "valid") {
    const problem = asked.kind === "invalid" ? asked.problem : "nothing is asked for";
    throw new UsageFailure(
      problem.replaceAll(`annotation ${key}/`, "--").replaceAll(`annotation ${key} `, "--files ").replace(
        /^./,
        (c) => c.toUpperCase(),
      ),
    );
  }
  const changes: Record<string, string | null> = {};
  for (const name of SUB_KEYS) changes[`${key}/${name}`] = set[`${key}/${name}`] ?? null;
  return { changes: { ...changes, [key]: options.files }, request: asked.request };
}

/** Returns the annotations that go when a capture is ended: the main key and every sub-key that the pod carries. */
export function removalChanges(key: string, annotations: Readonly<Record<string, string>>): Changes {
  return Object.fromEntries(ownAnnotations(key, annotations).map(([name]) => [name, null]));
}

/** Computes the hash by which the controller names the request of a pod that has these annotations. */
export function requestOf(key: string, annotations: Readonly<Record<string, string>>): string {
  return requestHash(Object.fromEntries(ownAnnotations(key, annotations)));
}

function ownAnnotations(key: string, annotations: Readonly<Record<string, string>>): [string, string][] {
  return Object.entries(annotations).filter(([name]) => name === key || name.startsWith(`${key}/`));
}

/** Returns whether applying `changes` would leave the annotations as they are. */
export function changesNothing(annotations: Readonly<Record<string, string>>, changes: Changes): boolean {
  return Object.entries(changes).every(([name, value]) => (annotations[name] ?? null) === value);
}

/**
 * Describes what `changes` do to the options of a request that the annotations make already: `files 5 → 8, filter "udp" → none`.
 *
 * @returns an empty text if there was no request, or no option changes.
 */
export function differences(key: string, annotations: Readonly<Record<string, string>>, changes: Changes): string {
  if (!(key in annotations)) return "";
  const options = [
    ["files", key, "none"],
    ...SUB_KEYS.map((name) => [name, `${key}/${name}`, DEFAULTS[name]]),
  ] as const;
  return options.flatMap(([name, annotation, otherwise]) => {
    const [was, is] = [annotations[annotation], changes[annotation]].map((value) => shown(name, value) ?? otherwise);
    return was === is ? [] : [`${name} ${was} → ${is}`];
  }).join(", ");
}

function shown(name: string, value: string | null | undefined): string | undefined {
  const text = value?.trim();
  return text !== undefined && (name === "filter" || !/^[\w.:-]+$/.test(text)) ? quote(text, 100) : text;
}
