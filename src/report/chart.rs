//! One measure before and after a change as two bars with their spread, drawn as inline SVG without any text.

use crate::measure::{Measure, Sample, Unit};
use std::fmt::Write as _;

/// Units of the drawing from its left to its right.
const WIDTH: f64 = 1000.0;

/// The bars of a measure. Both begin at nothing and have one scale, so their lengths may be compared.
pub fn bars(measure: &Measure, label: &str) -> String {
    let sides = [("before", measure.before, 4.0), ("after", measure.after, 18.0)];
    let top = scale(measure);
    let mut svg = format!(
        "<svg class=\"bars\" viewBox=\"0 0 {WIDTH:.0} 32\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
    );
    for (class, sample, y) in sides {
        let _ = write!(svg, "<rect class=\"track\" x=\"0\" y=\"{y}\" width=\"{WIDTH:.0}\" height=\"10\"/>");
        let Some(sample) = sample else { continue };
        bar(&mut svg, class, sample, top, y);
    }
    svg.push_str("</svg>");
    svg
}

fn bar(svg: &mut String, class: &str, sample: Sample, top: f64, y: f64) {
    let at = |value: f64| match value / top {
        share if share.is_finite() => share.clamp(0.0, 1.0) * WIDTH,
        _ => 0.0,
    };
    let (value, low, high) = (at(sample.value), at(sample.low), at(sample.high));
    let _ = write!(svg, "<rect class=\"{class}\" x=\"0\" y=\"{y}\" width=\"{value:.1}\" height=\"10\"/>");
    if high - low > 1.0 {
        let middle = y + 5.0;
        let (from, to) = (y + 2.0, y + 8.0);
        let _ = write!(
            svg,
            "<path class=\"spread\" d=\"M{low:.1} {middle}H{high:.1}M{low:.1} {from}V{to}M{high:.1} {from}V{to}\"/>"
        );
    }
}

/// What the right edge stands for: everything for a share, and otherwise a little more than the largest value.
fn scale(measure: &Measure) -> f64 {
    if measure.unit == Unit::Ratio {
        return 1.0;
    }
    let sides = [measure.before, measure.after];
    let most = sides.iter().flatten().map(|sample| sample.value.max(sample.high)).filter(|value| value.is_finite());
    let most = most.fold(0.0, f64::max);
    if most > 0.0 { most * 1.04 } else { 1.0 }
}
