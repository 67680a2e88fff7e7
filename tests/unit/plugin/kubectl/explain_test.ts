import { deepStrictEqual, match, ok, strictEqual } from "node:assert";
import { explain, Forbidden, NotFound } from "../../../../src/plugin/kubectl/explain.ts";
import { UsageFailure } from "../../../../src/plugin/failure.ts";

// Each stderr below was printed by kubectl 1.32 or 1.35 against Kubernetes 1.36.
Deno.test("explain() names user, verb, resource and namespace when a right is missing", () => {
  const failure = explain(
    'Error from server (Forbidden): pods "packet-capture-x7k2p" is forbidden: User "jane" cannot create resource "pods/exec" in API group "" in the namespace "packet-capture"\n',
    "",
  );
  ok(failure instanceof Forbidden);
  deepStrictEqual(failure.missing, {
    user: "jane",
    verb: "create",
    resource: "pods/exec",
    namespace: "packet-capture",
  });
  strictEqual(failure.message, 'User jane lacks the permission "create" on "pods/exec" in namespace packet-capture');
});

Deno.test("explain() writes a resource with its group, and reports when the right is missing in the whole cluster", () => {
  const failure = explain(
    'Error from server (Forbidden): daemonsets.apps is forbidden: User "jane" cannot list resource "daemonsets" in API group "apps" at the cluster scope\n',
    "",
  );
  strictEqual(failure.message, 'User jane lacks the permission "list" on "daemonsets.apps" in the whole cluster');
  strictEqual(failure.exitCode, 1);
});

Deno.test("explain() keeps the sentence of an admission policy", () => {
  const failure = explain(
    `The pods "web" is invalid: : ValidatingAdmissionPolicy 'capture' with binding 'capture' denied request: only users with the verb capture may do this\n`,
    "",
  );
  match(failure.message, /only users with the verb capture may do this$/);
});

Deno.test("explain() distinguishes an object that is not there from other errors", () => {
  ok(explain('Error from server (NotFound): pods "web-0" not found', "") instanceof NotFound);
  ok(!(explain("error: unable to upgrade connection: container not found", "") instanceof NotFound));
});

Deno.test("explain() takes the error, not the warnings around it", () => {
  const failure = explain(
    "Warning: v1 Endpoints is deprecated\nError from server: etcdserver: request timed out\n",
    "",
  );
  strictEqual(failure.message, "etcdserver: request timed out");
});

Deno.test("explain() calls a selector that cannot be read a usage error", () => {
  const failure = explain(
    `Error: Unable to find "/v1, Resource=pods" that match label selector "app in (web": unable to parse requirement: found ''`,
    "",
  );
  ok(failure instanceof UsageFailure);
  strictEqual(failure.exitCode, 2);
});

Deno.test("explain() reports that credentials are not accepted", () => {
  match(
    explain("error: You must be logged in to the server (Unauthorized)", "").message,
    /^The cluster does not accept your credentials/,
  );
});

Deno.test("explain() falls back to its second argument when kubectl wrote nothing", () => {
  strictEqual(explain("\n \n", "kubectl get failed with exit code 7").message, "kubectl get failed with exit code 7");
});

Deno.test("explain() reports what to do when a credential plugin gave nothing, in its words", () => {
  const log = 'E1127 23:36:06.711785   20755 memcache.go:265] "Unhandled Error" err="getting credentials: exec: x"\n';
  const lacks = (why: string) => `Unable to connect to the server: getting credentials: ${why}\n`;
  strictEqual(
    explain(`Code: nobody is there\n${log}${lacks("exec: executable /bin/ask failed with exit code 1")}`, "").message,
    "Cannot get credentials for the cluster: exec: executable /bin/ask failed with exit code 1 " +
      "(it says: Code: nobody is there); log in first, in a terminal, for example with: kubectl get pods",
  );
  strictEqual(
    explain(log + lacks("exec plugin cannot support interactive mode: standard input is not a terminal"), "").message,
    "Cannot get credentials for the cluster: exec plugin cannot support interactive mode: standard input is not a terminal; " +
      "run this in a terminal, because the kubeconfig has interactiveMode: Always",
  );
  // No login helps.
  strictEqual(
    explain(log + lacks("exec: fork/exec /bin/absent: no such file or directory"), "").message,
    "Cannot get credentials for the cluster: exec: fork/exec /bin/absent: no such file or directory",
  );
});
