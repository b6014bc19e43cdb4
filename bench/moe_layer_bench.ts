/**
 * How long does a whole mixture of experts take: gate, choice, plan and experts, forward and with all gradients?
 *
 * `execute_bench.ts` measures the experts alone under a load that is forced. Here a random gate chooses, so loads are a
 * little uneven, as they are in training.
 *
 * @module
 */
import {
  type DeviceInfo,
  execute,
  type HostData,
  jit,
  type Jitted,
  mul,
  read,
  realize,
  sum,
  type Tensor,
  tensor,
  topKRouter,
  valueAndGrad,
} from "../mod.ts";
import { randomSource } from "../tests/support/random.ts";
import { registerBenches } from "./deno_bench.ts";
import type { Built, Question } from "./harness.ts";
import { expectDefinition } from "./host_experts.ts";
import { addGateGradients, chooseOnHost, type HostChoices, slotsOf } from "./host_gate.ts";
import { checkedTokens, LARGE_MIXTURE, type Mixture, SMALL_MIXTURE } from "./mixture.ts";
import { floats, type HostArray, integers } from "./peers/task.ts";
import { expectClose } from "./verify.ts";

/** What the layer is differentiated by. */
interface Given {
  /** f32[T, D]. */
  readonly hidden: Tensor;
  /** f32[D, E]. */
  readonly gate: Tensor;
  /** f32[E, D, F]. */
  readonly up: Tensor;
  /** f32[E, F, D]. */
  readonly down: Tensor;
}

type GivenArrays = Readonly<Record<keyof Given, HostArray>>;

interface Compiled {
  readonly forward: Jitted<[given: Given], Tensor>;
  readonly both: Jitted<[given: Given, cotangent: Tensor], Given>;
}

function compile({ width, experts, k }: Mixture): Compiled {
  const router = topKRouter({ width, experts, k });
  function apply({ hidden, gate, up, down }: Given): Tensor {
    const plan = router.route({ gate }, { hidden });
    return execute(plan, hidden, { up, down }, { activation: "gelu", body: "ffn", preactivations: "kept" });
  }
  return {
    forward: jit(apply, { name: "mixture" }),
    both: jit(
      (given: Given, cotangent: Tensor) =>
        valueAndGrad((given: Given): Tensor => sum(mul(apply(given), cotangent)))(given).grads,
      { name: "mixture with gradient" },
    ),
  };
}

function randomArrays({ tokens, width, experts, inner }: Mixture): GivenArrays {
  const random = randomSource(3);
  const normals = (shape: readonly number[], deviation: number): HostArray =>
    floats(
      shape,
      Float32Array.from(random.normals(shape.reduce((product, size) => product * size, 1)), (x) => x * deviation),
    );
  return {
    hidden: normals([tokens, width], 1),
    gate: normals([width, experts], 1 / Math.sqrt(width)),
    up: normals([experts, width, inner], 1 / Math.sqrt(width)),
    down: normals([experts, inner, width], 1 / Math.sqrt(inner)),
  };
}

/** Zero but for some tokens, so that the host has only these to compute; how long a call takes does not depend on it. */
function sparseCotangent({ tokens, width }: Mixture, checked: readonly number[]): Float32Array {
  const random = randomSource(4);
  const cotangent = new Float32Array(tokens * width);
  for (const token of checked) {
    for (let d = 0; d < width; d++) cotangent[token * width + d] = random.uniform(-1, 1);
  }
  return cotangent;
}

function upload(array: HostArray): Tensor {
  return tensor(array.data, { shape: array.shape, dtype: array.dtype });
}

function build(mixture: Mixture): Built {
  const { tokens, width, experts, inner, k } = mixture;
  const arrays = randomArrays(mixture);
  const checked = checkedTokens(mixture);
  const cotangent = sparseCotangent(mixture, checked);
  const inputs = realize({
    given: {
      hidden: upload(arrays.hidden),
      gate: upload(arrays.gate),
      up: upload(arrays.up),
      down: upload(arrays.down),
    },
    cotangent: tensor(cotangent, { shape: [tokens, width] }),
  });
  const { forward, both } = compile(mixture);
  let known: HostChoices | null = null;
  const chosen = (): HostChoices => known ??= chooseOnHost(arrays.hidden.data, arrays.gate.data, mixture);

  /** Compares what was computed, the output or the gradients or both, with the definition. */
  function expectLayer({ out, hidden, gate, up, down }: Partial<Readonly<Record<string, HostData>>>): void {
    const { indices: choices, weights: weight } = chosen();
    const experts = { width, inner, k, hidden: arrays.hidden.data, up: arrays.up.data, down: arrays.down.data };
    const hasGradients = hidden !== undefined && up !== undefined && down !== undefined;
    expectDefinition("mixture", { ...experts, choices, weight }, {
      ...(out === undefined ? {} : { out }),
      ...(hasGradients ? { grads: { hidden, up, down } } : {}),
    }, {
      checked,
      cotangent,
      adjust(gradients) {
        const expected = addGateGradients(gradients, chosen(), { ...mixture, ...arrays, checked });
        if (gate !== undefined) expectClose("mixture, gradient of gate", gate, expected, inner * k);
      },
    });
  }

  const multiplied = 2 * tokens * k * width * inner;
  const gated = 2 * tokens * width * experts;
  const passed = 4 * tokens * width;
  const stored = 4 * experts * width * (2 * inner + 1);
  return {
    contenders: [
      {
        name: "forward",
        work: { flop: 2 * multiplied + gated, bytes: 2 * passed + stored },
        run: () => forward(inputs.given),
      },
      {
        name: "forward+backward",
        work: { flop: 3 * (2 * multiplied + gated), bytes: 3 * passed + 2 * stored },
        run: () => both(inputs.given, inputs.cotangent),
      },
    ],
    inputs,
    async verify() {
      expectLayer(await read({ out: forward(inputs.given), ...both(inputs.given, inputs.cotangent) }));
    },
    peers: ([["forward", false], ["forward+backward", true]] as const).map(([contender, backward]) => ({
      contender,
      task: { kind: "moe", backward },
      inputs() {
        const { slotToken, assignmentSlot, oneHotChoices } = slotsOf(chosen(), mixture);
        return {
          ...arrays,
          cotangent: floats([tokens, width], cotangent),
          slotToken: integers([slotToken.length], slotToken),
          assignmentSlot: integers([tokens * k], assignmentSlot),
          oneHotChoices: floats([tokens, k, experts], oneHotChoices),
        };
      },
      check: expectLayer,
    })),
  };
}

const MIXTURES: Readonly<Record<string, Mixture>> = {
  "small top-1": SMALL_MIXTURE,
  "small top-2": { ...SMALL_MIXTURE, k: 2 },
  "large top-2": LARGE_MIXTURE,
};

/** The question for `deno task bench`. */
export const moeLayerQuestion: Question = {
  name: "moe_layer",
  asks: "How long does a whole mixture of experts take: gate, choice, plan and experts?",
  workloads: (_device: DeviceInfo) =>
    Object.entries(MIXTURES).map(([name, mixture]) => {
      const { tokens, width, experts, inner, k } = mixture;
      return {
        name,
        shapes: `hidden f32[${tokens},${width}], ${k} of ${experts} experts, up f32[${width},${inner}] each`,
        build: () => build(mixture),
      };
    }),
};

await registerBenches(moeLayerQuestion, import.meta);
