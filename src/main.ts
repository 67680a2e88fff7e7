/**
 * The command line: which command there is, what it takes, and where it is done. Each is loaded only when it is asked for.
 * Without a command the program is the controller, because that is what the container runs.
 *
 * commander parses it: citty accepts unknown flags, cac ignores unknown commands, and node:util's `parseArgs` has neither
 * sub-commands nor help.
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { parseDuration } from "./base/duration.ts";
import { messageOf } from "./base/errors.ts";
import { getLog, setupLog, stderr } from "./log.ts";
import { printable } from "./base/printable.ts";
import { FLAGS, isReader, logEffective, readSettings, type Settings, UsageError } from "./settings.ts";
import { VERSION } from "./version.ts";

/** Milliseconds that the last lines of the log may take at the end, if nobody reads them. */
const FLUSH_MS = 1000;

const program = new Command("packet-capture")
  .description("Records the packets of annotated pods. Without a command it is the controller.")
  .version(`packet-capture ${VERSION}`)
  .configureOutput({ outputError() {} })
  .exitOverride();

/** The commands of the container `reader`, which has nothing but the files. */
const READING = ["list", "cat", "stream", "version"];

/** Flag for programs that run a command by `kubectl exec -i`; see src/reading/exit_with_stdin.ts. */
const WHILE_STDIN = [
  "--while-stdin",
  "end when standard input does, as it does when the client of kubectl exec -i is gone",
] as const;

/** Flag for users who may see the headers and no payload; see src/pcap/headers.ts. */
const HEADERS_ONLY = [
  "--headers-only",
  "cut each packet after its TCP, UDP, ICMP or SCTP header; DNS (port 53) is left whole",
] as const;

command("controller", "Capture the annotated pods of this node, until ended.").action((flags) =>
  run(flags, async (settings, signal) => {
    logEffective(settings, getLog());
    const { runController } = await import("./controller.ts");
    return runController(settings, signal);
  }, ["nodeName"])
);

command("list", "List the captures of this node.", ["captureDir"])
  .addOption(new Option("-o, --output <format>", "how").choices(["table", "json"]).default("table"))
  .option("-n, --namespace <namespace>", "only the captures of pods in this namespace")
  .action((flags) =>
    run(flags, async ({ captureDir }) => {
      const { runList } = await import("./reading/list.ts");
      const { output, namespace } = flags;
      return runList({ captureDir, output, ...(namespace === undefined ? {} : { namespace }) });
    })
  );

command("cat", "Write one pod's captured packets, in order of time, to stdout.", ["captureDir"])
  .argument("<namespace/pod>", "the pod, such as default/web-0; or the UID of a deleted pod whose files are kept")
  .addOption(new Option("--format <format>", "how").choices(["pcapng", "pcap"]).default("pcapng"))
  .addOption(
    new Option("--since <duration>", "only the last 30s, 5m, 2h … before the newest packet").argParser(
      durationArgument,
    ),
  )
  .option(...HEADERS_ONLY)
  .option(...WHILE_STDIN)
  .action((pod, flags) =>
    run(flags, async ({ captureDir }, signal) => {
      if (flags.whileStdin) (await import("./reading/exit_with_stdin.ts")).exitWithStdin();
      const { runCat } = await import("./reading/cat.ts");
      const since = flags.since === undefined ? {} : { sinceSeconds: flags.since };
      const { format, whileStdin = false, headersOnly = false } = flags;
      return runCat({ captureDir, pod, format, signal, whileStdin, headersOnly, ...since });
    })
  );

command("stream", "Write one pod's packets to stdout: those captured, then new ones as they come.", ["captureDir"])
  .argument("<namespace/pod>", "the pod, such as default/web-0")
  .option(...HEADERS_ONLY)
  .option(...WHILE_STDIN)
  .action((pod, flags) =>
    run(flags, async ({ captureDir }, signal) => {
      if (flags.whileStdin) (await import("./reading/exit_with_stdin.ts")).exitWithStdin();
      const { runStream } = await import("./reading/stream.ts");
      const { whileStdin = false, headersOnly = false } = flags;
      return runStream({ captureDir, pod, signal, whileStdin, headersOnly });
    })
  );

command("purge", "Delete every capture in captureDir, and its marker.", ["captureDir", "annotationKey", "release"])
  .action((flags) =>
    run(flags, async ({ captureDir, annotationKey, release }) => {
      const { runPurge } = await import("./purge.ts");
      return runPurge({ captureDir, annotationKey, release });
    })
  );

