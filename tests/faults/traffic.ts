/** Numbered datagrams in a pod, all the while a fault lasts, and which of them are in the capture's files. */
import { deepStrictEqual as assertEquals } from "node:assert/strict";
import { join } from "@std/path";
import { waitFor } from "../support/wait.ts";
import type { NodeRig, TestPod } from "../rig/node.ts";

/** Sends `<token>-0`, `<token>-1` … over the pod's loopback, some 50 a second, until it is stopped. */
export class Traffic {
  readonly #node: NodeRig;
  readonly #child: Deno.ChildProcess;
  readonly #begun = performance.now();

  private constructor(node: NodeRig, readonly pod: TestPod, readonly token: string, child: Deno.ChildProcess) {
    this.#node = node;
    this.#child = child;
  }

  static async start(node: NodeRig, pod: TestPod, token: string): Promise<Traffic> {
    // `read -t` waits without a further process; printf makes one datagram of one write, and fails where it only learns that
    // the one before was answered by "port unreachable".
    // It ends between two rounds only: what has been sent is counted.
    const script = `trap 'end=1' TERM; end=; i=0; exec 3<>/dev/udp/127.0.0.1/9; exec 4<> <(:)
      while [[ ! $end ]]; do printf '%s-%s.' "$1" $i >&3 && i=$((i + 1)); read -t 0.01 -u 4; done 2>/dev/null; echo $i`;
    const [program, ...args] = [
      // It must not outlive the test, however that ends.
      ...["setpriv", "--pdeathsig", "KILL", "--"],
      ...await node.inNetns(pod, ["bash", "-c", script, "bash", token]),
    ];
    const child = new Deno.Command(program!, { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
    return new Traffic(node, pod, token, child);
  }

  /** Resolves when so many are in the pod's files. */
  async flows(count = 20): Promise<void> {
    await waitFor(`packets of ${this.pod.name}`, async () => (await this.#numbers()).size > count, { everyMs: 50 });
  }

  /** Gives how many were sent. */
  async stop(): Promise<number> {
    this.#child.kill("SIGTERM");
    const { stdout } = await this.#child.output();
    return Number(new TextDecoder().decode(stdout));
  }

  /** Stops, with the pod being captured, and tells when the last datagram is in a file how many are in none. */
  async end(): Promise<{ sent: number; packetsLost: number; perSecond: number }> {
    const sent = await this.stop();
    const perSecond = 1000 * sent / (performance.now() - this.#begun);
    await waitFor(`the last packet of ${this.pod.name}`, async () => (await this.#numbers()).has(sent - 1));
    return { sent, packetsLost: sent - (await this.#numbers()).size, perSecond };
  }

  #numbers(): Promise<Set<number>> {
    return numbersOf(this.#node, this.pod, this.token);
  }
}

/** Sends packets in a pod that is captured: none of them may be lost. Gives how many were. */
export async function lost(node: NodeRig, pod: TestPod): Promise<number> {
  const traffic = await Traffic.start(node, pod, `n${crypto.randomUUID().slice(0, 8)}`);
  await traffic.flows();
  const { packetsLost } = await traffic.end();
  assertEquals(packetsLost, 0, `packets of ${pod.name}, which is captured`);
  return packetsLost;
}

/** The different numbers of the token that are in the pod's files, now. */
export async function numbersOf(node: NodeRig, pod: TestPod, token: string): Promise<Set<number>> {
  const numbers = new Set<number>();
  await node.flush(pod);
  for (const name of await node.files(pod)) {
    const bytes = await Deno.readFile(join(node.folderOf(pod), name)).catch(() => new Uint8Array());
    const text = new TextDecoder("latin1").decode(bytes);
    for (const [, number] of text.matchAll(new RegExp(`${token}-([0-9]+)\\.`, "g"))) numbers.add(Number(number));
  }
  return numbers;
}
