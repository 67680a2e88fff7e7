/** Reads the request that a pod's annotations make. No other file reads them; pure. */
import { createHash } from "node:crypto";
import { quote } from "../base/quote.ts";
import { type AnnotationLimits, OPTION_NAMES, type OptionName, OPTIONS, type Reader, whole } from "./options.ts";
import type { CaptureRequest } from "./request.ts";

export type ParsedAnnotations =
  /** The main annotation is not there. */
  | { readonly kind: "nothing" }
  /** `problem`: one sentence that names the annotation, what was read and what is accepted. */
  | { readonly kind: "invalid"; readonly problem: string }
  | { readonly kind: "valid"; readonly request: CaptureRequest; readonly hold: boolean };

/** Stops the capture and keeps its files. The controller and `stop --keep` know it; it is no option of a request. */
const HOLD = "hold";
/** The sub-keys: `<annotationKey>/<name>`. */
export const SUB_KEYS: readonly (OptionName | typeof HOLD)[] = [...OPTION_NAMES, HOLD];

/** Characters of a bad value that are shown. */
const LONGEST_SHOWN = 64;
const HOLD_READER: Reader<"true" | "false"> = {
  mustBe: () => "true or false",
  read: (text) => (["true", "false"] as const).find((word) => word === text.trim()),
};

/**
 * Identifies what a pod requests, valid or not, so that an answer to an earlier request differs.
 *
 * @param own our own annotations, as they stand: the main key and its sub-keys.
 * @returns 16 hexadecimal digits.
 */
export function requestHash(own: Readonly<Record<string, string>>): string {
  const entries = Object.keys(own).sort().map((key) => [key, own[key]]);
  return createHash("sha256").update(JSON.stringify(entries)).digest("hex").slice(0, 16);
}

/** Reads what a pod's annotations ask for. `annotations` may hold other keys too: they are ignored. */
export function readAnnotations(
  annotations: Readonly<Record<string, string>>,
  key: string,
  limits: AnnotationLimits,
): ParsedAnnotations {
  const main = annotations[key];
  if (main === undefined) return { kind: "nothing" };
  try {
    for (const name of Object.keys(annotations)) {
      if (!name.startsWith(`${key}/`)) continue;
      if (!(SUB_KEYS as readonly string[]).includes(name.slice(key.length + 1))) {
        throw new Refusal(
          `annotation ${quote(name, LONGEST_SHOWN)} is not known: it must be one of ${
            SUB_KEYS.map((sub) => `${key}/${sub}`).join(", ")
          }`,
        );
      }
    }
    const value = <T>(annotation: string, reader: Reader<T>, otherwise?: T): T | undefined => {
      const text = annotations[annotation];
      return text === undefined ? otherwise : valueOf(annotation, text, reader, limits);
    };
    const request: Record<string, unknown> = {
      files: valueOf(key, main, whole(1, ({ maxFiles }) => maxFiles), limits),
    };
    for (const name of OPTION_NAMES) {
      const { field, initial } = OPTIONS[name];
      const its = value(`${key}/${name}`, OPTIONS[name], initial);
      if (its !== undefined) request[field] = its;
    }
    const hold = value(`${key}/${HOLD}`, HOLD_READER) === "true";
    return { kind: "valid", request: request as unknown as CaptureRequest, hold };
  } catch (error) {
    if (error instanceof Refusal) return { kind: "invalid", problem: error.message };
    throw error;
  }
}

class Refusal extends Error {}

/** Reads one annotation; undefined: it asks for nothing. */
function valueOf<T>(key: string, text: string, reader: Reader<T>, limits: AnnotationLimits): T | undefined {
  const value = reader.read(text, limits);
  if (value !== undefined) return value === "" ? undefined : value;
  throw new Refusal(`annotation ${key} must be ${reader.mustBe(limits)}: got ${quote(text, LONGEST_SHOWN)}`);
}
