/** Who gets the terminal of several calls of kubectl, for how long, and what is handed on. kubectl is a script. */
import { deepStrictEqual, match, ok, rejects, strictEqual } from "node:assert";
import { join } from "@std/path";
import { Kubectl } from "../../../../src/plugin/kubectl/kubectl.ts";
import { handOn, Login, wordsOfPlugin } from "../../../../src/plugin/kubectl/login.ts";
import type { Terminal } from "../../../../src/plugin/terminal.ts";

/** A terminal on which everything can be read afterwards. */
function terminal(): Terminal & { asked: string } {
  return {
    asked: "",
    ask(text) {
      this.asked += text;
    },
    line: () => {},
    note: () => {},
    document: () => {},
    confirm: () => Promise.resolve(false),
    showsProgress: true,
    canAnswer: false,
  };
}

/** Runs a test with a kubectl that is this script, whose folder is `$dir`. */
async function withKubectl(script: string, work: (program: string, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir({ prefix: "packet-capture-login-" });
  try {
    const program = join(dir, "kubectl");
    await Deno.writeTextFile(program, `#!/bin/sh\ndir='${dir}'\n${script}`, { mode: 0o755 });
    await work(program, dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const signal = new AbortController().signal;

Deno.test("Login lets parallel calls wait for the first, which alone is shown", () =>
  withKubectl(
    // Any call that begins while the first has not ended says so.
    `if mkdir "$dir/first" 2>/dev/null; then echo asks >&2; sleep 1; : > "$dir/done"; echo first
     else [ -e "$dir/done" ] && echo after || echo during; echo silent >&2; fi\n`,
    async (program) => {
      const to = terminal();
      const kubectl = new Kubectl({ program, signal, login: new Login(to) });
      const calls = await Promise.all(["a", "b", "c"].map((name) => kubectl.run(["get", name])));
      deepStrictEqual(calls.map(({ stdout }) => stdout.trim()), ["first", "after", "after"]);
      strictEqual(to.asked, "asks\n");
    },
  ));

Deno.test("a call in which a plugin asks has time for people, with or without a word", () =>
  withKubectl(
    // It ends once the terminal was written to; where it has said a word itself, long after the deadline for its first.
    `case "$1" in config) echo okta-login; exit;; esac
     [ "$2" = loud ] && printf 'Code: ' >&2
     until [ -e "$dir/$2" ]; do sleep 0.02; done
     [ "$2" = loud ] && sleep 2
     echo done\n`,
    async (program, dir) => {
      for (
        const [how, deadlineMs, asked] of [["loud", 1500, /^Code: $/], [
          "silent",
          50,
          /^Waiting for okta-login, .*: log in, or press Ctrl-C\n$/,
        ]] as const
      ) {
        let all = "";
        const ask = (text: string) => {
          all += text;
          Deno.writeTextFileSync(join(dir, how), "");
        };
        const kubectl = new Kubectl({ program, signal, login: new Login({ ...terminal(), ask }) });
        const { stdout } = await kubectl.run(["get", how], { deadlineMs });
        strictEqual(stdout, "done\n");
        match(all, asked);
      }
    },
  ));

Deno.test("a call without an answer ends where no plugin asks, and has the plugin's words where nobody can be asked", () =>
  withKubectl(
    `case "$1" in config) exit;; esac
     [ "$2" = loud ] && echo 'Open https://login.example and enter ABC' >&2
     exec sleep 60\n`,
    async (program) => {
      const seen = new Kubectl({ program, signal, login: new Login(terminal()) });
      await rejects(seen.run(["get", "silent"], { deadlineMs: 200 }), {
        message: /^kubectl get silent gave no answer in /,
      });
      const unseen = new Kubectl({ program, signal, login: new Login({ ...terminal(), showsProgress: false }) });
      await rejects(unseen.run(["get", "loud"], { deadlineMs: 2000 }), {
        message: "kubectl get loud gave no answer in 2 s (it says: Open https://login.example and enter ABC); " +
          "if it asks you, log in first, in a terminal, for example with: kubectl get pods",
      });
    },
  ));

Deno.test("handOn() hands on prompts at once, and drops kubectl's own lines", () => {
  const pieces: string[] = [];
  const shown = () => pieces.join("");
  const take = handOn((text) => pieces.push(text));
  take("\x1b[1mCode:\x1b[0m ");
  strictEqual(shown(), "\x1b[1mCode:\x1b[0m ");
  take("wrong\n");
  take('E1127 23:36:06.711785   20755 memcache.go:265] "Unhandled Error" err="x"\nCode: ');
  strictEqual(shown(), "\x1b[1mCode:\x1b[0m wrong\nCode: ");
  take("error: try again\n");
  ok(!shown().includes("try again"));
  take("Code: "); // and so it was not kubectl's last word
  strictEqual(shown(), "\x1b[1mCode:\x1b[0m wrong\nCode: error: try again\nCode: ");
  take("Error from server: a\n\x1b[2Jb\n");
  strictEqual(shown().split("Code: ").at(-1), "Error from server: a\n\\x1b[2Jb\n");
  const before = shown();
  take("Unable to connect to the server: getting credentials: exec: executable ask failed with exit code 1\n");
  strictEqual(shown(), before);
});

Deno.test("wordsOfPlugin() finds the last of them among kubectl's", () => {
  strictEqual(
    wordsOfPlugin("Code: E1127 23:36:06.7 1 memcache.go:265] x\nUnable to connect to the server: y\n"),
    "Code:",
  );
  strictEqual(
    wordsOfPlugin("error: token has expired\nerror: Get: getting credentials: exec: z\n"),
    "error: token has expired",
  );
  strictEqual(wordsOfPlugin("Unable to connect to the server: getting credentials: exec: z\n"), undefined);
});
