import { deepStrictEqual, throws } from "node:assert";
import { Command } from "commander";
import { canonical, kubectlArgs, kubectlOptions } from "../../../src/plugin/command_line.ts";

function program(): Command {
  const program = new Command().option("-n, --namespace <namespace>");
  kubectlOptions().forEach((option) => program.addOption(option));
  program.command("start").argument("[names...]").option("-y, --yes").option("-A, --all").option("-o, --output <file>")
    .option("--filter <text>");
  return program;
}

Deno.test("canonical() writes each flag in the one form that means to commander what it means to kubectl", () => {
  const forms: [string[], string[]][] = [
    [["-n", "shop"], ["--namespace=shop"]],
    [["-nshop"], ["--namespace=shop"]],
    [["-n=shop"], ["--namespace=shop"]],
    [["--namespace", "shop"], ["--namespace=shop"]],
    [["--namespace=shop"], ["--namespace=shop"]],
    [["-yA"], ["--yes", "--all"]],
    [["-yn", "shop", "web"], ["--yes", "--namespace=shop", "web"]],
    [["-yn=shop"], ["--yes", "--namespace=shop"]],
    [["--yes=true", "-A=1"], ["--yes", "--all"]],
    [["--yes=false", "-A=F", "web"], ["web"]],
    [["-v=8", "-s", "https://x"], ["--v=8", "--server=https://x"]],
    // A value is a value, whatever it looks like.
    [["--filter", "-n=5", "-o", "-name"], ["--filter=-n=5", "--output=-name"]],
    [["--filter", "--", "web"], ["--filter=--", "web"]],
    [["--filter=a=b", "--filter", ""], ["--filter=a=b", "--filter="]],
    // Left to commander: what is not known, lacks its value, or stands after --.
    [["--tokn=x", "-q", "-", "web"], ["--tokn=x", "-q", "-", "web"]],
    [["web", "-n"], ["web", "--namespace"]],
    [["--", "-n=shop"], ["--", "-n=shop"]],
  ];
  for (const [given, expected] of forms) deepStrictEqual(canonical(given, program()), expected);
  throws(() => canonical(["--yes=maybe"], program()), /^UsageFailure: Cannot take --yes=maybe: --yes must be true or/);
});

Deno.test("kubectlArgs() hands on what was given, values with = in them and repeated ones too, and nothing else", () => {
  const options = kubectlOptions();
  const own = program();
  const given = ["--as-group", "a", "start", "--as-group=b=c", "-v=6", "--warnings-as-errors", "-n", "shop", "-y"];
  own.parse(canonical(given, own), { from: "user" });
  deepStrictEqual(kubectlArgs(options, own.opts()), [
    "--as-group=a",
    "--as-group=b=c",
    "--v=6",
    "--warnings-as-errors",
  ]);
});
