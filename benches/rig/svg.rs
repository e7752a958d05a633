//! The few shapes that the charts are drawn with.

use std::fmt::Write as _;

/// A picture under way.
pub(crate) struct Picture(String);

impl Picture {
    /// White, of this size.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
             font-size=\"11\" fill=\"#334155\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
        ))
    }

    fn line(&mut self, shape: std::fmt::Arguments<'_>) {
        // Writing into a string cannot fail.
        let _infallible = self.0.write_fmt(shape);
        self.0.push('\n');
    }

    /// Words at a point; `anchor` is `start`, `middle` or `end`.
    pub(crate) fn text(&mut self, (x, y): (f64, f64), anchor: &str, words: &str) {
        let words = words.replace('&', "&amp;").replace('<', "&lt;");
        self.line(format_args!("<text x=\"{x:.0}\" y=\"{y:.0}\" text-anchor=\"{anchor}\">{words}</text>"));
    }

    /// A filled rectangle.
    pub(crate) fn bar(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str) {
        self.line(format_args!(
            "<rect x=\"{x:.0}\" y=\"{y:.0}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"{fill}\"/>"
        ));
    }

    /// A pale line from left to right.
    pub(crate) fn rule(&mut self, (left, right): (f64, f64), y: f64) {
        self.line(format_args!(
            "<line x1=\"{left:.0}\" x2=\"{right:.0}\" y1=\"{y:.0}\" y2=\"{y:.0}\" stroke=\"#e2e8f0\"/>"
        ));
    }

    /// A line through these points.
    pub(crate) fn path(&mut self, points: &[(f64, f64)], stroke: &str) {
        let path: Vec<_> = points.iter().map(|(x, y)| format!("{x:.0},{y:.0}")).collect();
        self.line(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"2\"/>",
            path.join(" ")
        ));
    }

    /// The whole text.
    pub(crate) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
