/**
 * Every error class of the library and the one layout of their messages: a first line that says what could not be
 * done and why, aligned facts, and a last line that says how to fix it. Tests pin the texts.
 *
 * @module
 */

/** The parts of an error message. */
export interface ErrorLines {
  /** What could not be done and why, with values. No full stop. */
  readonly summary: string;
  /** Aligned `name  value` lines. */
  readonly facts?: readonly (readonly [name: string, value: string])[];
  /** How to fix it, without the leading "Fix:". */
  readonly fix?: string;
  /** The values of the message as data. */
  readonly details?: Readonly<Record<string, unknown>>;
}

/** Base of every error this library throws on purpose. `code` is stable; the text is for people. */
export class SwitchyardError extends Error {
  /** Stable identifier such as `shape/matmul-inner`. */
  readonly code: string;
  /** The values of the message as data. */
  readonly details: Readonly<Record<string, unknown>>;

  /** Lays out the message; see {@linkcode ErrorLines}. */
  constructor(code: string, lines: ErrorLines) {
    super(formatLines(lines));
    this.name = new.target.name;
    this.code = code;
    this.details = lines.details ?? {};
  }
}

/** Shapes or axes that do not fit together. */
export class ShapeError extends SwitchyardError {}
/** Element types that do not fit an operation. */
export class DTypeError extends SwitchyardError {}
/** Trees whose structures or leaves do not match. */
export class TreeError extends SwitchyardError {}
/** Options that are invalid, all of them at once. */
export class ConfigError extends SwitchyardError {}
/** Something that cannot be done while a function is traced. */
export class TraceError extends SwitchyardError {}
/** A random key consumed twice. */
export class KeyReuseError extends SwitchyardError {}
/** Use of a tensor whose buffer a jitted call took over. */
export class DonatedError extends SwitchyardError {}
/** Use of a tensor after it was disposed. */
export class ReleasedError extends SwitchyardError {}
/** No WebGPU adapter, or no device yet. */
export class AdapterError extends SwitchyardError {}
/** The device is gone, and everything on it. */
export class DeviceLostError extends SwitchyardError {}
/** A byte budget or device limit exceeded. */
export class OutOfMemoryError extends SwitchyardError {}
/** NaN or infinity found in check mode. */
export class NonFiniteError extends SwitchyardError {}
/** A kernel that did not compile; always a bug of this library. */
export class CompileError extends SwitchyardError {}
/** A checkpoint or weights file that is broken. */
export class CheckpointError extends SwitchyardError {}
/** Data that cannot be trained on. */
export class DataError extends SwitchyardError {}

function formatLines({ summary, facts = [], fix }: ErrorLines): string {
  const width = Math.max(0, ...facts.map(([name]) => name.length));
  const lines = facts.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`.trimEnd());
  return [summary, ...lines, ...(fix === undefined ? [] : [`Fix: ${fix}`])].join("\n");
}

const SOURCE_ROOT = new URL("..", import.meta.url).href;

/** Folders of the library that use the rest of it like anyone else: where nobody else is on the stack, they are the user. */
const USERS = ["layers", "routing", "optim", "train"];

/**
 * The first stack line outside the library, as `file.ts:line:column`. Where there is none, as in the training program, it
 * is the first line of a layer, router, optimizer or of the program, else "unknown".
 * The compiler keeps it with a node only where someone will read it, because a stack costs more than an op.
 */
export function callSite(): string {
  return siteOf(new Error());
}

/** Remembers where the user called, and finds the line only if someone asks: formatting a stack is what costs. */
export function rememberCallSite(): () => string {
  const place = new Error();
  return () => siteOf(place);
}

function siteOf(place: Error): string {
  const lines = (place.stack ?? "").split("\n").slice(1);
  const own = lines.find((line) => !line.includes(SOURCE_ROOT) && /:\d+:\d+/.test(line)) ??
    lines.find((line) => USERS.some((folder) => line.includes(`${SOURCE_ROOT}${folder}/`)));
  const match = own?.match(/([^/\\\s(]+):(\d+):(\d+)\)?$/);
  return match ? `${match[1]}:${match[2]}:${match[3]}` : "unknown";
}

const noticed = new Set<string>();

/** Tells the user something once per process, on standard error. */
export function notice(text: string): void {
  if (noticed.has(text)) return;
  noticed.add(text);
  console.warn(`switchyard: ${text}`);
}

/** One invalid option: its name, its value as given and what it must be. */
export type OptionProblem = readonly [name: string, value: unknown, requirement: string];

function formatOption(value: unknown): string {
  if (typeof value === "function") return "a function";
  return typeof value === "string" || (typeof value === "object" && value !== null)
    ? JSON.stringify(value)
    : String(value);
}

/**
 * Throws one ConfigError that lists every problem, or returns if there is none.
 *
 * @throws {ConfigError} If `problems` is not empty.
 */
export function expectNoProblems(what: string, problems: readonly OptionProblem[]): void {
  if (problems.length === 0) return;
  const names = Math.max(...problems.map(([name]) => name.length));
  const values = problems.map(([, value]) => formatOption(value));
  const width = Math.max(...values.map((value) => value.length));
  throw new ConfigError("config/range", {
    summary: `Cannot build ${what}: ${problems.length} ${problems.length === 1 ? "option is" : "options are"} invalid`,
    facts: problems.map((
      [name, , requirement],
      i,
    ) => [name.padEnd(names), `${values[i]!.padEnd(width)}  ${requirement}`]),
    details: { what, problems },
  });
}
