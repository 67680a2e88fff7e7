/** Names as Kubernetes allows them (apimachinery pkg/util/validation). */

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const UID = /^[A-Za-z0-9][A-Za-z0-9-]{0,127}$/;
const HEX_UID = /^[0-9a-f]{8,}(-[0-9a-f]+)*$/i;

/** Returns whether it is a DNS-1123 label, as the name of a namespace is. */
export function isDnsLabel(text: string): boolean {
  return text.length <= 63 && LABEL.test(text);
}

/** Returns whether it is a DNS-1123 subdomain, as the names of pods and nodes are. */
export function isDnsName(text: string): boolean {
  return text.length <= 253 && text.split(".").every((part) => LABEL.test(part));
}

/** Returns whether it may be the UID of an object, and so become a part of a path or a word of a command line. */
export function isUid(text: string): boolean {
  return UID.test(text);
}

/** Returns whether it reads as a UID and not as a name: UUIDs, and the hashes that the kubelet gives static pods. */
export function readsAsUid(text: string): boolean {
  return isUid(text) && HEX_UID.test(text);
}
