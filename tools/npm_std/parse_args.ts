/**
 * Stands in for `@std/cli/parse-args` where JSR is out of reach: its interface over `minimist`, from which it descends.
 *
 * Dotted names are typed only as `unknown`; every name given in `negatable` must be given in `boolean` or `string` too.
 *
 * @module
 */
// @ts-types="npm:@types/minimist@^1.2"
import minimist from "npm:minimist@^1.2";

type DefaultOf<D, K> = K extends keyof D ? D[K] : never;
type Single<K, N, T> = K extends N ? T | false : T;

/** What `parseArgs` returns: the options by name, and the rest of the command line. */
export type Args<
  B extends string = string,
  S extends string = string,
  C extends string = never,
  N extends string = never,
  D = Record<never, never>,
> =
  & Record<string, unknown>
  & { [K in B]: boolean | DefaultOf<D, K> }
  & { [K in Exclude<S, C | Extract<keyof D, string>>]?: Single<K, N, string> }
  & { [K in Exclude<Extract<S, keyof D>, C>]: Single<K, N, string> | DefaultOf<D, K> }
  & { [K in Extract<S, C>]: string[] | DefaultOf<D, K> }
  & { [K in Exclude<C, S>]: unknown[] | DefaultOf<D, K> }
  & {
    /** The arguments that belong to no option. */
    _: (string | number)[];
    /** With the option of that name, what follows `--`. */
    "--"?: string[];
  };

/** How to read a command line. */
export interface ParseOptions<B extends string, S extends string, C extends string, N extends string, D> {
  /** Whether what follows `--` is kept apart from `_`. */
  "--"?: boolean;
  /** Other names of an option. */
  alias?: Readonly<Record<string, string | readonly string[]>>;
  /** Options without a value: false unless given. */
  boolean?: B | readonly B[];
  /** Options that may be repeated: an array, empty unless given. */
  collect?: C | readonly C[];
  /** Values of the options that are not given. */
  default?: D;
  /** Options that `--no-NAME` sets to false. */
  negatable?: N | readonly N[];
  /** Whether the first argument that is no option ends the options. */
  stopEarly?: boolean;
  /** Options whose value is never read as a number. */
  string?: S | readonly S[];
  /** Is called with every argument that is not declared; `false` leaves it out of the result. */
  unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

function list<T extends string>(names: T | readonly T[] | undefined): T[] {
  return names === undefined ? [] : typeof names === "string" ? [names] : [...names];
}

/** Reads `--no-x` as an option of its own where `x` is not negatable, because minimist would negate any. */
function protectNegations(args: readonly string[], negatable: readonly string[]): string[] {
  const end = args.indexOf("--");
  return args.map((arg, index) => {
    const isOption = end < 0 || index < end;
    const name = /^--no-([^=]+)$/.exec(arg)?.[1];
    return !isOption || name === undefined || negatable.includes(name) ? arg : `${arg}=true`;
  });
}

/** Reports an undeclared argument as it was written, split into its name and value where it is an option. */
function reportUnknown(
  arg: string,
  args: readonly string[],
  unknown: (arg: string, key?: string, value?: unknown) => unknown,
): boolean {
  const written = args.includes(arg) ? arg : arg.replace(/=true$/, "");
  const match = /^--?([^=]+)(?:=(.*))?$/s.exec(written);
  const answer = match === null ? unknown(written) : unknown(written, match[1], match[2] ?? true);
  return answer !== false;
}

/**
 * Reads a command line into options by name.
 *
 * @param args The arguments, such as `Deno.args`.
 * @param options Which options there are and how to read them.
 * @returns The options given or defaulted, and in `_` what belongs to none.
 */
export function parseArgs<
  B extends string = never,
  S extends string = never,
  C extends string = never,
  N extends string = never,
  D extends Record<string, unknown> = Record<never, never>,
>(args: readonly string[], options: ParseOptions<B, S, C, N, D> = {}): Args<B, S, C, N, D> {
  const { alias = {}, default: defaults, unknown } = options;
  const negatable = list(options.negatable);
  const collect = new Set<string>(list(options.collect));
  for (const name of [...collect]) list(alias[name]).forEach((other) => collect.add(other));
  const parsed: Record<string, unknown> = minimist(protectNegations(args, negatable), {
    "--": options["--"] ?? false,
    alias: Object.fromEntries(Object.entries(alias).map(([name, others]) => [name, list(others)])),
    boolean: list(options.boolean),
    string: list(options.string),
    stopEarly: options.stopEarly ?? false,
    ...(defaults === undefined ? {} : { default: defaults }),
    ...(unknown === undefined ? {} : { unknown: (arg: string) => reportUnknown(arg, args, unknown) }),
  });
  for (const [name, value] of Object.entries(parsed)) {
    if (name === "_" || name === "--") continue;
    // minimist gathers every repeated option, where only declared ones are meant to be; the last one counts.
    if (collect.has(name)) parsed[name] = Array.isArray(value) ? value : [value];
    else if (Array.isArray(value) && !Array.isArray(defaults?.[name])) parsed[name] = value.at(-1);
  }
  for (const name of collect) parsed[name] ??= [];
  return parsed as Args<B, S, C, N, D>;
}
