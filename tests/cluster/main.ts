/**
 * The cluster's command line.
 *
 *     main.ts up                        bring it up (a quick look when it is up already)
 *     main.ts down                      take it down, whatever state it is in
 *     main.ts load-image FILE.tar       import an image into every node
 *     main.ts node-exec NODE COMMAND…   run a command in a node
 *
 * CLUSTER_PROVIDER (kind where Docker runs, else local), CLUSTER_DIR (.cluster), and for the local cluster CLUSTER_INDEX (any
 * free of 0…31) let several live side by side.
 */
import { resolve } from "node:path";
import { clusterDir } from "./config.ts";
import { providerOf } from "./provider.ts";

const USAGE = "Usage: main.ts up | down | load-image FILE.tar | node-exec NODE COMMAND…";

async function main([command, ...args]: string[]): Promise<number> {
  const dir = clusterDir();
  switch (command) {
    case "up":
      await (await providerOf(dir)).up(dir);
      return 0;
    case "down":
      await (await providerOf(dir)).down(dir);
      return 0;
    case "load-image":
      if (args.length !== 1) return usage();
      await (await providerOf(dir)).loadImage(dir, resolve(args[0]!));
      return 0;
    case "node-exec": {
      const [node, ...argv] = args;
      if (!node || argv.length === 0) return usage();
      const [program, ...words] = [...await (await providerOf(dir)).enter(dir, node), ...argv];
      const child = new Deno.Command(program!, { args: words, stdin: "inherit", stdout: "inherit", stderr: "inherit" });
      return (await child.spawn().status).code;
    }
    default:
      return usage();
  }
}

function usage(): number {
  Deno.stderr.writeSync(new TextEncoder().encode(USAGE + "\n"));
  return 2;
}

try {
  Deno.exit(await main(Deno.args));
} catch (error) {
  Deno.stderr.writeSync(new TextEncoder().encode(`local cluster: ${(error as Error).message}\n`));
  Deno.exit(1);
}
