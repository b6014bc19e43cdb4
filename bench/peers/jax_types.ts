/**
 * What is used of jax-js, so that this folder type-checks without the package.
 *
 * @module
 */

/** An array, counted by hand: methods consume it, `ref` counts one more use. */
export interface JaxArray {
  readonly ref: JaxArray;
  readonly shape: readonly number[];
  add(other: JaxArray | number): JaxArray;
  sub(other: JaxArray | number): JaxArray;
  mul(other: JaxArray | number): JaxArray;
  div(other: JaxArray | number): JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  transpose(order: readonly number[]): JaxArray;
  dispose(): void;
  data(): Promise<Float32Array>;
}

/** The package. */
export interface Jax {
  init(backend: string): Promise<readonly string[]>;
  defaultDevice(backend: string): void;
  blockUntilReady(arrays: readonly JaxArray[]): Promise<unknown>;
  jit<F>(f: F): F;
  valueAndGrad<P>(f: (given: P) => JaxArray): (given: P) => [value: JaxArray, gradients: P];
  readonly numpy: {
    array(data: ArrayLike<number> | number, options?: { readonly shape?: number[]; readonly dtype?: string }): JaxArray;
    zerosLike(x: JaxArray): JaxArray;
    matmul(a: JaxArray, b: JaxArray): JaxArray;
    matrixTranspose(x: JaxArray): JaxArray;
    sqrt(x: JaxArray): JaxArray;
    sum(x: JaxArray, axis?: number): JaxArray;
    mean(x: JaxArray): JaxArray;
    split(x: JaxArray, parts: number, axis: number): JaxArray[];
    take(x: JaxArray, indices: JaxArray, axis: number): JaxArray;
  };
  readonly nn: {
    relu(x: JaxArray): JaxArray;
    gelu(x: JaxArray, options: { readonly approximate: boolean }): JaxArray;
    softmax(x: JaxArray, axis: number): JaxArray;
    logSoftmax(x: JaxArray, axis: number): JaxArray;
    standardize(x: JaxArray, axis: number): JaxArray;
    dotProductAttention(
      q: JaxArray,
      k: JaxArray,
      v: JaxArray,
      options: { readonly isCausal: boolean },
    ): JaxArray;
  };
}
