/** What a refused or failed start means: whether the request is wrong, or the pod lacks what it names. */
import type { CaptureRequest } from "../spec/request.ts";
import type { Settings } from "../settings.ts";
import type { PodFilter } from "./filter_checks.ts";
import { tooComplex } from "./filter_limits.ts";
import type { Exit } from "./exit.ts";
import { linkTypeOf, listInterfaces } from "./tcpdump_queries.ts";

/** tcpdump's verdict on a request. With a sandbox: it is about an interface there. */
export interface Verdict {
  /** The reason why it is refused; undefined: it is not. */
  readonly problem: string | undefined;
  readonly sandboxId?: string;
}

/** A request where it is carried out. */
interface Placed {
  readonly request: CaptureRequest;
  readonly sandboxId: string;
  readonly netnsPath: string | undefined;
}

type Tools = Pick<Settings, "tcpdump" | "nsenter" | "annotationKey">;

/** Returns the verdict on a request's filter: on Ethernet, or for `any`, and if it is wrong there, on the very interface. */
export async function checkRequest(placed: Placed, filter: PodFilter, tools: Tools): Promise<Verdict> {
  const problem = await filter.problemOf(placed.request);
  const inPlace = problem === undefined ? undefined : await checkInPlace(placed, filter, tools);
  return inPlace ?? { problem: problem && aboutFilter(problem, tools) };
}

/**
 * Finds out why tcpdump has ended before it captured anything.
 *
 * @returns a verdict on the request, or a failure that may pass; undefined if neither can be told from its end.
 */
export async function explainFailedStart(
  placed: Placed,
  exit: Exit,
  filter: PodFilter,
  tools: Tools,
): Promise<{ readonly verdict: Verdict } | { readonly failure: string } | undefined> {
  if (placed.request.filter !== undefined) {
    const complex = tooComplex(exit);
    const verdict = complex
      ? { problem: aboutFilter(complex, tools), sandboxId: placed.sandboxId }
      : await checkInPlace(placed, filter, tools).catch(() => undefined);
    if (verdict?.problem !== undefined) return { verdict };
  }
  const failure = exit.code === 1 ? await missingInterface(placed, exit, tools) : undefined;
  return failure === undefined ? undefined : { failure };
}

/** Returns the verdict on the pod's interface; undefined: it is Ethernet, as has been tried, or cannot be found out. */
async function checkInPlace(placed: Placed, filter: PodFilter, tools: Tools): Promise<Verdict | undefined> {
  const { request, sandboxId, netnsPath } = placed;
  if (request.interface === "any" || request.filter === undefined) return undefined;
  const { tcpdump, nsenter } = tools;
  const linkType = await linkTypeOf(request.interface, { tcpdump, nsenter, netnsPath }).catch(() => undefined);
  if (linkType === undefined || linkType === "EN10MB") return undefined;
  const problem = await filter.problemOn(request, linkType);
  return {
    sandboxId,
    problem: problem && `${aboutFilter(problem, tools)} (interface ${request.interface} is ${linkType})`,
  };
}

/** Says that the pod lacks the interface, or that it is down, and which ones the pod has; undefined where that is not the cause. */
async function missingInterface({ request, netnsPath }: Placed, { said }: Exit, tools: Tools) {
  const what = /No such device exists/i.test(said)
    ? "the pod has no such interface"
    : /That device is not up/i.test(said)
    ? "it is not up"
    : undefined;
  if (what === undefined) return undefined;
  const { tcpdump, nsenter, annotationKey } = tools;
  const interfaces = await listInterfaces({ tcpdump, nsenter, netnsPath }).catch(() => []);
  return `Cannot capture on interface ${request.interface}: ${what}` +
    (interfaces.length === 0 ? "" : ` (the pod has ${interfaces.join(", ")})`) +
    `; annotation ${annotationKey}/interface must be an interface of the pod that is up, or any`;
}

function aboutFilter(problem: string, { annotationKey }: Tools): string {
  return `annotation ${annotationKey}/filter ${problem}`;
}
