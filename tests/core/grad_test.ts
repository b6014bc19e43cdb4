import { assertEquals, assertThrows } from "@std/assert";
import { DTypeError, ShapeError } from "../../src/core/errors.ts";
import { grad, hessian, jacobian, stopGradient, valueAndGrad } from "../../src/core/grad.ts";
import { jit } from "../../src/core/jit.ts";
import { jvp } from "../../src/core/jvp.ts";
import type { Tensor } from "../../src/core/tensor.ts";
import { vmap } from "../../src/core/vmap.ts";
import { add, mul } from "../../src/ops/binary.ts";
import { arange, scalar, tensor, zeros } from "../../src/ops/creation.ts";
import { pow } from "../../src/ops/power.ts";
import { sum } from "../../src/ops/reduce.ts";
import { cos, exp, neg, sin, square, tanh } from "../../src/ops/unary.ts";
import { assertClose, gpuTest, oracleTest, toleranceFor } from "../support/check_primitive.ts";

type Scalar = (x: Tensor) => Tensor;

/** The derivative by forward mode, with the signature of grad. */
function forward(f: Scalar): Scalar {
  return (x) => jvp(f, [x], [scalar(1)])[1];
}

const MODES: readonly (readonly [name: string, derive: (f: Scalar) => Scalar])[] = [["grad", grad], ["jvp", forward]];

/** Modes chained to an order, outermost first: every mixture of forward and reverse. */
function mixtures(order: number): readonly { readonly name: string; readonly derive: (f: Scalar) => Scalar }[] {
  if (order === 0) return [{ name: "f", derive: (f) => f }];
  return mixtures(order - 1).flatMap(({ name, derive }) =>
    MODES.map(([mode, outer]) => ({ name: `${mode} of ${name}`, derive: (f: Scalar) => outer(derive(f)) }))
  );
}

for (const test of [oracleTest, gpuTest]) {
  for (const { name, derive } of mixtures(3)) {
    test(`${name} is the third derivative`, async () => {
      const x = 0.7;
      const t = Math.tanh(x);
      const slope = 1 - t * t;
      const found = [
        derive((x) => pow(x, 5)),
        derive((x) => sin(mul(x, x))),
        derive(tanh),
        derive((x) => exp(neg(square(x)))),
      ].map((third) => jit(third)(scalar(x)));
      const expected = [
        60 * x ** 2,
        -12 * x * Math.sin(x * x) - 8 * x ** 3 * Math.cos(x * x),
        slope * (6 * t * t - 2),
        (12 * x - 8 * x ** 3) * Math.exp(-x * x),
      ];
      const values = await Promise.all(found.map((value) => value.item()));
      const { relative, absolute } = toleranceFor("f32");
      assertClose(values, expected, { relative: 4 * relative, absolute: 4 * absolute }, name);
    });
  }

  // The two classic cases of perturbation confusion: an inner derivative that depends on the outer variable.
  for (const [outerName, outer] of MODES) {
    for (const [innerName, inner] of MODES) {
      test(`${outerName} over ${innerName} does not confuse d/dx x · d/dy (x + y)`, async () => {
        const f = (x: Tensor) => mul(x, inner((y) => add(x, y))(scalar(1)));
        assertEquals(await outer(f)(scalar(1)).item(), 1);
      });
      test(`${outerName} over ${innerName} does not confuse d/dx x · d/dy (x · y)`, async () => {
        const f = (x: Tensor) => mul(x, inner((y) => mul(x, y))(scalar(2)));
        assertEquals(await outer(f)(scalar(3)).item(), 6);
      });
    }
  }

  test("grad() of vmap() and vmap() of grad() agree with the formula", async () => {
    const f = (w: Tensor, x: Tensor) => sum(square(mul(w, sin(x))));
    const w = tensor([1, -2, 3]);
    const rows = tensor([[0.1, 0.2, 0.3], [1, 2, 3]]);
    const perExample = vmap(grad(f), [null, 0])(w, rows);
    assertEquals(perExample.shape, [2, 3]);
    const expected = [0.1, 0.2, 0.3, 1, 2, 3].map((x, i) => 2 * [1, -2, 3][i % 3]! * Math.sin(x) ** 2);
    assertClose(await perExample.data(), expected, toleranceFor("f32"), "vmap of grad");
    const total = grad((w: Tensor, rows: Tensor) => sum(vmap(f, [null, 0])(w, rows)))(w, rows);
    const summed = [0, 1, 2].map((i) => expected[i]! + expected[i + 3]!);
    assertClose(await total.data(), summed, toleranceFor("f32"), "grad of vmap");
  });

  test("jacobian() and hessian() of trees have a leaf for each pair", async () => {
    const f = ({ a, b }: { a: Tensor; b: Tensor }) => sum(mul(mul(a, a), b));
    const at = { a: tensor([1, 2]), b: tensor([3, 4]) };
    const second = hessian(f)(at);
    assertEquals([...await second.a.a.data()], [6, 0, 0, 8]);
    assertEquals([...await second.a.b.data()], [2, 0, 0, 4]);
    assertEquals([...await second.b.a.data()], [2, 0, 0, 4]);
    assertEquals([...await second.b.b.data()], [0, 0, 0, 0]);
    const first = jacobian(({ a, b }: { a: Tensor; b: Tensor }) => ({ product: mul(a, b) }))(at);
    assertEquals(first.product.a.shape, [2, 2]);
    assertEquals([...await first.product.a.data()], [3, 0, 0, 4]);
  });

  test("valueAndGrad() returns the value, the rest and gradients in one evaluation", async () => {
    const step = valueAndGrad((p: { w: Tensor }, x: Tensor) => {
      const prediction = mul(p.w, x);
      return [sum(square(prediction)), { prediction, note: "kept" }] as const;
    });
    const { value, aux, grads } = jit(step)({ w: tensor([1, 2]) }, tensor([3, 1]));
    assertEquals([await value.item(), [...await aux.prediction.data()], aux.note], [13, [3, 2], "kept"]);
    assertEquals([...await grads.w.data()], [18, 4]);
    assertEquals(valueAndGrad((x: Tensor) => sum(x))(tensor([1])).aux, null);
  });
}

