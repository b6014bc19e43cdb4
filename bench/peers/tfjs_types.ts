/**
 * What is used of TensorFlow.js, so that this folder type-checks without the packages.
 *
 * @module
 */

/** A tensor, freed by `dispose` or at the end of a `tidy`. */
export interface TfTensor {
  readonly shape: readonly number[];
  data(): Promise<Float32Array>;
  dispose(): void;
}

/** A tensor that optimizers replace in place. */
export interface TfVariable extends TfTensor {
  assign(value: TfTensor): void;
}

/** An optimizer. */
export interface TfOptimizer {
  minimize(loss: () => TfTensor, returnCost: true, variables: readonly TfVariable[]): TfTensor;
}

type Operand = TfTensor | number;

/** The package. */
export interface TensorFlow {
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  backend(): {
    endComputePassEncoder?(): void;
    submitQueue?(): void;
    readonly commandEncoder?: GPUCommandEncoder | null;
    readonly device?: GPUDevice;
  };
  tidy<T>(f: () => T): T;
  keep<T extends TfTensor>(x: T): T;
  tensor(data: ArrayLike<number>, shape: number[], dtype: string): TfTensor;
  variable(x: TfTensor): TfVariable;
  dispose(tree: unknown): void;
  add(a: Operand, b: Operand): TfTensor;
  sub(a: Operand, b: Operand): TfTensor;
  mul(a: Operand, b: Operand): TfTensor;
  div(a: Operand, b: Operand): TfTensor;
  neg(x: TfTensor): TfTensor;
  sqrt(x: TfTensor): TfTensor;
  square(x: TfTensor): TfTensor;
  rsqrt(x: TfTensor): TfTensor;
  sigmoid(x: TfTensor): TfTensor;
  relu(x: TfTensor): TfTensor;
  matMul(a: TfTensor, b: TfTensor, transposeA?: boolean, transposeB?: boolean): TfTensor;
  softmax(x: TfTensor): TfTensor;
  logSoftmax(x: TfTensor): TfTensor;
  sum(x: TfTensor, axis?: number, keepDims?: boolean): TfTensor;
  mean(x: TfTensor, axis?: number, keepDims?: boolean): TfTensor;
  reshape(x: TfTensor, shape: readonly number[]): TfTensor;
  transpose(x: TfTensor, order: readonly number[]): TfTensor;
  split(x: TfTensor, parts: number, axis: number): TfTensor[];
  gather(x: TfTensor, indices: TfTensor): TfTensor;
  grads(f: (...given: TfTensor[]) => TfTensor): (given: readonly TfTensor[]) => TfTensor[];
  readonly train: {
    sgd(learningRate: number): TfOptimizer;
    adam(learningRate: number, beta1: number, beta2: number, epsilon: number): TfOptimizer;
  };
}
