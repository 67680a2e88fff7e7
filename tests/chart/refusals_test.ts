import assert from "node:assert/strict";
import { leaves, nest } from "./effects.ts";
import { defaultValues, refusal, render, type Values } from "./helm.ts";

const VALUES = await defaultValues();
const NAMES = leaves(VALUES);

const UNCHECKED = { args: ["--skip-schema-validation"] };

/** Numbers, with the least and the most that is accepted. */
const NUMBERS: readonly (readonly [name: string, least: number, most: number])[] = [
  ["limits.maxFiles", 1, 10_000],
  ["limits.maxFileSizeMB", 1, 2_000],
  ["limits.maxCaptures", 1, 10_000],
  ["limits.diskBudgetMB", 2, 100_000_000],
  ["limits.perNamespace.maxCaptures", 1, 10_000],
  ["limits.perNamespace.diskBudgetMB", 2, 100_000_000],
  ["limits.minFreePercent", 0, 99],
  ["limits.maxBufferMB", 4, 1_024],
  ["metrics.port", 1_024, 65_535],
  ["terminationGracePeriodSeconds", 15, 3_600],
];

/** How the schema names a value: "/limits/maxFiles". */
function pointer(name: string): string {
  return `/${name.replaceAll(".", "/")}`;
}

function at(name: string): unknown {
  return name.split(".").reduce<unknown>((value, key) => (value as Values)[key], VALUES);
}

function set(name: string, value: unknown): Values {
  return nest(name.split("."), value);
}

/** Maps of values.yaml with a fixed set of keys: in all others users name the keys. */
const FREE = ["affinity", "metrics.dashboard.labels", "metrics.podMonitor.labels", "nodeSelector", "podAnnotations"]
  .concat([
    "affinity.nodeAffinity",
    "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
    "podLabels",
    "reader.resources.limits",
    "reader.resources.requests",
    "resources.limits",
    "resources.requests",
    "seLinuxOptions",
    "serviceAccount.annotations",
  ]);

function maps(values: Values, prefix = ""): string[] {
  return Object.entries(values).flatMap(([key, value]) =>
    typeof value === "object" && value !== null && !Array.isArray(value)
      ? [prefix + key, ...maps(value as Values, `${prefix}${key}.`)]
      : []
  );
}

for (const name of NAMES) {
  Deno.test(`${name} of a wrong type is refused by the schema, by its name`, async () => {
    const right = at(name);
    // A list is nothing but a list, a map nothing but a map; what is neither is refused as a map.
    const wrong = Array.isArray(right) || typeof right === "object" ? "text" : { a: 1 };
    assert.match(await refusal(set(name, wrong)), new RegExp(`at '${pointer(name)}'`));
    if (typeof right === "boolean") assert.match(await refusal(set(name, "true")), /got string, want boolean/);
    if (typeof right === "number") assert.match(await refusal(set(name, "text")), new RegExp(`at '${pointer(name)}'`));
    // A quantity may be a number, as in a pod; a number may be empty where another stands in for it.
    const text = typeof right === "string" && !/^((reader\.)?resources|limits\.perNamespace)\./.test(name);
    if (text) assert.match(await refusal(set(name, 1)), new RegExp(`at '${pointer(name)}'`));
  });
}

Deno.test("an unknown key is refused wherever keys are ours", async () => {
  const where = maps(VALUES).filter((name) => !FREE.includes(name));
  for (const name of ["", ...where, "seLinuxOptions", "affinity"]) {
    const values = set(name === "" ? "nosuch" : `${name}.nosuch`, "x");
    const message = await refusal(values);
    assert.ok(message.includes(`at '${name === "" ? "" : pointer(name)}': additional properties 'nosuch'`), message);
  }
  for (
    const list of ["readPolicy.subjects", "imagePullSecrets", "tolerations", "extraEnv", "networkPolicy.metricsFrom"]
  ) {
    assert.match(await refusal(set(list, [{ name: "X", nosuch: "x" }])), /additional properties .*'nosuch'/);
  }
});

