/**
 * `make deploy`: loads dist/image.tar into the cluster, installs or upgrades the chart with it, waits until it is Ready.
 * Arguments go to helm (`--set …`); NAMESPACE is the namespace.
 */
import { Kube } from "./kube.ts";
import { IMAGE, IMAGE_TAR, Release } from "./release.ts";
import { room } from "./room.ts";
import { say } from "../support/say.ts";

async function main(args: string[]): Promise<void> {
  const namespace = Deno.env.get("NAMESPACE") || "packet-capture";
  const kube = new Kube();
  say(`loading ${IMAGE} into the nodes`);
  await kube.loadImage(IMAGE_TAR);
  say(`installing the chart in namespace ${namespace}`);
  const { available, wanted, lower } = await room(kube);
  const values = lower === undefined ? {} : { limits: { minFreePercent: lower } };
  if (lower !== undefined) {
    say(
      `the nodes' disk has ${available} % available, the chart keeps ${wanted} % free: limits.minFreePercent is set to ${lower}`,
    );
  }
  const release = await Release.install(kube, { namespace, values, args });
  say(`release ${release.name} is Ready on ${(await kube.workers()).join(", ")}`);
}

try {
  await main(Deno.args);
} catch (error) {
  Deno.stderr.writeSync(new TextEncoder().encode(`make deploy: ${(error as Error).message}\n`));
  Deno.exit(1);
}
