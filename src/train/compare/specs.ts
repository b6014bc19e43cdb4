/**
 * Variants on a command line: `[LABEL=]ROUTER[:OPTION=VALUE[+OPTION=VALUE…]]`, separated by commas.
 *
 * The text before the first colon names the router, and an equals sign in it ends a label. An option without a value is
 * true. Neither commas nor plus signs can occur in values; a comparison file can hold such variants.
 *
 * @module
 */
import { flagOf, OPTION_NAMES, type OptionName } from "../config.ts";
import { numberOf, type Problem } from "../option_problems.ts";
import type { VariantSpec } from "./comparison.ts";

/** What a variant's name may look like, since it also names a folder. */
const NAME = /^[A-Za-z0-9][\w.-]*$/;

/**
 * Reads variants from a command line. Whether routers and options exist is checked where variants are resolved.
 *
 * @param text The value of `--routers`.
 * @param problems Gets what is wrong with the text.
 * @returns The variants, without those that have a problem.
 */
export function parseVariants(text: string, problems: Problem[]): readonly VariantSpec[] {
  return text.split(",").flatMap((part) => {
    const spec = part.trim();
    const variant = parseVariant(spec);
    if (typeof variant !== "string") return [variant];
    problems.push(["--routers", spec, variant]);
    return [];
  });
}

/**
 * Finds what is wrong with the names of variants: characters that a folder cannot have, and repeats.
 *
 * @param variants The variants.
 * @param problems Gets what is wrong.
 */
export function checkNames(variants: readonly VariantSpec[], problems: Problem[]): void {
  const seen = new Set<string>();
  for (const { name } of variants) {
    // Some file systems do not tell upper from lower case.
    const folded = name.toLowerCase();
    if (!NAME.test(name)) {
      problems.push([
        "variant",
        name,
        "must begin with a letter or digit and hold only those and . _ - (it names a folder)",
      ]);
    } else if (seen.has(folded)) {
      problems.push(["variant", name, `is there twice; put a label before one of them, such as ${name}-2=…`]);
    }
    seen.add(folded);
  }
}

/**
 * Finds the option that a key of a variant means.
 *
 * @param key A key as written, in camel case or with dashes.
 * @returns The option's name, or undefined if there is none.
 */
export function optionNamed(key: string): OptionName | undefined {
  return OPTION_NAMES.find((option) => option === key || flagOf(option) === key);
}

/** The variant, or what is wrong with the text. */
function parseVariant(spec: string): VariantSpec | string {
  const colon = spec.indexOf(":");
  const head = colon < 0 ? spec : spec.slice(0, colon);
  const equals = head.indexOf("=");
  const [label, router] = equals < 0 ? [undefined, head] : [head.slice(0, equals), head.slice(equals + 1)];
  if (router === "") return "must name a router: [LABEL=]ROUTER[:OPTION=VALUE+…]";
  const settings = colon < 0 ? [] : spec.slice(colon + 1).split("+");
  const options: Record<string, unknown> = { router };
  for (const setting of settings) {
    const at = setting.indexOf("=");
    const [key, value] = at < 0 ? [setting, "true"] : [setting.slice(0, at), setting.slice(at + 1)];
    if (key === "") return "has an option without a name: [LABEL=]ROUTER[:OPTION=VALUE+…]";
    const option = optionNamed(key) ?? key;
    if (option in options) return `has the option ${key} twice`;
    options[option] = valueOf(value);
  }
  return { name: label ?? nameOf(options), options };
}

function valueOf(text: string): unknown {
  return text === "true" ? true : text === "false" ? false : numberOf(text);
}

/** A name made of the options: `switch-experts-32`. */
function nameOf({ router, ...options }: Readonly<Record<string, unknown>>): string {
  const parts = Object.entries(options).map(([key, value]) => value === true ? key : `${key}-${value}`);
  return [router, ...parts].join("-").replaceAll(/[^\w.-]+/g, "_");
}
