/** Finds the right that a command in the reader takes, where the read policy refuses it. Pure. */
import type { Release } from "../installation.ts";
import { type MissingRight, Refused, rightText } from "../kubectl/explain.ts";

/** The read policy (docs/security.md) refused a command. */
export class ReadRefused extends Refused {
  override readonly name = "ReadRefused";

  /** @param command The words after `packet-capture`. */
  constructor(command: readonly string[], release: Release) {
    const { doing, help, ...right } = neededFor(command, release);
    super(`Cannot ${doing}: you lack ${rightText(right)}; ${help}`);
  }
}

/** A right, the words for what it allows, and what helps who does not have it. */
interface Needed extends Omit<MissingRight, "user"> {
  readonly doing: string;
  readonly help: string;
}

function neededFor([verb = "", ...words]: readonly string[], { name, namespace, annotationKey }: Release): Needed {
  const captures = `captures.${annotationKey}`;
  if (verb === "list" && words[0] === "-n" && words[1] !== undefined) {
    const help = `ClusterRole ${name}-read or ${name}-request, bound there, has it`;
    return {
      verb: "list",
      resource: captures,
      namespace: words[1],
      doing: `list captures of namespace ${words[1]}`,
      help,
    };
  }
  const [target = ""] = words;
  const [its, pod] = target.split("/");
  if ((verb === "cat" || verb === "stream") && its !== undefined && pod !== undefined) {
    const doing = `read packets of ${target}`, headers = words.includes("--headers-only");
    return headers
      ? {
        ...{ verb: "get", resource: `${captures}/headers`, namespace: its, doing },
        help: `ClusterRole ${name}-read-headers, bound there, has it`,
      }
      : {
        ...{ verb: "get", resource: captures, namespace: its, doing },
        help: `ClusterRole ${name}-read, bound there, has it; ${name}-read-headers is enough for --headers-only`,
      };
  }
  const [doing, help] = verb === "list"
    ? ["list captures of all namespaces", "give -n NAMESPACE for those of one"]
    : verb === "cat"
    ? [`read kept capture ${target} by its UID`, "give the pod's name with -n NAMESPACE"]
    : [`run packet-capture ${verb}`, "only administrators of the release have it"];
  return { verb: "administer", resource: captures, namespace, doing, help };
}
