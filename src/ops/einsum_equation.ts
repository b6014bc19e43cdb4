/**
 * Reading an einsum equation: labels for every axis, sizes for every label, and errors that quote the equation.
 *
 * @module
 */
import { ShapeError } from "../core/errors.ts";
import { type Aval, formatAval } from "../core/shape.ts";

/** Name of an axis: a letter, or `.n` for the nth axis from the right that an ellipsis covers. */
export type Label = string;

/** An equation applied to operands. */
export interface Equation {
  /** Labels of each operand's axes. */
  readonly inputs: readonly (readonly Label[])[];
  /** Labels of the result's axes. */
  readonly output: readonly Label[];
  /** Size of each label. */
  readonly sizes: ReadonlyMap<Label, number>;
}

const SYNTAX = 'write one term of letters (and at most one ...) for each operand, such as "bij,bjk->bik"';

function invalid(equation: string, why: string, operands: readonly Aval[], fix: string = SYNTAX): ShapeError {
  return new ShapeError("shape/einsum", {
    summary: `Cannot evaluate einsum "${equation}": ${why}`,
    facts: operands.map((operand, i) => [`operand ${i}`, formatAval(operand)] as const),
    fix,
    details: { equation, shapes: operands.map(({ shape }) => shape) },
  });
}

/** Splits a term into letters, with "..." as one entry. */
function lettersOf(term: string): readonly string[] | null {
  return /^[A-Za-z]*(\.\.\.)?[A-Za-z]*$/.test(term) ? term.match(/\.\.\.|[A-Za-z]/g) ?? [] : null;
}

/** Replaces the ellipsis by one label for each axis it covers, numbered from the right so that they align. */
function spell(letters: readonly string[], covered: number): readonly Label[] {
  return letters.flatMap((letter) =>
    letter === "..." ? Array.from({ length: covered }, (_, i) => `.${covered - i}`) : [letter]
  );
}

/**
 * Reads an equation for some operands.
 *
 * @throws {ShapeError} If it is malformed, does not fit the operands' ranks, or gives one label two sizes.
 */
export function readEquation(equation: string, operands: readonly Aval[]): Equation {
  const [left = "", right, ...rest] = equation.replaceAll(" ", "").split("->");
  if (rest.length > 0) throw invalid(equation, "it has more than one arrow", operands);
  const terms = left.split(",");
  if (terms.length !== operands.length) {
    throw invalid(
      equation,
      `it has ${terms.length} ${terms.length === 1 ? "term" : "terms"} for ${operands.length} operands`,
      operands,
    );
  }
  const covered: number[] = [];
  const inputs = terms.map((term, i) => {
    const letters = lettersOf(term);
    if (letters === null) throw invalid(equation, `"${term}" is not a term`, operands);
    const rank = operands[i]!.shape.length;
    const named = letters.filter((letter) => letter !== "...").length;
    const fits = letters.includes("...") ? rank >= named : rank === named;
    if (!fits) {
      throw invalid(equation, `"${term}" names ${named} axes, but operand ${i} has ${rank}`, operands);
    }
    covered.push(rank - named);
    return spell(letters, rank - named);
  });
  const sizes = sizesOf(equation, inputs, operands);
  const widest = Math.max(0, ...covered);
  const output = right === undefined
    ? implicitOutput(inputs, widest)
    : explicitOutput(equation, right, sizes, widest, operands);
  return { inputs, output, sizes };
}

function sizesOf(
  equation: string,
  inputs: readonly (readonly Label[])[],
  operands: readonly Aval[],
): Map<Label, number> {
  const sizes = new Map<Label, number>();
  inputs.forEach((labels, i) =>
    labels.forEach((label, axis) => {
      const size = operands[i]!.shape[axis]!;
      const before = sizes.get(label);
      const broadcasts = label.startsWith(".") && (size === 1 || before === 1);
      if (before !== undefined && before !== size && !broadcasts) {
        const name = label.startsWith(".") ? "an axis under ..." : `"${label}"`;
        throw invalid(
          equation,
          `${name} has sizes ${before} and ${size}`,
          operands,
          "give one label one size everywhere",
        );
      }
      if (before === undefined || before === 1) sizes.set(label, size);
    })
  );
  return sizes;
}

/** Without an arrow: the axes under the ellipsis, then every letter that occurs once, in alphabetical order. */
function implicitOutput(inputs: readonly (readonly Label[])[], widest: number): readonly Label[] {
  const all = inputs.flat().filter((label) => !label.startsWith("."));
  const once = all.filter((label) => all.indexOf(label) === all.lastIndexOf(label)).sort();
  return [...spell(["..."], widest), ...once];
}

function explicitOutput(
  equation: string,
  term: string,
  sizes: ReadonlyMap<Label, number>,
  widest: number,
  operands: readonly Aval[],
): readonly Label[] {
  const letters = lettersOf(term);
  if (letters === null) throw invalid(equation, `"${term}" is not a term`, operands);
  const repeated = letters.find((letter, i) => letters.indexOf(letter) !== i);
  if (repeated !== undefined) {
    throw invalid(equation, `the result repeats "${repeated}"`, operands, "name each axis of the result once");
  }
  const unknown = letters.find((letter) => letter !== "..." && !sizes.has(letter));
  if (unknown !== undefined) {
    throw invalid(
      equation,
      `the result has "${unknown}", which no operand has`,
      operands,
      "use labels of the operands",
    );
  }
  if (widest > 0 && !letters.includes("...")) {
    throw invalid(
      equation,
      "the result leaves out the ... of the operands",
      operands,
      'add ... to the result, as in "...i->..."',
    );
  }
  return spell(letters, widest);
}