command("check", "Report whether all controllers of a Helm release are ready, after waiting at most a minute.", [])
  .argument("<namespace/release>", "the release, such as packet-capture/packet-capture")
  .action((release, flags) =>
    run(flags, async (_settings, signal) => {
      const { runCheck } = await import("./check.ts");
      return runCheck({ release, signal });
    })
  );

program.command("version").description("Print the version.").action(async () => {
  await Deno.stdout.write(new TextEncoder().encode(`packet-capture ${VERSION}\n`));
});

/** Returns a command with the flags of the settings named by `keys`; undefined: of all. */
function command(name: string, description: string, keys?: readonly string[]): Command {
  const command = program.command(name).description(description);
  for (const { key, flag, help } of FLAGS) {
    if (keys === undefined || [...keys, "logLevel", "logFormat"].includes(key)) {
      command.addOption(new Option(`${flag} <value>`, help));
    }
  }
  return command;
}

function durationArgument(text: string): number {
  const seconds = parseDuration(text);
  if (seconds !== undefined) return seconds;
  throw new InvalidArgumentError("It must be a duration such as 30s, 5m or 2h");
}

/**
 * Runs a command until it is done, gives it a signal that SIGTERM and SIGINT abort, and leaves with its exit status.
 *
 * @param needed Settings without a default that it needs.
 */
async function run(
  flags: Record<string, string>,
  work: (settings: Settings, signal: AbortSignal) => Promise<number>,
  needed: readonly "nodeName"[] = [],
): Promise<never> {
  const given = FLAGS.map(({ key, flag }) => [key, flags[new Option(`${flag} <value>`).attributeName()]] as const);
  if (isReader((name) => Deno.env.get(name))) refuseInReader(given);
  const settings = readSettings({ env: (name) => Deno.env.get(name), flags: Object.fromEntries(given) }, needed);
  setupLog({ level: settings.logLevel, format: settings.logFormat });

  const ended = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    Deno.addSignalListener(name, () => ended.abort(new Error(`ended by ${name}`)));
  }
  // What nobody waited for or caught leaves the program in a state that nobody thought of.
  globalThis.addEventListener("unhandledrejection", (event) => crash(event, "unhandled rejection", event.reason));
  globalThis.addEventListener("error", (event) => crash(event, "uncaught error", event.error));
  return exit(await work(settings, ended.signal));
}

/**
 * Refuses, in the container `reader`, flags that lead elsewhere than to its own captureDir: a user who runs a command
 * there may have no right to more (docs/security.md).
 *
 * @throws UsageError
 */
function refuseInReader(given: readonly (readonly [key: string, value: string | undefined])[]): void {
  const [key] = given.find(([, value]) => value !== undefined) ?? [];
  const setting = FLAGS.find((each) => each.key === key);
  if (setting === undefined) return;
  throw new UsageError(`Cannot use ${setting.flag}: the settings of the container reader are those of its environment`);
}

function crash(event: Event, what: string, error: unknown): void {
  getLog().error(what, { error, stack: error instanceof Error ? error.stack : undefined });
  // Deno would end at once, without the line.
  event.preventDefault();
  void exit(1);
}

/** Leaves with the lines of the log written. */
async function exit(code: number): Promise<never> {
  await stderr.flush(FLUSH_MS);
  Deno.exit(code);
}

/** Writes what went wrong as one sentence, and leaves with 2 if the command line or a setting is wrong, else with 1. */
function fail(error: unknown): Promise<never> {
  const usage = error instanceof UsageError || error instanceof CommanderError;
  // Commander puts its word before the sentence, and what may have been meant on a line of its own after it.
  const words = messageOf(error).replace(/^error: /, "").replace(/\n(?=\()/, " ");
  stderr.add(`packet-capture: ${printable(words)}`);
  return exit(usage ? 2 : 1);
}

// Flags without a command are the controller's; those that commander answers itself are not.
const [first] = Deno.args;
const bare = first === undefined || (first.startsWith("-") && !["-h", "--help", "-V", "--version"].includes(first));
program.hook("preAction", (_program, command) => {
  const name = command.name();
  if (!isReader((name) => Deno.env.get(name)) || READING.includes(name)) return;
  throw new UsageError(`Cannot run ${name} in the container reader: it only reads; use the container packet-capture`);
});
// No await at the top level: the bundle is a CommonJS module (docs/adr/0011).
program.parseAsync(bare ? ["controller", ...Deno.args] : Deno.args, { from: "user" }).catch((error) => {
  if (error instanceof CommanderError && error.exitCode === 0) Deno.exit(0);
  return fail(error);
});
