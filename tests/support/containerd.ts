/** containerd 2 with the bridge CNI plugin and the images of the test pods. */
import { join } from "node:path";

/** Where Debian's containernetworking-plugins puts them. */
export const CNI_PLUGINS = "/usr/lib/cni";

export interface ContainerdOptions {
  readonly root: string;
  readonly state: string;
  /** The folder with its configuration, and the one with the network's; both exist. */
  readonly dir: string;
  readonly cni: string;
  readonly network: BridgeOptions;
  /** More lines of the table of the CRI runtime. */
  readonly runtime?: readonly string[];
}

/** Writes containerd's configuration and that of its network. @returns the former's path. */
export async function configureContainerd(options: ContainerdOptions): Promise<string> {
  const { root, state, dir, cni, network, runtime = [] } = options;
  await writeBridgeNetwork(cni, network);
  const config = join(dir, "containerd.toml");
  await Deno.writeTextFile(
    config,
    `version = 3
root = "${root}"
state = "${state}"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "localhost/pause:1"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true # the machine may lack CAP_SYS_RESOURCE
${runtime.map((line) => `${line}\n`).join("")}[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["${CNI_PLUGINS}"]
conf_dir = "${cni}"
`,
  );
  return config;
}

export interface BridgeOptions {
  /** The pods' addresses. */
  readonly subnet: string;
  /** Where it is written down which are taken. @default the plugin's own folder */
  readonly dataDir?: string;
  /** Whether pods reach other networks under the node's address. @default false */
  readonly ipMasq?: boolean;
  /** More plugins, after the bridge. */
  readonly plugins?: readonly unknown[];
}

/** Writes the configuration of a network with one bridge into a folder that exists. */
export async function writeBridgeNetwork(cni: string, options: BridgeOptions): Promise<void> {
  const { subnet, dataDir, ipMasq = false, plugins = [] } = options;
  const ipam = { type: "host-local", dataDir, subnet, routes: [{ dst: "0.0.0.0/0" }] };
  const bridge = { type: "bridge", bridge: "cni0", isGateway: true, ipMasq, hairpinMode: true, ipam };
  await Deno.writeTextFile(
    join(cni, "10-bridge.conflist"),
    JSON.stringify({ cniVersion: "0.4.0", name: "bridge", plugins: [bridge, ...plugins] }),
  );
}

/** Returns the words that import an image, a docker-archive tar, to where the kubelet sees it. @param folder ctr's. */
export function importing(tar: string, folder: string): string[] {
  return [join(folder, "ctr"), "--namespace=k8s.io", "images", "import", tar];
}
