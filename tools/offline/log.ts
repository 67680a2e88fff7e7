/**
 * Stands in for `jsr:@std/log` where JSR cannot be reached: the part of it that src/log.ts uses, with its shape and its
 * behaviour (facts of @std/log 0.224.14), and nothing else. All of the real one's subpaths map to this file.
 */
// deno-lint-ignore-file no-console no-explicit-any -- the real ConsoleHandler writes by console.log, the real types say any

export const LogLevels = { NOTSET: 0, DEBUG: 10, INFO: 20, WARN: 30, ERROR: 40, CRITICAL: 50 } as const;
export type LevelName = keyof typeof LogLevels;
export type LogLevel = typeof LogLevels[LevelName];
export const LogLevelNames: LevelName[] = Object.keys(LogLevels) as LevelName[];

export function getLevelByName(name: LevelName): LogLevel {
  const level = LogLevels[name];
  if (level === undefined) throw new Error(`Cannot get log level: no level named ${name}`);
  return level;
}

export function getLevelName(level: LogLevel): LevelName {
  const name = LogLevelNames.find((name) => LogLevels[name] === level);
  if (name === undefined) throw new Error(`Cannot get log level: no name for level: ${level}`);
  return name;
}

export interface LogRecordOptions {
  msg: string;
  args: unknown[];
  level: LogLevel;
  loggerName: string;
}

export class LogRecord {
  readonly msg: string;
  readonly args: unknown[];
  readonly datetime: Date = new Date();
  readonly level: number;
  readonly levelName: string;
  readonly loggerName: string;

  constructor(options: LogRecordOptions) {
    this.msg = options.msg;
    this.args = [...options.args];
    this.level = options.level;
    this.levelName = getLevelName(options.level);
    this.loggerName = options.loggerName;
  }
}

export type FormatterFunction = (logRecord: LogRecord) => string;
export interface BaseHandlerOptions {
  formatter?: FormatterFunction;
}

export abstract class BaseHandler {
  level: LogLevel;
  formatter: FormatterFunction;

  constructor(levelName: LevelName, options?: BaseHandlerOptions) {
    this.level = getLevelByName(levelName);
    this.formatter = options?.formatter ?? ((record) => `${record.levelName} ${record.msg}`);
  }

  get levelName(): LevelName {
    return getLevelName(this.level);
  }

  set levelName(name: LevelName) {
    this.level = getLevelByName(name);
  }

  handle(logRecord: LogRecord): void {
    if (this.level <= logRecord.level) this.log(this.format(logRecord));
  }

  format(logRecord: LogRecord): string {
    return this.formatter(logRecord);
  }

  abstract log(msg: string): void;
  setup(): void {}
  destroy(): void {}
  [Symbol.dispose](): void {
    this.destroy();
  }
}

export interface ConsoleHandlerOptions extends BaseHandlerOptions {
  useColors?: boolean;
}

/** Unlike the real one it never colours. */
export class ConsoleHandler extends BaseHandler {
  constructor(levelName: LevelName, options: ConsoleHandlerOptions = {}) {
    super(levelName, options);
  }

  log(msg: string): void {
    console.log(msg);
  }
}

export type GenericFunction = (...args: any[]) => any;
type Message<T> = (T extends GenericFunction ? never : T) | (() => T);

export class Logger {
  level: LogLevel;
  handlers: BaseHandler[];
  readonly loggerName: string;

  constructor(loggerName: string, levelName: LevelName, options: { handlers?: BaseHandler[] } = {}) {
    this.loggerName = loggerName;
    this.level = getLevelByName(levelName);
    this.handlers = options.handlers ?? [];
  }

  get levelName(): LevelName {
    return getLevelName(this.level);
  }

  set levelName(name: LevelName) {
    this.level = getLevelByName(name);
  }

  #log<T>(level: LogLevel, msg: Message<T>, args: unknown[]): T | undefined {
    const isFunction = msg instanceof Function;
    if (this.level > level) return isFunction ? undefined : msg;
    const value = isFunction ? (msg as () => T)() : msg;
    const record = new LogRecord({ msg: asString(value), args, level, loggerName: this.loggerName });
    for (const handler of this.handlers) handler.handle(record);
    return value;
  }

  debug<T>(msg: () => T, ...args: unknown[]): T | undefined;
  debug<T>(msg: T extends GenericFunction ? never : T, ...args: unknown[]): T;
  debug<T>(msg: Message<T>, ...args: unknown[]): T | undefined {
    return this.#log(LogLevels.DEBUG, msg, args);
  }

  info<T>(msg: () => T, ...args: unknown[]): T | undefined;
  info<T>(msg: T extends GenericFunction ? never : T, ...args: unknown[]): T;
  info<T>(msg: Message<T>, ...args: unknown[]): T | undefined {
    return this.#log(LogLevels.INFO, msg, args);
  }

  warn<T>(msg: () => T, ...args: unknown[]): T | undefined;
  warn<T>(msg: T extends GenericFunction ? never : T, ...args: unknown[]): T;
  warn<T>(msg: Message<T>, ...args: unknown[]): T | undefined {
    return this.#log(LogLevels.WARN, msg, args);
  }

  error<T>(msg: () => T, ...args: unknown[]): T | undefined;
  error<T>(msg: T extends GenericFunction ? never : T, ...args: unknown[]): T;
  error<T>(msg: Message<T>, ...args: unknown[]): T | undefined {
    return this.#log(LogLevels.ERROR, msg, args);
  }

  critical<T>(msg: () => T, ...args: unknown[]): T | undefined;
  critical<T>(msg: T extends GenericFunction ? never : T, ...args: unknown[]): T;
  critical<T>(msg: Message<T>, ...args: unknown[]): T | undefined {
    return this.#log(LogLevels.CRITICAL, msg, args);
  }
}

function asString(value: unknown): string {
  if (value instanceof Error) return value.stack ?? value.message;
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value);
}

export interface LogConfig {
  handlers?: Record<string, BaseHandler>;
  loggers?: Record<string, { level?: LevelName; handlers?: string[] }>;
}

const handlers = new Map<string, BaseHandler>();
const loggers = new Map<string, Logger>();

/** Replaces all handlers and loggers; like the real one it keeps the `default` ones unless they are named. */
export function setup(config: LogConfig): void {
  for (const handler of handlers.values()) handler.destroy();
  handlers.clear();
  loggers.clear();
  for (const [name, handler] of Object.entries({ default: new ConsoleHandler("INFO"), ...config.handlers })) {
    handler.setup();
    handlers.set(name, handler);
  }
  const wanted: LogConfig["loggers"] = { default: { level: "INFO", handlers: ["default"] }, ...config.loggers };
  for (const [name, { level = "INFO", handlers: names = [] }] of Object.entries(wanted)) {
    const own = names.flatMap((name) => handlers.get(name) ?? []);
    loggers.set(name, new Logger(name, level, { handlers: own }));
  }
}

/** A name that setup() did not configure gets a logger without handlers: it says nothing. */
export function getLogger(name = "default"): Logger {
  let logger = loggers.get(name);
  if (logger === undefined) {
    logger = new Logger(name, "NOTSET");
    loggers.set(name, logger);
  }
  return logger;
}

setup({});
