//! A line chart as SVG: axes with ticks, lines, a legend. Colours are the page's, light or dark;
//! cut out of the page, a chart is a picture of its own, on white.
//!
//! Knows no tables or searches. Whatever the numbers are, a chart is small and ends.

use std::fmt::Write as _;

use minijinja::HtmlEscape;

/// Colours on white; the page's `--c0` to `--c6` go before them.
const COLOURS: [&str; 7] =
    ["#d1490c", "#0b69b0", "#128a63", "#a63d8c", "#a67700", "#5b5fc7", "#6b7280"];

const STYLE: &str = "\
svg { font-family: system-ui, sans-serif; }
svg text { fill: var(--text, #1c2128); font-size: 11px; }
svg .title { font-size: 13px; font-weight: 600; }
svg .x { text-anchor: middle; }
svg .y { text-anchor: end; }
svg .back { fill: var(--back, #fff); }
svg .axis { fill: none; stroke: var(--faint, #656d78); }
svg .grid { stroke: var(--line, #d5dae1); }
svg .line { fill: none; stroke-linejoin: round; stroke-width: 1.8; }
svg .dashed { stroke-dasharray: 5 3; }
";

const WIDTH: f64 = 460.0;
const PLOT_HEIGHT: f64 = 200.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 44.0;
const LEGEND_ROW: f64 = 18.0;

/// Lines over common axes.
pub struct Chart<'a> {
    /// What it shows.
    pub title: &'a str,
    /// What x is.
    pub x: &'a str,
    /// What y is.
    pub y: &'a str,
    /// Later lines are drawn over earlier ones.
    pub lines: Vec<Line>,
}

/// One line. Lines of one name share an entry of the legend.
pub struct Line {
    /// Its name.
    pub name: String,
    /// Its colour, by number.
    pub colour: usize,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its corners from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    /// In one piece.
    Solid,
    /// In short pieces.
    Dashed,
}

/// A range of values, and the round numbers in it.
struct Axis {
    low: f64,
    high: f64,
    ticks: Vec<(f64, String)>,
}

impl Chart<'_> {
    /// The chart; none where there is nothing that can be drawn.
    pub fn svg(&self) -> Option<String> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let x = Axis::over(points().map(|point| point.0))?;
        let y = Axis::over(points().map(|point| point.1))?;
        let at_x = |value: f64| LEFT + (value - x.low) / (x.high - x.low) * (WIDTH - LEFT - RIGHT);
        let at_y = |value: f64| TOP + (y.high - value) / (y.high - y.low) * PLOT_HEIGHT;
        let legend = self.legend();
        let height = TOP + PLOT_HEIGHT + BOTTOM + legend.len().div_ceil(2) as f64 * LEGEND_ROW;
        let title = HtmlEscape(self.title);
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {height}\" \
             role=\"img\" aria-label=\"{title}\">\n<style>\n{STYLE}{}</style>\n\
             <path class=\"back\" d=\"M0 0H{WIDTH}V{height}H0Z\"/>\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{title}</text>\n",
            colour_rules()
        );
        let (right, bottom) = (WIDTH - RIGHT, TOP + PLOT_HEIGHT);
        for (value, label) in &y.ticks {
            let at = at_y(*value);
            push(&mut svg, format_args!("<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/>"));
            let (x, y) = (LEFT - 6.0, at + 4.0);
            push(&mut svg, format_args!("<text class=\"y\" x=\"{x}\" y=\"{y:.1}\">{label}</text>"));
        }
        for (value, label) in &x.ticks {
            let (at, end) = (at_x(*value), bottom + 4.0);
            push(&mut svg, format_args!("<path class=\"axis\" d=\"M{at:.1} {bottom}V{end}\"/>"));
            let y = bottom + 17.0;
            push(
                &mut svg,
                format_args!("<text class=\"x\" x=\"{at:.1}\" y=\"{y}\">{label}</text>"),
            );
        }
        push(&mut svg, format_args!("<path class=\"axis\" d=\"M{LEFT} {TOP}V{bottom}H{right}\"/>"));
        let (middle, below) = ((LEFT + right) / 2.0, bottom + 34.0);
        let label = HtmlEscape(self.x);
        push(
            &mut svg,
            format_args!("<text class=\"x\" x=\"{middle}\" y=\"{below}\">{label}</text>"),
        );
        let (middle, label) = (TOP + PLOT_HEIGHT / 2.0, HtmlEscape(self.y));
        push(
            &mut svg,
            format_args!(
                "<text class=\"x\" transform=\"translate(12 {middle}) rotate(-90)\">{label}</text>"
            ),
        );
        for line in &self.lines {
            let corners = line.points.iter().filter(|(x, y)| x.is_finite() && y.is_finite());
            let corners: Vec<String> =
                corners.map(|(x, y)| format!("{:.1},{:.1}", at_x(*x), at_y(*y))).collect();
            let (class, corners) = (line.class(), corners.join(" "));
            push(&mut svg, format_args!("<polyline class=\"{class}\" points=\"{corners}\"/>"));
        }
        for (idx, line) in legend.iter().enumerate() {
            let x = LEFT + (idx % 2) as f64 * (right - LEFT) / 2.0;
            let y = bottom + BOTTOM + 8.0 + (idx / 2) as f64 * LEGEND_ROW;
            let (class, name) = (line.class(), HtmlEscape(&line.name));
            let (bar, text_x) = (y - 4.0, x + 30.0);
            push(&mut svg, format_args!("<path class=\"{class}\" d=\"M{x} {bar}h24\"/>"));
            push(&mut svg, format_args!("<text x=\"{text_x}\" y=\"{y}\">{name}</text>"));
        }
        svg.push_str("</svg>");
        Some(svg)
    }

    /// The first line of each name.
    fn legend(&self) -> Vec<&Line> {
        let mut legend: Vec<&Line> = Vec::new();
        for line in &self.lines {
            if legend.iter().all(|known| known.name != line.name) {
                legend.push(line);
            }
        }
        legend
    }
}

impl Line {
    /// A line that keeps each value until the next point, and the last one until `end`.
    pub fn steps(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
        let mut corners: Vec<(f64, f64)> = Vec::new();
        for &(x, y) in points {
            corners.extend(corners.last().map(|(_, before)| (x, *before)));
            corners.push((x, y));
        }
        corners.extend(corners.last().map(|(_, last)| (end, *last)));
        corners
    }

    fn class(&self) -> String {
        let dashed = if self.stroke == Stroke::Dashed { " dashed" } else { "" };
        format!("line c{}{dashed}", self.colour % COLOURS.len())
    }
}

impl Axis {
    /// An axis that holds all finite values; none if there are none, or they are too far apart.
    fn over(values: impl Iterator<Item = f64>) -> Option<Self> {
        let finite = values.filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        let size = low.abs().max(high.abs());
        if low > high || size > 1e12 {
            return None;
        }
        let is_flat = high - low < 1e-9 * size.max(1.0);
        let room = if is_flat { 0.1 * size.max(1.0) } else { 0.0 };
        let (low, high) = (low - room, high + room);
        let (step, n_digits) = step(high - low);
        let first = (low / step).ceil();
        let ticks = (0..8).map(|idx| (first + f64::from(idx)) * step);
        let ticks = ticks.take_while(|value| *value <= high + step * 1e-6);
        // No "-0.0".
        let ticks = ticks.map(|value| (value, format!("{:.n_digits$}", value + 0.0)));
        Some(Self { low, high, ticks: ticks.collect() })
    }
}

/// The distance of ticks, 1, 2 or 5 times a power of ten, and its digits after the point: the
/// smallest that needs no more than six steps.
fn step(span: f64) -> (f64, usize) {
    let (mut decade, mut n_digits) = (1.0, 0);
    while span > 50.0 * decade {
        decade *= 10.0;
    }
    while span < 5.0 * decade && n_digits < 12 {
        decade /= 10.0;
        n_digits += 1;
    }
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| span <= 6.0 * factor * decade).unwrap_or(10.0);
    (factor * decade, if factor < 10.0 { n_digits } else { n_digits.saturating_sub(1) })
}

/// A rule for each colour.
fn colour_rules() -> String {
    let rule = |(idx, colour): (usize, &&str)| {
        format!("svg .c{idx} {{ stroke: var(--c{idx}, {colour}); }}\n")
    };
    COLOURS.iter().enumerate().map(rule).collect()
}

fn push(svg: &mut String, element: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = writeln!(svg, "{element}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        // Broken: an axis would be empty, crowded, or labelled with numbers that nobody reads.
        for (low, high, wanted) in [
            (0.0, 50.0, "0 10 20 30 40 50"),
            (10.0, 1020.0, "200 400 600 800 1000"),
            (0.3125, 0.7, "0.4 0.5 0.6 0.7"),
            (0.4, 0.75, "0.4 0.5 0.6 0.7"),
            (-0.1, 0.1, "-0.10 -0.05 0.00 0.05 0.10"),
            (
                1e11,
                6e11,
                "100000000000 200000000000 300000000000 400000000000 500000000000 \
                          600000000000",
            ),
        ] {
            let axis = Axis::over([low, high].into_iter()).unwrap();
            let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| &label[..]).collect();
            assert_eq!(labels.join(" "), wanted, "{low} to {high}");
        }
        for flat in [0.0, 0.5, 3.0, -1e-300, 1e12] {
            let n_ticks = Axis::over([flat].into_iter()).unwrap().ticks.len();
            assert!((2..=8).contains(&n_ticks), "{flat}: {n_ticks}");
        }
        for none in [&[][..], &[f64::NAN], &[f64::INFINITY], &[-1e308, 1e308]] {
            assert!(Axis::over(none.iter().copied()).is_none());
        }
    }

    #[test]
    fn steps_keep_a_value_until_the_next() {
        // Broken: a curve would show a best f that was not known yet.
        let steps = Line::steps(&[(1.0, 0.2), (4.0, 0.5)], 9.0);
        assert_eq!(steps, [(1.0, 0.2), (4.0, 0.2), (4.0, 0.5), (9.0, 0.5)]);
        assert!(Line::steps(&[], 9.0).is_empty());
    }
}
