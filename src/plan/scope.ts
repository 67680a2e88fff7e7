/** Decides whose pods are captured at all. Pure. */
import { quote } from "../base/quote.ts";

/** @returns why pods of the namespace are not captured; undefined: they are. The lists themselves are not for everybody to see. */
export function namespaceProblem(
  namespace: string,
  { allow, deny }: { readonly allow: readonly string[]; readonly deny: readonly string[] },
): string | undefined {
  const refused = deny.includes(namespace)
    ? "the chart's namespaces.deny has it; it must not be there"
    : allow.length > 0 && !allow.includes(namespace)
    ? "the chart's namespaces.allow lacks it; it must be there"
    : undefined;
  return refused && `pods of namespace ${quote(namespace, 63)} are not captured: ${refused}`;
}
