/**
 * The mixture of experts in jax-js, in two forms: rows gathered into padded slots, or every expert for every token.
 *
 * @module
 */
import type { Jax, JaxArray } from "./jax_types.ts";

type Named = Readonly<Record<string, JaxArray>>;

/** Parameters that gradients are taken by, in the order of the outputs. */
const DIFFERENTIATED = ["hidden", "gate", "up", "down"] as const;

/**
 * A function of the inputs in their order, and the names of its results.
 *
 * Who goes where is given to it ready made, which is in its favor: `slotToken` i32[E * C] names the token in each slot,
 * `assignmentSlot` i32[T * K] the slot of each assignment, `oneHotChoices` f32[T, K, E] its expert.
 */
export function jaxMixture(
  jax: Jax,
  { backward }: { readonly backward: boolean },
  inputNames: readonly string[],
  form: string,
): { readonly names: readonly string[]; apply(...inputs: JaxArray[]): JaxArray[] } {
  const layer = form.endsWith("dense") ? denseMixture : gatheredMixture;
  return {
    names: backward ? DIFFERENTIATED : ["out"],
    apply(...inputs: JaxArray[]): JaxArray[] {
      const { cotangent, ...named } = Object.fromEntries(inputNames.map((name, i) => [name, inputs[i]!]));
      if (!backward) {
        cotangent!.dispose();
        return [layer(jax, named)];
      }
      const [value, gradients] = jax.valueAndGrad((given: JaxArray[]) => {
        const replaced = Object.fromEntries(DIFFERENTIATED.map((name, i) => [name, given[i]!]));
        // Row by row first, see crossEntropy.
        return jax.numpy.sum(jax.numpy.sum(layer(jax, { ...named, ...replaced }).mul(cotangent!), -1));
      })(DIFFERENTIATED.map((name) => named[name]!));
      value.dispose();
      return gradients;
    },
  };
}

/** Weight of each assignment, [T, K]: the softmax score of its expert. */
function weights({ numpy: np, nn }: Jax, hidden: JaxArray, gate: JaxArray, oneHotChoices: JaxArray): JaxArray {
  const [tokens, , experts] = oneHotChoices.shape as [number, number, number];
  const scores = nn.softmax(np.matmul(hidden, gate), -1).reshape([tokens, 1, experts]);
  return np.sum(scores.mul(oneHotChoices), -1);
}

function gatheredMixture(jax: Jax, named: Named): JaxArray {
  const { numpy: np, nn } = jax;
  const { hidden, gate, up, down, slotToken, assignmentSlot, oneHotChoices } = named as Required<Named>;
  const [tokens, k, experts] = oneHotChoices!.shape as [number, number, number];
  const width = hidden!.shape[1]!;
  const weight = weights(jax, hidden!.ref, gate!, oneHotChoices!);
  const rows = np.take(hidden!, slotToken!, 0);
  const raised = np.matmul(rows.reshape([experts, -1, width]), up!); // [E, C, F]
  const put = np.matmul(nn.gelu(raised, { approximate: true }), down!).reshape([-1, width]); // [E * C, D]
  const ofAssignments = np.take(put, assignmentSlot!, 0).reshape([tokens, k, width]);
  return np.sum(ofAssignments.mul(weight.reshape([tokens, k, 1])), 1);
}

function denseMixture(jax: Jax, named: Named): JaxArray {
  const { numpy: np, nn } = jax;
  const { hidden, gate, up, down, slotToken, assignmentSlot, oneHotChoices } = named as Required<Named>;
  slotToken!.dispose();
  assignmentSlot!.dispose();
  const [tokens, , experts] = oneHotChoices!.shape as [number, number, number];
  const width = hidden!.shape[1]!;
  const scores = nn.softmax(np.matmul(hidden!.ref, gate!), -1).mul(np.sum(oneHotChoices!, 1)); // [T, E]
  const raised = np.matmul(hidden!.reshape([1, tokens, width]), up!); // [E, T, F]
  const put = np.matmul(nn.gelu(raised, { approximate: true }), down!); // [E, T, D]
  return np.sum(put.mul(scores.transpose([1, 0]).reshape([experts, tokens, 1])), 0);
}
