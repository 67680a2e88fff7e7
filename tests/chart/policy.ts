/** The chart's policies on an API server of the rig. */
import type { ApiServer } from "../rig/apiserver.ts";
import type { Rendered } from "./helm.ts";

/** Creates all policies and their bindings. They reach the API server's own caches in their own time. */
export async function putPolicy(server: ApiServer, { objects }: Rendered): Promise<void> {
  const base = "/apis/admissionregistration.k8s.io/v1";
  for (const object of objects.filter(({ apiVersion }) => apiVersion === "admissionregistration.k8s.io/v1")) {
    await server.call("POST", `${base}/${(object.kind as string).toLowerCase().replace(/y$/, "ie")}s`, object);
  }
}
