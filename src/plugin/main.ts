/**
 * The kubectl plugin `kubectl packet-capture`: its own program, installed as `kubectl-packet_capture` somewhere in PATH. It needs nothing but
 * the user's kubectl, kubeconfig and permissions.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { parseDuration } from "../base/duration.ts";
import { messageOf } from "../base/errors.ts";
import { LONGEST_TIMER_MS } from "../base/timeout.ts";
import { OPTION_NAMES, OPTIONS } from "../spec/options.ts";
import { VERSION } from "../version.ts";
import { canonical, KUBECTL_HELP, kubectlArgs, kubectlOptions } from "./command_line.ts";
import type { Context } from "./commands/command.ts";
import { get } from "./commands/get.ts";
import { list } from "./commands/list.ts";
import type { RequestFlag } from "./commands/request.ts";
import { start } from "./commands/start.ts";
import { stop } from "./commands/stop.ts";
import { stream } from "./commands/stream.ts";
import { version } from "./commands/version.ts";
import { Failure, Interrupted } from "./failure.ts";
import { Kubectl } from "./kubectl/kubectl.ts";
import { Login } from "./kubectl/login.ts";
import { type Terminal, terminal } from "./terminal.ts";

interface Options {
  readonly controllerNamespace?: string | undefined;
  readonly release?: string | undefined;
  readonly annotationKey?: string | undefined;
  readonly namespace?: string | undefined;
  readonly allNamespaces?: boolean;
  readonly selector?: string;
}

interface GetFlags {
  readonly output?: string;
  readonly format: "pcapng" | "pcap";
  readonly force: boolean;
  readonly since?: string;
  readonly headersOnly: boolean;
  readonly stop: boolean;
  readonly partial: boolean;
  readonly attempts: number;
  readonly timeout: number;
  readonly wait: number;
}

/**
 * Runs one command line.
 *
 * @returns the exit code: 0, 1 for a failure, 2 for a command line that cannot be carried out, 130 when interrupted.
 */
export async function runPlugin(
  args: readonly string[],
  signal: AbortSignal,
  to: Terminal = terminal,
): Promise<number> {
  let exitCode = 0;
  const program = plugin(to, async (globalFlags, work) => {
    exitCode = await work({ kubectl: new Kubectl({ globalFlags, signal, login: new Login(to) }), terminal: to });
  });
  try {
    await program.parseAsync(canonical(args, program), { from: "user" });
    return exitCode;
  } catch (error) {
    // commander has printed it.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof Interrupted) return error.exitCode;
    if (error instanceof Deno.errors.BrokenPipe) return 1; // nobody reads on
    to.note(`error: ${messageOf(error)}`);
    return error instanceof Failure ? error.exitCode : 1;
  }
}

type CarryOut = (globalFlags: readonly string[], work: (context: Context) => Promise<number>) => Promise<void>;

