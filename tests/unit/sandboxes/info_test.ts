import { deepStrictEqual as assertEquals, match as assertMatch, ok as assert } from "node:assert/strict";
import { create } from "@bufbuild/protobuf";
import { NamespaceMode, PodSandboxState, PodSandboxStatusResponseSchema } from "../../../src/sandboxes/cri_pb.ts";
import { type Network, networkOf } from "../../../src/sandboxes/info.ts";

const DIR = "/node/netns";

interface Reply {
  info?: unknown;
  state?: PodSandboxState;
  network?: NamespaceMode;
  /** No `linux` in the status. */
  bare?: boolean;
}

function read(
  { info, state = PodSandboxState.SANDBOX_READY, network = NamespaceMode.POD, bare = false }: Reply,
  netnsDir = DIR,
): Network {
  const text = typeof info === "string" ? info : JSON.stringify(info);
  const linux = bare ? {} : { linux: { namespaces: { options: { network } } } };
  return networkOf(
    create(PodSandboxStatusResponseSchema, {
      status: { state, ...linux },
      info: text === undefined ? {} : { info: text },
    }),
    netnsDir,
  );
}

function spec(path: unknown): unknown {
  return { runtimeSpec: { linux: { namespaces: [{ type: "pid" }, { type: "network", path }, { type: "mount" }] } } };
}

function refusal(reply: Reply, netnsDir = DIR): { reason: string; lasting: boolean } {
  const network = read(reply, netnsDir);
  assert(network.kind === "refused", `accepted: ${JSON.stringify(network)}`);
  return network;
}

async function recorded(name: string): Promise<string> {
  return await Deno.readTextFile(new URL(`testdata/${name}.json`, import.meta.url));
}

for (const version of ["containerd-1.6.20", "containerd-2.3.5"]) {
  Deno.test(`networkOf() reads a recorded reply of ${version}`, async () => {
    const info = await recorded(version);
    const name = /"\/var\/run\/netns\/(cni-[0-9a-f-]+)"/.exec(info)![1];
    assertEquals(read({ info }), { kind: "netns", path: `${DIR}/${name}` });
  });

  Deno.test(`networkOf() recognises a recorded host network pod of ${version}`, async () => {
    assertEquals(read({ info: await recorded(`${version}-host`), network: NamespaceMode.NODE }), { kind: "host" });
  });

  Deno.test(`networkOf() refuses a recorded stopped sandbox of ${version}, whatever its state`, async () => {
    const info = await recorded(`${version}-stopped`);
    assertMatch(refusal({ info }).reason, /closed/);
    assertMatch(refusal({ info, state: PodSandboxState.SANDBOX_NOTREADY }).reason, /not READY/);
  });
}

Deno.test("networkOf() reads containerd 2's metadata when the runtime spec is not populated", () => {
  // containerd 2.3.5 internal/cri/server/podsandbox/types/sandbox_info.go: "RuntimeSpec may not be populated if the sandbox has
  // not been fully created"; internal/cri/store/sandbox/metadata.go: MarshalJSON wraps Metadata with its Version.
  const sandboxMetadata = { Version: "v1", Metadata: { ID: "a", NetNSPath: "/var/run/netns/cni-a" } };
  const expected = { kind: "netns", path: `${DIR}/cni-a` };
  assertEquals(read({ info: { netNamespaceClosed: false, runtimeSpec: null, sandboxMetadata } }), expected);
  assertEquals(read({ info: { netNamespaceClosed: false, ...spec("") as object, sandboxMetadata } }), expected);
});

Deno.test("networkOf() reads CRI-O's reply", () => {
  // cri-o 1.36 server/sandbox_status.go createSandboxInfo (f954a17e lines 97-112): image, pid, runtimeSpec. The path is
  // <namespaces_dir>/netns/<uuid>: internal/config/nsmgr/nsmgr_linux.go lines 88 and 115; pkg/config/config.go line 72.
  const path = "/var/run/netns/f2a3d8c4-7a1c-4c57-8d9d-1a2b3c4d5e6f";
  const info = { image: "registry.k8s.io/pause:3.10", pid: 4711, ...spec(path) as object };
  assertEquals(read({ info }), { kind: "netns", path: `${DIR}/f2a3d8c4-7a1c-4c57-8d9d-1a2b3c4d5e6f` });
});

