/** Kinds of values in texts that a person gives: refused or taken as they are, never repaired. */
import { parseDuration } from "./duration.ts";
import { isDnsLabel, isDnsName } from "./names.ts";

export interface Kind<T> {
  /** The end of the sentence "… must be …". */
  readonly mustBe: string;
  /** Reads a text. @returns undefined if it is not acceptable. */
  parse(text: string): T | undefined;
}

export function whole(least: number, most: number): Kind<number> {
  return {
    mustBe: `a whole number from ${least} to ${most}`,
    parse(text) {
      const value = /^[0-9]{1,15}$/.test(text) ? Number(text) : NaN;
      return value >= least && value <= most ? value : undefined;
    },
  };
}

/** Accepts an empty text too, as null. */
export function orNothing<T>({ mustBe, parse }: Kind<T>): Kind<T | null> {
  return { mustBe: `${mustBe}, or nothing`, parse: (text) => text === "" ? null : parse(text) };
}

export function bool(): Kind<boolean> {
  return {
    mustBe: "true or false",
    parse: (text) => text === "true" ? true : text === "false" ? false : undefined,
  };
}

export function oneOf<T extends string>(words: readonly T[]): Kind<T> {
  return {
    mustBe: `one of ${words.join(", ")}`,
    parse: (text) => words.find((word) => word === text),
  };
}

export function duration(least: number): Kind<number> {
  return {
    mustBe: `a duration such as 30s, 10m or 2h, from ${least}s to 8760h`,
    parse(text) {
      const seconds = parseDuration(text) ?? NaN;
      return seconds >= least && seconds <= 8760 * 3600 ? seconds : undefined;
    },
  };
}

/** Accepts a path without "..", without control characters; a slash at its end is dropped. */
export function absolutePath(): Kind<string> {
  return {
    mustBe: "an absolute path other than /, without ..",
    parse(text) {
      // deno-lint-ignore no-control-regex
      if (!/^\/[^\u0000-\u001f\u007f]+$/.test(text) || text.split("/").includes("..")) return undefined;
      return text.replace(/\/+/g, "/").replace(/(.)\/$/, "$1").replace(/^\/$/, "") || undefined;
    },
  };
}

export function program(): Kind<string> {
  return {
    mustBe: "the name of a program in PATH, or an absolute path",
    parse: (text) => /^(?:\/[^\s]*)?[^\s/]+$/.test(text) ? text : undefined,
  };
}

export function dnsName(
  most = 253,
  mustBe = `a name of lower-case letters, digits, - and ., at most ${most} characters`,
): Kind<string> {
  return { mustBe, parse: (text) => text.length <= most && isDnsName(text) ? text : undefined };
}

export function namespaces(): Kind<readonly string[]> {
  return {
    mustBe: "names of namespaces with commas between them, without blanks, or nothing",
    parse(text) {
      const names = text === "" ? [] : text.split(",");
      return names.every(isDnsLabel) ? names : undefined;
    },
  };
}

export function address(): Kind<string> {
  return {
    mustBe: "an IP address or localhost",
    parse: (text) =>
      /^(?:localhost|[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*)$/.test(text) ? text : undefined,
  };
}
