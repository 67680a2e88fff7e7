/** The HTTP port in pods of clusters with IPv4, IPv6 or both: the controller as a process in network namespaces like theirs. */
import { ok as assert, strictEqual as same } from "node:assert/strict";
import { join } from "@std/path";
import { attempt, run } from "../../support/run.ts";
import { waitFor } from "../../support/wait.ts";
import { denoArgs } from "../../rig/cli.ts";

const PORT = "9090";

/** A network namespace with these addresses on a device; without a way out. */
async function namespace(name: string, setUp: string): Promise<AsyncDisposable & { enter: string[] }> {
  await run(["ip", "netns", "add", name]);
  const enter = ["ip", "netns", "exec", name];
  try {
    const device =
      "ip link set lo up; ip link add eth0 type veth peer name eth1; ip link set eth1 up; ip link set eth0 up";
    await run([...enter, "bash", "-euc", `${device}; ${setUp}`]);
  } catch (error) {
    await run(["ip", "netns", "delete", name]);
    throw error;
  }
  return { enter, [Symbol.asyncDispose]: async () => void await run(["ip", "netns", "delete", name]) };
}

const IPV4 = "ip addr add 10.9.0.1/24 dev eth0";
const IPV6 = "ip -6 addr add fd00:9::1/64 dev eth0 nodad";
const NO_IPV4 = "ip addr del 127.0.0.1/8 dev lo";
const IPV6_OFF = "for each in all default lo eth0; do echo 1 >/proc/sys/net/ipv6/conf/$each/disable_ipv6; done";

for (
  const [what, setUp, addresses, module] of [
    ["IPv6 only", `${IPV6}; ${NO_IPV4}`, ["[fd00:9::1]"], "src/main.ts"],
    ["IPv4 and IPv6", `${IPV4}; ${IPV6}`, ["10.9.0.1", "[fd00:9::1]"], "src/main.ts"],
    ["IPv6 off in the namespace", `${IPV4}; ${IPV6_OFF}`, ["10.9.0.1"], "src/main.ts"],
    ["no IPv6 in the kernel", IPV4, ["10.9.0.1"], "tests/integration/controller/no_ipv6.ts"],
  ] as const
) {
  Deno.test(`the controller answers probes on the pod's addresses: ${what}`, async () => {
    await using network = await namespace(`pc-${Deno.pid}`, setUp);
    const dir = await Deno.makeTempDir({ prefix: "packet-capture-address-" });
    const [program, ...args] = [...network.enter, "setpriv", "--pdeathsig", "KILL", "--", Deno.execPath()];
    // Nobody answers there: the controller lists pods again and again, and is well.
    const kubeconfig = {
      clusters: [{ name: "c", cluster: { server: "https://192.0.2.1:6443" } }],
      users: [{ name: "u", user: { token: "t" } }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    };
    await Deno.writeTextFile(join(dir, "kubeconfig"), JSON.stringify(kubeconfig));
    const child = new Deno.Command(program!, {
      args: [...args, ...denoArgs(module), "controller"],
      env: {
        NODE_NAME: "node-1",
        HTTP_PORT: PORT,
        CAPTURE_DIR: join(dir, "captures"),
        KUBECONFIG: join(dir, "kubeconfig"),
      },
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const log = new Response(child.stderr).text();
    let ended = false;
    const status = child.status.finally(() => ended = true);
    try {
      const get = (address: string, path: string) =>
        attempt([...network.enter, "curl", "-sg", "-m", "5", "-o", "/dev/null", "-w", "%{http_code}"].concat(
          `http://${address}:${PORT}${path}`,
        ));
      for (const address of addresses) {
        await waitFor(`an answer on ${address}`, async () => {
          if (ended) return true;
          return (await get(address, "/healthz")).stdout === "200";
        });
        assert(!ended, "the controller has ended");
        same((await get(address, "/readyz")).stdout, "503");
      }
    } finally {
      if (!ended) child.kill("SIGTERM");
      await status;
      const text = await log;
      if (what.startsWith("no IPv6")) assert(text.includes("no IPv6 here"), text);
      await Deno.remove(dir, { recursive: true });
    }
  });
}
