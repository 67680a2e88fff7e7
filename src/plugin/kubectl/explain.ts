/** kubectl's error output as one sentence that names what is missing. Pure. */
import { Failure, UsageFailure } from "../failure.ts";
import { NO_CREDENTIALS, NO_TERMINAL, wordsOfPlugin } from "./login.ts";

/** A right that the user lacks, as the API server named it. */
export interface MissingRight {
  readonly user: string;
  readonly verb: string;
  /** Resource with its sub-resource and group, as RBAC writes it: `pods/exec`, `daemonsets.apps`. */
  readonly resource: string;
  /** undefined: in the whole cluster. */
  readonly namespace: string | undefined;
}

/** The API server refuses, and would refuse again. */
export class Refused extends Failure {
  override readonly name: string = "Refused";
}

/** Something on the way refused the request, such as a proxy: no right of Kubernetes helps. */
export class Blocked extends Refused {
  override readonly name = "Blocked";
}

/** The API server refused for lack of a right. */
export class Forbidden extends Refused {
  override readonly name = "Forbidden";
  /** @param hint What helps, besides having the right. */
  constructor(readonly missing: MissingRight, hint = "") {
    super(`User ${missing.user} lacks ${rightText(missing)}${hint}`);
  }
}

/** Returns a right in words: `the permission "get" on "pods" in namespace default`. */
export function rightText({ verb, resource, namespace }: Omit<MissingRight, "user">): string {
  const where = namespace === undefined ? "in the whole cluster" : `in namespace ${namespace}`;
  return `the permission "${verb}" on "${resource}" ${where}`;
}

/** An admission policy refused the request. */
export class PolicyRefusal extends Refused {
  override readonly name = "PolicyRefusal";
  /** @param policy The ValidatingAdmissionPolicy's name. */
  constructor(readonly policy: string, words: string) {
    super(`Admission policy ${policy} refuses it: ${words}`);
  }
}

/** The API server does not have the object that was asked for. */
export class NotFound extends Failure {
  override readonly name = "NotFound";
}

/** The API server has no resource type of that name. */
export class NoSuchType extends UsageFailure {}

// kubernetes/staging/src/k8s.io/apiserver/pkg/endpoints/handlers/responsewriters/errors.go, forbiddenMessage()
const FORBIDDEN =
  /User "(?<user>[^"]*)" cannot (?<verb>[^ ]+) (?:resource "(?<resource>[^"]*)"|path "(?<path>[^"]*)")(?: in API group "(?<group>[^"]*)")?(?: in the namespace "(?<namespace>[^"]*)")?/;

// kubernetes/staging/src/k8s.io/apiserver/pkg/admission/plugin/policy/validating/dispatcher.go
const POLICY = /ValidatingAdmissionPolicy '(?<policy>[^']*)' with binding '[^']*' denied request: (?<words>.*)$/;

/**
 * Turns what kubectl wrote to stderr into an error to show. Only its last line that reads like an error counts:
 * warnings and notes ("Defaulted container …", "Unable to use a TTY") come before.
 *
 * @param otherwise The sentence for a kubectl that ended without a word.
 */
export function explain(stderr: string, otherwise: string): Failure {
  const lines = stderr.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  const line =
    lines.findLast((line) =>
      /^(error\b|Error from server|Unable to connect|The connection to the server)/i.test(line)
    ) ??
      lines.at(-1);
  if (line === undefined) return new Failure(otherwise);

  const lack = NO_CREDENTIALS.exec(line)?.groups?.why;
  if (lack !== undefined) return noCredentials(lack, stderr);
  const refusal = POLICY.exec(line)?.groups;
  if (refusal !== undefined) return new PolicyRefusal(refusal.policy ?? "", refusal.words ?? "");
  const right = FORBIDDEN.exec(line)?.groups;
  if (right !== undefined) {
    const resource = right.resource ?? right.path ?? "";
    return new Forbidden({
      user: right.user ?? "",
      verb: right.verb ?? "",
      resource: right.group ? resource.replace(/^[^/]+/, (name) => `${name}.${right.group}`) : resource,
      namespace: right.namespace,
    });
  }
  const said = line.replace(/^error: /i, "").replace(/^Error from server(?: \([A-Za-z]+\))?: /, "").replace(
    /\.$/,
    "",
  );
  if (/\(NotFound\)/.test(line)) return new NotFound(said);
  if (/^Error from server \((Forbidden|MethodNotAllowed)\)/.test(line)) return new Blocked(said);
  if (/doesn't have a resource type/.test(line)) return new NoSuchType(said);
  if (/unable to parse requirement|couldn't parse the selector|is invalid label|unknown flag/i.test(line)) {
    return new UsageFailure(said);
  }
  if (/Unauthorized|must be logged in/.test(line)) {
    return new Failure(`The cluster does not accept your credentials: ${said}`);
  }
  if (/^(Unable to connect|The connection to the server)/.test(line)) return new Failure(said);
  return new Failure(said === "" ? otherwise : said);
}

const LOG_IN_FIRST = "log in first, in a terminal, for example with: kubectl get pods";

/** Returns the sentence for a credential plugin that gave nothing. */
function noCredentials(why: string, stderr: string): Failure {
  const said = wordsOfPlugin(stderr);
  const help = NO_TERMINAL.test(why)
    ? "; run this in a terminal, because the kubeconfig has interactiveMode: Always"
    : /exit code/.test(why)
    ? `${said === undefined ? "" : ` (it says: ${said})`}; ${LOG_IN_FIRST}`
    : "";
  return new Failure(`Cannot get credentials for the cluster: ${why}${help}`);
}

/** Adds the output of a call that took too long: a credential plugin may wait for a login. */
export function tooLate({ message }: Error, stderr: string): Failure {
  const said = wordsOfPlugin(stderr);
  return new Failure(said === undefined ? message : `${message} (it says: ${said}); if it asks you, ${LOG_IN_FIRST}`);
}
