/**
 * PyTorch on CUDA as a yardstick for a GPU: the same work as some of this library's results, in a process of its own after
 * them. Nothing here needs PyTorch: where there is none, or no CUDA, that is said and nothing else happens.
 *
 * @module
 */
import { z } from "zod";
import { formatMs, formatNumber } from "../format.ts";
import type { BenchRun } from "../results.ts";

/** What the script prints: times by the names of this library's results, or why there are none. */
export type TorchOutput =
  | { readonly skipped: string }
  | {
    /** Name of the card. */
    readonly device: string;
    /** PyTorch's version. */
    readonly torch: string;
    /** Milliseconds of a call, and whether it was compiled. */
    readonly results: readonly { readonly name: string; readonly ms: number; readonly form: string }[];
  };

const OUTPUT: z.ZodType<TorchOutput> = z.union([
  z.object({ skipped: z.string() }),
  z.object({
    device: z.string(),
    torch: z.string(),
    results: z.array(z.object({ name: z.string(), ms: z.number(), form: z.string() })),
  }),
]);

/** Says how many times this library's time PyTorch takes, or why that was not measured. */
export function formatTorch(output: TorchOutput, { results }: Pick<BenchRun, "results">): string {
  if ("skipped" in output) return `PyTorch: skipped, ${output.skipped}`;
  const ours = new Map(results.map((result) => [result.name, result.medianMs]));
  const rows = output.results.flatMap(({ name, ms, form }) => {
    const own = ours.get(name);
    if (own === undefined) return [];
    const ratio = `${formatNumber(ms / own)}x`.padStart(7);
    return [`  ${ratio}  ${name}: ours ${formatMs(own)}, PyTorch ${formatMs(ms)} (${form})`];
  });
  const head =
    `PyTorch ${output.torch} on ${output.device}, f32 without tf32; its time over ours, above 1 where ours is faster`;
  return [head, ...(rows.length === 0 ? ["  nothing that was measured has a counterpart there"] : rows)].join("\n");
}

/** Runs PyTorch and compares. */
export async function compareWithTorch(run: Pick<BenchRun, "results">): Promise<string> {
  const script = new URL("./torch_cuda.py", import.meta.url).pathname;
  const names = run.results.filter(({ peer }) => peer === undefined).map(({ name }) => name);
  let found: Deno.CommandOutput;
  try {
    found = await new Deno.Command("python3", { args: [script, ...names], stdout: "piped", stderr: "piped" }).output();
  } catch (error) {
    return formatTorch({ skipped: `python3 does not run: ${(error as Error).message}` }, run);
  }
  const text = new TextDecoder().decode(found.stdout);
  if (found.success) return formatTorch(OUTPUT.parse(JSON.parse(text)), run);
  const lines = new TextDecoder().decode(found.stderr).trimEnd().split("\n");
  return formatTorch({ skipped: `its script failed: ${lines.at(-1)}` }, run);
}
