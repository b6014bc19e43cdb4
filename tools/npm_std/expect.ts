/**
 * Stands in for `@std/expect` where JSR is out of reach: Jest's own `expect`, whose matchers that package follows.
 *
 * @module
 */
export { expect } from "npm:expect@^30";
