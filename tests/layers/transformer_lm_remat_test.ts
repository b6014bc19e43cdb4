import { assert, assertEquals } from "@std/assert";
import { valueAndGrad } from "../../src/core/grad.ts";
import { leavesOf } from "../../src/core/tree.ts";
import { languageModelLoss } from "../../src/layers/language_model_loss.ts";
import { moe } from "../../src/layers/moe.ts";
import { transformerLm, type TransformerLmLayer } from "../../src/layers/transformer_lm.ts";
import { tensor } from "../../src/ops/creation.ts";
import { key } from "../../src/ops/random.ts";
import { switchRouter } from "../../src/routing/switch_router.ts";
import { assertClose, type Tolerance } from "../support/check_primitive.ts";
import { oracleTest } from "../support/runtimes.ts";

const EXACT: Tolerance = { relative: 1e-12, absolute: 1e-12 };
const VOCABULARY = 11;

function model(remat: boolean): TransformerLmLayer<object> {
  return transformerLm({
    vocabulary: VOCABULARY,
    width: 6,
    layers: 3,
    heads: 1,
    dropout: 0.2,
    remat,
    body: () =>
      moe({
        router: switchRouter({ width: 6, experts: 3, capacityFactor: 1, jitter: 0.1 }),
        width: 6,
        inner: 5,
      }),
  });
}

const ids = tensor([[1, 5, 2, 9, 0, 3, 3], [10, 4, 4, 8, 6, 7, 1]], { dtype: "u32" });
const targets = tensor([[5, 2, 9, 0, 3, 3, 2], [4, 4, 8, 6, 7, 1, 0]], { dtype: "u32" });

oracleTest(
  "remat leaves loss, plans and gradients of a routed model as they are, dropout and masks included",
  async () => {
    const mask = tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]], { dtype: "bool" });
    const params = model(false).init(key(1));
    const [plain, remat] = [false, true].map((remat) =>
      valueAndGrad((own: typeof params) => {
        const output = model(remat).apply(own, { ids, mask }, { train: true, key: key(2) });
        const { loss, aux } = languageModelLoss(output, targets, { coefficients: { balance: 0.1, zLoss: 0.1 } });
        return [loss, { aux, plans: output.plans }] as const;
      })(params)
    );
    const expected = leavesOf(plain);
    const found = leavesOf(remat);
    assertEquals(found.map(([path]) => path), expected.map(([path]) => path));
    assert(expected.some(([path]) => path.includes("plans")) && expected.some(([path]) => path.includes("grads")));
    for (const [i, [path, leaf]] of expected.entries()) {
      assertClose([...await found[i]![1].data()].map(Number), [...await leaf.data()].map(Number), EXACT, path);
    }
  },
);
