/** Which names from the API and from files may become parts of paths. */

/** RFC 1123 label. */
const NAMESPACE = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
/** RFC 1123 subdomain. */
const POD = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
/** UIDs are UUIDs, or the hash that names a static pod. */
const UID = /^[A-Za-z0-9][A-Za-z0-9-]{0,127}$/;

export function isNamespace(name: string): boolean {
  return NAMESPACE.test(name);
}

export function isPodName(name: string): boolean {
  return name.length <= 253 && POD.test(name);
}

export function isUid(uid: string): boolean {
  return UID.test(uid);
}

/** @throws RangeError if a name from the API is not one that Kubernetes allows: it must not become a path. */
export function checkNames(namespace: string, pod: string): void {
  if (!isNamespace(namespace)) {
    throw new RangeError(
      `Cannot use namespace ${JSON.stringify(namespace.slice(0, 80))} as a folder: accepted is a DNS label`,
    );
  }
  if (!isPodName(pod)) {
    throw new RangeError(
      `Cannot use pod ${JSON.stringify(pod.slice(0, 80))} as a folder: accepted is a DNS subdomain name`,
    );
  }
}
