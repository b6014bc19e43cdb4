/**
 * The router most others are settings of: a linear gate, a score, the k best experts, their weights, a capacity.
 *
 * Each piece has its file: `score.ts`, `capacity.ts`, `aux_losses.ts`, `plan.ts`; here they are put in order.
 *
 * @module
 */
import { castTo } from "../core/arithmetic.ts";
import { type Key } from "../core/key.ts";
import type { Tensor } from "../core/tensor.ts";
import { mul } from "../ops/binary.ts";
import { matmul } from "../ops/matmul.ts";
import { belowOne, count, expectOptions, numberThat, oneOf, type OptionShape, positive, positiveCount } from "../ops/options.ts";
import { normal, truncatedNormal, uniform } from "../ops/samplers.ts";
import { topK } from "../ops/top_k.ts";
import { z } from "zod";
import { balanceLoss, meanOverTokens, zLoss } from "./aux_losses.ts";
import { type CapacityOrder, expertCapacity } from "./capacity.ts";
import { routingGroups } from "./groups.ts";
import { choicesByGroup, planFromTopK } from "./plan.ts";
import type { DispatchPlan, RouteContext, Router, Tokens } from "./plan_types.ts";
import { type Score, scoreLogits, type WeightRule, weighChosen } from "./score.ts";
import { expectArgument, expectKey, expectTokens } from "./tokens.ts";
