/**
 * What every end-to-end test file starts with: the chart installed once for the file, in a namespace of its own, removed after it.
 *
 *     const { kube, release } = await fixture("ring");
 *     Deno.test("…", async () => { await release.exec(…); });
 *
 * Files run one after the other: the releases all use the default annotation key, so there is only one at a time.
 *
 * End-to-end tests see the product as a user does, by kubectl and helm: none imports from src/. They enter a node only to kill
 * what a user cannot kill ({@linkcode Kube.nodeExec}). Each build has the same tag, so the bundle's hash is a pod annotation: other
 * content is another pod template, and an upgrade replaces the controllers.
 */
import { Kube, type KubeObject } from "./kube.ts";
import { Release } from "./release.ts";
import { room } from "./room.ts";

export interface Fixture {
  readonly kube: Kube;
  readonly release: Release;
  /** Where the file's test pods live: `e2e-<name>`. */
  readonly namespace: string;
}

/** @param values chart values on top of the image's, such as `{ storage: { type: "hostPath" } }` */
export function fixture(name: string, values: Record<string, unknown> = {}): Fixture {
  const kube = new Kube();
  const namespace = `e2e-${name}`;
  const release = Release.of(kube, { namespace: `packet-capture-${name}` });
  const own: KubeObject = { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } };
  Deno.test.beforeAll(async () => {
    await removeOtherReleases(kube);
    const place = async () => {
      await kube.remove(own); // of a run that was killed half way
      await kube.apply(own);
      await kube.serviceAccount(namespace);
    };
    const install = async () => await release.upgrade(await forThisMachine(kube, values));
    await Promise.all([place(), install()]);
  });
  Deno.test.afterAll(async () => {
    await Promise.all([kube.remove(own), release.uninstall()]);
  });
  return { kube, release, namespace };
}

/** Values for this machine: `limits.minFreePercent` low enough, unless they have it, and upgrades of all nodes at once. */
export async function forThisMachine(kube: Kube, values: Record<string, unknown>): Promise<Record<string, unknown>> {
  const { lower } = await room(kube);
  const limits = {
    ...(lower === undefined ? {} : { minFreePercent: lower }),
    ...(values.limits as object | undefined),
  };
  return { updateStrategy: { rollingUpdate: { maxUnavailable: "100%" } }, ...values, limits };
}

/** Two releases with one annotation key would both capture: what a killed run has left is removed. */
export async function removeOtherReleases(kube: Kube): Promise<void> {
  const sets = await kube.get<{ items: KubeObject[] }>(
    "daemonsets",
    "-A",
    "-l",
    "app.kubernetes.io/name=packet-capture",
  );
  for (const { metadata } of sets.items) {
    await Release.of(kube, { name: metadata.name, namespace: metadata.namespace! }).uninstall();
  }
}