Deno.test("networkOf() reads CRI-O's spoofed infra container, which has no pid", () => {
  // cri-o 1.36 server/sandbox_status.go lines 90-95 (c.Spoofed(): runtimeSpec only), server/sandbox_run_linux.go lines 1296-1310
  // (a spoofed container gets the generator's spec, and with it the namespace paths).
  assertEquals(read({ info: spec("/var/run/netns/0d0e") }), { kind: "netns", path: `${DIR}/0d0e` });
});

Deno.test("networkOf() refuses an old CRI-O's spoofed container, which names none, but asks again", () => {
  // cri-o 1.18 server/sandbox_status.go createSandboxInfo: `return map[string]string{"info": "{}"}`.
  assertEquals(refusal({ info: {} }), {
    kind: "refused",
    reason: "the runtime names no network namespace for it",
    lasting: false,
  });
});

Deno.test("networkOf() reads a status without namespace options", () => {
  // cri-o 1.36 server/sandbox_status.go: Linux is nil when sb.NamespaceOptions() is.
  assertEquals(read({ info: spec("/run/netns/x"), bare: true }), { kind: "netns", path: `${DIR}/x` });
});

Deno.test("networkOf() accepts files in /run/netns, /var/run/netns and netnsDir, and looks for them in netnsDir", () => {
  for (const dir of ["/run/netns", "/var/run/netns", DIR]) {
    assertEquals(read({ info: spec(`${dir}/cni-1`) }), { kind: "netns", path: `${DIR}/cni-1` });
  }
});

Deno.test("networkOf() refuses for good a path that is anywhere else", () => {
  const bad = [
    "/proc/1/ns/net",
    "/etc/passwd",
    "/run/netns/a/b",
    "/run/netns/../../etc/x",
    "/run/netns/./x",
    "/run//netns/x",
  ]
    .concat([
      "/var/run/netns2/x",
      "run/netns/x",
      "cni-1",
      "./x",
      "../x",
      "/x",
      "/",
      "//run/netns/x",
      "/node/netns-x/y",
    ]);
  for (const path of bad) {
    const { reason, lasting } = refusal({ info: spec(path) });
    assert(
      reason.includes(JSON.stringify(path)) && reason.includes("/run/netns or /var/run/netns or /node/netns"),
      reason,
    );
    assert(lasting, path);
  }
});

Deno.test("networkOf() refuses a base name that is none, hidden or odd", () => {
  for (const name of ["", ".", "..", ".hidden", "a b", "a\nb", "a\0b", "-rf", "é", "a".repeat(256), "$(id)"]) {
    const { lasting } = refusal({ info: spec(`/run/netns/${name}`) });
    assert(lasting, JSON.stringify(name));
  }
});

Deno.test("networkOf() refuses empty and missing paths", () => {
  for (const info of [spec(""), spec(null), spec(undefined), spec(7), spec(["/run/netns/x"]), {}, undefined]) {
    assertMatch(refusal({ info }).reason, /names no network namespace/);
  }
});

Deno.test("networkOf() refuses what is not the JSON it expects, and does not throw", () => {
  assertMatch(refusal({ info: "{" }).reason, /not JSON/);
  const odd: unknown[] = [null, 1, "s", [], { runtimeSpec: 1 }, { runtimeSpec: { linux: null } }];
  odd.push({ runtimeSpec: { linux: { namespaces: "network" } } }, {
    runtimeSpec: { linux: { namespaces: [null, 1, "x"] } },
  });
  odd.push({ sandboxMetadata: "x" }, { sandboxMetadata: { Metadata: [] } });
  for (const info of odd) assertMatch(refusal({ info: JSON.stringify(info) }).reason, /names no network namespace/);
});