function plugin(to: Terminal, carryOut: CarryOut): Command {
  const kubectlFlags = kubectlOptions();
  const program = new Command("kubectl packet-capture")
    .description("Capture the packets of pods with the packet-capture controller, and fetch them")
    .version(VERSION)
    .option("-n, --namespace <namespace>", "namespace of the pods (default: the context's; for list: all)")
    .option("--controller-namespace <namespace>", "namespace of packet-capture (default: found in the cluster)")
    .option("--release <name>", "Helm release of packet-capture, if there are several")
    .option("--annotation-key <key>", "its annotation (default: that of the release)")
    .addHelpText("afterAll", KUBECTL_HELP)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => to.document(text),
      writeErr: (text) => text.trimEnd().split("\n").forEach((line) => to.note(line)),
      // What is taken for an unknown flag may be a mistyped --token with its value.
      outputError: (text, write) => write(text.replace(/(unknown option '[^=']*)=.*'/s, "$1'")),
    })
    .configureHelp({ showGlobalOptions: true });
  kubectlFlags.forEach((option) => program.addOption(option));

  /** Runs a command with its own flags and those that stand with every command. */
  const run = <Flags>(own: Flags, work: (context: Context, flags: Flags & Options) => Promise<number>) => {
    const { namespace, controllerNamespace, release, annotationKey } = program.opts<Options>();
    const flags = { ...own, namespace, controllerNamespace, release, annotationKey };
    return carryOut(kubectlArgs(kubectlFlags, program.opts()), (context) => work(context, flags));
  };

  const startCommand = pods(program.command("start"), "pods whose packets are captured")
    .description("capture the packets of existing pods, by annotating them; reports the result for each")
    .option("--files <n>", "ring files that are kept of each pod", "5");
  for (const name of OPTION_NAMES) {
    const { value, help } = OPTIONS[name].flag;
    startCommand.addOption(new Option(`--${name} ${value}`, help));
  }
  startCommand.addOption(waitOption());
  startCommand.action((
    names: string[],
    flags: Options & { files: string; wait: number } & Record<string, string | undefined>,
  ) =>
    run(flags, (context, flags) => {
      const values: Partial<Record<RequestFlag, string>> = {};
      for (const name of OPTION_NAMES) {
        const value = flags[name.replace(/-(.)/g, (_, letter: string) => letter.toUpperCase())];
        if (value !== undefined) values[name] = value;
      }
      return start(context, { ...flags, names, request: { files: flags.files, values }, waitMs: flags.wait });
    })
  );

  pods(program.command("stop"), "pods whose captures end")
    .description("end captures and delete their files, or keep the files for reading")
    .option("-y, --yes", "do not ask", false)
    .option("--keep", "stop capturing, keep the files", false)
    .addOption(waitOption())
    .action((names: string[], flags: Options & { yes: boolean; keep: boolean; wait: number }) =>
      run(flags, (context, flags) => stop(context, { ...flags, names, waitMs: flags.wait }))
    );

  pods(program.command("get"), "pods whose packets are fetched")
    .description("fetch the captures of many pods, from all their nodes, as one file in order of time")
    .option("-o, --output <file>", "the file, or - for standard output (default: POD.pcapng, or packet-capture.pcapng)")
    .addOption(new Option("--format <format>", "pcapng or pcap").choices(["pcapng", "pcap"]).default("pcapng"))
    .option("--force", "overwrite an existing file", false)
    .addOption(new Option("--since <time>", "only the last 30s, 5m, 2h … of each capture").argParser(duration))
    .addOption(headersOnlyOption())
    .option("--stop", "end the captures and delete their files, once everything is fetched and verified", false)
    .option("--partial", "write what could be fetched, without the other pods", false)
    .addOption(
      new Option("--attempts <n>", "how often to try each download").default(6)
        .argParser(wholeNumber),
    )
    .addOption(
      new Option("--timeout <time>", "try again when no data comes for this long; 0s: never")
        .default(60_000, "60s").argParser(timer),
    )
    .addOption(waitOption())
    .action((names: string[], flags: Options & GetFlags) =>
      run(
        flags,
        (context, flags) => get(context, { ...flags, names, idleMs: flags.timeout || undefined, waitMs: flags.wait }),
      )
    );

  pods(program.command("stream"), "pods whose packets are shown")
    .description("write what is captured to standard output as it comes, the ring's content first, until interrupted")
    .addOption(new Option("--wireshark", "show it in Wireshark").conflicts("tshark"))
    .addOption(new Option("--tshark", "show it with tshark"))
    .addOption(headersOnlyOption())
    .action((names: string[], flags: Options & { wireshark?: boolean; tshark?: boolean; headersOnly: boolean }) =>
      run(flags, (context, flags) => {
        const viewer = flags.wireshark ? "wireshark" : flags.tshark ? "tshark" : undefined;
        return stream(context, { ...flags, names, viewer });
      })
    );

  pods(program.command("list"), "pods whose captures are shown (default: all)")
    .description("show the captures of all nodes, or of some pods")
    .addOption(
      new Option("-o, --output <format>", "table, json or yaml").choices(["table", "json", "yaml"]).default("table"),
    )
    .option("-w, --watch", "show them again as they change, until interrupted", false)
    .action((names: string[], flags: Options & { output: "table" | "json" | "yaml"; watch: boolean }) =>
      run(flags, (context, flags) => list(context, { ...flags, names }))
    );

  program.command("version")
    .description("show the versions of this plugin and of the controllers, and whether they differ")
    .option("--client", "only the plugin's, without a cluster", false)
    .action((flags: Options & { client: boolean }) => run(flags, (context, flags) => version(context, flags)));

  return program;
}

function pods(command: Command, what: string): Command {
  return command
    .argument("[names...]", `${what}: POD, NAMESPACE/POD, or TYPE NAME or TYPE/NAME of a workload for its present pods`)
    .option("-l, --selector <labels>", "the pods with these labels")
    .option("-A, --all-namespaces", "look in all namespaces", false)
    .addOption(
      new Option("-c, --container <name>").hideHelp().argParser(() => {
        throw new InvalidArgumentError("-c is not needed: all containers of a pod share one network namespace");
      }),
    );
}

function headersOnlyOption(): Option {
  return new Option(
    "--headers-only",
    "cut each packet after its transport header (TCP, UDP, ICMP), but leave DNS whole; needs only the right captures/headers",
  ).default(false);
}

function waitOption(): Option {
  return new Option("--wait <time>", "how long to wait for the controllers' answers; 0s: do not wait")
    .default(15_000, "15s").argParser(timer);
}

function wholeNumber(text: string): number {
  if (!/^[1-9][0-9]{0,3}$/.test(text)) throw new InvalidArgumentError("It must be a whole number from 1 to 9999");
  return Number(text);
}

/** @returns the text, once it is known to be a duration. */
function duration(text: string): string {
  milliseconds(text);
  return text;
}

function milliseconds(text: string): number {
  const seconds = parseDuration(text);
  if (seconds === undefined) throw new InvalidArgumentError("It must be a time such as 30s, 10m or 2h");
  return seconds * 1000;
}

/** Milliseconds that a timer can take. */
function timer(text: string): number {
  const ms = milliseconds(text);
  if (ms > LONGEST_TIMER_MS) {
    throw new InvalidArgumentError(`It must be at most ${Math.floor(LONGEST_TIMER_MS / 3_600_000)}h`);
  }
  return ms;
}

/** Returns a signal that Ctrl-C, a closed terminal and SIGTERM abort. What is under way then tidies up. */
function interruptions(): AbortSignal {
  const controller = new AbortController();
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT", "SIGBREAK"] : ["SIGINT", "SIGTERM", "SIGHUP"];
  for (const signal of signals) Deno.addSignalListener(signal, () => controller.abort(new Interrupted()));
  return controller.signal;
}

if (import.meta.main) Deno.exit(await runPlugin(Deno.args, interruptions()));
