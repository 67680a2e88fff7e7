import assert from "node:assert/strict";
import fc from "fast-check";
import { FLAGS, logEffective, readSettings, UsageError } from "../../src/settings.ts";

const read = (env: Record<string, string>, flags: Record<string, string> = {}) =>
  readSettings({ env: (name) => ({ NODE_NAME: "node-1", ...env })[name], flags });

Deno.test("readSettings() needs the node's name only", () => {
  assert.deepEqual(read({}), {
    nodeName: "node-1",
    podName: "packet-capture",
    captureDir: "/captures",
    criSocket: "/run/containerd/containerd.sock",
    netnsDir: "/run/netns",
    annotationKey: "tcpdump.antrea.io",
    release: "packet-capture",
    tcpdump: "tcpdump",
    nsenter: "nsenter",
    httpPort: 9090,
    httpHost: "::",
    metricsEnabled: true,
    eventsEnabled: true,
    logLevel: "info",
    logFormat: "logfmt",
    limits: {
      maxFiles: 100,
      maxFileSizeMB: 100,
      maxBufferMB: 32,
      maxCaptures: 64,
      diskBudgetMB: 1500,
      perNamespace: { maxCaptures: 32, diskBudgetMB: 750 },
      minFreePercent: 16,
      maxDurationSeconds: 86_400,
    },
    allowHostNetworkPods: false,
    retentionSeconds: 0,
    namespaces: { allow: [], deny: [] },
  });
});

Deno.test("readSettings() gives a namespace half of the node's limits, unless a setting gives it", () => {
  const shareOf = (env: Record<string, string>) => read(env).limits.perNamespace;
  assert.deepEqual(shareOf({ MAX_CAPTURES: "7", DISK_BUDGET_MB: "101" }), { maxCaptures: 4, diskBudgetMB: 51 });
  assert.deepEqual(shareOf({ MAX_CAPTURES: "1", DISK_BUDGET_MB: "2" }), { maxCaptures: 1, diskBudgetMB: 2 });
  const given = { MAX_CAPTURES_PER_NAMESPACE: "64", DISK_BUDGET_MB_PER_NAMESPACE: "1500" };
  assert.deepEqual(shareOf(given), { maxCaptures: 64, diskBudgetMB: 1500 });
  assert.deepEqual(shareOf({ MAX_CAPTURES_PER_NAMESPACE: "", DISK_BUDGET_MB_PER_NAMESPACE: "" }), shareOf({}));
});

Deno.test("readSettings() takes namespaces with commas between them, each in one list only", () => {
  const given = { NAMESPACES_ALLOW: "shop,team-a", NAMESPACES_DENY: "kube-system" };
  assert.deepEqual(read(given).namespaces, { allow: ["shop", "team-a"], deny: ["kube-system"] });
  assert.deepEqual(read({ NAMESPACES_ALLOW: "", NAMESPACES_DENY: "" }).namespaces, { allow: [], deny: [] });
  for (const wrong of [",", "a,", "a, b", "A", "a.b", "*", "-a", "x".repeat(64)]) {
    for (const env of ["NAMESPACES_ALLOW", "NAMESPACES_DENY"]) {
      assert.throws(() => read({ [env]: wrong }), {
        name: "UsageError",
        message: new RegExp(`^${env} must be names of namespaces .*: got ".*"$`),
      });
    }
  }
  assert.throws(() => read({ NAMESPACES_ALLOW: "a,b", NAMESPACES_DENY: "b" }), {
    name: "UsageError",
    message: 'NAMESPACES_ALLOW and NAMESPACES_DENY both have "b": a namespace must be in one of them',
  });
});

Deno.test("readSettings() lets a flag win over the environment", () => {
  const settings = read({ MAX_FILES: "7", CAPTURE_DIR: "/data/" }, { maxFiles: "9" });
  assert.equal(settings.limits.maxFiles, 9);
  assert.equal(settings.captureDir, "/data");
});

Deno.test("readSettings() reports which setting is missing only to those who need it", () => {
  const sources = { env: () => undefined, flags: {} };
  assert.throws(() => readSettings(sources), {
    name: "UsageError",
    message: /^NODE_NAME \(flag --node-name\) must be a name of lower-case letters.*: it is not set$/,
  });
  assert.equal(readSettings(sources, []).nodeName, "");
});

