/** The command line as kubectl's users write it: kubectl's own flags, before and after the command, in the forms that kubectl takes. */
import { type Command, Option } from "commander";
import { UsageFailure } from "./failure.ts";

/** The flags of `kubectl options`, but for `-n`. The value's kind is kubectl's: one, several by repeating the flag, or none. */
const KUBECTL_FLAGS: Readonly<Record<string, "one" | "several" | "none">> = {
  "--as": "one",
  "--as-group": "several",
  "--as-uid": "one",
  "--as-user-extra": "several",
  "--cache-dir": "one",
  "--certificate-authority": "one",
  "--client-certificate": "one",
  "--client-key": "one",
  "--cluster": "one",
  "--context": "one",
  "--disable-compression": "none",
  "--insecure-skip-tls-verify": "none",
  "--kubeconfig": "one",
  "--kuberc": "one",
  "--log-flush-frequency": "one",
  "--match-server-version": "none",
  "--password": "one",
  "--profile": "one",
  "--profile-output": "one",
  "--request-timeout": "one",
  "-s, --server": "one",
  "--tls-server-name": "one",
  "--token": "one",
  "--user": "one",
  "--username": "one",
  "-v, --v": "one",
  "--vmodule": "one",
  "--warnings-as-errors": "none",
};

/** The last line of each command's help. The flags are too many to be listed there. */
export const KUBECTL_HELP =
  "\nTakes all flags of `kubectl options` too (--context, --kubeconfig, --as …), before or after the command.";

/** Makes the options of one program. Their values are handed on as they are: kubectl itself judges them. */
export function kubectlOptions(): Option[] {
  return Object.entries(KUBECTL_FLAGS).map(([flags, values]) => {
    const option = new Option(values === "none" ? flags : `${flags} <value>`).hideHelp();
    return values === "several" ? option.argParser((value, before: string[] = []) => [...before, value]) : option;
  });
}

/** Writes what was given for these options as arguments of kubectl. */
export function kubectlArgs(options: readonly Option[], given: Readonly<Record<string, unknown>>): string[] {
  return options.flatMap((option) =>
    [given[option.attributeName()] ?? []].flat().map((value) =>
      value === true ? `${option.long}` : `${option.long}=${value}`
    )
  );
}

/**
 * Rewrites words as kubectl's parser of flags reads them (pflag) for commander. There `-n=shop` means "=shop",
 * `--yes=true` is an error, and a value may be taken for a flag of the program. So `-n=shop` and `-n shop` become
 * `--namespace=shop`, `-yA` becomes `--yes --all-namespaces`.
 *
 * @throws {UsageFailure} a flag that takes no value is given one.
 */
export function canonical(args: readonly string[], program: Command): string[] {
  const byName = new Map<string, Option>();
  for (const option of [program, ...program.commands].flatMap(({ options }) => options)) {
    if (option.short) byName.set(option.short, option);
    if (option.long) byName.set(option.long, option);
  }
  const words: string[] = [];
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === "--") return [...words, word, ...rest];
    const [, name = "", attached] = /^(--[^=]+|-[A-Za-z])(.+)?$/s.exec(word) ?? [];
    const option = byName.get(name);
    if (option?.long === undefined) words.push(word);
    else if (option.required) {
      const value = attached?.replace(/^=/, "") ?? rest.shift();
      words.push(value === undefined ? option.long : `${option.long}=${value}`);
    } else if (attached !== undefined && !attached.startsWith("=")) {
      words.push(option.long);
      rest.unshift(`-${attached}`);
    } else if (attached === undefined || isTrue(option.long, attached.slice(1))) words.push(option.long);
  }
  return words;
}

function isTrue(flag: string, text: string): boolean {
  if (/^(1|t|true)$/i.test(text)) return true;
  if (/^(0|f|false)$/i.test(text)) return false;
  throw new UsageFailure(`Cannot take ${flag}=${text}: ${flag} must be true or false`);
}
