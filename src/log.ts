/**
 * The log: one line per fact, on stderr (stdout belongs to what a command prints). The only importer of @std/log.
 *
 *     level=info msg="capture started" pod=default/web-0 uid=6f1c… component=captures time=2026-01-31T12:00:00.000Z
 */
import { BaseHandler } from "@std/log/base-handler";
import { getLogger } from "@std/log/get-logger";
import type { LogRecord } from "@std/log/logger";
import { setup } from "@std/log/setup";
import { LineWriter } from "./base/line_writer.ts";
import { quote } from "./base/quote.ts";

export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export const LOG_FORMATS = ["logfmt", "json"] as const;
export type LogLevel = typeof LOG_LEVELS[number];
export type LogFormat = typeof LOG_FORMATS[number];

/** The fields of a line besides its message. Undefined values are left out, an Error is its message. */
export type LogFields = Readonly<Record<string, unknown>>;

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

/** Longer values are cut, in UTF-16 units: container runtimes break lines in two at 16 KiB. */
const LONGEST_VALUE = 1000;

let formatLine = formatLogfmt;

/** Standard error. What ends the process flushes it before. */
export const stderr: LineWriter = new LineWriter({
  write: (bytes) => Deno.stderr.write(bytes),
  dropped: (lines) =>
    formatLine([
      ["level", "warn"],
      ["msg", "log lines dropped: stderr was not read in time"],
      ["lines", lines],
      ["time", new Date().toISOString()],
    ]),
});

/** Returns a log whose lines begin with the fields that `fields` returns at that moment. */
export function withFields(log: Log, fields: () => LogFields): Log {
  const write = (level: LogLevel) => (message: string, more: LogFields = {}) =>
    log[level](message, { ...fields(), ...more });
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

/** Sets level and format for all loggers, those handed out before too. */
export function setupLog({ level, format }: { level: LogLevel; format: LogFormat }): void {
  formatLine = format === "json" ? formatJson : formatLogfmt;
  setup({
    handlers: { stderr: new StderrHandler("NOTSET", { formatter: (record) => formatLine(lineOf(record)) }) },
    loggers: { default: { level: level.toUpperCase() as Uppercase<LogLevel>, handlers: ["stderr"] } },
  });
}

/** Returns a log whose lines carry `component`, if given. */
export function getLog(component?: string): Log {
  const write = (level: LogLevel) => (message: string, fields: LogFields = {}) => {
    getLogger()[level](message, component === undefined ? fields : { ...fields, component });
  };
  return { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
}

/** One line's keys and values, in order, before they are written in a format. */
export type LogLine = readonly (readonly [key: string, value: string | number | boolean])[];

function lineOf(record: LogRecord): LogLine {
  const line: [string, string | number | boolean][] = [
    ["level", record.levelName.toLowerCase()],
    ["msg", cut(record.msg)],
  ];
  for (const [key, value] of Object.entries(record.args[0] as LogFields)) {
    if (value !== undefined) line.push([RESERVED.has(key) ? `${key}_` : key, plain(value)]);
  }
  line.push(["time", record.datetime.toISOString()]);
  return line;
}

const RESERVED = new Set(["level", "msg", "time"]);

/** Formats one line, without its end; no value, whatever is in it, can end the line or look like another key. */
export function formatLogfmt(line: LogLine): string {
  return line.map(([key, value]) => {
    const text = String(value);
    // What needs no quotes: printable ASCII without blanks, quotes, backslashes and "=".
    return `${safeKey(key)}=${/^[!#-<>-[\]-~]+$/.test(text) ? text : quote(text)}`;
  }).join(" ");
}

/** Formats one line as one JSON object. */
export function formatJson(line: LogLine): string {
  const members = line.map(([key, value]) =>
    `${quote(safeKey(key))}:${
      typeof value === "string" || !Number.isFinite(Number(value)) ? quote(String(value)) : value
    }`
  );
  return `{${members.join(",")}}`;
}

/** Returns a key of letters, digits, `_`, `.`, `/` and `-`. */
function safeKey(key: string): string {
  return key.replace(/[^A-Za-z0-9_./-]/g, "_") || "_";
}

function plain(value: unknown): string | number | boolean {
  if (typeof value === "number" || typeof value === "boolean") return value;
  if (value instanceof Error) return cut(messageOf(value));
  if (typeof value !== "object" || value === null) return cut(String(value));
  try {
    return cut(JSON.stringify(value, (_, inner) => typeof inner === "bigint" ? String(inner) : inner) ?? "undefined");
  } catch {
    return Object.prototype.toString.call(value);
  }
}

function messageOf(error: Error): string {
  const message = error.message || error.name;
  return error.cause instanceof Error ? `${message}: ${messageOf(error.cause)}` : message;
}

function cut(text: string): string {
  return text.length > LONGEST_VALUE ? `${text.slice(0, LONGEST_VALUE)}… (${text.length} characters)` : text;
}

class StderrHandler extends BaseHandler {
  log(line: string): void {
    stderr.add(line);
  }
}

setupLog({ level: "info", format: "logfmt" });
