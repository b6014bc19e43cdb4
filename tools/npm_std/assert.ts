/**
 * Stands in for `@std/assert` where JSR is out of reach: the functions that the tests and examples use, with the same
 * signatures, over Node's strict assertions.
 *
 * @module
 */
import nodeAssert from "node:assert/strict";

// deno-lint-ignore no-explicit-any -- a class may take any arguments
type AnyConstructor = new (...args: any[]) => any;
// deno-lint-ignore no-explicit-any -- as above; abstract error classes count too
type ErrorClass<E extends Error> = abstract new (...args: any[]) => E;

/** Is thrown by every assertion that does not hold. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/** Runs one of Node's assertions and puts the caller's own words, if any, in front of its message. */
function translated(check: () => void, message: string | undefined): void {
  try {
    check();
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new AssertionError(message === undefined ? reason : `${message}: ${reason}`);
  }
}

function failUnless(condition: boolean, reason: string, message: string | undefined): void {
  if (!condition) throw new AssertionError(message === undefined ? reason : `${message}: ${reason}`);
}

/** Fails in any case. */
export function fail(message?: string): never {
  throw new AssertionError(message === undefined ? "Failed" : `Failed: ${message}`);
}

/** Asserts that a value is truthy. */
export function assert(value: unknown, message: string = ""): asserts value {
  if (!value) throw new AssertionError(message);
}

/** Asserts that a value is falsy. */
export function assertFalse(value: unknown, message: string = ""): void {
  if (value) throw new AssertionError(message);
}

/** Asserts that two values are deeply equal. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  translated(() => nodeAssert.deepStrictEqual(actual, expected), message);
}

/** Asserts that two values are not deeply equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  translated(() => nodeAssert.notDeepStrictEqual(actual, expected), message);
}

/** Asserts that two values are the same by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  translated(() => nodeAssert.strictEqual(actual, expected), message);
}

/** Asserts that two values are not the same by `Object.is`. */
export function assertNotStrictEquals<T>(actual: T, expected: T, message?: string): void {
  translated(() => nodeAssert.notStrictEqual(actual, expected), message);
}

/** Asserts that two numbers differ by at most `tolerance`: by default 1e-7 of the expected one. */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, message?: string): void {
  if (Object.is(actual, expected)) return;
  const allowed = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected) * 1e-7 : 1e-7);
  const difference = Math.abs(actual - expected);
  failUnless(difference <= allowed, `${actual} is ${difference} away from ${expected}, more than ${allowed}`, message);
}

/** Asserts that a value is neither null nor undefined. */
export function assertExists<T>(value: T, message?: string): asserts value is NonNullable<T> {
  failUnless(value !== undefined && value !== null, `${value} should be neither null nor undefined`, message);
}

/** Asserts that a text contains another. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  failUnless(actual.includes(expected), `"${actual}" does not contain "${expected}"`, message);
}

/** Asserts that an array contains every given element, by deep equality. */
export function assertArrayIncludes<T>(actual: ArrayLike<T>, expected: ArrayLike<T>, message?: string): void {
  for (const wanted of Array.from(expected)) {
    const isThere = Array.from(actual).some((element) => isDeepEqual(element, wanted));
    failUnless(isThere, `${Deno.inspect(actual)} does not contain ${Deno.inspect(wanted)}`, message);
  }
}

function isDeepEqual(left: unknown, right: unknown): boolean {
  try {
    nodeAssert.deepStrictEqual(left, right);
    return true;
  } catch {
    return false;
  }
}

/** Asserts that a text matches a pattern. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  translated(() => nodeAssert.match(actual, expected), message);
}

/** Asserts that a text does not match a pattern. */
export function assertNotMatch(actual: string, expected: RegExp, message?: string): void {
  translated(() => nodeAssert.doesNotMatch(actual, expected), message);
}

/** Asserts that an object has at least the given properties, each deeply equal. */
export function assertObjectMatch(
  // deno-lint-ignore no-explicit-any -- interfaces lack the index signature that `unknown` would demand
  actual: Record<PropertyKey, any>,
  expected: Record<PropertyKey, unknown>,
  message?: string,
): void {
  translated(() => nodeAssert.partialDeepStrictEqual(actual, expected), message);
}