Deno.test("readSettings() refuses a bad value and names the setting, what it must be and the value", () => {
  const bad: [name: string, values: string[], accepted: RegExp][] = [
    ["NODE_NAME", ["", "a b", "Node", "-a", "a..b", "a".repeat(254)], /lower-case letters/],
    ["CAPTURE_DIR", ["", "/", "//", "captures", "/a/../b", "/a\nb"], /an absolute path other than \//],
    ["ANNOTATION_KEY", ["a/b", "", "a".repeat(64)], /a DNS name without a slash, at most 63 characters/],
    ["HTTP_PORT", ["-1", "65536", "0x50", "9090 ", "1e3", "٣", ""], /a whole number from 0 to 65535/],
    ["MAX_FILES", ["0", "10001", "5x", "1.5"], /a whole number from 1 to 10000/],
    ["MAX_CAPTURES_PER_NAMESPACE", ["0", "half", " "], /a whole number from 1 to 10000, or nothing/],
    ["DISK_BUDGET_MB_PER_NAMESPACE", ["1", "50%"], /a whole number from 2 to 100000000, or nothing/],
    ["MAX_BUFFER_MB", ["3", "1025", "8MB"], /a whole number from 4 to 1024/],
    ["MIN_FREE_PERCENT", ["100", "16%"], /a whole number from 0 to 99/],
    ["METRICS_ENABLED", ["yes", "TRUE", "1", ""], /true or false/],
    ["LOG_LEVEL", ["INFO", "trace"], /one of debug, info, warn, error/],
    ["LOG_FORMAT", ["xml"], /one of logfmt, json/],
    ["MAX_DURATION", ["0s", "24", "1d", "8761h"], /a duration such as 30s, 10m or 2h, from 1s to 8760h/],
    ["RETENTION_AFTER_POD_DELETION", ["-1s", ""], /from 0s to 8760h/],
    ["TCPDUMP", ["", "a b", "dir/tcpdump"], /the name of a program in PATH, or an absolute path/],
    ["HTTP_HOST", ["example.com", ""], /an IP address or localhost/],
  ];
  for (const [name, values, accepted] of bad) {
    for (const value of values) {
      assert.throws(() => read({ [name]: value }), (error) => {
        assert.ok(error instanceof UsageError, `${name}=${value}`);
        assert.ok(error.message.startsWith(`${name} must be `), error.message);
        assert.match(error.message, /: got ".*"$/);
        assert.match(error.message, accepted);
        return true;
      }, `${name}=${value}`);
    }
  }
});

Deno.test("readSettings() names the flag when that is what was bad", () => {
  assert.throws(() => read({}, { maxDuration: "1 day" }), {
    message: '--max-duration must be a duration such as 30s, 10m or 2h, from 1s to 8760h: got "1 day"',
  });
});

Deno.test("readSettings() takes any text or refuses it in one short line", () => {
  const setting = fc.constantFrom(...FLAGS);
  const text = fc.oneof(fc.string({ unit: "binary", maxLength: 6000 }), fc.string());
  fc.assert(fc.property(setting, text, ({ key, flag }, value) => {
    try {
      read({}, { [key]: value });
    } catch (error) {
      assert.ok(error instanceof UsageError, String(error));
      assert.ok(error.message.startsWith(`${flag} must be `));
      assert.doesNotMatch(error.message, /[\r\n\u2028]/);
      assert.ok(error.message.length < 1200, error.message);
    }
  }));
});

Deno.test("readSettings() shows the beginning of a long bad value and how long it is", () => {
  assert.throws(() => read({ MAX_FILES: "9".repeat(5000) }), {
    message: `MAX_FILES must be a whole number from 1 to 10000: got "${"9".repeat(100)}… (5000 characters)"`,
  });
});

Deno.test("logEffective() logs every setting in one line", () => {
  const lines: [string, Record<string, unknown>][] = [];
  const never = () => assert.fail("only info is expected");
  const info = (message: string, fields = {}) => void lines.push([message, fields]);
  logEffective(read({ MAX_DURATION: "2h" }), { debug: never, warn: never, error: never, info });
  assert.equal(lines.length, 1);
  const [message, fields] = lines[0]!;
  assert.equal(message, "settings");
  assert.deepEqual(
    Object.keys(fields).map((env) => `--${env.toLowerCase().replaceAll("_", "-")}`),
    FLAGS.map((f) => f.flag),
  );
  assert.equal(fields["NODE_NAME"], "node-1");
  assert.equal(fields["MAX_DURATION"], "7200s");
  assert.ok(Object.values(fields).every((value) => value !== undefined));
});
