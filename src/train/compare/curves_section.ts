/**
 * The curves of a comparison's report: one chart for each group of variants, with the reference in all of them.
 *
 * @module
 */
import { formatNumber, html, type Markup } from "../html.ts";
import { referenceOf, type Variant } from "./comparison.ts";
import { meanCurve, type MeanPoint } from "./mean_curve.ts";
import type { ReportSource } from "./report.ts";
import { SERIES_COLORS } from "./report_style.ts";
import { drawSeries } from "./series_chart.ts";

/** Variants that share a chart. */
interface ChartGroup {
  readonly heading: string;
  readonly variants: readonly Variant[];
}

/**
 * Renders the curves.
 *
 * @param source The comparison and its results.
 * @returns A section with a chart for each group.
 */
export function curvesSection({ comparison, results }: ReportSource): Markup {
  const reference = referenceOf(comparison.variants);
  const curves = new Map(comparison.variants.map(({ name }) => {
    const runs = results.finished.filter(({ variant }) => variant === name);
    return [name, meanCurve(runs.map(({ curve }) => curve))] as const;
  }));
  const drawn = comparison.variants.filter(({ name }) => curves.get(name)!.length > 0);
  if (drawn.length === 0) return html``;
  const others = drawn.filter((variant) => variant !== reference);
  const groups = groupsOf(others.length === 0 ? drawn : others);
  return html`<section>
<h2>Curves</h2>
<p>Validation loss while training: the mean over seeds, and a band of one standard deviation to either side. The broken line is ${reference.name}.</p>
${groups.map((group) => drawGroup(group, { reference, curves }))}
</section>`;
}

interface Drawn {
  readonly reference: Variant;
  readonly curves: ReadonlyMap<string, readonly MeanPoint[]>;
}

function drawGroup({ heading, variants }: ChartGroup, { reference, curves }: Drawn): Markup {
  const lines = [
    ...variants.filter((variant) => variant !== reference).map((variant, index) => ({
      name: variant.name,
      color: `var(--series-${index})`,
      isReference: false,
      points: curves.get(variant.name)!,
    })),
    { name: reference.name, color: "var(--reference)", isReference: true, points: curves.get(reference.name)! },
  ].filter(({ points }) => points.length > 0);
  const { svg, clipped } = drawSeries(lines, `Validation loss: ${lines.map(({ name }) => name).join(", ")}`);
  const legend = lines.map(({ name, color, isReference, points }) =>
    html`<li><span class="line ${isReference ? "broken" : ""}" style="color:${color}"></span>${name} <b>${
      formatNumber(points.at(-1)!.mean, 3)
    }</b></li>`
  );
  return html`<h3>${heading}${
    clipped
      ? html`
        <span>the first points lie above the top</span>
      `
      : html``
  }</h3>
<ul class="legend">${legend}</ul>
<div class="picture">${svg}</div>`;
}

/** All in one chart where its colors suffice, otherwise by group, and groups that are too large in parts. */
function groupsOf(variants: readonly Variant[]): readonly ChartGroup[] {
  if (variants.length <= SERIES_COLORS) return [{ heading: "All variants", variants }];
  return [...Map.groupBy(variants, ({ group }) => group)].flatMap(([heading, members]) =>
    Array.from({ length: Math.ceil(members.length / SERIES_COLORS) }, (_, part) => ({
      heading: part === 0 ? heading : `${heading}, continued`,
      variants: members.slice(part * SERIES_COLORS, (part + 1) * SERIES_COLORS),
    }))
  );
}