/** Asserts that `actual > expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  failUnless(actual > expected, `${actual} is not greater than ${expected}`, message);
}

/** Asserts that `actual >= expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, message?: string): void {
  failUnless(actual >= expected, `${actual} is less than ${expected}`, message);
}

/** Asserts that `actual < expected`. */
export function assertLess<T>(actual: T, expected: T, message?: string): void {
  failUnless(actual < expected, `${actual} is not less than ${expected}`, message);
}

/** Asserts that `actual <= expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  failUnless(actual <= expected, `${actual} is greater than ${expected}`, message);
}

/** Asserts that a value is an instance of a class. */
export function assertInstanceOf<T extends AnyConstructor>(
  actual: unknown,
  expectedType: T,
  message?: string,
): asserts actual is InstanceType<T> {
  failUnless(actual instanceof expectedType, `${Deno.inspect(actual)} is no ${expectedType.name}`, message);
}

/** Asserts that a value is an error, of a class and with a part of its message if they are given. */
export function assertIsError<E extends Error = Error>(
  error: unknown,
  errorClass?: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): asserts error is E {
  failUnless(error instanceof Error, `${Deno.inspect(error)} is no Error`, message);
  if (!(error instanceof Error)) return;
  if (errorClass !== undefined) {
    const found = `${error.constructor.name}: ${error.message}`;
    failUnless(error instanceof errorClass, `expected ${errorClass.name}, got ${found}`, message);
  }
  if (messageIncludes !== undefined) assertStringIncludes(error.message, messageIncludes, message);
}

/** What `assertThrows` and `assertRejects` may be given after the function, sorted out. */
interface Expectation {
  readonly errorClass?: ErrorClass<Error> | undefined;
  readonly messageIncludes?: string | undefined;
  readonly message?: string | undefined;
}

function expectation(
  errorClassOrMessage: ErrorClass<Error> | string | undefined,
  messageIncludes: string | undefined,
  message: string | undefined,
): Expectation {
  return typeof errorClassOrMessage === "string"
    ? { message: errorClassOrMessage }
    : { errorClass: errorClassOrMessage, messageIncludes, message };
}

/** Checks what was thrown; without an expected class any value will do. */
function checkThrown(thrown: unknown, { errorClass, messageIncludes, message }: Expectation): unknown {
  if (errorClass !== undefined) assertIsError(thrown, errorClass, messageIncludes, message);
  return thrown;
}

/** Asserts that a function throws, and returns what it threw. */
export function assertThrows(fn: () => unknown, message?: string): unknown;
/** Asserts that a function throws an error of a class, with a part of its message if given, and returns the error. */
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  errorClassOrMessage?: ErrorClass<Error> | string,
  messageIncludes?: string,
  message?: string,
): unknown {
  const expected = expectation(errorClassOrMessage, messageIncludes, message);
  try {
    fn();
  } catch (thrown) {
    return checkThrown(thrown, expected);
  }
  throw new AssertionError(
    `${expected.message === undefined ? "" : `${expected.message}: `}expected function to throw`,
  );
}

/** Asserts that a promise is rejected, and resolves to the reason. */
export function assertRejects(fn: () => PromiseLike<unknown>, message?: string): Promise<unknown>;
/** Asserts that a promise is rejected with an error of a class, with a part of its message if given, and resolves to it. */
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  errorClass: ErrorClass<E>,
  messageIncludes?: string,
  message?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  errorClassOrMessage?: ErrorClass<Error> | string,
  messageIncludes?: string,
  message?: string,
): Promise<unknown> {
  const expected = expectation(errorClassOrMessage, messageIncludes, message);
  const prefix = expected.message === undefined ? "" : `${expected.message}: `;
  let promise: PromiseLike<unknown>;
  try {
    promise = fn();
  } catch {
    throw new AssertionError(`${prefix}expected function to reject, but it threw`);
  }
  try {
    await promise;
  } catch (thrown) {
    return checkThrown(thrown, expected);
  }
  throw new AssertionError(`${prefix}expected function to reject`);
}