oracleTest("grad() reaches tensors that inner functions close over", async () => {
  const f = (w: Tensor) => {
    const inner = grad((x: Tensor) => sum(mul(mul(x, x), w)));
    return sum(mul(inner(tensor([2, 3])), w)); // Σ 2·x·w²
  };
  assertEquals([...await grad(f)(tensor([1, 10])).data()], [8, 120]);
});

oracleTest("grad() gives zeros of their own type to integer leaves and to what is unused", async () => {
  const grads = grad((p: { w: Tensor; ids: Tensor; unused: Tensor }) => sum(p.w))({
    w: tensor([1, 2]),
    ids: arange(3),
    unused: zeros([2, 2]),
  });
  assertEquals([grads.ids.dtype, [...await grads.ids.data()]], ["u32", [0, 0, 0]]);
  assertEquals([...await grads.unused.data()], [0, 0, 0, 0]);
  assertEquals([...await grads.w.data()], [1, 1]);
});

oracleTest("grad() differentiates the argument that was asked for", async () => {
  const f = (a: Tensor, b: Tensor) => mul(square(a), b);
  assertEquals(await grad(f)(scalar(3), scalar(5)).item(), 30);
  assertEquals(await grad(f, { argument: 1 })(scalar(3), scalar(5)).item(), 9);
});

oracleTest("grad() counts every use of one tensor", async () => {
  const f = (pair: readonly [Tensor, Tensor]) => mul(pair[0], pair[1]);
  const x = scalar(3);
  const [a, b] = grad(f)([x, x]);
  assertEquals([await a.item(), await b.item()], [3, 3]);
  assertEquals(await grad((x: Tensor) => f([x, x]))(x).item(), 6);
});

oracleTest("stopGradient() makes a tree constant", async () => {
  const f = (x: Tensor) => {
    const { held } = stopGradient({ held: x });
    return mul(held, x);
  };
  assertEquals(await grad(f)(scalar(3)).item(), 3);
  assertEquals(await forward(f)(scalar(3)).item(), 3);
  assertEquals(await grad((x: Tensor) => stopGradient(cos(x)))(scalar(3)).item(), 0);
});

oracleTest("grad() and jvp() walk a chain of 100,000 nodes", async () => {
  const f = (x: Tensor) => {
    let y = x;
    for (let i = 0; i < 50_000; i++) y = add(mul(y, 0.9999), 1);
    return y;
  };
  const expected = 0.9999 ** 50_000;
  assertClose([await grad(f)(scalar(1)).item()], [expected], { relative: 1e-9, absolute: 0 }, "grad");
  assertClose([await forward(f)(scalar(1)).item()], [expected], { relative: 1e-9, absolute: 0 }, "jvp");
});

Deno.test("grad() refuses a loss that is not one float", () => {
  const x = tensor([1, 2]);
  const vector = assertThrows(() => grad((x: Tensor) => x)(x), ShapeError);
  assertEquals(
    vector.message.replace(/at {2}.*/, "at  here"),
    "Cannot differentiate: the function must return one float, it returned f32[2]\n  op  grad\n  at  here\nFix: reduce the loss with mean() or sum(); return extra values through valueAndGrad's aux",
  );
  const integer = assertThrows(() => grad((_: Tensor) => scalar(1, { dtype: "i32" }))(x), DTypeError);
  assertEquals(integer.code, "grad/scalar");
});
