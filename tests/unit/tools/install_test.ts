/** tools/install on machines that this one is not: with Docker, without it, without apt. Nothing is installed here. */
import assert from "node:assert/strict";
import { join } from "@std/path";
import { ROOT, run, type Said } from "../../rig/cli.ts";
import { standIns } from "../../rig/stand_ins.ts";

interface Machine {
  /** Debian packages that are installed. */
  readonly packages?: readonly string[];
  /** More programs that are there, such as `docker`, and what they do. */
  readonly programs?: Readonly<Record<string, string>>;
  /** What apt-get does. @default nothing, successfully */
  readonly apt?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** What tools/install does on a machine: which packages it has apt-get install, and what it says. */
async function install(machine: Machine, ...parts: string[]): Promise<Said & { apt: string[][]; packages: string[] }> {
  const installed = ["-", ...machine.packages ?? []].join("|");
  const query = `case "\${!#}" in ${installed}) printf installed ;; *) exit 1 ;; esac`;
  await using programs = await standIns({
    "apt-get": machine.apt ?? "exit 0",
    "dpkg-query": query,
    sudo: 'exec "$@"',
    ...machine.programs,
  }, ["bash", "env", "timeout", "mktemp", "tail", "rm", "cat"]);
  const cwd = await Deno.makeTempDir({ prefix: "packet-capture-install-" });
  try {
    const said = await run(join(ROOT, "tools/install"), parts, { cwd, env: { PATH: programs.folder, ...machine.env } });
    const apt = (await programs.calls()).filter(([name]) => name === "apt-get");
    const packages = apt.filter((call) => call.includes("install"))
      .flatMap((call) => call.slice(call.indexOf("install") + 1).filter((word) => !word.startsWith("-")));
    return { ...said, apt, packages: packages.sort() };
  } finally {
    await Deno.remove(cwd, { recursive: true });
  }
}

const docker = { docker: "exit 0" };

Deno.test("tools/install never lets apt-get remove a package", async () => {
  const { code, stderr, apt } = await install({}, "cluster", "image", "check");
  assert.equal(code, 0, stderr);
  const installs = apt.filter((call) => call.includes("install"));
  assert.equal(installs.length, 3);
  for (const call of installs) assert.ok(call.includes("--no-remove"), call.join(" "));
  assert.ok(apt.every((call) => call.includes("install") || call.includes("update")));
});

Deno.test("tools/install leaves the runc of Docker's containerd.io alone", async () => {
  const without = await install({}, "cluster");
  assert.ok(without.packages.includes("runc"));
  const { packages } = await install({ programs: { runc: "exit 0" } }, "cluster", "check");
  assert.ok(packages.includes("containernetworking-plugins"));
  assert.ok(!packages.includes("runc"), packages.join(" "));
});

Deno.test("tools/install cluster: where kind is taken, only what the images of the test pods are made of", async () => {
  const pods = ["busybox-static", "iperf3", "tar"];
  assert.deepEqual((await install({ programs: docker }, "cluster")).packages, pods);
  assert.deepEqual((await install({ env: { CLUSTER_PROVIDER: "kind" } }, "cluster")).packages, pods);
  const local = await install({ programs: docker, env: { CLUSTER_PROVIDER: "local" } }, "cluster");
  assert.ok(local.packages.includes("gcc") && local.packages.includes("iperf3"), local.packages.join(" "));
  const stopped = await install({ programs: { docker: "exit 1" } }, "cluster");
  assert.deepEqual(stopped.packages, local.packages);
});

Deno.test("tools/install image: buildah where no engine runs, nothing where one does", async () => {
  assert.deepEqual((await install({}, "image")).packages, ["buildah", "debootstrap"]);
  assert.deepEqual((await install({ programs: { docker: "exit 1" } }, "image")).packages, ["buildah", "debootstrap"]);
  assert.deepEqual((await install({ programs: docker }, "image")).apt, []);
  assert.deepEqual((await install({ programs: { podman: "exit 0" } }, "image")).apt, []);
});

Deno.test("tools/install check: the end-to-end tests' cluster is the local one, with Docker too", async () => {
  const { packages } = await install({ programs: docker }, "check");
  for (const name of ["tshark", "shellcheck", "gcc", "containernetworking-plugins"]) assert.ok(packages.includes(name));
});

Deno.test("tools/install leaves what is there alone, and installs what is missing of it", async () => {
  const machine = { packages: ["buildah"] };
  const { packages, stderr } = await install(machine, "image");
  assert.deepEqual(packages, ["debootstrap"]);
  assert.match(
    stderr,
    /^tools\/install: installing Debian packages for the image, where neither docker nor podman runs: debootstrap$/m,
  );
  assert.deepEqual((await install({ packages: ["buildah", "debootstrap"] }, "image")).apt, []);
});

Deno.test("tools/install reports apt-get's last words when it fails, and which parts there are", async () => {
  const failed = await install(
    { apt: "echo 'E: Packages need to be removed but remove is disabled.' >&2; exit 100" },
    "image",
  );
  assert.equal(failed.code, 1);
  assert.match(failed.stderr, /^E: Packages need to be removed but remove is disabled\.$/m);
  assert.match(failed.stderr, /^tools\/install: apt-get could not install them \(its last words are above\)$/m);
  const other = await install({}, "kernel");
  assert.equal(other.code, 2);
  assert.match(other.stderr, /^tools\/install: no part "kernel": cluster, image, check and kubectl are accepted$/m);
});
