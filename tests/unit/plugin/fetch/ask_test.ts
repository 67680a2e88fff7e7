import { deepStrictEqual, rejects } from "node:assert/strict";
import { type Answer, ask } from "../../../../src/plugin/fetch/ask.ts";

const CONTROLLER = {
  node: "worker1",
  pod: "pc-x",
  release: { namespace: "tools" },
  container: "reader",
};

/** What `ask` makes of a command that ends like this. */
function asked(commandCode: number, stdout: string): Promise<Answer> {
  const stderr = `packet-capture: Cannot read x\ncommand terminated with exit code ${commandCode}\n`;
  const kubectl = { run: () => Promise.resolve({ code: 1, stdout, stderr }) };
  return ask(kubectl as never, CONTROLLER as never, ["list", "-o", "json"]);
}

Deno.test("ask() takes the list of a controller of which one capture is damaged", async () => {
  deepStrictEqual(await asked(1, "[]\n"), { stdout: "[]\n", warning: "Cannot read x" });
  await rejects(asked(1, ""), /Cannot read x/);
  await rejects(asked(137, "["), /Cannot read x/);
});
