/** Rows of a controller's list, believed only as far as they are what they must be. Pure. */
import { isDnsName, isUid } from "../../base/names.ts";
import type { Row } from "../../spec/row.ts";

/** The fields that an older controller's row lacks. */
type Newer = Pick<Row, "request" | "listening" | "options" | "lostPercent">;

/** The fields of a row that the plugin needs; a newer controller's row has more, which is handed on. */
export type CaptureRow = Omit<Row, "received" | keyof Newer> & Partial<Newer>;

const isText = (value: unknown) => typeof value === "string";
/** Names become words of command lines: none may read as a flag. */
const isName = (value: unknown) => typeof value === "string" && isDnsName(value);
const isTextOrNull = (value: unknown) => value === null || isText(value);
const areTexts = (value: unknown) =>
  typeof value === "object" && value !== null && !Array.isArray(value) && Object.values(value).every(isText);
const isCount = (value: unknown) => Number.isSafeInteger(value) && Number(value) >= 0;

const FIELDS: Readonly<Record<keyof CaptureRow, (value: unknown) => boolean>> = {
  namespace: isName,
  pod: isName,
  uid: (value) => value === "" || (typeof value === "string" && isUid(value)),
  state: isText,
  reason: isText,
  since: isTextOrNull,
  files: isCount,
  bytes: isCount,
  packets: isCount,
  dropped: isCount,
  lostPercent: (value) => value === undefined || (typeof value === "number" && value >= 0 && value <= 100),
  oldest: isTextOrNull,
  newest: isTextOrNull,
  filter: isTextOrNull,
  options: (value) => value === undefined || areTexts(value),
  request: (value) => value === undefined || isText(value),
  listening: (value) => value === undefined || typeof value === "boolean",
};

/** @returns undefined if the value is no row. */
export function rowIn(value: unknown): CaptureRow | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const row = value as Record<string, unknown>;
  return Object.entries(FIELDS).every(([name, isRight]) => isRight(row[name])) ? value as CaptureRow : undefined;
}
