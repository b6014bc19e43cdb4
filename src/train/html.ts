/**
 * Text into HTML, safely, and numbers into text.
 *
 * @module
 */

/** Markup that is safe to insert as it is. */
export interface Markup {
  /** The HTML. */
  readonly html: string;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "&": "&amp;",
  "<": "&lt;",
  ">": "&gt;",
  '"': "&quot;",
  "'": "&#39;",
};

/**
 * Builds markup from a template: whatever is filled in is escaped, unless it is markup itself.
 *
 * @param strings The literal parts of the template.
 * @param values Text, numbers, markup, or lists of markup.
 * @returns The markup.
 */
export function html(
  strings: TemplateStringsArray,
  ...values: readonly (string | number | Markup | readonly Markup[])[]
): Markup {
  const filled = values.map((value) => {
    if (typeof value === "string" || typeof value === "number") return escapeHtml(String(value));
    return [value].flat().map((part) => (part as Markup).html).join("");
  });
  return { html: String.raw({ raw: strings }, ...filled) };
}

/**
 * Escapes text for element content and quoted attributes, and makes control characters visible.
 *
 * @param text Any text.
 * @returns Text that no parser takes for markup.
 */
export function escapeHtml(text: string): string {
  return showControls(text).replace(/[&<>"']/g, (character) => ESCAPES[character]!);
}

/**
 * Puts pictures in the place of control characters, which HTML and SVG forbid; newlines and tabs stay.
 *
 * @param text Any text.
 * @returns Text of the same length.
 */
export function showControls(text: string): string {
  return text
    // deno-lint-ignore no-control-regex -- control characters are the subject
    .replace(/[\0-\x08\x0b-\x1f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)))
    .replaceAll("\x7f", "\u2421");
}

/**
 * Formats a number with thousands separators and at most `digits` decimals, the same in every locale.
 *
 * @param value Any number; one that is not finite gives a dash.
 * @param digits Decimals kept.
 * @returns The text.
 */
export function formatNumber(value: number, digits: number = 0): string {
  if (!Number.isFinite(value)) return "–";
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/**
 * Formats a count in three digits and a unit: 1.23 k, 45.6 M, 7.89 G.
 *
 * @param value A count, not negative.
 * @returns The text, with a narrow space before the unit.
 */
export function formatCount(value: number): string {
  if (!Number.isFinite(value)) return "–";
  const units = ["", "k", "M", "G", "T"];
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  if (unit === 0) return formatNumber(value, Number.isInteger(value) ? 0 : 1);
  return `${value.toPrecision(3)}\u202f${units[unit]}`;
}

/**
 * Formats a duration by its two largest units.
 *
 * @param seconds Not negative.
 * @returns Text such as `42 s`, `4 min 20 s` or `1 h 5 min`.
 */
export function formatDuration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor(whole % 3600 / 60)} min`;
}
