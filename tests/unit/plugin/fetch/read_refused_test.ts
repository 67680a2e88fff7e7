import { ok, strictEqual } from "node:assert";
import { explain, PolicyRefusal, Refused } from "../../../../src/plugin/kubectl/explain.ts";
import { ReadRefused } from "../../../../src/plugin/fetch/read_refused.ts";

const RELEASE = { namespace: "tools", name: "pc", annotationKey: "capture.example.org" };

for (
  const [command, message] of [
    [
      "cat shop/web-0 --format pcapng --while-stdin",
      'Cannot read packets of shop/web-0: you lack the permission "get" on ' +
      '"captures.capture.example.org" in namespace shop; ClusterRole pc-read, bound there, has it; ' +
      "pc-read-headers is enough for --headers-only",
    ],
    [
      "stream shop/web-0 --headers-only --while-stdin",
      'Cannot read packets of shop/web-0: you lack the permission "get" on ' +
      '"captures.capture.example.org/headers" in namespace shop; ClusterRole pc-read-headers, bound there, has it',
    ],
    [
      "list -n shop -o json",
      'Cannot list captures of namespace shop: you lack the permission "list" on ' +
      '"captures.capture.example.org" in namespace shop; ClusterRole pc-read or pc-request, bound there, has it',
    ],
    [
      "list -o json",
      "Cannot list captures of all namespaces: you lack the permission " +
      '"administer" on "captures.capture.example.org" in namespace tools; give -n NAMESPACE for those of one',
    ],
    [
      "cat 1234abcd --format pcapng",
      "Cannot read kept capture 1234abcd by its UID: you lack the permission " +
      '"administer" on "captures.capture.example.org" in namespace tools; give the pod\'s name with -n NAMESPACE',
    ],
  ] as const
) {
  Deno.test(`ReadRefused names the right that "${command}" takes`, () => {
    const refused = new ReadRefused(command.split(" "), RELEASE);
    strictEqual(refused.message, message);
    ok(refused instanceof Refused);
  });
}

// Printed by kubectl 1.35 against Kubernetes 1.36, with reason Forbidden and with the default.
for (
  const stderr of [
    `Error from server (Forbidden): pods "x" is forbidden: ValidatingAdmissionPolicy 'read' with binding 'read' denied request: may not\n`,
    `The pods "x" is invalid: : ValidatingAdmissionPolicy 'read' with binding 'read' denied request: may not\n`,
  ]
) {
  Deno.test(`explain() recognises a policy's refusal: ${stderr.slice(0, 40)}`, () => {
    const refusal = explain(stderr, "");
    ok(refusal instanceof PolicyRefusal);
    strictEqual(refusal.message, "Admission policy read refuses it: may not");
  });
}
