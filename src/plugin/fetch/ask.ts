/** Runs `packet-capture …` in a controller's pod by `kubectl exec`, and explains in one sentence why that failed. */
import { codeOf, EXIT, readTrailer, type Trailer } from "../../spec/outcome.ts";
import { VERSION } from "../../version.ts";
import { Failure } from "../failure.ts";
import { checkReadable, type Controller } from "../installation.ts";
import { Blocked, explain, PolicyRefusal } from "../kubectl/explain.ts";
import type { DeliverOptions, Delivery, Kubectl } from "../kubectl/kubectl.ts";
import { ReadRefused } from "./read_refused.ts";

/** kubectl's last line when the command itself ended with an error (kubectl pkg/cmd/util, exec.CodeExitError). */
const TERMINATED = /command terminated with exit code (\d+)\s*$/;
// The error of runtimes when the image has no such program (runc, crun, containerd).
const NO_PROGRAM = /executable file .*not found|no such file or directory/;
/** Prefix of the names of the chart's read policies (charts/templates/_helpers.tpl). */
const READ_POLICY = "packet-capture-read.";
/** Prefix of each line that the controller's commands write to stderr (src/reading/io.ts, src/main.ts). */
const COMMAND_PREFIX = "packet-capture: ";
/** The line of `cat` that stands for a trailer in version 0.1, and still precedes it. */
const WRITTEN = /^all (\d+) bytes are written$/;

/** kubectl's error for an answer that refuses the upgrade of `exec` and is none of Kubernetes' own: a proxy's page, or the kubelet's. */
const UPGRADE_REFUSED =
  /unable to upgrade connection: [^]*(\b40[0135]\b|forbidden|unauthorized|not allowed|upgrade required)/i;

/** The command in the controller's pod ended with an error of its own. */
export class CommandFailed extends Failure {
  override readonly name = "CommandFailed";
  /**
   * @param commandCode The command's own exit code (src/spec/outcome.ts).
   * @param trailer Its line for programs; undefined: version 0.1 has none, or it was lost.
   */
  constructor(message: string, readonly commandCode: number, readonly trailer?: Trailer | undefined) {
    super(message);
  }
}

/** The output of a command that ends soon. */
export interface Answer {
  readonly stdout: string;
  /** The defect of it, in the command's words; undefined: none. */
  readonly warning: string | undefined;
}

/**
 * Runs a command that ends soon.
 *
 * @throws {Failure} it failed: `CommandFailed` if kubectl did its part, `Refused` if the user may not.
 */
export async function ask(kubectl: Kubectl, controller: Controller, command: readonly string[]): Promise<Answer> {
  const { code, stdout, stderr } = await kubectl.run(execArgs(controller, command));
  if (code === 0) return { stdout, warning: undefined };
  // `list` ends with 1 when a capture is damaged, and has then written all the others, and that one as `unknown`.
  const isWritten = stdout !== "" && TERMINATED.exec(stderr)?.[1] === String(EXIT.failed);
  if (!isWritten) throw await whyFailed(kubectl, controller, command, code, stderr);
  return { stdout, warning: remoteLines(stderr).join("; ") };
}

/**
 * Returns the standard output of a command that delivers much, or without end, and ends in the pod when kubectl here
 * does, however that ends.
 */
export function deliver(
  kubectl: Kubectl,
  controller: Controller,
  command: readonly string[],
  options: DeliverOptions,
): Delivery {
  // Without standard input the process in the pod would not notice that kubectl is gone, or has all
  // (src/reading/exit_with_stdin.ts).
  const total = (line: string) => {
    const words = commandWords(line) ?? "";
    const trailer = readTrailer(words);
    if (trailer !== undefined) return { bytes: trailer.bytes, code: codeOf(trailer) };
    const bytes = WRITTEN.exec(words)?.[1];
    return bytes === undefined ? undefined : { bytes: Number(bytes), code: undefined };
  };
  return kubectl.deliver(execArgs(controller, [...command, "--while-stdin"], ["-i"]), { ...options, total });
}

/** Finds the error that a non-zero exit code of `kubectl exec` stands for. */
export async function whyFailed(
  kubectl: Kubectl,
  controller: Controller,
  command: readonly string[],
  code: number,
  stderr: string,
): Promise<Failure> {
  const said = remoteLines(stderr).at(-1) ?? "";
  const terminated = TERMINATED.exec(stderr)?.[1];
  if (terminated === undefined && !NO_PROGRAM.test(stderr)) {
    if (UPGRADE_REFUSED.test(stderr)) return new Blocked(execRefused(controller, stderr));
    const why = explain(stderr, `kubectl exec failed with exit code ${code}`);
    const ours = why instanceof PolicyRefusal && why.policy.startsWith(READ_POLICY);
    return ours ? new ReadRefused(command, controller.release) : why;
  }
  const commandCode = Number(terminated ?? 127);
  // 126 and 127: not executable, not found. A usage error of our own command line means that the controller has
  // another version.
  if (commandCode === EXIT.usage || commandCode === 126 || commandCode === 127) {
    const version = await versionOf(kubectl, controller);
    if (version !== VERSION) {
      const its = version === undefined ? "reports no version" : `has version ${version}`;
      return new CommandFailed(
        `The controller of node ${controller.node} ${its} and does not support "packet-capture ${
          command[0]
        }" as this plugin (version ${VERSION}) uses it: use the plugin and the chart in the same version`,
        commandCode,
      );
    }
  }
  const fallback = `packet-capture ${command[0]} ended with exit code ${commandCode}`;
  const message = `${said === "" ? fallback : said} (controller of node ${controller.node})`;
  return new CommandFailed(message, commandCode, trailerIn(stderr));
}

function execRefused({ node }: Controller, stderr: string): string {
  const words = stderr.slice(stderr.indexOf("unable to upgrade connection: ")).replace(/<[^>]*>/g, " ").replace(
    /\s+/g,
    " ",
  );
  return `kubectl exec to node ${node} is refused on the way: ${words.trim().slice(0, 160)}; ` +
    "a proxy before the API server must let WebSocket or SPDY upgrades through";
}

/** Returns the command's words in a line of stderr; undefined if the line is kubectl's. */
export function commandWords(line: string): string | undefined {
  return line.startsWith(COMMAND_PREFIX) ? line.slice(COMMAND_PREFIX.length) : undefined;
}

/** Returns the lines that the command wrote to stderr, without kubectl's own line after them. */
export function remoteLines(stderr: string): string[] {
  return stderr.split("\n").map((line) => line.trim())
    .filter((line) => line !== "" && !TERMINATED.test(line)).map((line) => commandWords(line) ?? line)
    .filter((line) => !WRITTEN.test(line) && readTrailer(line) === undefined);
}

function trailerIn(stderr: string): Trailer | undefined {
  return stderr.split("\n").map((line) => readTrailer(commandWords(line.trim()) ?? "")).findLast((found) => found);
}

async function versionOf(kubectl: Kubectl, controller: Controller): Promise<string | undefined> {
  const { code, stdout } = await kubectl.run(execArgs(controller, ["version"]));
  return code === 0 ? versionIn(stdout) : undefined;
}

/** Reads the version from what `packet-capture version` prints. */
export function versionIn(stdout: string): string | undefined {
  return /\d+\.\d+\.\d+[^\s,]*/.exec(stdout)?.[0];
}

function execArgs(controller: Controller, command: readonly string[], flags: readonly string[] = []): string[] {
  checkReadable(controller);
  const { release: { namespace }, pod, container = "" } = controller;
  return ["exec", ...flags, "-n", namespace, pod, "-c", container, "--", "packet-capture", ...command];
}
