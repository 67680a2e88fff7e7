import { strictEqual, throws } from "node:assert";
import { checkTargetOptions, selectorText } from "../../../src/plugin/targets.ts";

Deno.test("selectorText() writes labels and all four kinds of expression as kubectl takes them", () => {
  strictEqual(
    selectorText({
      matchLabels: { app: "web", tier: "front" },
      matchExpressions: [
        { key: "a", operator: "In", values: ["x", "y"] },
        { key: "b", operator: "NotIn", values: ["z"] },
        { key: "c", operator: "Exists" },
        { key: "d", operator: "DoesNotExist" },
      ],
    }),
    "app=web,tier=front,a in (x,y),b notin (z),c,!d",
  );
});

Deno.test("selectorText() reads the plain map of services and replication controllers", () => {
  strictEqual(selectorText({ app: "web" }), "app=web");
});

Deno.test("selectorText() gives nothing where nothing is selected, so that not every pod is meant", () => {
  for (const selector of [undefined, null, {}, { matchLabels: {} }, { matchExpressions: [] }, "app=web"]) {
    strictEqual(selectorText(selector), undefined);
  }
});

Deno.test("checkTargetOptions() refuses nothing and contradictions", () => {
  throws(() => checkTargetOptions({ names: [] }), /^UsageFailure: Name the pods/);
  throws(() => checkTargetOptions({ names: ["web-0"], selector: "app=web" }), /either names or -l/);
  throws(() => checkTargetOptions({ names: ["web-0"], namespace: "a", allNamespaces: true }), /either -n NAMESPACE or/);
});