Deno.test("a number out of its range is refused, with the schema and without", async () => {
  const numbers = NAMES.filter((name) => typeof at(name) === "number" || name.startsWith("limits.perNamespace."));
  const tested = [...NUMBERS.map(([name]) => name), "updateStrategy.rollingUpdate.maxUnavailable"];
  assert.deepEqual(numbers.sort(), tested.sort());
  for (const [name, least, most] of NUMBERS) {
    await Promise.all([render(set(name, least)), render(set(name, most))]);
    for (const value of [least - 1, most + 1]) {
      assert.match(await refusal(set(name, value)), new RegExp(`at '${pointer(name)}': m(in|ax)imum: got`));
      assert.match(await refusal(set(name, value), UNCHECKED), sentence(name, value));
    }
    assert.match(await refusal(set(name, least + 0.5)), /want integer/);
    // What an earlier chart lacks has its default.
    const mayLack = [undefined, null, ""].includes(at(name) as string) || name === "limits.maxBufferMB";
    for (const value of [least + 0.5, "many", ...mayLack ? [] : [null]]) {
      assert.match(await refusal(set(name, value), UNCHECKED), sentence(name, value));
    }
  }
  for (const value of [0, 65_536, 443.5]) {
    assert.match(
      await refusal(set("networkPolicy.apiServerPorts", [443, value])),
      /at '\/networkPolicy\/apiServerPorts\/1'/,
    );
  }
  assert.match(
    await refusal(set("networkPolicy.apiServerPorts", [])),
    /at '\/networkPolicy\/apiServerPorts': minItems/,
  );
  for (const value of [0, -1, "0%", "101%", "1", "half"]) {
    assert.match(await refusal(set("updateStrategy.rollingUpdate.maxUnavailable", value)), /maxUnavailable'/);
  }
});

function sentence(name: string, value: unknown): RegExp {
  return new RegExp(`- ${name}: ${JSON.stringify(value)} is not a whole number from \\d+ to \\d+`);
}

/** Text that does not mean anything, by value: each is refused with the schema and without, and the value is named. */
const TEXTS: Readonly<Record<string, readonly string[]>> = {
  "image.repository": ["", "registry.io/a:1.0", "a b", "https://registry.io/a"],
  "image.tag": ["a b", ":1", "x".repeat(129)],
  "image.digest": ["sha256:1", "md5:1"],
  "captureDir": ["captures", "", "/", "./captures", "/a/../b", "/a/", "/a//b", "/a b", "/a:b", "~/captures"],
  "netnsDir": ["run/netns", "", "/", "/run/netns/"],
  "cri.socket": ["unix:///run/containerd/containerd.sock", "", "containerd.sock", "/containerd.sock", "/run/"],
  "storage.hostPath.path": ["/", "captures", "/var/lib/../captures", "/captures/"],
  "storage.type": ["pvc", "", "EmptyDir"],
  "storage.emptyDir.sizeLimit": ["1.5G", "-1G", "2 G", "2GB", "plenty"],
  "privilege.mode": ["root", "", "Privileged"],
  "annotationKey": ["a/b", "", "Tcpdump.io", "-a", "a-", "a..b", ".a", "a b", "x".repeat(64)],
  "limits.maxDuration": ["", "1d", "0s", "90", "1h30m", "-1h", "9000h", "1.5h"],
  "retention.afterPodDeletion": ["", "1d", "5", "-5s", "8761h"],
  "updateStrategy.type": ["Recreate", ""],
};

/** Of these the schema has a list. */
const WORDS = ["storage.type", "privilege.mode", "updateStrategy.type"];

for (const [name, texts] of Object.entries(TEXTS)) {
  Deno.test(`${name} that means nothing is refused`, async () => {
    const given = name === "storage.hostPath.path" ? ["--set", "storage.type=hostPath"] : [];
    for (const text of texts) {
      for (const args of [given, [...given, ...UNCHECKED.args]]) {
        const message = await refusal(set(name, text), { args });
        // A sentence, or the words to choose from: no regular expression.
        assert.match(message, WORDS.includes(name) ? new RegExp(`one of|- ${name}: `) : new RegExp(`- ${name}: "`));
        assert.doesNotMatch(message, /does not match pattern/);
      }
    }
  });
}

Deno.test("namespaces that are none are refused", async () => {
  for (const name of ["namespaces.allow", "namespaces.deny"]) {
    for (const namespace of ["", "a,b", "A", "a.b", "a_b", "-a", "a-", "x".repeat(64), "a b", 7]) {
      const words = typeof namespace === "string"
        ? `- ${name}: ${JSON.stringify(namespace)} is not`
        : `at '${pointer(name)}/1'`;
      assert.ok((await refusal(set(name, ["shop", namespace]))).includes(words), String(namespace));
      assert.ok(
        (await refusal(set(name, [namespace]), UNCHECKED)).includes(`- ${name}: ${JSON.stringify(namespace)} is not`),
      );
    }
    // Nothing, where a list must be, is not taken for "all".
    assert.match(await refusal(set(name, null)), new RegExp(`missing property '${name.split(".")[1]}'`));
    for (const value of [null, "shop", {}]) {
      assert.match(
        await refusal(set(name, value), UNCHECKED),
        new RegExp(`- ${name}: \\S+ is not a list of namespaces`),
      );
    }
  }
});

Deno.test("words from a list are refused if they are not in it", async () => {
  for (const name of ["image.pullPolicy", "logLevel", "logFormat"]) {
    assert.match(await refusal(set(name, "nosuch")), new RegExp(`at '${pointer(name)}': value must be one of`));
  }
});

Deno.test("a value set to null is refused where it is needed", async () => {
  for (const name of ["captureDir", "annotationKey", "limits.maxFiles", "storage.emptyDir", "hostNetwork"]) {
    const last = name.split(".").at(-1);
    assert.match(await refusal(set(name, null)), new RegExp(`missing property '${last}'`));
  }
});

Deno.test("captureDir over or below a directory that is taken is refused", async () => {
  const taken = [
    "/proc",
    "/proc/x",
    "/sys/x",
    "/dev",
    "/run",
    "/run/captures",
    "/var/run/x",
    "/var",
    "/etc",
    "/usr/x",
    "/bin",
  ]
    .concat(["/run/containerd", "/run/netns/x", "/host", "/host/run/x"]);
  for (const captureDir of taken) {
    assert.match(
      await refusal({ captureDir }),
      new RegExp(`- captureDir: ${captureDir} and /\\S+ of the container lie in`),
    );
  }
  const moved = { netnsDir: "/data/netns", cri: { socket: "/data/cri/cri.sock" } };
  for (const captureDir of ["/data", "/data/netns", "/data/netns/a", "/data/cri"]) {
    assert.match(await refusal({ captureDir, ...moved }), new RegExp(`- captureDir: ${captureDir} and /data/`));
  }
  // Alike is not below.
  for (const captureDir of ["/runs", "/processes", "/data/netns2", "/var/captures"]) {
    await render({ captureDir, ...moved });
  }
});

Deno.test("a mount that would hide the container's own directories is refused", async () => {
  for (
    const [values, words] of [
      [{ cri: { socket: "/var/cri.sock" } }, "cri.socket: /var would be mounted over /var/run"],
      [{ cri: { socket: "/usr/cri.sock" } }, "cri.socket: /usr would be mounted over /usr"],
      [{ netnsDir: "/run" }, "netnsDir: /run would be mounted over /run"],
      [{ netnsDir: "/run/containerd" }, "netnsDir: /run/containerd is also the directory of cri.socket"],
    ] as const
  ) {
    assert.ok((await refusal(values)).includes(`- ${words}`));
  }
});

Deno.test("values that contradict each other are refused, all in one message", async () => {
  const message = await refusal({
    namespaces: { allow: ["shop", "bank"], deny: ["bank"] },
    allowHostNetworkPods: true,
    storage: { emptyDir: { sizeLimit: "1G" } },
    metrics: { enabled: false, podMonitor: { enabled: true }, dashboard: { enabled: true } },
    podLabels: { "app.kubernetes.io/name": "x" },
    nodeSelector: { "kubernetes.io/os": "windows" },
    rbac: { create: false },
    readPolicy: {
      enabled: false,
      subjects: [{ kind: "ServiceAccount", name: "ci" }, { kind: "Group", name: "dev", namespace: "x" }],
    },
    extraEnv: [{ name: "CAPTURE_DIR", value: "/x" }, { name: "NODE_NAME", value: "x" }, { name: "FINE", value: "x" }],
  });
  for (
    const words of [
      "- namespaces.deny: bank is also in namespaces.allow",
      "- allowHostNetworkPods: true needs hostNetwork: true",
      '- storage.emptyDir.sizeLimit: "1G" is less than limits.diskBudgetMB (1500 MB)',
      "- metrics.podMonitor.enabled: true needs metrics.enabled: true",
      "- metrics.dashboard.enabled: true needs metrics.enabled: true",
      "- podLabels: app.kubernetes.io/name is the chart's own",
      '- nodeSelector: kubernetes.io/os is "windows"',
      "- extraEnv: CAPTURE_DIR is set by the chart",
      "- extraEnv: NODE_NAME is set by the chart",
      "- readPolicy.subjects needs readPolicy.enabled: true",
      "- readPolicy.subjects needs rbac.create: true",
      '- readPolicy.subjects: ServiceAccount "ci" needs its namespace',
      '- readPolicy.subjects: Group "dev" has no namespace',
    ]
  ) {
    assert.ok(message.includes(words), `${words} is not in: ${message}`);
  }
  assert.ok(!message.includes("FINE"));
});

Deno.test("a size limit is compared with the budget in every unit", async () => {
  const limits = { diskBudgetMB: 1024 };
  for (const sizeLimit of ["1023M", "1023999999", "1023999k", "1G", "976Mi", "999999Ki"]) {
    const message = await refusal({ limits, storage: { emptyDir: { sizeLimit } } });
    assert.ok(message.includes(`sizeLimit: "${sizeLimit}" is less than`), message);
  }
  for (const sizeLimit of ["1024M", "1024000000", "1024000k", "2G", "977Mi", "1000000Ki", "1Gi", "1T", "1Ti"]) {
    await render({ limits, storage: { emptyDir: { sizeLimit } } });
  }
  // Nothing is limited by it there.
  await render({ limits, storage: { type: "hostPath", emptyDir: { sizeLimit: "1M" } } });
});

Deno.test("a directory of the node's own is refused as hostPath", async () => {
  for (const path of ["/etc", "/var", "/var/lib", "/var/lib/kubelet", "/var/lib/containerd", "/run", "/home", "/mnt"]) {
    const message = await refusal({ storage: { type: "hostPath", hostPath: { path } } });
    assert.ok(message.includes(`- storage.hostPath.path: ${path} is a directory of the node's own`), message);
  }
});

Deno.test("enabled is for parent charts alone", async () => {
  assert.match(await refusal({ enabled: true }), /- enabled: only a parent chart may set it/);
});

Deno.test("Kubernetes before 1.30 is refused", async () => {
  assert.match(await refusal({}, { args: ["--kube-version", "1.29.9"] }), /kubeVersion: >= 1\.30\.0-0/);
  for (const version of ["1.30.0", "v1.31.2-eks-1234567", "1.36.3+k3s1"]) {
    await render({}, { args: ["--kube-version", version] });
  }
});
