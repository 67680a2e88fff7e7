/** The fields of Kubernetes objects that the plugin reads from `kubectl get -o json`. Only those. */

export interface OwnerReference {
  readonly apiVersion?: string;
  readonly kind: string;
  readonly name?: string;
  readonly uid: string;
  readonly controller?: boolean;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid: string;
  readonly resourceVersion?: string;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
}

interface PodSpec {
  readonly nodeName?: string;
  readonly containers?: readonly { readonly name: string; readonly env?: readonly EnvVar[] }[];
}

export interface PodObject {
  readonly kind: "Pod";
  readonly metadata: ObjectMeta;
  readonly spec?: PodSpec;
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly conditions?: readonly { readonly type: string; readonly status: string }[];
    readonly containerStatuses?: readonly {
      readonly name: string;
      readonly state?: { readonly waiting?: { readonly reason?: string } };
    }[];
  };
}

/** A workload of any kind that selects or owns pods. */
export interface WorkloadObject {
  readonly apiVersion?: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: {
    readonly selector?: unknown;
    readonly template?: PodTemplate;
    /** Template of a CronJob. */
    readonly jobTemplate?: { readonly spec?: { readonly template?: PodTemplate } };
  };
}

interface PodTemplate {
  readonly metadata?: Pick<ObjectMeta, "annotations">;
}

/** Returns the owner that manages an object: there is one at most. */
export function managerOf({ ownerReferences }: ObjectMeta): OwnerReference | undefined {
  return ownerReferences?.find(({ controller }) => controller === true);
}

/** Returns the objects in an answer: it is a List, a single object, or nothing. */
export function itemsOf<T>(answer: unknown): T[] {
  if (answer === undefined || answer === null || typeof answer !== "object") return [];
  if ("items" in answer) return Array.isArray(answer.items) ? answer.items : [];
  return [answer as T];
}
